//! The clocks by which promises are judged.
//!
//! A promise to a worker counts the time in which the server was awake. A promise about the server's promptness
//! counts the time in which it could work: what a pause, a slow disk or a held brake adds is left out, as much as
//! the design allows and no more.

use crate::Ms;
use crate::fact::Fact;

/// A server that was stopped for longer must notice it: a tick's plan, plus what is called late.
pub(crate) const NOTICED_MS: u64 = 600;
/// What a sleep costs beside itself: the gap before it, the drained sockets, the second look.
const AFTER_SLEEP_MS: u64 = 1_000;
/// What follows a busy log: two commits and a tick.
const AFTER_BUSY_MS: u64 = 400;

/// Sums of the time that does not count. See the module.
#[derive(Debug, Default, Clone)]
pub(crate) struct Times {
    now: Ms,
    /// It is stopped, since then.
    stopped_at: Option<Ms>,
    slept: u64,
    excused: u64,
    /// Slept, and no tick since: the engine may not know yet.
    unticked: u64,
    busy: Interval,
    brake: Interval,
    /// End of the last sleep, and of the last stop of any length.
    slept_at: Ms,
    resumed_at: Ms,
    booted_at: Ms,
}

/// Time during which something holds, and the sum of it in the past.
#[derive(Debug, Default, Clone)]
struct Interval {
    past: u64,
    from: Ms,
    until: Ms,
}

impl Interval {
    fn extend(&mut self, now: Ms, until: Ms) {
        if now >= self.until {
            self.past += self.until - self.from;
            (self.from, self.until) = (now, now);
        }
        self.until = self.until.max(until);
    }

    fn sum(&self, now: Ms) -> u64 {
        self.past + (now.min(self.until) - self.from)
    }
}

impl Times {
    /// Takes a fact in, before any invariant sees it.
    pub(crate) fn note(&mut self, now: Ms, fact: &Fact) {
        self.now = now;
        match *fact {
            Fact::Stopped => self.stopped_at = Some(now),
            Fact::Slept { ms } => {
                self.stopped_at = None;
                self.slept += if ms > NOTICED_MS { ms } else { 0 };
                self.unticked += ms + if ms > NOTICED_MS / 4 { AFTER_SLEEP_MS } else { 0 };
                self.resumed_at = now;
                if ms > NOTICED_MS {
                    self.slept_at = now;
                }
            }
            // A late tick may be taken for a sleep as well, together with a stutter.
            Fact::TickLate { ms } => self.unticked += ms + 200,
            Fact::Ticked { .. } => self.excused += std::mem::take(&mut self.unticked),
            Fact::Busy { until } => self.busy.extend(now, until + AFTER_BUSY_MS),
            Fact::Alarm { until, .. } => self.brake.extend(now, until),
            Fact::Died => self.stopped_at = None,
            Fact::Booted => self.booted_at = now,
            _ => {}
        }
    }

    /// Time in which the server was awake. Goes by while it is down: a worker's promise does, too.
    pub(crate) fn awake(&self) -> u64 {
        self.stopped_at.unwrap_or(self.now) - self.slept
    }

    /// Time in which the server could decide and record.
    pub(crate) fn able(&self) -> i64 {
        self.able_when_noticed() - self.unticked as i64
    }

    /// The same for a lease that is renewed now: a sleep that the engine has not noticed yet makes it longer.
    pub(crate) fn able_when_noticed(&self) -> i64 {
        let lost = self.excused + self.busy.sum(self.now);
        self.stopped_at.unwrap_or(self.now) as i64 - lost as i64
    }

    /// Time in which the brake held.
    pub(crate) fn braked(&self) -> i64 {
        self.brake.sum(self.now) as i64
    }

    /// How long the server has been up and awake at a stretch.
    pub(crate) fn well_ms(&self) -> u64 {
        self.now - self.resumed_at.max(self.booted_at)
    }

    /// Since its last sleep, or the beginning.
    pub(crate) fn since_sleep_ms(&self) -> u64 {
        self.now - self.slept_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &mut Times, now: Ms, fact: Fact) -> (u64, i64) {
        times.note(now, &fact);
        (times.awake(), times.able())
    }

    #[test]
    fn a_sleep_does_not_count_and_a_stutter_does() {
        let mut times = Times::default();
        assert_eq!(at(&mut times, 10_000, Fact::Audit), (10_000, 10_000));
        at(&mut times, 10_000, Fact::Stopped);
        assert_eq!(at(&mut times, 13_000, Fact::Audit), (10_000, 10_000));
        assert_eq!(at(&mut times, 15_000, Fact::Slept { ms: 5_000 }), (10_000, 9_000));
        assert_eq!(at(&mut times, 15_050, Fact::Ticked { decisions: 0 }), (10_050, 9_050));
        assert_eq!(at(&mut times, 16_000, Fact::Slept { ms: 100 }), (11_000, 9_900));
    }

    #[test]
    fn a_busy_log_and_a_held_brake_excuse_as_long_as_they_last() {
        let mut times = Times::default();
        at(&mut times, 1_000, Fact::Busy { until: 3_000 });
        assert_eq!(at(&mut times, 2_000, Fact::Audit), (2_000, 1_000));
        at(&mut times, 2_500, Fact::Busy { until: 2_600 });
        assert_eq!(at(&mut times, 9_000, Fact::Audit), (9_000, 9_000 - 2_400));
        at(&mut times, 10_000, Fact::Busy { until: 10_600 });
        assert_eq!(at(&mut times, 12_000, Fact::Audit).1, 12_000 - 2_400 - 1_000);
        at(&mut times, 20_000, Fact::Alarm { due: 11, until: 80_000 });
        at(&mut times, 90_000, Fact::Audit);
        assert_eq!(times.braked(), 60_000);
    }
}
