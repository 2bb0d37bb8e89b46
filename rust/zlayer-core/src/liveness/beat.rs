//! The hot path: one beat of one session. Shared by every session's task, apart from the engine.
//!
//! Renewing is one compare-and-swap on the lease's slot. The pacer is behind a mutex of its own that nothing
//! else takes; it is held for one look-up. TTL and number of workers come from one atomic word.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::event::SessionId;
use super::limits::LivenessLimits;
use super::planted::{Bug, Planted};
use crate::lease::{LeaseError, LeaseHandle, LeaseSlots};
use crate::pacing::Pacer;
use crate::record::NodeId;
use crate::time::MonoMs;
use crate::ttl::AdaptiveTtlConfig;

/// What a worker is told in answer to a beat. All milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The lease ends this long plus `grace_ms` after receipt of the beat, at the earliest.
    pub ttl_ms: u64,
    /// See `ttl_ms`.
    pub grace_ms: u64,
    /// When to beat again, from receipt of the beat; in `1..=ttl_ms`.
    pub next_beat_in_ms: u64,
    /// After a lost connection: wait a random time in `0..=this` before the first dial, but not past the time
    /// at which the next beat is due. (Past it, the wait would eat the grace.)
    pub reconnect_spread_ms: u64,
}

/// What a session needs for its beats. Cheap to clone; useless once the session is replaced, has left or has
/// expired: a beat on it is then [`LeaseError::Stale`].
#[derive(Debug, Clone)]
pub struct SessionLease {
    node: NodeId,
    session: SessionId,
    handle: LeaseHandle,
    marks: Arc<BeatMarks>,
}

impl SessionLease {
    pub(super) fn new(
        node: NodeId,
        session: SessionId,
        handle: LeaseHandle,
        marks: Arc<BeatMarks>,
    ) -> Self {
        Self { node, session, handle, marks }
    }

    /// Whose.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Which session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The lease itself.
    pub fn handle(&self) -> LeaseHandle {
        self.handle
    }
}

/// What the beats of one session leave behind for the engine. Written by the session, read by the engine;
/// each field stands alone, so relaxed order is enough.
#[derive(Debug)]
pub(super) struct BeatMarks {
    /// Receipt of the newest beat.
    beat_at: AtomicU64,
    /// The slot that the pacer gave out last; [`NO_SLOT`] when it was given back.
    slot: AtomicU64,
    /// TTL handed out last, milliseconds.
    ttl_ms: AtomicU64,
}

const NO_SLOT: u64 = u64::MAX;

impl BeatMarks {
    pub(super) fn new(now: MonoMs, ttl_ms: u64) -> Self {
        Self {
            beat_at: AtomicU64::new(now.0),
            slot: AtomicU64::new(NO_SLOT),
            ttl_ms: AtomicU64::new(ttl_ms),
        }
    }

    pub(super) fn beat_at(&self) -> MonoMs {
        MonoMs(self.beat_at.load(Ordering::Relaxed))
    }

    pub(super) fn ttl_ms(&self) -> u64 {
        self.ttl_ms.load(Ordering::Relaxed)
    }

    pub(super) fn next_beat(&self) -> Option<MonoMs> {
        Some(self.slot.load(Ordering::Relaxed)).filter(|&slot| slot != NO_SLOT).map(MonoMs)
    }

    fn take_slot(&self) -> Option<MonoMs> {
        Some(self.slot.swap(NO_SLOT, Ordering::Relaxed)).filter(|&slot| slot != NO_SLOT).map(MonoMs)
    }
}

/// TTL and number of workers, in one word so that they belong together.
#[derive(Debug)]
struct Pace(AtomicU64);

impl Pace {
    fn store(&self, ttl_secs: u32, n_workers: u64) {
        let n = u32::try_from(n_workers).unwrap_or(u32::MAX);
        self.0.store(u64::from(ttl_secs) << 32 | u64::from(n), Ordering::Relaxed);
    }

