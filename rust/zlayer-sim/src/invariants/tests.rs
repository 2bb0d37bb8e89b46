//! Each invariant against facts that break it, and facts beside them that don't.

use zlayer_core::liveness::{Ack, LivenessLimits};
use zlayer_core::record::{Liveness, Reason};
use zlayer_core::ttl::AdaptiveTtlConfig;

use super::*;
use crate::fact::Blow;

const NODE: u64 = 1_000;

/// The invariants with a clock that is set by hand: TTL and grace are 10 s each.
struct Bench {
    invariants: Invariants,
    now: Ms,
}

impl Bench {
    fn new() -> Self {
        let rules = Rules {
            config: AdaptiveTtlConfig::default(),
            limits: LivenessLimits::default(),
            scenario: Scenario::Mix,
        };
        let mut bench = Self { invariants: Invariants::new(rules), now: 1_000 };
        bench.all(&[Fact::Booted, Fact::Ticked { decisions: 0 }]);
        bench
    }

    /// A node with a session that was opened at 1 s and recorded.
    fn connected() -> Self {
        let mut bench = Self::new();
        bench.all(&[
            Fact::Process { node: NODE, running: true },
            opened(1),
            proposed(Liveness::Ready),
            recorded(Liveness::Ready),
            Fact::Answered { node: NODE, committed: true },
        ]);
        bench
    }

    /// The promise that this fact breaks.
    fn at(&mut self, now: Ms, fact: Fact) -> Option<&'static str> {
        self.now = now;
        self.invariants.note(now, &fact).map(|violation| violation.invariant)
    }

    fn all(&mut self, facts: &[Fact]) {
        for &fact in facts {
            assert_eq!(self.at(self.now, fact), None, "{fact:?}");
        }
    }

    fn fine(&mut self, now: Ms, facts: &[Fact]) {
        self.now = now;
        self.all(facts);
    }
}

fn ack() -> Ack {
    Ack { ttl_ms: 10_000, grace_ms: 10_000, next_beat_in_ms: 9_000, reconnect_spread_ms: 2 }
}

fn opened(session: u64) -> Fact {
    Fact::Opened { node: NODE, session, ack: ack() }
}

fn beat(session: u64) -> Fact {
    Fact::Beat { node: NODE, session, slot: None, ack: ack() }
}

fn closed(session: u64) -> Fact {
    Fact::Closed { node: NODE, session }
}

fn recorded(liveness: Liveness) -> Fact {
    Fact::Recorded { node: NODE, liveness }
}

fn proposed(to: Liveness) -> Fact {
    let reason = match to {
        Liveness::Ready => Reason::SessionOpened,
        Liveness::Suspect => Reason::ConnectionLost,
        Liveness::Unreachable => Reason::LeaseExpired,
        Liveness::Left => Reason::Leaving,
    };
    Fact::Proposed { node: NODE, to, reason }
}

const UNREACHABLE: Liveness = Liveness::Unreachable;

#[test]
fn a_lease_lasts_as_long_as_promised_and_is_looked_at_twice() {
    let gone = Fact::Process { node: NODE, running: false };
    for (now, verdict) in [(20_999, Some("early_expiry")), (21_249, Some("doubt")), (21_250, None)]
    {
        let mut bench = Bench::connected();
        bench.all(&[gone]);
        assert_eq!(bench.at(now, proposed(UNREACHABLE)), verdict, "at {now}");
    }
    // What the server slept is added.
    let mut bench = Bench::connected();
    bench.fine(5_000, &[gone, Fact::Stopped]);
    bench.fine(15_000, &[Fact::Slept { ms: 10_000 }]);
    assert_eq!(bench.at(30_999, proposed(UNREACHABLE)), Some("early_expiry"));
}

#[test]
fn right_after_a_sleep_nobody_expires() {
    for (now, verdict) in [(70_299, Some("doubt")), (70_300, None)] {
        let mut bench = Bench::connected();
        bench.fine(22_000, &[Fact::Process { node: NODE, running: false }, Fact::Stopped]);
        bench.fine(70_000, &[Fact::Slept { ms: 48_000 }]);
        assert_eq!(bench.at(now, proposed(UNREACHABLE)), verdict, "at {now}");
    }
}

#[test]
fn a_silent_node_is_recorded_a_second_after_its_lease() {
    let mut bench = Bench::connected();
    bench.fine(22_000, &[Fact::Audit]);
    assert_eq!(bench.at(22_002, Fact::Audit), Some("late_expiry"));
    // A sleep adds itself and a second, a long one the reconnect window.
    let mut bench = Bench::connected();
    bench.fine(5_000, &[Fact::Stopped]);
    bench.fine(10_000, &[Fact::Slept { ms: 5_000 }, Fact::Ticked { decisions: 0 }]);
    bench.fine(28_000, &[Fact::Audit]);
    assert_eq!(bench.at(28_002, Fact::Audit), Some("late_expiry"));
    // A held brake adds its hold, but not to a lost connection.
    for (lost, late_at) in [(false, 82_002), (true, 22_002)] {
        let mut bench = Bench::connected();
        if lost {
            bench.all(&[closed(1), proposed(Liveness::Suspect), recorded(Liveness::Suspect)]);
        }
        bench.fine(20_000, &[Fact::Alarm { due: 11, until: 80_000 }]);
        bench.fine(late_at - 2, &[Fact::Audit]);
        assert_eq!(bench.at(late_at, Fact::Audit), Some("late_expiry"));
    }
}

