//! Whole fleets under the pacer: the plan stays below the cap and even, whatever the workers do.

#![allow(clippy::unwrap_used)] // A failed unwrap is a failed test.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use zlayer_core::pacing::Pacer;
use zlayer_core::time::MonoMs;
use zlayer_core::ttl::AdaptiveTtlConfig;

const SECOND: u64 = 1_000;

/// A small seeded generator (`SplitMix64`), so that every run is the same.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// Workers that beat when they are told to, give or take what `arrival` makes of it.
struct Fleet {
    config: AdaptiveTtlConfig,
    pacer: Pacer,
    /// Each worker's slot, and where that stands in `planned`.
    slots: Vec<Option<(u64, usize)>>,
    coming: BinaryHeap<Reverse<(u64, usize)>>,
    /// Slots that were handed out and not given back before their time.
    planned: Vec<Option<u64>>,
    arrived: Vec<u64>,
    seeded: Seeded,
}

impl Fleet {
    fn new(config: AdaptiveTtlConfig, workers: usize) -> Self {
        Self {
            config,
            pacer: Pacer::new(config),
            slots: vec![None; workers],
            coming: BinaryHeap::new(),
            planned: Vec::new(),
            arrived: Vec::new(),
            seeded: Seeded(7),
        }
    }

    fn of(workers: usize) -> Self {
        Self::new(AdaptiveTtlConfig::default(), workers)
    }

    fn ttl_ms(&self) -> u64 {
        self.config.ttl_ms(self.slots.len() as u64)
    }

    /// One beat at `now`; returns the slot of the next.
    fn beat(&mut self, now: u64, worker: usize, fresh: bool) -> u64 {
        let (ttl_ms, workers) = (self.ttl_ms(), self.slots.len() as u64);
        let previous = self.slots[worker];
        if let Some((_, index)) = previous.filter(|(slot, _)| *slot > now) {
            self.planned[index] = None;
        }
        let previous = previous.map(|(slot, _)| MonoMs(slot));
        let slot = self.pacer.next_beat(MonoMs(now), previous, ttl_ms, workers, fresh).0;
        assert!(slot > now && slot <= now + ttl_ms, "{slot} for a beat at {now}");
        self.slots[worker] = Some((slot, self.planned.len()));
        self.planned.push(Some(slot));
        self.arrived.push(now);
        slot
    }

    fn connect_all(&mut self, now: u64) {
        self.coming.clear();
        for worker in 0..self.slots.len() {
            let slot = self.beat(now, worker, true);
            self.coming.push(Reverse((slot, worker)));
        }
    }

    /// Lets workers beat until `until`. `arrival` says when a beat that was told for a time comes.
    fn run(&mut self, until: u64, mut arrival: impl FnMut(&mut Seeded, u64, u64) -> u64) {
        while let Some(&Reverse((now, worker))) = self.coming.peek() {
            if now > until {
                break;
            }
            self.coming.pop();
            if worker >= self.slots.len() {
                continue;
            }
            let slot = self.beat(now, worker, false);
            let at = arrival(&mut self.seeded, now, slot);
            self.coming.push(Reverse((at.max(now + 1), worker)));
        }
        self.pacer.check_invariants();
        assert!(self.pacer.reserved() <= self.slots.len(), "more reservations than workers");
    }

    /// Runs with up to 20 ms between a slot and its beat's arrival.
    fn run_on_time(&mut self, until: u64) {
        self.run(until, |seeded, _, slot| slot + seeded.below(21));
    }

    fn planned(&self, from: u64) -> Vec<u64> {
        sorted(self.planned.iter().copied().flatten().filter(|&slot| slot >= from))
    }

    fn arrived(&self, from: u64) -> Vec<u64> {
        sorted(self.arrived.iter().copied().filter(|&at| at >= from))
    }
}

fn sorted(times: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    times
}

