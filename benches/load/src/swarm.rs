//! Workers of a zlayer cluster: enrol, connect, beat when told to, beat in turn, leave.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use zlayer_node::clock::Clock;
use zlayer_node::session::{Control, Prepared, Terms, Timing, Trust, parse_server, run};

use crate::enroll::{Worker, identities};
use crate::error::LoadError;
use crate::meter::{Meter, settled_rss};
use crate::open::{OpenPlan, open_all};
use crate::options::SwarmOptions;
use crate::process::Process;
use crate::report::{Beats, Report};
use crate::report_turn::{ReportTurn, Target};
use crate::tally::{Counter, Tally};
use crate::turn::{TurnPlan, in_turn};

/// Time for all goodbyes. Chosen: what is not answered by then is closed.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two looks for the file that ends the paced phase. Chosen.
const UNTIL_FILE_STEP: Duration = Duration::from_millis(100);

/// Sessions that are replaced together. Chosen.
pub(crate) const HANDED_OVER_AT_ONCE: usize = 256;

/// Runs all of it.
pub(crate) async fn enroll_and_run(options: SwarmOptions) -> Result<Report, LoadError> {
    let process = Process::new(options.server_pid)?;
    let trust = Trust::of_servers(&options.cluster_id, &options.ca_pem)?;
    let addresses: Vec<_> =
        options.server.all().iter().map(|server| parse_server(server)).collect::<Result<_, _>>()?;
    let meter = Meter::start(process)?;
    let workers = identities(&options, &addresses, &trust).await?;
    let enroll = meter.stage(workers.len())?;
    let swarm = Swarm {
        addresses,
        trust,
        workers: Arc::new(workers),
        process,
        tally: Arc::default(),
        options,
    };
    let rss_before = settled_rss(process).await?;
    let mut report = if swarm.options.phase.is_paced() {
        swarm.paced_first(rss_before).await?
    } else {
        swarm.in_turn_only(rss_before).await?
    };
    report.enroll = swarm.options.token.is_some().then_some(enroll);
    report.false_suspects = swarm.tally.suspects();
    report.false_expiries = swarm.tally.expiries();
    report.reconnects = swarm.tally.reconnects();
    Ok(report)
}

struct Swarm {
    options: SwarmOptions,
    /// `host:port` of each server.
    addresses: Vec<String>,
    trust: Trust,
    workers: Arc<Vec<Worker>>,
    process: Process,
    tally: Arc<Tally>,
}

/// A running session.
struct Session {
    control: Control,
    task: JoinHandle<bool>,
}

impl Swarm {
    async fn paced_first(&self, rss_before: u64) -> Result<Report, LoadError> {
        let meter = Meter::start(self.process)?;
        let sessions = self.connect().await?;
        let connect = meter.stage(sessions.len())?;
        let rss_growth = self.rss_growth(rss_before).await?;

        let length = Duration::from_secs_f64(self.options.seconds);
        let meter = Meter::start(self.process)?;
        self.tally.start_paced(length);
        self.paced_over(length).await;
        let (latencies, peak) = self.tally.end_paced();
        let (seconds, cpu_seconds) = meter.read()?;
        let paced = Beats::new(seconds, cpu_seconds, &latencies);

        let mut report = Report::new(sessions.len(), &paced, rss_growth, connect);
        if self.options.phase.is_in_turn() {
            self.tally.note_ending();
            let connections = self.hand_over(sessions).await?;
            let beats = self.in_turn(connections).await?;
            report = Report::new(report.workers, &beats, rss_growth, connect);
            report.in_turn = Some(beats);
        } else {
            self.tally.note_ending();
            if self.options.leave {
                leave_all(sessions).await;
            } else {
                stop_all(sessions).await;
            }
        }
        report.peak_beats_per_second = Some(peak);
        report.paced = Some(paced);
        Ok(report)
    }

    async fn in_turn_only(&self, rss_before: u64) -> Result<Report, LoadError> {
        let meter = Meter::start(self.process)?;
        let connections = self.open(0, self.workers.len()).await?;
        let connect = meter.stage(connections.len())?;
        let rss_growth = self.rss_growth(rss_before).await?;
        let workers = connections.len();
        let beats = self.in_turn(connections).await?;
        let report = Report::new(workers, &beats, rss_growth, connect);
        Ok(Report { in_turn: Some(beats), ..report })
    }

    /// After the length of the paced phase, or once the file is there that ends it.
    async fn paced_over(&self, length: Duration) {
        let Some(file) = &self.options.until_file else { return sleep(length).await };
        let mut looks = interval(UNTIL_FILE_STEP);
        let appears = async {
            while !file.exists() {
                looks.tick().await;
            }
        };
        // Without the file the length decides.
        let _ = timeout(length, appears).await;
    }