#[test]
fn a_worker_that_was_hit_by_one_message_is_not_given_up() {
    let light = Fact::Struck { node: NODE, blow: Blow::Light };
    let heavy = Fact::Struck { node: NODE, blow: Blow::Heavy };
    let refused = Fact::Struck { node: NODE, blow: Blow::Refused };
    let told = Fact::Told { node: NODE, promise: 21_000 };
    for (blows, verdict) in [
        (&[][..], Some("false_down")),
        (&[light], Some("false_down")),
        (&[light, light], None),
        (&[heavy], None),
        (&[refused], None),
    ] {
        let mut bench = Bench::connected();
        bench.fine(1_001, &[told]);
        bench.all(blows);
        assert_eq!(bench.at(21_300, proposed(UNREACHABLE)), verdict, "{blows:?}");
    }
    // Long after a cut it must have found its way back.
    for (now, verdict) in [(99_000, None), (101_000, Some("false_down"))] {
        let mut bench = Bench::connected();
        bench.fine(1_001, &[told, Fact::Cut { node: NODE, until: 25_000 }]);
        assert_eq!(bench.at(now, proposed(UNREACHABLE)), verdict, "at {now}");
    }
}

#[test]
fn a_new_server_waits_for_those_that_it_loads() {
    let loaded = Fact::Loaded { node: NODE, liveness: Liveness::Ready, ttl_ms: 10_000 };
    let missed =
        Fact::Proposed { node: NODE, to: Liveness::Suspect, reason: Reason::NotReconnected };
    let cases = [
        (missed, 39_999, Some("failover")),
        (missed, 40_000, None),
        (proposed(UNREACHABLE), 309_999, Some("failover")),
        (proposed(UNREACHABLE), 310_300, None),
    ];
    for (fact, now, verdict) in cases {
        let mut bench = Bench::new();
        bench.fine(10_000, &[Fact::Died, Fact::Booted, loaded, Fact::Ticked { decisions: 0 }]);
        assert_eq!(bench.at(now, fact), verdict, "{fact:?} at {now}");
    }
}

#[test]
fn suspect_is_who_lost_its_connection_and_at_once() {
    let mut bench = Bench::connected();
    assert_eq!(bench.at(2_000, proposed(Liveness::Suspect)), Some("suspicion"));
    let mut bench = Bench::connected();
    bench.fine(2_000, &[closed(1)]);
    assert_eq!(bench.at(2_000, Fact::Ticked { decisions: 0 }), Some("suspicion"));
    let mut bench = Bench::connected();
    bench.fine(2_000, &[opened(2), closed(1), Fact::Ticked { decisions: 0 }]);
    bench.fine(2_100, &[closed(2), proposed(Liveness::Suspect), Fact::Ticked { decisions: 0 }]);
}

#[test]
fn one_session_counts() {
    let mut bench = Bench::connected();
    bench.fine(2_000, &[opened(2), beat(2)]);
    assert_eq!(bench.at(2_001, beat(1)), Some("one_session"));
    let mut bench = Bench::connected();
    bench.fine(2_000, &[opened(2)]);
    assert_eq!(bench.at(2_001, opened(1)), Some("one_session"));
    // Once it is gone the older one may go on.
    let mut bench = Bench::connected();
    bench.fine(2_000, &[opened(2), closed(2), opened(1), beat(1)]);
}

#[test]
fn what_is_recorded_is_what_is_true() {
    let mut bench = Bench::connected();
    bench.fine(2_000, &[closed(1), proposed(Liveness::Suspect)]);
    bench.fine(3_000, &[Fact::Audit]);
    assert_eq!(bench.at(3_001, Fact::Audit), Some("record"));
    // A busy log has its time, and a second more.
    let mut bench = Bench::connected();
    bench.fine(2_000, &[closed(1), proposed(Liveness::Suspect), Fact::Busy { until: 4_000 }]);
    bench.fine(5_400, &[Fact::Audit]);
    assert_eq!(bench.at(5_401, Fact::Audit), Some("record"));
    // Recorded wrongly after it was right.
    let mut bench = Bench::connected();
    bench.fine(5_000, &[recorded(Liveness::Suspect)]);
    assert_eq!(bench.at(6_001, Fact::Audit), Some("record"));
}

