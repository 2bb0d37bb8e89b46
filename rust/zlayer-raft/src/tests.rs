//! Tests of the single voter on a simulated disk, with a clock that is set by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod durable;
mod ends;
mod entries;
mod snapshots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::{CertificateRecord, Labels, NodeId, Profile};
use zlayer_core::time::UnixMs;
use zlayer_wal::WalLimits;
use zlayer_wal::sim::SimFs;

use crate::{ControlLog, LogOptions, Machine, OpenError, ProposeError, SingleVoter};

/// A machine with a disk and a clock of its own.
#[derive(Clone)]
struct Rig {
    fs: SimFs,
    clock: Arc<AtomicU64>,
    snapshot_bytes: u64,
    limits: WalLimits,
}

impl Rig {
    fn new() -> Self {
        let limits = WalLimits { segment_bytes: 16 << 10, ..WalLimits::default() };
        Self { fs: SimFs::default(), clock: Arc::default(), snapshot_bytes: u64::MAX, limits }
    }

    fn set_clock(&self, ms: u64) {
        self.clock.store(ms, Ordering::Relaxed);
    }

    /// The same machine with another disk in it.
    fn with_disk(&self, fs: SimFs) -> Self {
        Self { fs, ..self.clone() }
    }

    fn open(&self) -> Result<SingleVoter, OpenError> {
        let options = LogOptions {
            dir: "/log".into(),
            cluster_id: "zl-test".into(),
            node_id: 1,
            snapshot_bytes: self.snapshot_bytes,
        };
        let clock = Arc::clone(&self.clock);
        let machine = Machine {
            fs: Arc::new(self.fs.clone()),
            clock: Arc::new(move || UnixMs(clock.load(Ordering::Relaxed))),
            limits: self.limits,
        };
        SingleVoter::open_on(options, machine)
    }
}

fn jti(number: u64) -> String {
    format!("{number:032x}")
}

fn create_token(number: u64, uses_max: u32) -> Command {
    Command::CreateToken {
        jti: jti(number),
        name: String::new(),
        expires_ms: UnixMs(3_600_000),
        role: zlayer_core::record::TokenRole::Worker,
        uses_max,
        labels: Labels::new(),
        labels_allowed: Vec::new(),
    }
}

fn redeem(token: u64, key: u64) -> Command {
    Command::Redeem {
        jti: jti(token),
        name: String::new(),
        labels: Labels::new(),
        profile: Profile::default(),
        certificate: CertificateRecord {
            serial: format!("{key:x}"),
            key_hash: format!("{key:064x}"),
            not_after_ms: UnixMs(86_400_000),
        },
    }
}

async fn propose(log: &SingleVoter, command: Command) -> Outcome {
    log.propose(command).await.unwrap()
}

/// Enrols a key, which must be admitted.
async fn enrol(log: &SingleVoter, token: u64, key: u64) -> NodeId {
    match propose(log, redeem(token, key)).await {
        Outcome::Redeemed { node_id, .. } => node_id,
        other => panic!("{other:?}"),
    }
}

fn hash(log: &SingleVoter) -> u64 {
    log.state().with_state(|state| {
        state.check_invariants();
        state.hash()
    })
}

fn uses(log: &SingleVoter, token: u64) -> usize {
    log.state().with_state(|state| state.token(&jti(token)).map_or(0, |token| token.uses.len()))
}

fn stopped(result: Result<Outcome, ProposeError>) -> String {
    match result {
        Err(ProposeError::Stopped { error }) => error,
        other => panic!("{other:?}"),
    }
}
