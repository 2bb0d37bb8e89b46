//! The owner of the leases: grants, revokes and expires them. Time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;

use super::slots::{KEY_ORIGIN, LeaseSlots};
use super::wheel::Wheel;
use super::{Expired, LEASES_MAX, LeaseError, LeaseHandle, LeaseStats};
use crate::time::MonoMs;

/// Slots that `next_deadline` looks at before it settles for a bucket's start. Chosen: some
/// microseconds.
const LOOKS_MAX: usize = 128;

/// Leases with O(1) grant, renewal and revocation, and an exact expiry order.
///
/// Exact means: `expire` ends the leases whose deadline is at or before `now` and no others, in
/// order of (deadline, slot), to the millisecond. The table spans 26 years from its first grant;
/// later deadlines are held at that end. `now` comes from one monotonic clock; a `now` that is
/// earlier than one seen before is harmless and expires nothing new.
///
/// Memory: 16 bytes a lease. One owner; renewals go through [`LeaseSlots`] from any thread.
pub struct LeaseTable {
    slots: Arc<LeaseSlots>,
    wheel: Wheel,
    /// Slots that had a lease before, longest vacant first.
    vacant: VecDeque<u32>,
    /// Slots ever used; the next one is new.
    used: u32,
    frozen_at: Option<MonoMs>,
    stats: LeaseStats,
}

impl LeaseTable {
    /// An empty table for at most `capacity_max` leases (no more than [`LEASES_MAX`]). Memory is
    /// taken as leases are granted.
    #[must_use]
    pub fn new(capacity_max: u32) -> Self {
        Self {
            slots: Arc::new(LeaseSlots::new(capacity_max.min(LEASES_MAX))),
            wheel: Wheel::new(KEY_ORIGIN),
            vacant: VecDeque::new(),
            used: 0,
            frozen_at: None,
            stats: LeaseStats::default(),
        }
    }

    /// The half that renews, for other threads.
    #[must_use]
    pub fn slots(&self) -> Arc<LeaseSlots> {
        Arc::clone(&self.slots)
    }

    /// Grants a lease until `now + window_ms`.
    ///
    /// # Errors
    /// [`LeaseError::Full`] when every slot is taken.
    pub fn grant(&mut self, now: MonoMs, window_ms: u64) -> Result<LeaseHandle, LeaseError> {
        let slot = self.take_slot().ok_or(LeaseError::Full { capacity: self.slots.capacity() })?;
        if self.stats.granted == 0 {
            self.slots.set_origin(now);
        }
        let key = self.slots.key_at(now.plus(window_ms));
        let handle = self.slots.occupy(slot, key);
        self.wheel.arm(slot, key);
        self.stats.granted += 1;
        Ok(handle)
    }

    /// Grants `count` leases until `now + window_ms` and appends their handles to `out`; all or
    /// none.
    ///
    /// # Errors
    /// [`LeaseError::Full`] when fewer slots than that are left.
    pub fn grant_many(
        &mut self,
        count: usize,
        now: MonoMs,
        window_ms: u64,
        out: &mut Vec<LeaseHandle>,
    ) -> Result<(), LeaseError> {
        let capacity = self.slots.capacity();
        if count > capacity as usize - self.len() {
            return Err(LeaseError::Full { capacity });
        }
        out.reserve(count);
        for _ in 0..count {
            out.push(self.grant(now, window_ms)?);
        }
        Ok(())
    }

    /// As [`LeaseSlots::renew`].
    ///
    /// # Errors
    /// [`LeaseError::Stale`] when the lease is no longer held.
    pub fn renew(
        &self,
        handle: LeaseHandle,
        now: MonoMs,
        window_ms: u64,
    ) -> Result<MonoMs, LeaseError> {
        self.slots.renew(handle, now, window_ms)
    }

    /// As [`LeaseSlots::renew_many`].
    pub fn renew_many(
        &self,
        handles: &[u64],
        now: MonoMs,
        window_ms: u64,
        failed: &mut Vec<u64>,
    ) -> usize {
        self.slots.renew_many(handles, now, window_ms, failed)
    }

    /// As [`LeaseSlots::deadline`].
    #[must_use]
    pub fn deadline(&self, handle: LeaseHandle) -> Option<MonoMs> {
        self.slots.deadline(handle)
    }

    /// Ends a lease before its time.
    ///
    /// # Errors
    /// [`LeaseError::Stale`] when the lease is no longer held.
    pub fn revoke(&mut self, handle: LeaseHandle) -> Result<(), LeaseError> {
        if !self.slots.vacate(handle) {
            return Err(LeaseError::Stale(handle));
        }
        self.give_back(handle.slot());
        self.stats.revoked += 1;
        Ok(())
    }

    /// Ends at most `max` leases that are due at `now`, in order of (deadline, slot), and appends
    /// them to `out`. Returns whether more are due. Frozen: none, false.
    pub fn expire(&mut self, now: MonoMs, max: usize, out: &mut Vec<Expired>) -> bool {
        let Some(key_due) = self.advance(now) else { return false };
        let mut left = max;
        while let Some((key, slot)) = self.next_due(key_due) {
            if left == 0 {
                return true;
            }
            // Fails when the lease is renewed at this very moment; then it is no longer the next.
            let Some(handle) = self.slots.vacate_at(slot, key) else { continue };
            let deadline = self.slots.time_at(key);
            out.push(Expired { handle, deadline, overdue_ms: now.since(deadline) });
            self.give_back(slot);
            self.stats.expired += 1;
            left -= 1;
        }
        false
    }

