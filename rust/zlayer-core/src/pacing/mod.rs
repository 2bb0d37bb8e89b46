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
//! and from there to the nearest place where an even spread has one to give, earlier ones first, or
//! else to the nearest cell with room. A beat that comes well before its slot (a repetition, a
//! report out of turn) keeps the slot that it has.
//!
//! What it promises is the *plan*: in no second are more beats due than the cap. Arrivals follow it
//! as closely as workers and the network do; a beat that comes out of turn comes on top.

mod calendar;
mod room;

use calendar::{Calendar, Share};

use crate::time::MonoMs;
use crate::ttl::AdaptiveTtlConfig;

/// Reciprocal of the golden ratio, times 2^64: multiples of it, modulo 1, are spread most evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hands out the time of each worker's next beat.
///
/// Cost of a call: at most 128 groups of cells looked at and four searches in a bitmap, whatever
/// the number of workers. As a rule one group is, in some tens of nanoseconds.
pub struct Pacer {
    calendar: Calendar,
    horizon_ms: u64,
    /// Fresh sessions so far: the place in the low-discrepancy sequence.
    opened: u64,
}

/// Where a beat should be.
struct Aim {
    time: MonoMs,
    kind: AimKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AimKind {
    /// Anywhere in the TTL: a fresh session.
    Anywhere,
    /// The worker's own phase.
    Phase,
    /// As late as may be: a worker that has lost its phase.
    Latest,
}

impl Pacer {
    /// A pacer with an empty calendar over `max_ttl_secs`.
    #[must_use]
    pub fn new(cfg: AdaptiveTtlConfig) -> Self {
        let horizon_ms = u64::from(cfg.max_ttl_secs.max(cfg.min_ttl_secs).max(1)) * 1000;
        let cap = u64::from(cfg.max_heartbeats_per_second);
        Self { calendar: Calendar::new(horizon_ms, cap), horizon_ms, opened: 0 }
    }

    /// Reserves a worker's next beat: after `now`, no later than `now + ttl_ms`, and no later than
    /// the longest TTL of the configuration.
    ///
    /// `previous` is the slot that this worker was given before, released here whether it lies
    /// ahead or behind; `None` if it holds none. `n_workers` counts all workers that hold slots,
    /// this one included. `fresh` marks the first report of a session.
    ///
    /// When the cap is 0 or can't be met (`n_workers > cap * ttl`), beats are still spread evenly
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
        // A slot whose time has come has been used: it goes on to count.
        if let Some(slot) = previous.filter(|slot| *slot > now) {
            self.calendar.release(slot);
        }
        let aim = if fresh { self.anywhere(now, ttl_ms) } else { steady(now, previous, ttl_ms) };
        let span = self.calendar.span(limit);
        let cell = self.calendar.cell_near(aim.time, &span);
        let above_cap = self.calendar.room_in(ttl_ms).is_none_or(|room| room < n_workers.into());
        let share = Share { beats: n_workers, per_ms: ttl_ms, above_cap };
        let fair = match aim.kind {
            AimKind::Anywhere => self.calendar.fair_around(cell, &span, share),
            AimKind::Phase => self.calendar.fair_before(cell, &span, share, 1),
            AimKind::Latest => self.calendar.fair_before(cell, &span, share, 0),
        };
        let cell = fair
            .or_else(|| if above_cap { None } else { self.calendar.room_near(cell, &span) })
            .unwrap_or_else(|| self.calendar.least_before(cell, &span));
        self.calendar.reserve(cell, now, limit)
    }

    /// Gives a slot back without taking another. One in the past is no longer held: nothing happens.
    pub fn release(&mut self, slot: MonoMs) {
        self.calendar.release(slot);
    }

    /// Reservations that lie ahead of the newest `now`. Where a TTL is shorter than a beat's share of
    /// time at the cap, those used within the present share count as well.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.calendar.reserved()
    }

    /// Panics if the calendar's sums and bitmaps disagree with its cells. O(cells).
    pub fn check_invariants(&self) {
        self.calendar.check_invariants();
    }

    /// The next point of the sequence over (now, now + TTL].
    fn anywhere(&mut self, now: MonoMs, ttl_ms: u64) -> Aim {
        self.opened = self.opened.wrapping_add(1);
        let point = u128::from(self.opened.wrapping_mul(GOLDEN));
        let offset = (point * u128::from(ttl_ms)) >> 64;
        Aim { time: now.plus(1 + offset as u64), kind: AimKind::Anywhere }
    }
}

/// Where the next beat of a worker with an open session should be.
fn steady(now: MonoMs, previous: Option<MonoMs>, ttl_ms: u64) -> Aim {
    let limit = now.plus(ttl_ms);
    match previous {
        // On time, or late by less than half a TTL.
        Some(slot) if slot <= now && now.since(slot) <= ttl_ms / 2 => {
            Aim { time: slot.plus(ttl_ms), kind: AimKind::Phase }
        }
        // Early by more than half a TTL: it said something out of turn, and keeps its slot.
        Some(slot) if slot <= limit && slot.since(now) > ttl_ms / 2 => {
            Aim { time: slot, kind: AimKind::Phase }
        }
        _ => Aim { time: limit, kind: AimKind::Latest },
    }
}