/// Most times in any window of that length, wherever it starts.
fn peak(times: &[u64], window_ms: u64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (index, &time) in times.iter().enumerate() {
        while times[first] + window_ms <= time {
            first += 1;
        }
        most = most.max(index + 1 - first);
    }
    most
}

/// Fewest and most times in the whole seconds of `from..to`.
fn per_second(times: &[u64], from: u64, to: u64) -> (usize, usize) {
    let counts = (from..to).step_by(SECOND as usize).map(|start| {
        times.partition_point(|&at| at < start + SECOND) - times.partition_point(|&at| at < start)
    });
    let counts: Vec<usize> = counts.collect();
    (*counts.iter().min().unwrap(), *counts.iter().max().unwrap())
}

#[test]
fn ten_thousand_at_once_are_at_the_cap_and_not_above() {
    let start = 5_000;
    let mut fleet = Fleet::of(10_000);
    fleet.connect_all(start);
    fleet.run_on_time(start + 3 * 200 * SECOND);
    assert_eq!(peak(&fleet.planned(start), SECOND), 50);
    let arrived = fleet.arrived(start + 1);
    assert!(peak(&arrived, SECOND) <= 52, "{} in one second", peak(&arrived, SECOND));
    // The mean interval is the TTL: three beats each, and no more.
    assert!((29_900..=30_100).contains(&arrived.len()), "{} beats", arrived.len());
    let (fewest, most) = per_second(&arrived, start + 2 * SECOND, start + 598 * SECOND);
    assert!(fewest >= 48 && most <= 52, "{fewest} to {most} in a second");
}

#[test]
fn a_fleet_as_large_as_the_shortest_ttl_allows_is_at_the_cap_for_hours() {
    let mut fleet = Fleet::of(500);
    fleet.connect_all(0);
    let end = 2 * 3_600 * SECOND;
    fleet.run_on_time(end);
    assert_eq!(peak(&fleet.planned(0), SECOND), 50);
    let arrived = fleet.arrived(1);
    assert!(peak(&arrived, SECOND) <= 52, "{} in one second", peak(&arrived, SECOND));
    let rate = arrived.len() as f64 / (end / SECOND) as f64;
    assert!((49.5..=50.5).contains(&rate), "{rate} a second");
}

#[test]
fn a_hundred_at_once_are_spread_evenly() {
    let mut fleet = Fleet::of(100);
    fleet.connect_all(123);
    fleet.run_on_time(600 * SECOND);
    let arrived = fleet.arrived(124);
    let (fewest, most) = per_second(&arrived, 2_000, 598 * SECOND);
    assert!(fewest >= 8 && most <= 12, "{fewest} to {most} in a second, 10 on average");
    assert!(peak(&arrived, SECOND) <= 13);
    let rate = arrived.len() as f64 / 600.0;
    assert!((9.9..=10.1).contains(&rate), "{rate} a second");
}

#[test]
fn workers_that_join_one_by_one_are_planned_below_the_cap_at_every_size() {
    let mut fleet = Fleet::of(0);
    for worker in 0..4_000 {
        fleet.slots.push(None);
        let slot = fleet.beat(9_000, worker, true);
        fleet.coming.push(Reverse((slot, worker)));
    }
    fleet.run_on_time(400 * SECOND);
    assert_eq!(peak(&fleet.planned(0), SECOND), 50);
    let settled = fleet.arrived(200 * SECOND);
    let (fewest, most) = per_second(&settled, 200 * SECOND, 399 * SECOND);
    assert!(fewest >= 45 && most <= 52, "{fewest} to {most} in a second");
}

#[test]
fn a_fleet_that_reconnects_while_its_slots_lie_ahead_stays_below_the_cap() {
    let mut fleet = Fleet::of(10_000);
    fleet.connect_all(0);
    fleet.run_on_time(300 * SECOND);
    for reconnect in [300, 301, 420] {
        fleet.run_on_time(reconnect * SECOND);
        fleet.connect_all(reconnect * SECOND);
    }
    fleet.run_on_time(900 * SECOND);
    assert_eq!(peak(&fleet.planned(0), SECOND), 50);
    let after = fleet.arrived(420 * SECOND + 1);
    assert!(peak(&after, SECOND) <= 52, "{} in one second", peak(&after, SECOND));
}

