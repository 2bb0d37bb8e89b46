//! Which faults a world has, and how often: a scenario by name, its figures from the seed.

use crate::Ms;
use crate::dice::{Dice, Stream};

const SECOND: Ms = 1_000;
const MINUTE: Ms = 60 * SECOND;
const HOUR: Ms = 60 * MINUTE;

/// A kind of fault. Those of a worker hit a random one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A worker's connection is reset.
    Reset,
    /// A worker's network is cut, for 1 s to 10 min.
    Cut,
    /// A worker's process is stopped (SIGSTOP), for 0.5 s to 10 min; one time out of four right after a report.
    WorkerPause,
    /// A worker's process is killed; its kernel says so. It starts again 1 s to 10 min later, or never.
    Crash,
    /// A worker's host is gone without a word. It comes back, or never.
    Vanish,
    /// A worker's connection is reset, and once it may be back, its host is gone.
    Relapse,
    /// A worker says goodbye and comes back later.
    Leave,
    /// A worker has a new certificate: it connects anew beside the old connection.
    Renew,
    /// A copy of a worker's identity connects from elsewhere, for some minutes.
    Twin,
    /// The server's process is stopped (SIGSTOP), for 1 s to 60 s.
    ServerPause,
    /// The same for 50 ms to 450 ms: no sleep, a stutter.
    Stutter,
    /// The server's host is suspended, for 13 s to 60 s: connections die of it.
    Suspend,
    /// The server's process is killed and starts again 0.2 s to 2 min later.
    Kill,
    /// The server's host loses power: no connection is closed. It is back after 20 s to 3 min.
    PowerLoss,
    /// A share of all connections is reset at once.
    MassReset,
    /// A share of all workers is stopped, or cut off, at once: for 20 s to 4 min.
    MassSilence,
    /// Commits take 0.1 s to 3 s each, for some seconds.
    SlowDisk,
    /// The log turns proposals away, for 0.1 s to 3 s.
    Overload,
    /// The answer to a commit is lost; it is done all the same.
    LostAnswer,
    /// A new worker enrols.
    Enrol,
    /// An operator removes a worker.
    Remove,
    /// The server's wall clock jumps by up to an hour, either way.
    ClockJump,
}

/// All kinds.
pub(crate) const FAULTS: [Fault; 22] = [
    Fault::Reset,
    Fault::Cut,
    Fault::WorkerPause,
    Fault::Crash,
    Fault::Vanish,
    Fault::Relapse,
    Fault::Leave,
    Fault::Renew,
    Fault::Twin,
    Fault::ServerPause,
    Fault::Stutter,
    Fault::Suspend,
    Fault::Kill,
    Fault::PowerLoss,
    Fault::MassReset,
    Fault::MassSilence,
    Fault::SlowDisk,
    Fault::Overload,
    Fault::LostAnswer,
    Fault::Enrol,
    Fault::Remove,
    Fault::ClockJump,
];

impl Fault {
    /// Mean time between two of them in a mixed world: for each worker where the second says so.
    const fn mean(self) -> (Ms, bool) {
        match self {
            Self::Reset => (2 * HOUR, true),
            Self::Cut => (6 * HOUR, true),
            Self::Renew => (8 * HOUR, true),
            Self::WorkerPause | Self::Crash | Self::Relapse => (12 * HOUR, true),
            Self::Vanish | Self::Leave => (24 * HOUR, true),
            Self::Twin => (100 * HOUR, true),
            Self::Stutter | Self::LostAnswer => (5 * MINUTE, false),
            Self::SlowDisk | Self::Enrol => (10 * MINUTE, false),
            Self::Overload => (15 * MINUTE, false),
            Self::ServerPause => (20 * MINUTE, false),
            Self::Remove => (40 * MINUTE, false),
            Self::MassReset => (45 * MINUTE, false),
            Self::ClockJump => (HOUR, false),
            Self::MassSilence => (75 * MINUTE, false),
            Self::Kill => (90 * MINUTE, false),
            Self::Suspend => (3 * HOUR, false),
            Self::PowerLoss => (6 * HOUR, false),
        }
    }
}

/// A family of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// No fault at all: nothing may happen but beats, and they keep to the cap.
    Steady,
    /// Messages are lost and late, connections break.
    Lossy,
    /// The server is stopped, suspended, stutters; its disk is slow.
    Pauses,
    /// All connections are reset at once, again and again, while the server is well.
    Storms,
    /// The server is killed or loses power.
    Failovers,
    /// Workers come, go, crash, pause, vanish, are copied and removed.
    Churn,
    /// Many workers fall silent at once.
    Silences,
    /// All of it, each kind more or less often, or not at all, by the seed.
    Mix,
}

