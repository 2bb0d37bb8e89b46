//! The same settings make the same world, and other settings another one.

use zlayer_sim::{SCENARIOS, Scenario, Settings, Summary, World};

fn run(settings: Settings) -> Summary {
    let summary = World::new(settings).run().unwrap_or_else(|failure| panic!("{failure}"));
    Summary { took: std::time::Duration::ZERO, ..summary }
}

fn mixed(seed: u64) -> Settings {
    Settings::new(seed, 150, 3_600_000)
}

#[test]
fn a_seed_gives_the_same_trace_again() {
    for scenario in SCENARIOS {
        let settings = mixed(11).with_scenario(scenario);
        let first = run(settings.clone());
        assert_eq!(run(settings), first, "{}", scenario.name());
        assert!(first.facts > 10_000);
    }
}

#[test]
fn it_does_so_on_another_thread_while_another_world_runs() {
    let alone = run(mixed(12));
    let (here, there) = std::thread::scope(|scope| {
        let there = scope.spawn(|| run(mixed(12)));
        (run(mixed(13)), there.join())
    });
    assert_eq!(there.ok(), Some(alone.clone()));
    assert_ne!(here.hash, alone.hash);
}

#[test]
fn whatever_is_another_setting_gives_another_trace() {
    let settings = [
        mixed(1),
        mixed(2),
        Settings { workers: 151, ..mixed(1) },
        mixed(1).with_scenario(Scenario::Steady),
        mixed(1).with_scenario(Scenario::Churn),
    ];
    let mut hashes: Vec<_> = settings.into_iter().map(|settings| run(settings).hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
}
