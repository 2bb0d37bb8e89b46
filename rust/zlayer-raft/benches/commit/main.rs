//! How fast servers agree, beside the disk that they agree on. Prints one JSON object.
//!
//! ```console
//! $ cargo bench -p zlayer-raft --features sim --bench commit -- [--dir DIR] [--seconds N] [--kills N] [--append-only]
//! ```
//!
//! Three servers in this process, with real files in DIR, joined by the switchboard: no sockets and no TLS, so that
//! what is measured is the log, the engine and the disk. `raw` is a loop of one write and one fdatasync of as many
//! bytes in the same directory, in turns with the log alone: what the disk allows. `--append-only` ends after those.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed run")]
#![allow(clippy::print_stdout, reason = "it prints its result")]

mod append;
mod rate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;
use zlayer_core::command::Command;
use zlayer_raft::switchboard::Switchboard;
use zlayer_raft::{
    ControlLog, LogOptions, Replicated, ReplicatedLimits, ReplicatedOptions, SingleVoter, Timers,
};

use crate::append::{Appends, RECORD};
use crate::rate::{Rate, Seen};

/// Bytes of a command's text: a commit of about 200 bytes.
const TEXT: usize = 128;
const DEPTHS: [usize; 3] = [1, 64, 512];

#[derive(Debug, Serialize)]
struct Report {
    cores: usize,
    seconds: f64,
    record_bytes: usize,
    #[serde(flatten)]
    appends: Appends,
    #[serde(flatten)]
    commits: Option<Commits>,
}

#[derive(Debug, Serialize)]
struct Commits {
    single_voter: Vec<Rate>,
    three_servers: Vec<Rate>,
    /// Median of one commit at a time, in fdatasyncs of this disk.
    commit_in_fdatasyncs: f64,
    /// Elections while the commits were measured, after the first.
    elections_under_load: u64,
    failover: Option<Failover>,
}

#[derive(Debug, Serialize)]
struct Failover {
    kills: usize,
    heartbeat_ms: u128,
    election_ms: [u128; 2],
    /// From the kill to the first write that is acknowledged by another leader.
    p50_ms: u64,
    p99_ms: u64,
    max_ms: u64,
}

struct Settings {
    dir: PathBuf,
    time: Duration,
    kills: usize,
    append_only: bool,
}

fn settings() -> Settings {
    let mut settings = Settings {
        dir: std::env::temp_dir(),
        time: Duration::from_secs(3),
        kills: 0,
        append_only: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--dir" => settings.dir = args.next().expect("--dir DIR").into(),
            "--seconds" => {
                let seconds = args.next().and_then(|n| n.parse().ok());
                settings.time = Duration::from_secs_f64(seconds.expect("--seconds N"));
            }
            "--kills" => {
                settings.kills = args.next().and_then(|n| n.parse().ok()).expect("--kills N");
            }
            "--append-only" => settings.append_only = true,
            // cargo's own.
            _ => {}
        }
    }
    settings
}

fn command() -> Command {
    // Refused when it is applied, since there is no such token; committed all the same.
    Command::RevokeToken { jti: "0".repeat(TEXT) }
}

/// So many clients, each of which proposes one command after another.
fn commits(runtime: &Runtime, log: &Arc<dyn ControlLog>, time: Duration, clients: usize) -> Rate {
    let work = || {
        let began = Instant::now();
        let client = || {
            let log = Arc::clone(log);
            runtime.spawn(async move {
                let mut us = Vec::new();
                while began.elapsed() < time {
                    let one = Instant::now();
                    log.propose(command()).await.unwrap();
                    us.push(one.elapsed().as_micros() as u64);
                }
                us
            })
        };
        let tasks: Vec<_> = (0..clients).map(|_| client()).collect();
        runtime.block_on(async {
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.unwrap());
            }
            all
        })
    };
    Seen::of(work).rate(clients)
}

struct Cluster {
    board: Arc<Switchboard>,
    dir: PathBuf,
    servers: BTreeMap<u64, Arc<Replicated>>,
}

impl Cluster {
    fn start(&mut self, id: u64) {
        let options = ReplicatedOptions {
            dir: self.dir.join(format!("server-{id}")),
            cluster_id: "zl-bench".into(),
            node_id: id,
            raft_addr: format!("server-{id}"),
            api_addr: String::new(),
            snapshot_bytes: 16 << 20,
            timers: Timers::default(),
            limits: ReplicatedLimits { threads: 2, ..ReplicatedLimits::default() },
        };
        let server = Arc::new(Replicated::open(options, self.board.plug(id)).unwrap());
        self.board.connect(id, &server);
        self.servers.insert(id, server);
    }

