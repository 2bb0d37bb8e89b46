//! How many, how long each, and what they cost.

use std::time::{Duration, Instant};

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Rate {
    pub(crate) in_flight: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// CPU time of the whole process for each, microseconds.
    pub(crate) cpu_us: f64,
}

/// What was seen in one or several spans of time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Of each one, microseconds.
    us: Vec<u64>,
    took: Duration,
    cpu_us: f64,
}

impl Seen {
    /// Measures what `work` does; it gives the microseconds of each.
    pub(crate) fn of(work: impl FnOnce() -> Vec<u64>) -> Self {
        let (began, cpu) = (Instant::now(), cpu_us());
        let us = work();
        Self { us, took: began.elapsed(), cpu_us: cpu_us() - cpu }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.us.len() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.us.extend(other.us);
        self.took += other.took;
        self.cpu_us += other.cpu_us;
    }

    pub(crate) fn rate(mut self, in_flight: usize) -> Rate {
        self.us.sort_unstable();
        let at = |percent: usize| self.us.get(self.us.len() * percent / 100).copied().unwrap_or(0);
        Rate {
            in_flight,
            per_second: self.per_second().round(),
            p50_us: at(50),
            p99_us: at(99),
            cpu_us: (self.cpu_us / self.us.len() as f64 * 10.0).round() / 10.0,
        }
    }
}

/// CPU time of this process so far, microseconds.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // A hundred ticks a second, on every Linux that there is.
    ticks as f64 * 10_000.0
}
