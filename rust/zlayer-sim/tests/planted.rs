//! A simulator that never found a bug proves nothing: every mistake that can be put in is seen, within so many seeds,
//! by the promise that it breaks.

use zlayer_sim::{Flaw, Scenario, Settings, World};

/// In which worlds a mistake is looked for, and which promise it breaks.
struct Planted {
    name: &'static str,
    scenario: Scenario,
    workers: u32,
    seeds: u64,
    promise: &'static str,
}

const fn planted(
    name: &'static str,
    scenario: Scenario,
    seeds: u64,
    promise: &'static str,
) -> Planted {
    Planted { name, scenario, workers: 200, seeds, promise }
}

/// Seeds are several times as many as were needed on average.
const PLANTED: [Planted; 21] = [
    planted("NoGrace", Scenario::Mix, 3, "early_expiry"),
    planted("NoShift", Scenario::Pauses, 4, "early_expiry"),
    planted("NoDrainHold", Scenario::Mix, 3, "doubt"),
    planted("OldDisconnectHonoured", Scenario::Mix, 3, "suspicion"),
    planted("PacerOff", Scenario::Mix, 3, "pacing"),
    planted("PlainFailoverWindow", Scenario::Failovers, 10, "failover"),
    planted("OldSessionRenews", Scenario::Mix, 3, "one_session"),
    planted("RefusalTakenForCommit", Scenario::Churn, 5, "record"),
    planted("NoSecondLook", Scenario::Mix, 3, "doubt"),
    planted("SleepUnnoticed", Scenario::Pauses, 4, "early_expiry"),
    planted("NoBrake", Scenario::Silences, 12, "brake"),
    planted("StuckBrake", Scenario::Silences, 10, "brake"),
    planted("NoReconnectWindow", Scenario::Failovers, 4, "failover"),
    Planted {
        name: "NoReconnectSpread",
        scenario: Scenario::Storms,
        workers: 3_000,
        seeds: 2,
        promise: "pacing",
    },
    planted("SlowTicks", Scenario::Mix, 3, "late_expiry"),
    planted("CloseUntold", Scenario::Mix, 3, "suspicion"),
    planted("ProposalForgotten", Scenario::Mix, 4, "record"),
    planted("AnswerAwaited", Scenario::Mix, 4, "false_down"),
    planted("LateAnswerTrusted", Scenario::Churn, 12, "false_down"),
    planted("RefusalBelieved", Scenario::Lossy, 60, "false_down"),
    planted("CommitLost", Scenario::Failovers, 4, "replay"),
];

fn find(planted: &Planted) {
    let Planted { name, scenario, workers, seeds, promise } = *planted;
    let flaw = Flaw::named(name).unwrap_or_else(|| panic!("there is no mistake {name}"));
    for seed in 1..=seeds {
        let settings =
            Settings::new(seed, workers, 2 * 3_600_000).with_scenario(scenario).with_flaw(flaw);
        let Err(failure) = World::new(settings).run() else { continue };
        assert_eq!(failure.violation.invariant, promise, "{failure}");
        return;
    }
    panic!("{name} was not seen in {seeds} worlds");
}

#[test]
fn every_mistake_is_looked_for() {
    let mut all: Vec<_> = Flaw::all().into_iter().map(Flaw::name).collect();
    let mut looked_for: Vec<_> = PLANTED.iter().map(|planted| planted.name.to_owned()).collect();
    all.sort_unstable();
    looked_for.sort_unstable();
    assert_eq!(all, looked_for);
}

#[test]
fn every_mistake_in_the_core_is_seen() {
    PLANTED[..8].iter().for_each(find);
}

#[test]
fn every_mistake_around_the_core_is_seen() {
    PLANTED[8..].iter().for_each(find);
}