    fn new(runtime: &Runtime, dir: PathBuf) -> Self {
        let mut cluster = Self { board: Arc::default(), dir, servers: BTreeMap::new() };
        for id in 1..=3 {
            cluster.start(id);
        }
        let all = (1..=3).map(|id| (id, (format!("server-{id}"), String::new()))).collect();
        runtime.block_on(cluster.servers[&1].form(all)).unwrap();
        cluster
    }

    fn leader(&self) -> (u64, Arc<Replicated>) {
        loop {
            for (id, server) in &self.servers {
                if server.leadership().borrow().own.is_some() {
                    return (*id, Arc::clone(server));
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the leader; gives the time until another has acknowledged a write.
    fn kill(&mut self, runtime: &Runtime) -> Duration {
        let (id, leader) = self.leader();
        // While it works.
        let writes: Vec<_> = (0..32).map(|_| leader.propose(command())).collect();
        drop(writes);
        let began = Instant::now();
        self.board.isolate(&[id], &[1, 2, 3]);
        self.board.disconnect(id);
        self.servers.remove(&id);
        let took = loop {
            let (_, new) = self.leader();
            if runtime.block_on(new.propose(command())).is_ok() {
                break began.elapsed();
            }
        };
        leader.shutdown();
        drop(leader);
        self.board.heal();
        self.start(id);
        let (_, leader) = self.leader();
        runtime.block_on(async {
            while leader.health().peers.iter().any(|peer| peer.lag > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        took
    }
}

fn failover(runtime: &Runtime, cluster: &mut Cluster, kills: usize) -> Failover {
    let timers = Timers::default();
    let mut ms: Vec<u64> = (0..kills).map(|_| cluster.kill(runtime).as_millis() as u64).collect();
    ms.sort_unstable();
    let at = |percent: usize| ms[(ms.len() * percent / 100).min(ms.len() - 1)];
    Failover {
        kills,
        heartbeat_ms: timers.heartbeat.as_millis(),
        election_ms: [timers.election_min.as_millis(), timers.election_max.as_millis()],
        p50_ms: at(50),
        p99_ms: at(99),
        max_ms: ms[ms.len() - 1],
    }
}

fn single_voter(runtime: &Runtime, dir: PathBuf, time: Duration) -> Vec<Rate> {
    let options =
        LogOptions { dir, cluster_id: "zl-bench".into(), node_id: 1, snapshot_bytes: 16 << 20 };
    let log: Arc<dyn ControlLog> = Arc::new(SingleVoter::open(options).unwrap());
    DEPTHS.iter().map(|depth| commits(runtime, &log, time, *depth)).collect()
}

/// `sync_us`: median of one write and one fdatasync.
fn measure_commits(dir: &Path, time: Duration, kills: usize, sync_us: u64) -> Commits {
    let runtime = Runtime::new().unwrap();
    let single_voter = single_voter(&runtime, dir.join("single"), time);
    let mut cluster = Cluster::new(&runtime, dir.to_owned());
    let (_, leader) = cluster.leader();
    let log: Arc<dyn ControlLog> = leader;
    let three_servers: Vec<_> =
        DEPTHS.iter().map(|depth| commits(&runtime, &log, time, *depth)).collect();
    let elections_under_load = log.health().elections - 1;
    drop(log);
    let failover = (kills > 0).then(|| failover(&runtime, &mut cluster, kills));
    Commits {
        commit_in_fdatasyncs: three_servers[0].p50_us as f64 / sync_us.max(1) as f64,
        single_voter,
        three_servers,
        elections_under_load,
        failover,
    }
}

fn main() {
    let Settings { dir, time, kills, append_only } = settings();
    let home = tempfile::tempdir_in(dir).unwrap();
    let dir = home.path();
    let appends = append::measure(dir, time);
    let sync_us = appends.raw_prepared.p50_us;
    let commits = (!append_only).then(|| measure_commits(dir, time, kills, sync_us));
    let report = Report {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        seconds: time.as_secs_f64(),
        record_bytes: RECORD,
        appends,
        commits,
    };
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}
