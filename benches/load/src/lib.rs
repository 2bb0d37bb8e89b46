//! The load swarm: real mTLS workers against a real server process, and the same load on its peers.
//!
//! ```text
//!   swarm ── enroll (or keys) ── sessions of zlayer-node, paced ──┐
//!     └──────────────────────── report_turn ─┐                     ├─ report
//!   peers ── grpcio: report_turn, etcd ──────┴─ turn: one driver ──┤
//!   commits ── a server in this process ─────────┤                 │
//!   etcd_put ── etcd's servers ──────────────────┘ ── commit_report┘
//! ```
//!
//! A run is one JSON document in and one out. Nothing is measured by a wall-clock bound: the figures are counts,
//! CPU seconds of the server's process, and its memory.

mod clock;
mod commit_options;
mod commit_report;
mod commits;
mod enroll;
mod error;
mod etcd;
mod etcd_put;
mod histogram;
mod host;
mod keys;
mod meter;
mod open;
mod options;
mod peers;
mod process;
mod report;
mod report_turn;
mod swarm;
mod tally;
mod turn;

use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

pub use commit_options::{
    CommitLoad, EtcdCommitOptions, EtcdTakeoverOptions, InFlightOptions, PaceOptions,
};
pub use commits::run_commits;
pub use error::LoadError;
pub use options::{Identities, OneOrMore, Options, PeerOptions, Phase, SwarmOptions};

/// Threads of a swarm at most, unless more are asked for: the server needs the other cores.
const THREADS_MAX: usize = 2;

/// Runs the load that the options' `kind` names until it is done. Blocks.
///
/// # Errors
/// [`LoadError`]: an option is wrong, a limit of the machine is too low, or a worker could not enrol, connect or beat.
pub fn run(options_json: &[u8]) -> Result<Vec<u8>, LoadError> {
    let options = Options::from_json(options_json)?;
    let (connections, threads) = match &options {
        // The in-turn phase takes the sessions over, a few at a time.
        Options::EnrollAndRun(swarm) if swarm.phase == Phase::Both => {
            (swarm.workers + swarm::HANDED_OVER_AT_ONCE, swarm.threads)
        }
        Options::EnrollAndRun(swarm) => (swarm.workers, swarm.threads),
        Options::Etcd(peer) | Options::Grpcio(peer) => (peer.connections, peer.threads),
        Options::EtcdCommits(commits) => (commits.connections, commits.load.threads),
        Options::EtcdTakeover(takeover) => (takeover.servers.len(), 1),
    };
    host::make_room(connections)?;
    runtime(threads)?.block_on(async {
        match options {
            Options::EnrollAndRun(swarm) => to_json(&swarm::enroll_and_run(*swarm).await?),
            Options::Etcd(peer) => to_json(&peers::etcd(peer).await?),
            Options::Grpcio(peer) => to_json(&peers::grpcio(peer).await?),
            Options::EtcdCommits(commits) => to_json(&etcd_put::put_in_flight(&commits).await?),
            Options::EtcdTakeover(takeover) => to_json(&etcd_put::take_over(&takeover).await?),
        }
    })
}

fn runtime(threads: usize) -> Result<Runtime, LoadError> {
    Builder::new_multi_thread()
        .worker_threads(threads_of(threads))
        .thread_name("zlayer-load")
        .enable_all()
        .build()
        .map_err(LoadError::Threads)
}

fn to_json(report: &impl Serialize) -> Result<Vec<u8>, LoadError> {
    serde_json::to_vec(report).map_err(|error| LoadError::Options(error.to_string()))
}

fn threads_of(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
        asked => asked,
    }
}