    async fn rss_growth(&self, before: u64) -> Result<f64, LoadError> {
        Ok(settled_rss(self.process).await? as f64 - before as f64)
    }

    /// Starts a session for each worker and waits until all stand.
    async fn connect(&self) -> Result<Vec<Session>, LoadError> {
        let time = Duration::from_secs_f64(self.options.timeout_seconds);
        let connecting = async {
            let dialling = Arc::new(Semaphore::new(self.options.connect_in_flight));
            let mut pace = self.pace();
            let clock = Clock::new();
            let mut sessions = Vec::with_capacity(self.workers.len());
            for worker in self.workers.iter() {
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
                // The semaphore is never closed.
                let Ok(permit) = Arc::clone(&dialling).acquire_owned().await else { break };
                let counter = Counter::new(Arc::clone(&self.tally), permit);
                let control = Control::default();
                let session = run(self.prepare(worker), clock, control.clone(), counter);
                sessions.push(Session { control, task: tokio::spawn(session) });
            }
            self.tally.all_connected(self.workers.len()).await;
            sessions
        };
        timeout(time, connecting).await.map_err(|_| LoadError::Connect {
            connected: self.tally.connected(),
            wanted: self.workers.len(),
            why: self.tally.last_error(),
        })
    }

    fn pace(&self) -> Option<Interval> {
        let rate = self.options.connect_rate;
        (rate > 0.0).then(|| {
            let mut pace = interval(Duration::from_secs_f64(1.0 / rate));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        })
    }

    fn prepare(&self, worker: &Worker) -> Prepared {
        let terms = Terms {
            servers: self.addresses.clone(),
            incarnation: worker.node_id,
            version: env!("CARGO_PKG_VERSION").into(),
            timing: Timing::default(),
        };
        Prepared::from_parts(self.trust.clone(), worker.identity.clone(), terms)
    }

    /// Opens a connection without pacing for each worker; it takes the session over before the old one goes. A few
    /// at a time, so that not all workers need two connections at once.
    async fn hand_over(&self, sessions: Vec<Session>) -> Result<Vec<ReportTurn>, LoadError> {
        let mut sessions = sessions.into_iter();
        let mut connections = Vec::with_capacity(self.workers.len());
        while connections.len() < self.workers.len() {
            let count = HANDED_OVER_AT_ONCE.min(self.workers.len() - connections.len());
            connections.extend(self.open(connections.len(), count).await?);
            stop_all(sessions.by_ref().take(count).collect()).await;
        }
        Ok(connections)
    }

    /// Opens a connection without pacing for `count` workers.
    async fn open(&self, first: usize, count: usize) -> Result<Vec<ReportTurn>, LoadError> {
        let (addresses, trust) = (self.addresses.clone(), self.trust.clone());
        let workers = Arc::clone(&self.workers);
        let plan = OpenPlan {
            count,
            in_flight: self.options.connect_in_flight,
            time: Duration::from_secs_f64(self.options.timeout_seconds),
        };
        let open = move |index: usize| {
            let Worker { node_id, identity } = &workers[first + index];
            ReportTurn::open(Target {
                address: addresses[(first + index) % addresses.len()].clone(),
                trust: trust.clone(),
                identity: identity.clone(),
                incarnation: *node_id,
                watch: true,
            })
        };
        open_all(plan, open).await
    }

    async fn in_turn(&self, connections: Vec<ReportTurn>) -> Result<Beats, LoadError> {
        let plan = TurnPlan {
            in_flight: self.options.in_flight,
            warm_up: Duration::from_secs_f64(self.options.warm_up_seconds),
            measured: Duration::from_secs_f64(self.options.in_turn_seconds),
        };
        let (figures, connections) = in_turn(connections, plan, &[self.process]).await?;
        if self.options.leave {
            let in_flight = self.options.connect_in_flight;
            let leaving = stream::iter(connections)
                .map(ReportTurn::leave)
                .buffer_unordered(in_flight)
                .for_each(|_| std::future::ready(()));
            // An unanswered goodbye is no figure of the run.
            let _ = timeout(LEAVE_TIMEOUT, leaving).await;
        }
        Ok(Beats::from(&figures))
    }
}

async fn leave_all(sessions: Vec<Session>) {
    for session in &sessions {
        session.control.leave();
    }
    let leaving = async {
        for session in sessions {
            let _ = session.task.await;
        }
    };
    // An unanswered goodbye is no figure of the run.
    let _ = timeout(LEAVE_TIMEOUT, leaving).await;
}

async fn stop_all(sessions: Vec<Session>) {
    for session in &sessions {
        session.control.stop();
    }
    for session in sessions {
        let _ = session.task.await;
    }
}
