//! A share of the seeds: every promise holds in every world.
#![allow(clippy::expect_used)] // A test fails by panicking.

use std::ops::RangeInclusive;

use zlayer_sim::{SCENARIOS, Scenario, Settings, Summary, World};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// Runs a world that must keep every promise.
fn run(settings: Settings) -> Summary {
    World::new(settings).run().unwrap_or_else(|failure| panic!("{failure}"))
}

/// Mixed worlds of two hours, and that they are no quiet ones: among them all of it has happened.
fn run_mixed(seeds: RangeInclusive<u64>) {
    let all: Vec<_> = seeds.map(|seed| run(Settings::new(seed, 200, 2 * HOUR))).collect();
    let mean = |of: fn(&Summary) -> u64| all.iter().map(of).sum::<u64>() / all.len() as u64;
    assert!(mean(|world| world.faults) > 200);
    assert!(mean(|world| world.suspects) > 200);
    assert!(mean(|world| world.unreachable) > 40);
    assert!(mean(|world| world.sleeps) > 1);
    assert!(mean(|world| world.boots) > 1);
    assert!(all.iter().any(|world| world.alarms > 0));
    assert!(all.iter().all(|world| world.kinds > 10));
}

#[test]
fn a_hundred_mixed_worlds_keep_every_promise() {
    run_mixed(1..=100);
}

#[test]
fn another_hundred_mixed_worlds_keep_every_promise() {
    run_mixed(101..=200);
}

#[test]
fn every_family_of_faults_keeps_every_promise() {
    for scenario in SCENARIOS {
        for seed in 201..=220 {
            run(Settings::new(seed, 150, HOUR).with_scenario(scenario));
        }
    }
}

#[test]
fn ten_thousand_workers_keep_every_promise_for_two_hours_of_everything() {
    let world = run(Settings::new(1, 10_000, 2 * HOUR));
    assert!(world.beats > 300_000 && world.faults > 10_000, "{world}");
    assert_eq!(world.kinds, 22, "every kind of fault was put in: {world}");
    assert!(world.sleeps > 0 && world.boots > 1 && world.suspects > 10_000, "{world}");
    assert_eq!(world.plan_peak, 50, "the cap is reached, and not exceeded");
    assert!(world.paced_peak <= 52, "{world}");
}

#[test]
fn ten_thousand_steady_workers_are_at_the_cap_and_nothing_else_happens() {
    let world = run(Settings::new(7, 10_000, HOUR).with_scenario(Scenario::Steady));
    let seconds = world.simulated_ms / 1_000;
    // A start-up of 25 s, and one first report in the hour instead of a beat.
    assert!((45 * seconds..=50 * seconds).contains(&world.beats), "{world}");
    assert!(world.beats_peak <= 52 && world.plan_peak == 50, "{world}");
    assert_eq!((world.suspects, world.unreachable, world.faults), (0, 0, 0));
}

#[test]
fn ten_thousand_workers_that_all_lose_their_connections_come_back_within_the_spread_and_the_cap() {
    let world = run(Settings::new(3, 10_000, HOUR).with_scenario(Scenario::Storms));
    assert!(world.suspects > 10_000, "{world}");
    assert_eq!(world.unreachable, 0, "{world}");
    assert!(world.beats_peak <= 52 && world.plan_peak == 50, "{world}");
    // Aimed at 500 a second; the first ones come a little faster.
    assert!((450..=750).contains(&world.hellos_peak), "{world}");
}