    /// How many leases are due at `now`, counting no further than `max`. Frozen: 0.
    pub fn peek_due(&mut self, now: MonoMs, max: usize) -> usize {
        let Some(key_due) = self.advance(now) else { return 0 };
        let mut count = 0;
        let mut renewed = Vec::new();
        for (armed, slot) in self.wheel.due_until(key_due) {
            if count == max {
                break;
            }
            let key = self.slots.key(slot);
            count += usize::from(key <= key_due);
            if key != armed {
                renewed.push((slot, key));
            }
        }
        // Put away what was renewed, so that it is looked at once and not at every call.
        for (slot, key) in renewed {
            self.wheel.rearm(slot, key);
            self.stats.rearmed += 1;
        }
        count
    }

    /// A time before which no lease is due: when to call [`Self::expire`] next.
    ///
    /// Exact while the next leases are few; with more than 128 in the wheel's next bucket it is the
    /// bucket's start: up to 256 ms early, or, when none is due before the wheel's next turn, that
    /// turn (every 65 s; 4.7 h). `None` when there are no leases, or while frozen.
    pub fn next_deadline(&mut self) -> Option<MonoMs> {
        if self.frozen_at.is_some() {
            return None;
        }
        let first = self.next_due(u64::MAX).map(|(key, _)| key);
        let slots = &self.slots;
        first
            .or_else(|| self.wheel.lower_bound(LOOKS_MAX, |slot| slots.key(slot)))
            .map(|key| slots.time_at(key))
    }

    /// Makes every deadline later by `ms`, in O(1). For time in which no beat could be received.
    pub fn shift_by(&mut self, ms: u64) {
        self.slots.shift(ms);
        self.stats.shifted_ms = self.stats.shifted_ms.saturating_add(ms);
    }

    /// Gives every lease at least `now + window(handle)`, in milliseconds, and a share of
    /// `spread_ms`: the shares are even, rising with the slot. No deadline gets earlier. O(slots).
    pub fn promote(&mut self, now: MonoMs, window: impl Fn(LeaseHandle) -> u64, spread_ms: u64) {
        let live = self.stats().live.max(1);
        let mut rank = 0_u64;
        for slot in 0..self.used {
            let Some(handle) = self.slots.handle(slot) else { continue };
            let share = (u128::from(spread_ms) * u128::from(rank) / u128::from(live)) as u64;
            // Only the owner ends leases, so this one is still held.
            let _ = self.slots.renew(handle, now, window(handle).saturating_add(share));
            rank += 1;
        }
    }

    /// Stops expiry from `now` on; renewals, grants and revocations go on. Twice is once.
    pub fn freeze(&mut self, now: MonoMs) {
        self.frozen_at.get_or_insert(now);
    }

    /// Lets expiry go on, with every deadline later by the time that the table was frozen.
    pub fn thaw(&mut self, now: MonoMs) {
        if let Some(since) = self.frozen_at.take() {
            self.shift_by(now.since(since));
        }
    }

    /// Whether expiry is stopped.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen_at.is_some()
    }

    /// Leases held now, the overdue ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wheel.len()
    }

    /// Whether no lease is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        LeaseStats { live: self.len() as u64, ..self.stats }
    }

    /// Panics if anything in the table disagrees. O(slots).
    pub fn check_invariants(&self) {
        self.wheel.check_invariants(|slot| self.slots.key(slot));
        let held = (0..self.used).filter(|&slot| self.slots.handle(slot).is_some()).count();
        assert_eq!(held, self.len(), "held slots are in the wheel, and no others");
        assert_eq!(held + self.vacant.len(), self.used as usize, "every used slot is held or free");
        for &slot in &self.vacant {
            assert!(self.slots.handle(slot).is_none(), "slot {slot} is both held and free");
        }
        let LeaseStats { live, granted, expired, revoked, .. } = self.stats();
        assert_eq!(live, granted - expired - revoked, "every lease that was granted is somewhere");
    }

    /// The next lease up to `key_due`, as (key, slot); those found renewed are put away.
    fn next_due(&mut self, key_due: u64) -> Option<(u64, u32)> {
        loop {
            let (armed, slot) = self.wheel.first_due().filter(|due| due.0 <= key_due)?;
            let key = self.slots.key(slot);
            if key == armed {
                return Some((key, slot));
            }
            self.wheel.rearm(slot, key);
            self.stats.rearmed += 1;
        }
    }

    /// Advances the wheel to `now` and returns the largest key that is due; `None` while frozen.
    fn advance(&mut self, now: MonoMs) -> Option<u64> {
        if self.frozen_at.is_some() {
            return None;
        }
        let key_due = self.slots.key_due(now);
        let slots = &self.slots;
        self.stats.rearmed += self.wheel.advance(key_due, |slot| slots.key(slot));
        Some(key_due)
    }

    fn take_slot(&mut self) -> Option<u32> {
        self.vacant.pop_front().or_else(|| {
            let slot = self.used;
            (slot < self.slots.capacity()).then(|| {
                self.used += 1;
                slot
            })
        })
    }

    fn give_back(&mut self, slot: u32) {
        self.wheel.disarm(slot);
        self.vacant.push_back(slot);
    }
}

#[cfg(test)]
mod tests;
