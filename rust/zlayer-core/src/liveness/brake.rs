//! The mass-expiry brake: so many silent workers with open connections are more likely to be this server's
//! fault than theirs, so it waits, once, and says so.
//!
//! Compared is what came due without a beat within a window, with the leases whose turn fell into that window.
//! (A share of all leases would come too late in a large cluster: with a TTL of 200 s only 2.5 % of the leases
//! have their turn in 5 s.) Loaded nodes that stay away all have the same turn. Nodes whose connection was lost do not count: for them there is a second signal.

use std::collections::VecDeque;

use super::limits::BrakeLimits;
use crate::time::MonoMs;

/// What the brake says to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Expire them.
    Pass,
    /// Wait; raised by this batch, which brought the window to `due`.
    Raise {
        /// Leases that came due in the window.
        due: u64,
        /// End of the hold.
        until: MonoMs,
    },
    /// Wait; it was raised before.
    Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Armed,
    Held {
        until: MonoMs,
    },
    /// Opened by time. Armed again once a window passes below the limit: one alarm an incident.
    Opened,
}

/// State of the brake.
#[derive(Debug)]
pub(super) struct Brake {
    position: Position,
    /// Batches that were expired within the window: when, how many.
    recent: VecDeque<(MonoMs, u64)>,
    sum: u64,
}

impl Brake {
    pub(super) fn new() -> Self {
        Self { position: Position::Armed, recent: VecDeque::new(), sum: 0 }
    }

    /// May `due` leases expire now? `turns` leases have their turn in one window, besides those that expired in
    /// it already.
    pub(super) fn ask(
        &mut self,
        now: MonoMs,
        due: u64,
        turns: u64,
        limits: &BrakeLimits,
    ) -> Verdict {
        self.forget(now, limits);
        let share = (turns + self.sum).saturating_mul(limits.share_percent) / 100;
        let most = limits.leases_min.max(share);
        let in_window = self.sum + due;
        match self.position {
            Position::Held { until } if now < until => return Verdict::Hold,
            Position::Held { .. } if in_window > most => self.position = Position::Opened,
            Position::Held { .. } => self.position = Position::Armed,
            Position::Armed if due > 0 && in_window > most => {
                let until = now.plus(limits.hold_ms);
                self.position = Position::Held { until };
                return Verdict::Raise { due: in_window, until };
            }
            Position::Opened if in_window <= most => self.position = Position::Armed,
            Position::Armed | Position::Opened => {}
        }
        Verdict::Pass
    }

    /// Whether it would hold whatever is due: then nobody needs to count.
    pub(super) fn is_holding(&self, now: MonoMs) -> bool {
        matches!(self.position, Position::Held { until } if now < until)
    }

    /// Counts leases that were expired.
    pub(super) fn passed(&mut self, now: MonoMs, expired: u64) {
        if expired > 0 {
            self.recent.push_back((now, expired));
            self.sum += expired;
        }
    }

    /// Whether it holds.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.position, Position::Held { .. })
    }

    fn forget(&mut self, now: MonoMs, limits: &BrakeLimits) {
        while let Some(&(at, expired)) = self.recent.front()
            && now.since(at) >= limits.window_ms
        {
            self.recent.pop_front();
            self.sum -= expired;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BrakeLimits =
        BrakeLimits { leases_min: 10, share_percent: 30, window_ms: 5_000, hold_ms: 60_000 };

    /// Asks, and expires if it may.
    fn step(brake: &mut Brake, at: u64, due: u64, turns: u64) -> Verdict {
        let verdict = brake.ask(MonoMs(at), due, turns, &LIMITS);
        if verdict == Verdict::Pass {
            brake.passed(MonoMs(at), due);
        }
        verdict
    }

    #[test]
    fn up_to_ten_are_always_believed() {
        let mut brake = Brake::new();
        for second in 0..10 {
            assert_eq!(step(&mut brake, second * 500, 1, 4), Verdict::Pass);
        }
        assert_eq!(step(&mut brake, 4_800, 0, 4), Verdict::Pass);
        assert!(matches!(step(&mut brake, 4_900, 1, 4), Verdict::Raise { due: 11, .. }));
    }

    #[test]
    fn up_to_the_share_is_believed_and_more_is_held() {
        let mut brake = Brake::new();
        assert_eq!(step(&mut brake, 0, 75, 250), Verdict::Pass);
        // Those that expired no longer have a turn; they are counted all the same.
        assert_eq!(
            step(&mut brake, 100, 1, 175),
            Verdict::Raise { due: 76, until: MonoMs(60_100) }
        );
        assert!(brake.is_held());
        assert_eq!(step(&mut brake, 200, 40, 175), Verdict::Hold);
    }

    #[test]
    fn old_expiries_leave_the_window() {
        let mut brake = Brake::new();
        assert_eq!(step(&mut brake, 0, 75, 250), Verdict::Pass);
        assert_eq!(step(&mut brake, 5_000, 75, 250), Verdict::Pass);
    }

    #[test]
    fn it_opens_by_itself_and_raises_no_second_alarm_for_the_same_incident() {
        let mut brake = Brake::new();
        assert!(matches!(step(&mut brake, 0, 80, 250), Verdict::Raise { .. }));
        assert_eq!(step(&mut brake, 59_999, 80, 250), Verdict::Hold);
        assert_eq!(step(&mut brake, 60_000, 80, 250), Verdict::Pass);
        assert!(!brake.is_held());
        assert_eq!(step(&mut brake, 61_000, 80, 250), Verdict::Pass);
        // Quiet for a window: the next incident is a new one.
        assert_eq!(step(&mut brake, 70_000, 0, 250), Verdict::Pass);
        assert!(matches!(step(&mut brake, 70_100, 80, 250), Verdict::Raise { .. }));
    }

    #[test]
    fn when_the_silent_ones_came_back_in_time_it_is_armed_again() {
        let mut brake = Brake::new();
        assert!(matches!(step(&mut brake, 0, 80, 250), Verdict::Raise { .. }));
        assert_eq!(step(&mut brake, 60_000, 3, 250), Verdict::Pass);
        assert!(matches!(step(&mut brake, 60_100, 90, 250), Verdict::Raise { .. }));
    }
}
