//! Which world to make.

use std::fmt;

use zlayer_core::ttl::AdaptiveTtlConfig;

use crate::Ms;
use crate::dice::{Dice, Stream};
use crate::flaw::Flaw;
use crate::scenario::Scenario;

/// All that a world depends on: equal settings make equal worlds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Workers at the start.
    pub workers: u32,
    /// Simulated time, milliseconds.
    pub length_ms: Ms,
    /// Family of faults.
    pub scenario: Scenario,
    /// A mistake that is put in.
    pub flaw: Option<Flaw>,
}

impl Settings {
    /// A mixed world without a mistake in it.
    pub fn new(seed: u64, workers: u32, length_ms: Ms) -> Self {
        Self { seed, workers, length_ms, scenario: Scenario::Mix, flaw: None }
    }

    /// Another family.
    #[must_use]
    pub fn with_scenario(self, scenario: Scenario) -> Self {
        Self { scenario, ..self }
    }

    /// With a mistake.
    #[must_use]
    pub fn with_flaw(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    /// The defaults for large fleets, and for every other small one; the rest have a lower cap, so that a few
    /// workers get long TTLs as well, or other bounds.
    pub(crate) fn ttl_config(&self) -> AdaptiveTtlConfig {
        let default = AdaptiveTtlConfig::default();
        let mut dice = Dice::new(self.seed ^ 0x5EED, Stream::Scenario);
        if self.workers > 1_000 || dice.once_in(2) {
            return default;
        }
        let cap = [1, 2, 5, 20][dice.below(4) as usize];
        // The cap can be kept: workers <= cap * max_ttl_secs, with some more to come.
        let longest = (self.workers + self.workers / 4) / cap + 10;
        AdaptiveTtlConfig {
            min_ttl_secs: dice.between(5, 10) as u32,
            max_ttl_secs: longest.max(60),
            grace_secs: dice.between(8, 12) as u32,
            max_heartbeats_per_second: cap,
            failover_ttl_secs: dice.between(60, 300) as u32,
        }
    }

    /// The command that makes this world again.
    pub fn command(&self) -> String {
        let Self { seed, workers, scenario, .. } = self;
        let (feature, bug) = match self.flaw {
            Some(flaw) => (" --features planted-bugs", format!(" --bug {}", flaw.name())),
            None => ("", String::new()),
        };
        let length = match self.length_ms {
            ms if ms.is_multiple_of(3_600_000) => format!("--hours {}", ms / 3_600_000),
            ms => format!("--minutes {}", ms / 60_000),
        };
        format!(
            "cargo run --release -p zlayer-sim{feature} -- --seed {seed} --workers {workers} {length} --scenario {}{bug}",
            scenario.name()
        )
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, workers, length_ms, scenario, flaw } = self;
        write!(
            f,
            "seed {seed}, {workers} workers, {} min, {}",
            length_ms / 60_000,
            scenario.name()
        )?;
        match flaw {
            Some(flaw) => write!(f, ", bug {}", flaw.name()),
            None => Ok(()),
        }
    }
}
