//! The in-turn driver: each connection sends one beat in turn, so many at once, as fast as the server answers.
//! One piece of code for every server, so that their figures can stand beside each other.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::error::LoadError;
use crate::histogram::Histogram;
use crate::process::{self, Process};

/// Time for one answer. Chosen: far beyond every queue that a server under this load has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that can be asked for one beat.
pub(crate) trait Turn: Send + 'static {
    /// Sends a beat and waits for its answer.
    fn beat(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// How long, and how many at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TurnPlan {
    pub(crate) in_flight: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What was seen in the measured part.
#[derive(Debug)]
pub(crate) struct TurnFigures {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) latencies: Histogram,
}

/// Drives the connections and gives them back. The CPU time is that of all `processes` together.
pub(crate) async fn in_turn<T: Turn>(
    connections: Vec<T>,
    plan: TurnPlan,
    processes: &[Process],
) -> Result<(TurnFigures, Vec<T>), LoadError> {
    let lanes = into_lanes(connections, plan.in_flight);
    let (_, lanes) = drive(lanes, plan.warm_up).await?;
    let (started, cpu_before) = (Instant::now(), process::cpu_seconds(processes)?);
    let (latencies, lanes) = drive(lanes, plan.measured).await?;
    let cpu_seconds = process::cpu_seconds(processes)? - cpu_before;
    let seconds = started.elapsed().as_secs_f64();
    let connections = lanes.into_iter().flatten().collect();
    Ok((TurnFigures { seconds, cpu_seconds, latencies }, connections))
}

/// One lane for each beat in flight, with every n-th connection in it.
fn into_lanes<T>(connections: Vec<T>, in_flight: usize) -> Vec<Vec<T>> {
    let mut lanes: Vec<Vec<T>> = Vec::new();
    lanes.resize_with(in_flight.min(connections.len()).max(1), Vec::new);
    let count = lanes.len();
    for (n, connection) in connections.into_iter().enumerate() {
        lanes[n % count].push(connection);
    }
    lanes
}

async fn drive<T: Turn>(
    lanes: Vec<Vec<T>>,
    time: Duration,
) -> Result<(Histogram, Vec<Vec<T>>), LoadError> {
    let until = Instant::now() + time;
    let running: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(walk(lane, until))).collect();
    let mut latencies = Histogram::default();
    let mut lanes = Vec::with_capacity(running.len());
    for lane in running {
        let (of_lane, lane) = lane.await.map_err(|error| LoadError::Turn(error.to_string()))??;
        latencies.merge(&of_lane);
        lanes.push(lane);
    }
    Ok((latencies, lanes))
}

async fn walk<T: Turn>(mut lane: Vec<T>, until: Instant) -> Result<(Histogram, Vec<T>), LoadError> {
    let mut latencies = Histogram::default();
    let mut next = 0;
    loop {
        let started = Instant::now();
        if started >= until || lane.is_empty() {
            return Ok((latencies, lane));
        }
        timeout(ANSWER_TIMEOUT, lane[next].beat())
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
            .map_err(LoadError::Turn)?;
        latencies.record(started.elapsed());
        next = (next + 1) % lane.len();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Clone, Default)]
    struct Gauge {
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    struct Counted {
        gauge: Gauge,
        beats: usize,
        fails: bool,
    }

    impl Turn for Counted {
        async fn beat(&mut self) -> Result<(), String> {
            let now = self.gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.gauge.most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.gauge.now.fetch_sub(1, Ordering::SeqCst);
            self.beats += 1;
            if self.fails { Err("it said no".into()) } else { Ok(()) }
        }
    }

    fn connections(count: usize, gauge: &Gauge) -> Vec<Counted> {
        (0..count).map(|_| Counted { gauge: gauge.clone(), beats: 0, fails: false }).collect()
    }

    fn plan(in_flight: usize) -> TurnPlan {
        let measured = Duration::from_millis(50);
        TurnPlan { in_flight, warm_up: Duration::ZERO, measured }
    }

    fn this() -> Process {
        Process::new(std::process::id()).unwrap()
    }

    #[tokio::test]
    async fn all_take_turns_and_no_more_than_allowed_at_once() {
        let gauge = Gauge::default();
        let lanes = into_lanes(connections(10, &gauge), 4);
        let (latencies, lanes) = drive(lanes, Duration::from_millis(50)).await.unwrap();
        assert_eq!(lanes.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2, 2]);
        let beats: usize = lanes.iter().flatten().map(|connection| connection.beats).sum();
        assert_eq!(latencies.total(), beats as u64);
        assert_eq!(gauge.most.load(Ordering::SeqCst), 4);
        // Within a lane nobody is more than one turn ahead.
        for lane in lanes {
            let most = lane.iter().map(|c| c.beats).max().unwrap();
            assert!(most > 1 && lane.iter().all(|c| most - c.beats <= 1));
        }
    }

    #[tokio::test]
    async fn more_in_flight_than_connections_is_one_each() {
        let gauge = Gauge::default();
        let (figures, after) = in_turn(connections(3, &gauge), plan(64), &[this()]).await.unwrap();
        assert_eq!(after.len(), 3);
        assert!(figures.latencies.total() > 0 && figures.seconds > 0.0);
        assert_eq!(gauge.most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_failed_beat_fails_the_run() {
        let gauge = Gauge::default();
        let mut all = connections(5, &gauge);
        all[3].fails = true;
        let error = in_turn(all, plan(2), &[this()]).await.err().unwrap();
        assert_eq!(error.to_string(), "a connection failed in turn: it said no");
    }
}
