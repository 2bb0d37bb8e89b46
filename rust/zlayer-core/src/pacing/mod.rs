//! When each worker beats next, so that all of them together stay below the cap and come evenly.
//!
//! The coming `max_ttl` is a calendar of cells that hold at most as many beats as the cap allows.
//! Every worker holds one reservation at most: the beat it was told to send next. Its next one goes
//!
//! * for a steady worker, one TTL after the *previous slot* rather than after the arrival. So its
//!   phase is kept whatever the network's delay, its mean interval is the TTL exactly, and a fleet
//!   of `cap * ttl` workers comes at the cap and not above;
//! * for a fresh session, to the next point of a low-discrepancy sequence over (0, TTL], so that
//!   a fleet that reconnects in one instant is spread at once;
//!
//! and from there to the nearest cell with room, earlier ones first. A beat that comes well before
//! its slot (a repetition, a report out of turn) keeps the slot that it has.
//!
//! What it promises is the *plan*: in no second are more beats due than the cap. Arrivals follow it
//! as closely as workers and the network do.

mod calendar;
mod room;

use calendar::Calendar;

use crate::time::MonoMs;
use crate::ttl::AdaptiveTtlConfig;

/// Reciprocal of the golden ratio, times 2^64: multiples of it, modulo 1, are spread most evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hands out the time of each worker's next beat.
///
/// Cost of a call: bounded by 128 groups of cells looked at and two searches in a bitmap, whatever
/// the number of workers; well below a microsecond as a rule.
pub struct Pacer {
    calendar: Calendar,
    horizon_ms: u64,
    cap: u64,
    /// Fresh sessions so far: the place in the low-discrepancy sequence.
    opened: u64,
}

/// How full the calendar is when every worker has its slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Below nine tenths of the cap: kept even by quotas, the cap is far.
    Sparse,
    /// Close to the cap or at it: a cell with room is all that counts.
    Dense,
    /// No cap, or one that can't be met: kept even by quotas.
    Open,
}

impl Pacer {
    /// A pacer with an empty calendar over `max_ttl_secs`.
    #[must_use]
    pub fn new(cfg: AdaptiveTtlConfig) -> Self {
        let horizon_ms = u64::from(cfg.max_ttl_secs.max(cfg.min_ttl_secs).max(1)) * 1000;
        let cap = u64::from(cfg.max_heartbeats_per_second);
        Self { calendar: Calendar::new(horizon_ms, cap), horizon_ms, cap, opened: 0 }
    }

    /// Reserves a worker's next beat, no later than `now + ttl_ms` (at most `max_ttl_secs`), and
    /// always after `now`.
    ///
    /// `previous` is the slot that this worker was given before, released here whether it lies
    /// ahead or behind; `None` if it holds none. `n_workers` counts all workers that hold slots,
    /// this one included. `fresh` marks the first report of a session.
    ///
    /// When the cap can't be met (`n_workers > cap * ttl`) or is 0, beats are still spread evenly
    /// over the TTL.
    pub fn next_beat(
        &mut self,
        now: MonoMs,
        previous: Option<MonoMs>,
        ttl_ms: u64,
        n_workers: u64,
        fresh: bool,
    ) -> MonoMs {
        let ttl_ms = ttl_ms.clamp(1, self.horizon_ms);
        let limit = now.plus(ttl_ms);
        self.calendar.advance(now);
        if let Some(slot) = previous {
            self.calendar.release(slot);
        }
        let span = self.calendar.span(now, limit);
        let load = self.load(ttl_ms, n_workers);
        let rate = calendar::Rate { beats: n_workers, per_ms: ttl_ms };
        let cell = if fresh {
            self.opened = self.opened.wrapping_add(1);
            let point = u128::from(self.opened.wrapping_mul(GOLDEN));
            let offset = (point * u128::from(ttl_ms)) >> 64;
            let aim = self.calendar.cell_near(now.plus(1 + offset as u64), &span);
            self.calendar
                .fair_around(aim, &span, rate)
                .filter(|_| load != Load::Dense)
                .or_else(|| {
                    (load != Load::Open).then(|| self.calendar.room_near(aim, &span)).flatten()
                })
                .unwrap_or_else(|| self.calendar.least_before(aim, &span))
        } else {
            let (aim, in_phase) = aim(now, previous, ttl_ms);
            let aim = self.calendar.cell_near(aim, &span);
            let fair = match load {
                Load::Dense => None,
                Load::Sparse | Load::Open => self.calendar.fair_before(aim, &span, rate, in_phase),
            };
            fair.or_else(|| {
                (load != Load::Open).then(|| self.calendar.room_near(aim, &span)).flatten()
            })
            .unwrap_or_else(|| self.calendar.least_before(aim, &span))
        };
        self.calendar.reserve(cell, now, limit)
    }

    /// Gives a slot back without taking another. One in the past is no longer held: nothing happens.
    pub fn release(&mut self, slot: MonoMs) {
        self.calendar.release(slot);
    }

    /// Makes every reservation later by `ms`, in O(1). For a caller whose workers' timers stood
    /// still as well: it adds `ms` to the slots that it remembers. Not for a server that slept.
    pub fn shift_by(&mut self, ms: u64) {
        self.calendar.shift_by(ms);
    }

    /// Reservations that lie ahead of the newest `now`.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.calendar.reserved()
    }

    /// Panics if the calendar's sums and bitmaps disagree with its cells.
    pub fn check_invariants(&self) {
        self.calendar.check_invariants();
    }

    fn load(&self, ttl_ms: u64, n_workers: u64) -> Load {
        let beats = u128::from(n_workers) * 1000;
        let room = u128::from(self.cap) * u128::from(ttl_ms);
        if beats > room {
            Load::Open
        } else if beats * 10 < room * 9 {
            Load::Sparse
        } else {
            Load::Dense
        }
    }
}

/// Where a steady worker's next beat should be, and whether that keeps its phase.
fn aim(now: MonoMs, previous: Option<MonoMs>, ttl_ms: u64) -> (MonoMs, bool) {
    let limit = now.plus(ttl_ms);
    match previous {
        // Late by less than half a TTL, which is what the network's delay is.
        Some(slot) if slot <= now && now.since(slot) <= ttl_ms / 2 => (slot.plus(ttl_ms), true),
        // Early by more than half a TTL: it said something out of turn.
        Some(slot) if slot <= limit && slot.since(now) > ttl_ms / 2 => (slot, true),
        _ => (limit, false),
    }
}
