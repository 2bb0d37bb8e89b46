//! The command line.

use std::fmt;
use std::ops::RangeInclusive;

use zlayer_sim::{Flaw, Ms, SCENARIOS, Scenario, Settings};

/// How to call it.
pub(crate) const USAGE: &str = "\
usage: zlayer-sim [--seed N | --seeds A..B] [--workers N] [--hours N | --minutes N]
                  [--scenario NAME] [--bug NAME] [--facts N]

Runs one simulated world for each seed and prints a line for it. Exit code 0: every promise was kept; 1: one was
broken, and the report says which, when, and how to see it again; 2: the arguments make no sense.

  --seed N         one world (default 1)
  --seeds A..B     the worlds A to B, both included
  --workers N      at the start (default 200)
  --hours N        simulated time (default 2)
  --minutes N      the same in minutes
  --scenario NAME  family of faults (default mix)
  --bug NAME       puts a mistake in; those of the core need --features planted-bugs
  --facts N        of the last that happened, in the report of a failure (default 25)";

/// Workers at once: as many as the control state takes.
const WORKERS_MAX: u32 = 50_000;
/// A token is valid for a day.
const MINUTES_MAX: u64 = 72 * 60;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) seeds: RangeInclusive<u64>,
    workers: u32,
    length_ms: Ms,
    scenario: Scenario,
    flaw: Option<Flaw>,
    pub(crate) facts: usize,
}

/// Arguments that make no sense, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadArgs(String);

impl fmt::Display for BadArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Args {
    /// Reads the arguments after the program's name; `None`: help was asked for.
    ///
    /// # Errors
    /// Names the argument and what it may be.
    pub(crate) fn read(args: impl Iterator<Item = String>) -> Result<Option<Self>, BadArgs> {
        let mut read = Self {
            seeds: 1..=1,
            workers: 200,
            length_ms: 2 * 3_600_000,
            scenario: Scenario::Mix,
            flaw: None,
            facts: 25,
        };
        let mut args = args;
        while let Some(name) = args.next() {
            if matches!(name.as_str(), "-h" | "--help") {
                return Ok(None);
            }
            let value = args.next().ok_or_else(|| BadArgs(format!("{name} needs a value")))?;
            let number = |most: u64| number(&name, &value, most);
            match name.as_str() {
                "--seed" => {
                    let seed = number(u64::MAX)?;
                    read.seeds = seed..=seed;
                }
                "--seeds" => read.seeds = seeds(&value)?,
                "--workers" => read.workers = number(u64::from(WORKERS_MAX))?.max(1) as u32,
                "--hours" => read.length_ms = number(MINUTES_MAX / 60)?.max(1) * 3_600_000,
                "--minutes" => read.length_ms = number(MINUTES_MAX)?.max(1) * 60_000,
                "--facts" => read.facts = number(100_000)? as usize,
                "--scenario" => read.scenario = scenario(&value)?,
                "--bug" => read.flaw = Some(flaw(&value)?),
                _ => return Err(BadArgs(format!("there is no {name}"))),
            }
        }
        Ok(Some(read))
    }

    /// The world of one seed.
    pub(crate) fn settings(&self, seed: u64) -> Settings {
        let Self { workers, length_ms, scenario, flaw, .. } = *self;
        Settings { seed, workers, length_ms, scenario, flaw }
    }
}

fn number(name: &str, value: &str, most: u64) -> Result<u64, BadArgs> {
    let number = value.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| BadArgs(format!("{name} is a whole number up to {most}, not {value:?}")))
}

fn seeds(value: &str) -> Result<RangeInclusive<u64>, BadArgs> {
    let parse = || {
        let (first, last) = value.split_once("..")?;
        let (first, last) = (first.parse().ok()?, last.trim_start_matches('=').parse().ok()?);
        (first <= last).then_some(first..=last)
    };
    parse().ok_or_else(|| BadArgs(format!("--seeds is A..B with A <= B, not {value:?}")))
}

fn scenario(value: &str) -> Result<Scenario, BadArgs> {
    Scenario::named(value).ok_or_else(|| {
        let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name()).collect();
        BadArgs(format!("--scenario is one of {}, not {value:?}", names.join(", ")))
    })
}

fn flaw(value: &str) -> Result<Flaw, BadArgs> {
    Flaw::named(value).ok_or_else(|| {
        let names: Vec<_> = Flaw::all().into_iter().map(Flaw::name).collect();
        let more = if cfg!(feature = "planted-bugs") {
            ""
        } else {
            "; the core's own need --features planted-bugs"
        };
        BadArgs(format!("--bug is one of {}, not {value:?}{more}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    fn read(line: &str) -> Result<Option<Args>, BadArgs> {
        Args::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_asked_for_is_what_is_made() {
        let args = read("--seeds 3..5 --workers 70 --minutes 30 --scenario storms --bug NoBrake");
        let args = args.unwrap().unwrap();
        assert_eq!(args.seeds, 3..=5);
        let expected = Settings::new(4, 70, 30 * 60_000)
            .with_scenario(Scenario::Storms)
            .with_flaw(Flaw::NoBrake);
        assert_eq!(args.settings(4), expected);
        assert_eq!(read("").unwrap().unwrap().settings(1), Settings::new(1, 200, 7_200_000));
        assert_eq!(read("--seed 9 --help").unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, part) in [
            ("--seed", "--seed needs a value"),
            ("--seed x", "--seed is a whole number"),
            ("--seeds 5..3", "A..B"),
            ("--seeds 5", "A..B"),
            ("--workers 60000", "up to 50000"),
            ("--scenario mixed", "steady, lossy"),
            ("--bug Nothing", "NoBrake"),
            ("--speed 3", "no --speed"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