/// All families.
pub const SCENARIOS: [Scenario; 8] = [
    Scenario::Steady,
    Scenario::Lossy,
    Scenario::Pauses,
    Scenario::Storms,
    Scenario::Failovers,
    Scenario::Churn,
    Scenario::Silences,
    Scenario::Mix,
];

impl Scenario {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Lossy => "lossy",
            Self::Pauses => "pauses",
            Self::Storms => "storms",
            Self::Failovers => "failovers",
            Self::Churn => "churn",
            Self::Silences => "silences",
            Self::Mix => "mix",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn named(name: &str) -> Option<Self> {
        SCENARIOS.into_iter().find(|scenario| scenario.name() == name)
    }

    /// The kinds that this family is about: twice as often as in a mixed world, and no others.
    fn faults(self) -> &'static [Fault] {
        use Fault as F;
        match self {
            Self::Steady => &[],
            Self::Lossy => &[F::Reset, F::Cut, F::Renew],
            Self::Pauses => &[
                F::ServerPause,
                F::Stutter,
                F::Suspend,
                F::SlowDisk,
                F::Overload,
                F::LostAnswer,
                F::Crash,
            ],
            Self::Storms => &[F::MassReset, F::Reset],
            Self::Failovers => &[F::Kill, F::PowerLoss, F::Crash, F::Vanish, F::SlowDisk],
            Self::Churn => &[
                F::Reset,
                F::WorkerPause,
                F::Crash,
                F::Vanish,
                F::Relapse,
                F::Leave,
                F::Renew,
                F::Twin,
                F::Enrol,
                F::Remove,
                F::ClockJump,
                F::Overload,
                F::LostAnswer,
            ],
            Self::Silences => &[F::MassSilence, F::Reset, F::Relapse, F::Crash, F::Vanish],
            Self::Mix => &FAULTS,
        }
    }
}

/// The figures of one world.
#[derive(Debug, Clone)]
pub(crate) struct FaultPlan {
    /// Messages of a million that are lost, with all that follows on their connection.
    pub(crate) lost_ppm: u32,
    /// Messages of a million that are late, by up to 8 s.
    pub(crate) late_ppm: u32,
    /// Mean time between two faults of a kind in the whole world.
    pub(crate) gaps: Vec<(Fault, Ms)>,
}

impl FaultPlan {
    pub(crate) fn new(scenario: Scenario, seed: u64, workers: u32) -> Self {
        let mut dice = Dice::new(seed, Stream::Scenario);
        let mixed = scenario == Scenario::Mix;
        let gaps = scenario.faults().iter().filter_map(|&fault| {
            // In quarters of the usual frequency. A large world has all of them.
            let least = if workers > 1_000 { 2 } else { 0 };
            let often = if mixed { [least, 2, 4, 4, 8][dice.below(5) as usize] } else { 8 };
            let (mean, each_worker) = fault.mean();
            let share = if each_worker { u64::from(workers.max(1)) } else { 1 };
            (often > 0).then(|| (fault, (mean * 4 / often / share).max(1)))
        });
        let gaps = gaps.collect();
        let (lost_ppm, late_ppm) = match scenario {
            Scenario::Steady | Scenario::Storms => (0, 0),
            Scenario::Lossy => (5_000, 30_000),
            Scenario::Mix => (dice.below(800) as u32, dice.below(1_500) as u32),
            _ => (100, 200),
        };
        Self { lost_ppm, late_ppm, gaps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_list_once_and_in_a_family_of_its_own() {
        for (index, fault) in FAULTS.into_iter().enumerate() {
            assert_eq!(fault as usize, index, "{fault:?}");
            let families = SCENARIOS.iter().filter(|family| family.faults().contains(&fault));
            assert!(families.count() >= 2, "{fault:?} only happens in a mixed world");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for scenario in SCENARIOS {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
        }
        assert_eq!(Scenario::named("mixed"), None);
    }

    #[test]
    fn a_mixed_world_leaves_kinds_out_and_another_seed_leaves_out_others() {
        let kinds = |seed| -> Vec<_> {
            let plan = FaultPlan::new(Scenario::Mix, seed, 100);
            plan.gaps.into_iter().map(|(fault, _)| fault).collect()
        };
        assert_eq!(kinds(1), kinds(1));
        assert!((1..20).any(|seed| kinds(seed) != kinds(seed + 1)));
        assert!((1..20).all(|seed| kinds(seed).len() > 8));
    }
}
