//! What a run returns. Every figure that was not measured is null.

use serde::Serialize;

use crate::histogram::Histogram;
use crate::process::Machine;
use crate::turn::TurnFigures;

/// The result of every kind.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Connections.
    pub(crate) workers: usize,
    /// Of the in-turn phase if it ran, else of the paced one; so are the next two and the two latencies.
    pub(crate) heartbeats: u64,
    pub(crate) server_cpu_seconds: f64,
    pub(crate) heartbeats_per_cpu_second: Option<f64>,
    /// Growth of the server's resident memory from before the first connection to after the last.
    pub(crate) server_rss_bytes_per_worker: f64,
    pub(crate) ack_p50_ms: Option<f64>,
    pub(crate) ack_p99_ms: Option<f64>,
    /// Most beats sent in one second of the paced phase. Hellos don't count.
    pub(crate) peak_beats_per_second: Option<u64>,
    /// Sessions that lost their connection, or their answers, by no doing of the swarm.
    pub(crate) false_suspects: u64,
    /// Sessions that were refused, or sent a report after their lease could have ended.
    pub(crate) false_expiries: u64,
    /// What came back by itself, from the first session on until the swarm ended them.
    pub(crate) reconnects: Reconnects,
    pub(crate) enroll: Option<Stage>,
    pub(crate) connect: Stage,
    pub(crate) paced: Option<Beats>,
    pub(crate) in_turn: Option<Beats>,
    pub(crate) machine: Machine,
}

/// Sessions that were lost and stood again. The time is from the loss, as the worker noticed it, to the answer of
/// the next server.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Reconnects {
    pub(crate) count: u64,
    /// Lost, and not back when the swarm ended.
    pub(crate) missing: u64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    /// Most hellos of sessions after the first that were sent in one second.
    pub(crate) peak_hellos_per_second: Option<u64>,
}

/// Something that was done once for each worker.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Stage {
    pub(crate) count: usize,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) server_cpu_seconds: f64,
}

impl Stage {
    pub(crate) fn new(count: usize, seconds: f64, server_cpu_seconds: f64) -> Self {
        Self { count, seconds, per_second: count as f64 / seconds, server_cpu_seconds }
    }
}

/// A phase of beats.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Beats {
    pub(crate) heartbeats: u64,
    pub(crate) seconds: f64,
    pub(crate) heartbeats_per_second: f64,
    pub(crate) server_cpu_seconds: f64,
    /// Null when the server used less than one tick of its clock.
    pub(crate) heartbeats_per_cpu_second: Option<f64>,
    pub(crate) ack_p50_ms: Option<f64>,
    pub(crate) ack_p99_ms: Option<f64>,
    pub(crate) ack_max_ms: Option<f64>,
}

impl Beats {
    pub(crate) fn new(seconds: f64, server_cpu_seconds: f64, latencies: &Histogram) -> Self {
        let heartbeats = latencies.total();
        let used = server_cpu_seconds > 0.0;
        Self {
            heartbeats,
            seconds,
            heartbeats_per_second: heartbeats as f64 / seconds,
            server_cpu_seconds,
            heartbeats_per_cpu_second: used.then(|| heartbeats as f64 / server_cpu_seconds),
            ack_p50_ms: latencies.quantile_ms(0.5),
            ack_p99_ms: latencies.quantile_ms(0.99),
            ack_max_ms: latencies.quantile_ms(1.0),
        }
    }
}

impl From<&TurnFigures> for Beats {
    fn from(figures: &TurnFigures) -> Self {
        Self::new(figures.seconds, figures.cpu_seconds, &figures.latencies)
    }
}

impl Report {
    /// A report whose headline is `beats`.
    pub(crate) fn new(
        workers: usize,
        beats: &Beats,
        rss_growth_bytes: f64,
        connect: Stage,
    ) -> Self {
        Self {
            workers,
            heartbeats: beats.heartbeats,
            server_cpu_seconds: beats.server_cpu_seconds,
            heartbeats_per_cpu_second: beats.heartbeats_per_cpu_second,
            server_rss_bytes_per_worker: rss_growth_bytes / workers as f64,
            ack_p50_ms: beats.ack_p50_ms,
            ack_p99_ms: beats.ack_p99_ms,
            peak_beats_per_second: None,
            false_suspects: 0,
            false_expiries: 0,
            reconnects: Reconnects::default(),
            enroll: None,
            connect,
            paced: None,
            in_turn: None,
            machine: Machine::here(),
        }
    }
}