/// One invariant alone.
struct Alone<I> {
    invariant: I,
    rules: Rules,
    times: Times,
}

impl<I: Invariant> Alone<I> {
    /// Whether this fact breaks it.
    fn breaks(&mut self, now: Ms, fact: Fact) -> bool {
        self.times.note(now, &fact);
        let moment = Moment { now, times: &self.times, rules: &self.rules };
        self.invariant.note(&moment, &fact).is_err()
    }
}

fn pacing(scenario: Scenario) -> Alone<pacing::Pacing> {
    let rules = Rules { scenario, ..Bench::new().invariants.rules().clone() };
    Alone { invariant: pacing::Pacing::new(&rules), rules, times: Times::default() }
}

#[test]
fn no_second_is_planned_above_the_cap() {
    let opened = |node, next_beat_in_ms| {
        let ack = Ack { next_beat_in_ms, ..ack() };
        Fact::Opened { node, session: 1, ack }
    };
    for (count, breaks) in [(50, false), (51, true)] {
        let mut alone = pacing(Scenario::Mix);
        for node in NODE..NODE + count {
            assert!(!alone.breaks(1_000, opened(node, 5_000 + node - NODE)));
        }
        assert_eq!(alone.breaks(8_000, Fact::Audit), breaks, "{count} planned");
    }
    // A slot that was given back before its time is not in the plan.
    let mut alone = pacing(Scenario::Mix);
    for node in NODE..NODE + 60 {
        assert!(!alone.breaks(1_000, opened(node, 5_000)));
    }
    for node in NODE..NODE + 10 {
        assert!(!alone.breaks(1_500, Fact::Closed { node, session: 1 }));
    }
    assert!(!alone.breaks(8_000, Fact::Audit));
}

#[test]
fn no_second_brings_more_on_time_than_the_cap_and_a_twentieth() {
    let beat = |slot| Fact::Beat { node: NODE, session: 1, slot: Some(slot), ack: ack() };
    for (slot, steady, mixed) in [(7_985, 52, 52), (7_970, 52, usize::MAX), (8_100, 0, usize::MAX)]
    {
        for (scenario, most) in [(Scenario::Steady, steady), (Scenario::Mix, mixed)] {
            let mut alone = pacing(scenario);
            let fine = (0..60).take_while(|_| !alone.breaks(8_000, beat(slot))).count();
            assert_eq!(fine, most.min(60), "{scenario:?}, for a slot at {slot}");
        }
    }
}

#[test]
fn first_reports_keep_to_their_spread_while_the_server_is_well() {
    let mut alone = pacing(Scenario::Storms);
    let mut hello = |at| alone.breaks(at, Fact::Opened { node: NODE, session: 1, ack: ack() });
    assert!((0..750).all(|number| !hello(1_000 + number)));
    assert!(hello(1_999));
}

#[test]
fn too_many_at_once_are_held_and_few_never_are() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(1_000, Fact::Alarm { due: 10, until: 61_000 }), Some("brake"));
    assert_eq!(bench.at(1_000, Fact::Alarm { due: 11, until: 61_001 }), Some("brake"));
    // Of 40 leases with a TTL of 10 s, 20 have their turn in 5 s: ten are believed.
    let fleet = || {
        let mut bench = Bench::new();
        for node in 1_000..1_040 {
            bench.all(&[Fact::Opened { node, session: 1, ack: ack() }]);
        }
        bench
    };
    let expire = |bench: &mut Bench, now, lost: bool| {
        (1_000..1_040).find_map(|node| {
            if lost {
                bench.fine(now, &[Fact::Closed { node, session: 1 }]);
            }
            let reason = Reason::LeaseExpired;
            bench.at(now, Fact::Proposed { node, to: UNREACHABLE, reason })
        })
    };
    assert_eq!(expire(&mut fleet(), 21_300, false), Some("brake"));
    assert_eq!(expire(&mut fleet(), 21_300, true), None);
    let mut bench = fleet();
    bench.fine(21_000, &[Fact::Alarm { due: 12, until: 81_000 }]);
    assert_eq!(expire(&mut bench, 81_000, false), None);
}

#[test]
fn in_the_end_everything_is_right() {
    for (recorded_last, running, verdict) in [
        (Liveness::Ready, true, None),
        (Liveness::Unreachable, true, Some("convergence")),
        (Liveness::Ready, false, Some("convergence")),
        (Liveness::Left, false, None),
    ] {
        let mut bench = Bench::new();
        bench.all(&[recorded(recorded_last)]);
        if running {
            bench.all(&[Fact::Process { node: NODE, running }]);
        }
        assert_eq!(bench.at(2_000, Fact::Ended), verdict, "{recorded_last:?}, {running}");
    }
    let mut bench = Bench::new();
    bench.all(&[proposed(Liveness::Ready), recorded(Liveness::Left)]);
    assert_eq!(bench.at(2_000, Fact::Ended), Some("convergence"), "something is under way");
}
