//! What a load of commits returns.

use serde::Serialize;

use crate::commit_options::InFlightOptions;
use crate::turn::TurnFigures;

/// Of commits in flight.
#[derive(Debug, Serialize)]
pub(crate) struct CommitReport {
    pub(crate) in_flight: usize,
    pub(crate) value_bytes: usize,
    pub(crate) commits: u64,
    pub(crate) seconds: f64,
    pub(crate) commits_per_second: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    /// User and system time of all servers.
    pub(crate) server_cpu_seconds: f64,
    /// Null when nothing was committed.
    pub(crate) cpu_seconds_per_1000: Option<f64>,
}

impl CommitReport {
    pub(crate) fn new(options: &InFlightOptions, figures: &TurnFigures) -> Self {
        let commits = figures.latencies.total();
        Self {
            in_flight: options.in_flight,
            value_bytes: options.value_bytes,
            commits,
            seconds: figures.seconds,
            commits_per_second: commits as f64 / figures.seconds,
            p50_ms: figures.latencies.quantile_ms(0.5),
            p99_ms: figures.latencies.quantile_ms(0.99),
            max_ms: figures.latencies.quantile_ms(1.0),
            server_cpu_seconds: figures.cpu_seconds,
            cpu_seconds_per_1000: (commits > 0)
                .then(|| figures.cpu_seconds * 1_000.0 / commits as f64),
        }
    }
}

/// Of a takeover.
#[derive(Debug, Serialize)]
pub(crate) struct Acked {
    /// When the first commit was acknowledged, `CLOCK_MONOTONIC`.
    pub(crate) acked_ns: u64,
}

/// Of a load that this server's leadership ended.
#[derive(Debug, Serialize)]
pub(crate) struct Ended {
    /// Acknowledged before.
    pub(crate) commits: u64,
    /// What the next one was told.
    pub(crate) why: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::histogram::Histogram;

    #[test]
    fn figures_are_for_each_thousand() {
        let options = InFlightOptions {
            in_flight: 2,
            value_bytes: 100,
            seconds: 2.0,
            warm_up_seconds: 0.0,
            server_pids: vec![1],
            threads: 0,
        };
        let mut latencies = Histogram::default();
        (0..500).for_each(|_| latencies.record(Duration::from_millis(1)));
        let mut figures = TurnFigures { seconds: 2.0, cpu_seconds: 0.25, latencies };
        let report = CommitReport::new(&options, &figures);
        assert_eq!((report.commits, report.commits_per_second), (500, 250.0));
        assert_eq!(report.cpu_seconds_per_1000, Some(0.5));
        figures.latencies = Histogram::default();
        assert_eq!(CommitReport::new(&options, &figures).cpu_seconds_per_1000, None);
    }
}
