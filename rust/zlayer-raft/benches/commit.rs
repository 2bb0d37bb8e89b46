//! How fast servers agree, beside the disk that they agree on. Prints one JSON object.
//!
//! ```console
//! $ cargo bench -p zlayer-raft --features sim --bench commit -- [--dir DIR] [--seconds N] [--kills N]
//! ```
//!
//! Three servers in this process, with real files in DIR, joined by the switchboard: no sockets and no TLS, so that
//! what is measured is the log, the engine and the disk. `raw` is a loop of one write and one fdatasync of as many
//! bytes in the same directory, in the same run: what the disk allows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed run")]
#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;
use zlayer_core::command::Command;
use zlayer_raft::switchboard::Switchboard;
use zlayer_raft::{
    ControlLog, LogOptions, Replicated, ReplicatedLimits, ReplicatedOptions, SingleVoter, Timers,
};
use zlayer_wal::{LogDir, Owner, RealFs, Wal, WalLimits};

/// Bytes of a command's text: a commit of about 200 bytes.
const TEXT: usize = 128;
const RECORD: usize = 200;
const DEPTHS: [usize; 3] = [1, 64, 512];

#[derive(Debug, Serialize)]
struct Rate {
    in_flight: usize,
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    /// CPU time of the whole process for each, microseconds.
    cpu_us: f64,
}

#[derive(Debug, Serialize)]
struct Result {
    cores: usize,
    seconds: f64,
    record_bytes: usize,
    /// The file grows with each write.
    raw_growing: Rate,
    /// The file was filled with zeros before.
    raw_prepared: Rate,
    wal: Vec<Rate>,
    wal_of_raw_growing: f64,
    wal_of_raw_prepared: f64,
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
}

fn settings() -> Settings {
    let mut settings =
        Settings { dir: std::env::temp_dir(), time: Duration::from_secs(3), kills: 0 };
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
            // cargo's own.
            _ => {}
        }
    }
    settings
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

fn rate(in_flight: usize, mut us: Vec<u64>, took: Duration, cpu: f64) -> Rate {
    us.sort_unstable();
    let at = |percent: usize| us.get(us.len() * percent / 100).copied().unwrap_or_default();
    Rate {
        in_flight,
        per_second: (us.len() as f64 / took.as_secs_f64()).round(),
        p50_us: at(50),
        p99_us: at(99),
        cpu_us: (cpu / us.len() as f64 * 10.0).round() / 10.0,
    }
}

fn raw(dir: &Path, time: Duration, prepared: bool) -> Rate {
    let path = dir.join("raw");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    if prepared {
        let zeros = vec![0; 1 << 20];
        for at in 0..64 {
            file.write_all_at(&zeros, at << 20).unwrap();
        }
        file.sync_all().unwrap();
    }
    let record = [7; RECORD];
    let (began, cpu) = (Instant::now(), cpu_us());
    let mut us = Vec::new();
    let mut offset = 0;
    while began.elapsed() < time {
        let one = Instant::now();
        file.write_all_at(&record, offset).unwrap();
        file.sync_data().unwrap();
        us.push(one.elapsed().as_micros() as u64);
        offset += record.len() as u64;
    }
    let rate = rate(1, us, began.elapsed(), cpu_us() - cpu);
    std::fs::remove_file(path).unwrap();
    rate
}

/// Keeps so many records in flight: the next one is appended where one is reported as durable.
fn append(wal: &Arc<Wal>, stop: &Arc<AtomicBool>, us: &Arc<Mutex<Vec<u64>>>) {
    let (again, stopping, times) = (Arc::clone(wal), Arc::clone(stop), Arc::clone(us));
    let began = Instant::now();
    let done = move |result: std::result::Result<u64, _>| {
        result.unwrap();
        times.lock().unwrap().push(began.elapsed().as_micros() as u64);
        if !stopping.load(Ordering::Relaxed) {
            append(&again, &stopping, &times);
        }
    };
    wal.append(vec![7; RECORD], done).unwrap();
}

fn wal(dir: &Path, time: Duration, in_flight: usize) -> Rate {
    let dir = dir.join(format!("wal-{in_flight}"));
    let owner = Owner { cluster_id: "zl-bench".into(), node_id: 1 };
    let log = LogDir::open(Arc::new(RealFs), dir.clone(), owner).unwrap();
    let wal = Arc::new(log.recover_whole(WalLimits::default(), &mut |_, _| Ok(())).unwrap());
    let (stop, us) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<u64>>>::default());
    let (began, cpu) = (Instant::now(), cpu_us());
    for _ in 0..in_flight {
        append(&wal, &stop, &us);
    }
    std::thread::sleep(time);
    stop.store(true, Ordering::Relaxed);
    wal.stop();
    let us = std::mem::take(&mut *us.lock().unwrap());
    let rate = rate(in_flight, us, began.elapsed(), cpu_us() - cpu);
    std::fs::remove_dir_all(dir).unwrap();
    rate
}

fn command() -> Command {
    // Refused when it is applied, since there is no such token; committed all the same.
    Command::RevokeToken { jti: "0".repeat(TEXT) }
}

/// So many clients, each of which proposes one command after another.
fn commits(runtime: &Runtime, log: &Arc<dyn ControlLog>, time: Duration, clients: usize) -> Rate {
    let (began, cpu) = (Instant::now(), cpu_us());
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
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
        })
        .collect();
    let us = runtime.block_on(async {
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    rate(clients, us, began.elapsed(), cpu_us() - cpu)
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

fn main() {
    let Settings { dir, time, kills } = settings();
    let home = tempfile::tempdir_in(dir).unwrap();
    let dir = home.path();
    let runtime = Runtime::new().unwrap();
    let raw_growing = raw(dir, time, false);
    let raw_prepared = raw(dir, time, true);
    let wal: Vec<_> = DEPTHS.iter().map(|depth| wal(dir, time, *depth)).collect();
    let single_voter = single_voter(&runtime, dir.join("single"), time);
    let mut cluster = Cluster::new(&runtime, dir.to_owned());
    let (_, leader) = cluster.leader();
    let log: Arc<dyn ControlLog> = leader;
    let three_servers: Vec<_> =
        DEPTHS.iter().map(|depth| commits(&runtime, &log, time, *depth)).collect();
    let elections_under_load = log.health().elections - 1;
    drop(log);
    let failover = (kills > 0).then(|| failover(&runtime, &mut cluster, kills));
    let result = Result {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        seconds: time.as_secs_f64(),
        record_bytes: RECORD,
        wal_of_raw_growing: wal[0].per_second / raw_growing.per_second,
        wal_of_raw_prepared: wal[0].per_second / raw_prepared.per_second,
        commit_in_fdatasyncs: three_servers[0].p50_us as f64 / raw_prepared.p50_us.max(1) as f64,
        raw_growing,
        raw_prepared,
        wal,
        single_voter,
        three_servers,
        elections_under_load,
        failover,
    };
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
}