#[test]
fn beats_that_pile_up_while_the_server_sleeps_are_planned_apart_again() {
    for asleep in [1, 20, 60, 150] {
        let mut fleet = Fleet::of(10_000);
        fleet.connect_all(0);
        let (asleep_from, awake) = (450 * SECOND, (450 + asleep) * SECOND);
        fleet.run(1_500 * SECOND, |seeded, _, slot| {
            let at = slot + seeded.below(21);
            if (asleep_from..awake).contains(&at) { awake } else { at }
        });
        assert_eq!(peak(&fleet.planned(0), SECOND), 50, "asleep for {asleep} s");
        let after = fleet.arrived(awake + 1);
        assert!(peak(&after, SECOND) <= 52, "asleep for {asleep} s: {}", peak(&after, SECOND));
    }
}

#[test]
fn early_late_lost_and_surplus_beats_leak_nothing_and_keep_below_the_cap() {
    let mut fleet = Fleet::of(10_000);
    fleet.connect_all(0);
    let end = 2_000 * SECOND;
    fleet.run(end, |seeded, now, slot| match seeded.below(100) {
        // Late, up to beyond half a TTL.
        0 | 1 => slot + seeded.below(5_000),
        2 => slot + seeded.below(150_000),
        // Lost, and sent again after two seconds without an answer.
        3 => slot + 2_000,
        // Early by some timer's error, and out of turn.
        4 => slot.saturating_sub(seeded.below(2_000)),
        5 if seeded.below(5) == 0 => now + seeded.below(slot - now + 1),
        _ => slot + seeded.below(21),
    });
    assert_eq!(peak(&fleet.planned(0), SECOND), 50);
    // What comes at another time than planned comes on top of the plan: judged over ten seconds.
    let arrived = fleet.arrived(1);
    let ten_seconds = peak(&arrived, 10 * SECOND);
    assert!(ten_seconds <= 525, "{ten_seconds} in ten seconds");
    fleet.slots.clear();
    fleet.pacer.next_beat(MonoMs(end + 601 * SECOND), None, SECOND, 1, true);
    assert_eq!(fleet.pacer.reserved(), 1, "all that was reserved has passed");
}

#[test]
fn unsteady_workers_stay_spread_when_the_cap_is_far() {
    let mut fleet = Fleet::of(100);
    fleet.connect_all(0);
    fleet.run(3_600 * SECOND, |seeded, now, slot| match seeded.below(10) {
        0 => slot + seeded.below(9_000),
        1 => now + seeded.below(slot - now + 1),
        _ => slot + seeded.below(300),
    });
    let most = peak(&fleet.planned(0), SECOND);
    assert!(most <= 18, "{most} planned in one second, 10 on average");
}

#[test]
fn a_fleet_that_shrinks_is_planned_below_the_cap_throughout() {
    let mut fleet = Fleet::of(10_000);
    fleet.connect_all(0);
    fleet.run_on_time(250 * SECOND);
    for (workers, until) in [(9_950, 500), (6_000, 900), (700, 1_300), (90, 1_500)] {
        for worker in workers..fleet.slots.len() {
            let (slot, index) = fleet.slots[worker].unwrap();
            fleet.pacer.release(MonoMs(slot));
            fleet.planned[index] = None;
        }
        fleet.slots.truncate(workers);
        fleet.run_on_time(until * SECOND);
    }
    assert_eq!(peak(&fleet.planned(0), SECOND), 50);
    let rate = fleet.arrived(1_400 * SECOND).len() as f64 / 100.0;
    assert!((8.9..=9.2).contains(&rate), "{rate} a second of 90 workers");
}