    /// TTL in milliseconds, number of workers.
    fn load(&self) -> (u64, u64) {
        let word = self.0.load(Ordering::Relaxed);
        ((word >> 32) * 1_000, word & u64::from(u32::MAX))
    }
}

/// Renews and paces. Any number of threads at once.
pub struct BeatPath {
    slots: Arc<LeaseSlots>,
    pacer: Mutex<Pacer>,
    pace: Pace,
    config: AdaptiveTtlConfig,
    limits: LivenessLimits,
    planted: Planted,
}

impl BeatPath {
    pub(super) fn new(
        slots: Arc<LeaseSlots>,
        config: AdaptiveTtlConfig,
        limits: LivenessLimits,
        planted: Planted,
    ) -> Self {
        let path = Self {
            slots,
            pacer: Mutex::new(Pacer::new(config)),
            pace: Pace(AtomicU64::new(0)),
            config,
            limits,
            planted,
        };
        path.set_workers(0);
        path
    }

    /// Counts one beat, received at `now`.
    ///
    /// The lease lasts TTL + grace from `now`, or as long as an earlier answer of this session promised, if that
    /// is longer: should this answer be lost, the worker still goes by the older one.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Stale`] when the lease has expired or the session was replaced. The server then calls
    /// [`super::Liveness::open`] with the same session again, which either recovers the node or says why not.
    pub fn beat(&self, lease: &SessionLease, now: MonoMs) -> Result<Ack, LeaseError> {
        let (ttl_ms, n_workers) = self.pace.load();
        self.slots.renew(lease.handle, now, self.window_ms(ttl_ms))?;
        Ok(self.acknowledge(&lease.marks, now, ttl_ms, n_workers, false))
    }

    /// Paces the first beat of a session, whose lease has just been granted.
    pub(super) fn first_beat(&self, marks: &BeatMarks, now: MonoMs) -> Ack {
        let (ttl_ms, n_workers) = self.pace.load();
        self.acknowledge(marks, now, ttl_ms, n_workers, true)
    }

    fn acknowledge(
        &self,
        marks: &BeatMarks,
        now: MonoMs,
        ttl_ms: u64,
        n_workers: u64,
        fresh: bool,
    ) -> Ack {
        marks.beat_at.store(now.0, Ordering::Relaxed);
        marks.ttl_ms.store(ttl_ms, Ordering::Relaxed);
        let previous = marks.take_slot();
        let slot = if self.planted.is(Bug::PacerOff) {
            now.plus(ttl_ms)
        } else {
            let mut pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner);
            pacer.next_beat(now, previous, ttl_ms, n_workers, fresh)
        };
        marks.slot.store(slot.0, Ordering::Relaxed);
        Ack {
            ttl_ms,
            grace_ms: self.config.grace_ms(),
            next_beat_in_ms: slot.since(now).clamp(1, ttl_ms.max(1)),
            reconnect_spread_ms: self.limits.reconnect_spread_ms(n_workers, ttl_ms),
        }
    }

    /// Gives a session's slot back. A beat that runs at the same time may leave one behind; it is gone once
    /// its time has come.
    pub(super) fn release(&self, marks: &BeatMarks) {
        if let Some(slot) = marks.take_slot() {
            self.pacer.lock().unwrap_or_else(PoisonError::into_inner).release(slot);
        }
    }

    /// Makes the TTL follow the number of workers that hold a lease. Returns it in milliseconds.
    pub(super) fn set_workers(&self, n_workers: u64) -> u64 {
        self.pace.store(self.config.compute_ttl(n_workers), n_workers);
        self.pace.load().0
    }

    /// TTL handed out now, milliseconds.
    pub fn ttl_ms(&self) -> u64 {
        self.pace.load().0
    }

    pub(super) fn window_ms(&self, ttl_ms: u64) -> u64 {
        if self.planted.is(Bug::NoGrace) { ttl_ms } else { ttl_ms + self.config.grace_ms() }
    }
}
