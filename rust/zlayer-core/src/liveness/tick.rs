//! Did this server sleep? Watches the ticks, and says up to which time leases may be expired.
//!
//! Beats are read by the same process that expires leases. If it was stopped, starved or blocked, the beats of
//! that time wait in the sockets: the gap is no evidence against any worker. (etcd lost leases that way:
//! etcd-io/etcd#12528, #15247.)

use std::collections::VecDeque;

use super::limits::LivenessLimits;
use crate::time::MonoMs;

/// State of the watch.
#[derive(Debug, Default)]
pub(super) struct TickWatch {
    last: Option<MonoMs>,
    hold_until: MonoMs,
    /// Times of ticks at which due leases were looked at; the first is the newest that is at least `confirm_ms`
    /// old, as far as there is one.
    looks: VecDeque<MonoMs>,
    /// Latest tick against its plan, milliseconds.
    pub(super) lag_ms_max: u64,
}

impl TickWatch {
    /// Called with every event. Returns the milliseconds that every deadline must move by, mostly 0: the whole
    /// gap since the last tick when that is late beyond the limit.
    pub(super) fn observe(&mut self, now: MonoMs, limits: &LivenessLimits) -> u64 {
        let Some(last) = self.last else {
            self.last = Some(now);
            return 0;
        };
        let gap_ms = now.since(last);
        let lag_ms = gap_ms.saturating_sub(limits.tick_ms);
        self.lag_ms_max = self.lag_ms_max.max(lag_ms);
        if lag_ms <= limits.late_tick_ms {
            return 0;
        }
        self.last = Some(now);
        self.hold_until = now.plus(limits.drain_hold_ms);
        self.looks.clear();
        gap_ms
    }

    /// A tick at `now`. Returns the time up to which a lease may have ended to be expired now; `None` while
    /// sockets are drained.
    pub(super) fn look(&mut self, now: MonoMs, limits: &LivenessLimits) -> Option<MonoMs> {
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        // Half a tick apart is dense enough, and bounds the queue while a backlog is worked off tick by tick.
        if self.looks.back().is_none_or(|&newest| now.since(newest) * 2 >= limits.tick_ms) {
            self.looks.push_back(now);
        }
        let old_enough = |look: MonoMs| now.since(look) >= limits.confirm_ms;
        while self.looks.get(1).is_some_and(|&second| old_enough(second)) {
            self.looks.pop_front();
        }
        if now < self.hold_until {
            return None;
        }
        self.looks.front().copied().filter(|&look| old_enough(look))
    }

    /// When the next tick is planned; `None` before the first event.
    pub(super) fn next(&self, limits: &LivenessLimits) -> Option<MonoMs> {
        self.last.map(|last| last.plus(limits.tick_ms))
    }

    /// Time of the last tick.
    pub(super) fn last(&self) -> Option<MonoMs> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(watch: &mut TickWatch, times: impl IntoIterator<Item = u64>) -> Option<MonoMs> {
        let limits = LivenessLimits::default();
        times.into_iter().fold(None, |_, at| {
            watch.observe(MonoMs(at), &limits);
            watch.look(MonoMs(at), &limits)
        })
    }

    #[test]
    fn a_lease_is_looked_at_twice_before_it_expires() {
        let mut watch = TickWatch::default();
        assert_eq!(ticks(&mut watch, [1_000, 1_100, 1_200]), None);
        assert_eq!(ticks(&mut watch, [1_300]), Some(MonoMs(1_000)));
        assert_eq!(ticks(&mut watch, [1_400]), Some(MonoMs(1_100)));
    }

    #[test]
    fn the_second_look_comes_soon_enough_for_the_promise_of_one_second() {
        // The worst case that is no pause: each tick late by just less than the limit.
        let limits = LivenessLimits::default();
        let step = limits.tick_ms + limits.late_tick_ms;
        let mut watch = TickWatch::default();
        for tick in 0..100 {
            let now = MonoMs(1_000 + tick * step);
            assert_eq!(watch.observe(now, &limits), 0);
            if let Some(horizon) = watch.look(now, &limits) {
                // A lease that ended right after the horizon is expired by the next tick.
                assert!(now.since(horizon) <= step, "{}", now.since(horizon));
            }
        }
    }

    #[test]
    fn a_gap_beyond_the_limit_is_returned_whole_and_once() {
        let limits = LivenessLimits::default();
        let mut watch = TickWatch::default();
        ticks(&mut watch, [1_000]);
        assert_eq!(watch.observe(MonoMs(1_600), &limits), 0);
        assert_eq!(watch.observe(MonoMs(61_000), &limits), 60_000);
        assert_eq!(watch.observe(MonoMs(61_000), &limits), 0);
        assert_eq!(watch.lag_ms_max, 59_900);
    }

    #[test]
    fn after_a_gap_nothing_expires_until_the_sockets_are_drained() {
        let mut watch = TickWatch::default();
        ticks(&mut watch, (1_000..2_000).step_by(100));
        assert_eq!(ticks(&mut watch, [61_000, 61_100, 61_200]), None);
        assert_eq!(ticks(&mut watch, [61_300]), Some(MonoMs(61_000)));
    }

    #[test]
    fn a_backlog_that_ticks_at_once_keeps_the_queue_short() {
        let mut watch = TickWatch::default();
        ticks(&mut watch, (1_000..3_000).map(|t| t / 10 * 10));
        assert!(watch.looks.len() <= 8, "{}", watch.looks.len());
    }
}