#[test]
fn a_cap_that_cannot_be_met_is_exceeded_evenly() {
    let mut fleet = Fleet::of(45_000);
    fleet.connect_all(0);
    fleet.run_on_time(1_900 * SECOND);
    let arrived = fleet.arrived(1);
    let (fewest, most) = per_second(&arrived, 2 * SECOND, 1_890 * SECOND);
    assert!(fewest >= 68 && most <= 80, "{fewest} to {most} in a second, 75 on average");
    let rate = arrived.len() as f64 / 1_900.0;
    assert!((74.0..=76.5).contains(&rate), "{rate} a second");
}

#[test]
fn without_a_cap_beats_are_still_spread() {
    let config = AdaptiveTtlConfig::new(10, 600, 10, 0, 300).unwrap();
    let mut fleet = Fleet::new(config, 60_000);
    fleet.connect_all(0);
    fleet.run_on_time(1_300 * SECOND);
    let (fewest, most) = per_second(&fleet.arrived(1), 2 * SECOND, 1_290 * SECOND);
    assert!(fewest >= 92 && most <= 108, "{fewest} to {most} in a second, 100 on average");
}

#[test]
fn every_cap_is_kept_where_it_can_be() {
    // Cap, longest TTL in seconds, workers: cells of one beat and of many, of 1 ms and of seconds.
    let cases = [
        (1, 600, 600),
        (3, 600, 1_000),
        (7, 77, 539),
        (333, 600, 5_000),
        (1_000, 60, 40_000),
        (2_500, 30, 70_000),
        (20, 86_400, 5_000),
    ];
    for (cap, max_ttl, workers) in cases {
        let config = AdaptiveTtlConfig::new(10, max_ttl, 10, cap, 300).unwrap();
        let mut fleet = Fleet::new(config, workers);
        fleet.connect_all(77);
        fleet.run_on_time(77 + 2 * fleet.ttl_ms() + 3 * SECOND);
        let most = peak(&fleet.planned(0), SECOND);
        // Times are whole milliseconds: one beat may be rounded into a window.
        let allowed = cap as usize + 1 + cap as usize / 100;
        assert!(most <= allowed, "cap {cap}: {most} planned in one second");
    }
}

#[test]
fn the_same_calls_give_the_same_plan() {
    let plan = || {
        let mut fleet = Fleet::of(700);
        fleet.connect_all(0);
        fleet.run(100 * SECOND, |seeded, _, slot| slot + seeded.below(3_000));
        fleet.planned
    };
    assert_eq!(plan(), plan());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_are_answered_within_the_ttl_and_leave_the_calendar_whole(
        (cap, max_ttl) in (0..3_000_u32, 1..300_u32),
        calls in proptest::collection::vec(
            (0..20_000_u64, 0..8_usize, 0..400_000_u64, 0..100_000_u64, any::<bool>()), 1..200),
    ) {
        let config = AdaptiveTtlConfig::new(1, max_ttl, 10, cap, 300).unwrap();
        let mut pacer = Pacer::new(config);
        let mut slots = [None; 8];
        let mut now = 0;
        let mut shortest_ms = u64::MAX;
        for (step, worker, ttl_ms, workers, fresh) in calls {
            // Also a clock that some thread read a little earlier than another.
            now = if step < 100 { u64::saturating_sub(now, step) } else { now + step };
            if step % 7 == 0 {
                if let Some(slot) = slots[worker].take() {
                    pacer.release(slot);
                }
                continue;
            }
            let slot = pacer.next_beat(MonoMs(now), slots[worker], ttl_ms, workers, fresh);
            let limit = ttl_ms.clamp(1, u64::from(max_ttl) * 1_000);
            prop_assert!(slot.0 > now && slot.0 <= now + limit, "{slot:?} at {now}");
            slots[worker] = Some(slot);
            shortest_ms = shortest_ms.min(limit);
            // A cell is a second wide at most.
            prop_assert!(pacer.reserved() <= slots.len() || shortest_ms < SECOND);
        }
        pacer.check_invariants();
    }
}
