//! The words that renewals write: lock-free, shared by every thread that renews.
//!
//! A word is `generation:24 | key:40`. The key is the deadline in milliseconds, counted so that the
//! table's origin has key `KEY_ORIGIN`; shifts move the origin and with it every deadline. Key 0
//! marks a vacant slot, whose generation is the next lease's. Every change is
//! one compare-and-swap of the whole word, so a renewal either comes before the expiry and saves
//! the lease, or finds another generation: there is no third outcome.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{LeaseError, LeaseHandle};
use crate::time::MonoMs;

/// Width of the key in a word.
const KEY_BITS: u32 = 40;
/// Largest key: a deadline 26.1 years after the origin. Later ones are held at it.
const KEY_MAX: u64 = (1 << KEY_BITS) - 1;
/// Key of a deadline at the origin. Chosen: 8.7 years by which shifts may run ahead of the clock;
/// deadlines before that are held there.
pub(super) const KEY_ORIGIN: u64 = 1 << (KEY_BITS - 2);
/// Largest generation.
const GENERATION_MAX: u32 = (1 << (64 - KEY_BITS)) - 1;
/// Slots of the first chunk, as a power of two; each further chunk doubles. Chosen: 32 KiB.
const FIRST_CHUNK_BITS: u32 = 12;
/// Enough doubling chunks for `LEASES_MAX` slots.
const CHUNKS: usize = 19;
/// The renewable half of a lease table. Chunks are added as the table grows and never move.
pub struct LeaseSlots {
    /// Time of `KEY_ORIGIN`. Set at the first grant, later only raised by shifts.
    origin: AtomicU64,
    capacity: u32,
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

impl LeaseSlots {
    pub(super) fn new(capacity: u32) -> Self {
        Self { origin: AtomicU64::new(0), capacity, chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    /// Moves a lease's deadline to `now + window_ms` and returns the deadline it now has.
    ///
    /// A deadline never moves backwards: when the lease already holds a later one, that stays and
    /// is returned, since its holder was promised it. A lease that is overdue but not yet expired
    /// is saved. A renewal that races a shift is moved by it as well: later, never earlier.
    /// Deadlines are held at 26 years after the table's first grant.
    ///
    /// Lock-free: one load and one compare-and-swap unless others renew the same lease.
    ///
    /// # Errors
    /// [`LeaseError::Stale`] when the lease expired, was revoked, or never was.
    #[inline]
    pub fn renew(
        &self,
        handle: LeaseHandle,
        now: MonoMs,
        window_ms: u64,
    ) -> Result<MonoMs, LeaseError> {
        let stale = LeaseError::Stale(handle);
        let cell = self.cell(handle.slot()).ok_or(stale)?;
        let (origin, mut word) = self.look(cell);
        let asked = key_at(origin, now.plus(window_ms));
        loop {
            let held = key_of(word);
            if generation_of(word) != handle.generation() || held == 0 {
                return Err(stale);
            }
            if asked <= held {
                return Ok(time_at(origin, held));
            }
            match cell.compare_exchange_weak(
                word,
                word - held + asked,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(time_at(origin, asked)),
                Err(found) => word = found,
            }
        }
    }

    /// Renews every handle of a batch, each one as [`Self::renew`] would; appends those that are
    /// stale to `failed` and returns how many were renewed.
    pub fn renew_many(
        &self,
        handles: &[u64],
        now: MonoMs,
        window_ms: u64,
        failed: &mut Vec<u64>,
    ) -> usize {
        let failed_before = failed.len();
        for &handle in handles {
            if self.renew(LeaseHandle::from_u64(handle), now, window_ms).is_err() {
                failed.push(handle);
            }
        }
        handles.len() - (failed.len() - failed_before)
    }

    /// When the lease is due, or `None` if it is stale.
    #[must_use]
    pub fn deadline(&self, handle: LeaseHandle) -> Option<MonoMs> {
        let (origin, word) = self.look(self.cell(handle.slot())?);
        let live = generation_of(word) == handle.generation() && key_of(word) != 0;
        live.then(|| time_at(origin, key_of(word)))
    }

    /// Leases that the table can hold.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// What only the table, the one owner, may do.
impl LeaseSlots {
    /// Fixes the time of `KEY_ORIGIN`, before the first grant.
    pub(super) fn set_origin(&self, origin: MonoMs) {
        self.origin.store(origin.0, Ordering::Release);
    }

    /// Makes every deadline later by `ms`, and every later renewal's key earlier by as much.
    pub(super) fn shift(&self, ms: u64) {
        let shifted = self.origin.load(Ordering::Acquire).saturating_add(ms);
        self.origin.store(shifted, Ordering::Release);
    }

    /// Key of a deadline at `time`.
    pub(super) fn key_at(&self, time: MonoMs) -> u64 {
        key_at(self.origin.load(Ordering::Acquire), time)
    }

    /// Largest key that is due at `now`; 0 if none can be.
    pub(super) fn key_due(&self, now: MonoMs) -> u64 {
        unheld_key_at(self.origin.load(Ordering::Acquire), now).min(KEY_MAX)
    }

    /// The inverse of [`Self::key_at`].
    pub(super) fn time_at(&self, key: u64) -> MonoMs {
        time_at(self.origin.load(Ordering::Acquire), key)
    }

    /// Key of the lease in `slot`, 0 when it is vacant.
    pub(super) fn key(&self, slot: u32) -> u64 {
        key_of(self.word(slot))
    }

    /// Handle of the lease in `slot`, if there is one.
    pub(super) fn handle(&self, slot: u32) -> Option<LeaseHandle> {
        let word = self.word(slot);
        (key_of(word) != 0).then(|| LeaseHandle::new(slot, generation_of(word)))
    }

    /// Puts a lease into a vacant slot, adding a chunk if it is the first one there.
    pub(super) fn occupy(&self, slot: u32, key: u64) -> LeaseHandle {
        let (chunk, offset) = place_of(slot);
        let cells = self.chunks[chunk].get_or_init(|| {
            let first = (1_u32 << FIRST_CHUNK_BITS << chunk) - (1 << FIRST_CHUNK_BITS);
            let len = (1_u32 << FIRST_CHUNK_BITS << chunk).min(self.capacity - first);
            (0..len).map(|_| AtomicU64::new(word_of(1, 0))).collect()
        });
        let generation = generation_of(cells[offset].load(Ordering::Acquire));
        cells[offset].store(word_of(generation, key), Ordering::Release);
        LeaseHandle::new(slot, generation)
    }

    /// Ends the lease in `slot` if its key is still `key`, and returns its handle.
    pub(super) fn vacate_at(&self, slot: u32, key: u64) -> Option<LeaseHandle> {
        let cell = self.cell(slot)?;
        let word = cell.load(Ordering::Acquire);
        if key_of(word) != key {
            return None;
        }
        let generation = generation_of(word);
        cell.compare_exchange(word, vacant_after(generation), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then(|| LeaseHandle::new(slot, generation))
    }

    /// Ends a lease whatever its deadline; false if it is stale.
    pub(super) fn vacate(&self, handle: LeaseHandle) -> bool {
        while self.handle(handle.slot()) == Some(handle) {
            let key = self.key(handle.slot());
            if self.vacate_at(handle.slot(), key).is_some() {
                return true;
            }
        }
        false
    }

    /// A word with the origin that it had when it was read. With an older one, a renewal would be
    /// too generous; with a newer one, it would promise what was never true of a lease that ended
    /// before the shift.
    #[inline]
    fn look(&self, cell: &AtomicU64) -> (u64, u64) {
        let mut origin = self.origin.load(Ordering::Acquire);
        loop {
            let word = cell.load(Ordering::Acquire);
            // Origins only rise, so an equal one was there all the time.
            let after = self.origin.load(Ordering::Acquire);
            if after == origin {
                return (origin, word);
            }
            origin = after;
        }
    }

    /// The word of a slot; a vacant one where there is none.
    #[inline]
    fn word(&self, slot: u32) -> u64 {
        self.cell(slot).map_or(0, |cell| cell.load(Ordering::Acquire))
    }

    #[inline]
    fn cell(&self, slot: u32) -> Option<&AtomicU64> {
        let (chunk, offset) = place_of(slot);
        self.chunks.get(chunk)?.get()?.get(offset)
    }
}

/// Chunk and offset of a slot. Chunk `c` starts at slot `(2^c - 1) * 2^FIRST_CHUNK_BITS`.
#[inline]
const fn place_of(slot: u32) -> (usize, usize) {
    let padded = slot as u64 + (1 << FIRST_CHUNK_BITS);
    let top = padded.ilog2();
    ((top - FIRST_CHUNK_BITS) as usize, (padded - (1 << top)) as usize)
}

const fn word_of(generation: u32, key: u64) -> u64 {
    (generation as u64) << KEY_BITS | key
}

const fn vacant_after(generation: u32) -> u64 {
    word_of(if generation == GENERATION_MAX { 1 } else { generation + 1 }, 0)
}

const fn key_of(word: u64) -> u64 {
    word & KEY_MAX
}

const fn generation_of(word: u64) -> u32 {
    (word >> KEY_BITS) as u32
}

#[inline]
fn key_at(origin: u64, time: MonoMs) -> u64 {
    unheld_key_at(origin, time).clamp(1, KEY_MAX)
}

/// Key of `time` before it is held within the span.
#[inline]
const fn unheld_key_at(origin: u64, time: MonoMs) -> u64 {
    if time.0 >= origin {
        KEY_ORIGIN.saturating_add(time.0 - origin)
    } else {
        KEY_ORIGIN.saturating_sub(origin - time.0)
    }
}

#[inline]
const fn time_at(origin: u64, key: u64) -> MonoMs {
    MonoMs(if key >= KEY_ORIGIN {
        origin.saturating_add(key - KEY_ORIGIN)
    } else {
        origin.saturating_sub(KEY_ORIGIN - key)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failed unwrap is a failed test.

    use super::*;

    /// A slot with a lease until `deadline`, in a table whose first grant was at time 0.
    fn held(deadline: u64) -> (LeaseSlots, LeaseHandle) {
        let slots = LeaseSlots::new(10);
        let handle = slots.occupy(0, slots.key_at(MonoMs(deadline)));
        (slots, handle)
    }

    #[test]
    fn places_fill_chunk_after_chunk() {
        let cases = [(0, (0, 0)), (4_095, (0, 4_095)), (4_096, (1, 0)), (12_287, (1, 8_191))];
        for (slot, place) in cases {
            assert_eq!(place_of(slot), place, "slot {slot}");
        }
        assert_eq!(place_of(12_288), (2, 0));
        assert_eq!(place_of(crate::lease::LEASES_MAX - 1).0, CHUNKS - 1);
    }

    #[test]
    fn chunks_hold_the_capacity_and_no_more() {
        let slots = LeaseSlots::new(5_000);
        for slot in [0, 4_095, 4_096, 4_999] {
            assert_eq!(slots.occupy(slot, KEY_ORIGIN).slot(), slot);
        }
        assert!(slots.cell(4_999).is_some());
        assert!(slots.cell(5_000).is_none());
        assert!(slots.cell(u32::MAX).is_none());
    }

    #[test]
    fn a_renewal_keeps_the_later_deadline() {
        let (slots, handle) = held(50);
        assert_eq!(slots.renew(handle, MonoMs(20), 10), Ok(MonoMs(50)));
        assert_eq!(slots.deadline(handle), Some(MonoMs(50)));
        assert_eq!(slots.renew(handle, MonoMs(20), 31), Ok(MonoMs(51)));
        assert_eq!(slots.deadline(handle), Some(MonoMs(51)));
    }

    #[test]
    fn a_renewed_word_is_not_vacated_by_the_key_it_had() {
        let (slots, handle) = held(50);
        let key = slots.key(0);
        slots.renew(handle, MonoMs(50), 1).unwrap();
        assert_eq!(slots.vacate_at(0, key), None);
        assert_eq!(slots.vacate_at(0, key + 1), Some(handle));
        assert_eq!(slots.renew(handle, MonoMs(50), 1), Err(LeaseError::Stale(handle)));
    }

    #[test]
    fn no_number_that_was_not_granted_is_a_handle() {
        let (slots, handle) = held(50);
        let other = |slot, generation| LeaseHandle::new(slot, generation);
        let forged = [
            LeaseHandle::from_u64(0),
            LeaseHandle::from_u64(u64::MAX),
            other(0, handle.generation() + 1),
            other(0, handle.generation() + (1 << 24)),
            other(1, 1),
            other(9_999, 1),
        ];
        for forged in forged {
            assert_eq!(slots.renew(forged, MonoMs(1), 9), Err(LeaseError::Stale(forged)));
            assert_eq!(slots.deadline(forged), None);
            assert!(!slots.vacate(forged));
        }
        assert!(slots.vacate(handle));
        let next = other(0, handle.generation() + 1);
        assert_eq!(
            slots.renew(next, MonoMs(1), 9),
            Err(LeaseError::Stale(next)),
            "not granted yet"
        );
        assert_eq!(slots.occupy(0, KEY_ORIGIN), next);
    }

    #[test]
    fn generations_start_over_and_skip_0() {
        let (slots, mut handle) = held(50);
        assert_eq!(handle.generation(), 1);
        for _ in 0..GENERATION_MAX - 1 {
            assert!(slots.vacate(handle));
            handle = slots.occupy(0, KEY_ORIGIN);
        }
        assert_eq!(handle.generation(), GENERATION_MAX);
        assert!(slots.vacate(handle));
        assert_eq!(slots.occupy(0, KEY_ORIGIN).generation(), 1);
    }

    #[test]
    fn shifts_move_deadlines_and_later_renewals_alike() {
        let (slots, handle) = held(50);
        slots.shift(1_000);
        assert_eq!(slots.deadline(handle), Some(MonoMs(1_050)));
        // Also where the shifted origin lies ahead of the clock.
        assert_eq!(slots.renew(handle, MonoMs(60), 900), Ok(MonoMs(1_050)));
        assert_eq!(slots.renew(handle, MonoMs(60), 1_000), Ok(MonoMs(1_060)));
        assert_eq!(slots.key_due(MonoMs(1_060)), slots.key(0));
        assert_eq!(slots.key_due(MonoMs(1_059)), slots.key(0) - 1);
    }

    #[test]
    fn deadlines_beyond_the_span_are_held_at_its_end() {
        let (slots, handle) = held(50);
        let end = MonoMs(KEY_MAX - KEY_ORIGIN);
        assert!(end.0 > 26 * 365 * 24 * 3_600_000);
        assert_eq!(slots.renew(handle, MonoMs(60), u64::MAX), Ok(end));
        assert_eq!(slots.renew(handle, MonoMs(70), u64::MAX), Ok(end));
        assert_eq!(slots.key_due(MonoMs(u64::MAX)), KEY_MAX);
        slots.shift(u64::MAX);
        assert_eq!(slots.renew(handle, MonoMs(0), 0), Ok(slots.time_at(KEY_MAX)));
    }

    #[test]
    fn a_batch_reports_its_stale_handles_in_order() {
        let slots = LeaseSlots::new(100);
        let handles: Vec<u64> =
            (0..40).map(|slot| slots.occupy(slot, KEY_ORIGIN).as_u64()).collect();
        for slot in [3, 17, 39] {
            assert!(slots.vacate(LeaseHandle::from_u64(handles[slot])));
        }
        let mut failed = Vec::new();
        assert_eq!(slots.renew_many(&handles, MonoMs(5), 5, &mut failed), 37);
        assert_eq!(failed, [handles[3], handles[17], handles[39]]);
        assert_eq!(slots.deadline(LeaseHandle::from_u64(handles[38])), Some(MonoMs(10)));
        assert_eq!(slots.renew_many(&[], MonoMs(5), 5, &mut failed), 0);
    }
}
