//! The engine of one server, which agrees with itself.
//!
//! ```text
//! proposer's thread          log's thread                          snapshot's thread
//! stamp, encode ──> queue ──> write, sync ──> apply ──> answer
//!                                              └── copy ──────────> save, purge
//! ```

use std::future::ready;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use zlayer_core::command::{Command, Entry, Outcome, Refusal};
use zlayer_core::state::State;
use zlayer_core::time::UnixMs;
use zlayer_wal::{AppendError, Latency, LogDir, Owner, Snapshots, Wal, WalError};

use crate::applier::Applier;
use crate::codec::{
    Record, SnapshotBody, decode_record, decode_snapshot, encode_election, encode_entry,
};
use crate::control_log::{ControlLog, LeaderId, Leadership, LogHealth, ProposeFuture, Role};
use crate::error::{OpenError, ProposeError};
use crate::options::{LogOptions, Machine};
use crate::saver::{Saver, SaverCounts};
use crate::state_view::StateView;

/// The control log of a cluster with one server. Dropping it shuts it down.
pub struct SingleVoter {
    wal: Arc<Wal>,
    applier: Arc<Applier>,
    clock: Arc<dyn Fn() -> UnixMs + Send + Sync>,
    id: LeaderId,
    leadership: watch::Sender<Leadership>,
    commit: Arc<Latency>,
    counts: Arc<SaverCounts>,
    saver: Mutex<Option<JoinHandle<()>>>,
}

/// What the disk holds.
struct Loaded {
    state: State,
    term: u64,
    /// Bytes of the records that the newest snapshot does not stand for.
    unsaved_bytes: u64,
}

impl SingleVoter {
    /// Opens the log on this machine, making it if need be, and applies what it holds.
    ///
    /// # Errors
    /// [`OpenError`], naming the file and what is wrong with it. Nothing runs then.
    pub fn open(options: LogOptions) -> Result<Self, OpenError> {
        Self::open_on(options, Machine::default())
    }

    /// Opens the log on a machine of the caller's.
    ///
    /// # Errors
    /// As [`SingleVoter::open`].
    pub fn open_on(options: LogOptions, machine: Machine) -> Result<Self, OpenError> {
        let LogOptions { dir, cluster_id, node_id, snapshot_bytes } = options;
        let owner = Owner { cluster_id: cluster_id.clone(), node_id };
        let dir = LogDir::open(machine.fs, dir, owner)?;
        let snapshots = dir.snapshots();
        let mut loaded = load_snapshot(&snapshots, cluster_id)?;
        let wal =
            dir.recover(machine.limits, loaded.state.applied_index(), &mut |index, bytes| {
                loaded.replay(index, bytes)
            })?;
        let term = loaded.term + 1;
        let index = elect(&wal, term)?;
        let Loaded { state, unsaved_bytes, .. } = loaded;
        let (applier, copies) = Applier::new(state, index, unsaved_bytes, snapshot_bytes);
        let (wal, applier) = (Arc::new(wal), Arc::new(applier));
        let counts = Arc::new(SaverCounts::default());
        let saver = Saver {
            term,
            snapshots,
            wal: Arc::clone(&wal),
            applier: Arc::clone(&applier),
            counts: Arc::clone(&counts),
        };
        let saver = saver.start(copies).map_err(OpenError::Thread)?;
        tracing::info!(term, index, "control log open");
        let id = LeaderId { term, node: node_id };
        let leads = Leadership { term, leader: Some(node_id), own: Some(id) };
        Ok(Self {
            wal,
            applier,
            clock: machine.clock,
            id,
            leadership: watch::channel(leads).0,
            commit: Arc::default(),
            counts,
            saver: Mutex::new(Some(saver)),
        })
    }

    /// Why it stopped, if it did.
    fn failure(&self) -> Option<String> {
        let applying = self.applier.failed.get().cloned();
        applying.or_else(|| self.wal.failure().map(|error| error.to_string()))
    }
}

fn load_snapshot(snapshots: &Snapshots, cluster_id: String) -> Result<Loaded, OpenError> {
    let Some(snapshot) = snapshots.newest()? else {
        return Ok(Loaded { state: State::new(cluster_id), term: 0, unsaved_bytes: 0 });
    };
    for damaged in &snapshot.damaged {
        tracing::warn!(damaged, "a snapshot is damaged; the one before it and the log stand in");
    }
    let index = snapshot.index;
    let unreadable = |why| OpenError::Snapshot { index, why };
    let SnapshotBody { term, state } = decode_snapshot(&snapshot.body).map_err(unreadable)?;
    if state.applied_index() != index || state.cluster_id() != cluster_id {
        return Err(unreadable("it is the state of another index or cluster".into()));
    }
    Ok(Loaded { state, term, unsaved_bytes: 0 })
}

impl Loaded {
    fn replay(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        match decode_record(bytes)? {
            Record::Entry(entry) => {
                self.state.apply(index, &entry);
            }
            Record::Elected { term } => self.term = self.term.max(term),
        }
        self.unsaved_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Begins a term, durably: what a voter does that has nobody to ask. Gives the index of the record.
fn elect(wal: &Wal, term: u64) -> Result<u64, OpenError> {
    let (elected, result) = mpsc::channel();
    let record = encode_election(term).map_err(|why| OpenError::Record { why })?;
    let appended = wal.append(record, move |result| {
        // Whoever waits below is there until it is answered.
        let _ = elected.send(result);
    });
    let failure = || wal.failure().unwrap_or(WalError::ShutDown);
    appended.map_err(|_| failure())?;
    Ok(result.recv().map_err(|_| failure())??)
}

fn answered<T: Send + 'static>(result: Result<T, ProposeError>) -> ProposeFuture<T> {
    Box::pin(ready(result))
}

/// A command that never gets into the log.
fn refused(why: String) -> ProposeFuture<Outcome> {
    let field = "command".into();
    answered(Ok(Outcome::Refused { refusal: Refusal::Invalid { field, why } }))
}

impl ControlLog for SingleVoter {
    fn propose(&self, command: Command) -> ProposeFuture<Outcome> {
        let entry = Entry { stamp_ms: (self.clock)(), command };
        let record = match encode_entry(&entry) {
            Ok(record) => record,
            Err(why) => return refused(why),
        };
        let bytes = record.len() as u64;
        let (answer, outcome) = oneshot::channel();
        let (began, commit) = (Instant::now(), Arc::clone(&self.commit));
        let applier = Arc::clone(&self.applier);
        let appended = self.wal.append(record, move |result| {
            // Whoever proposed may have gone; the command is committed all the same.
            let answer = |result| {
                commit.add(began.elapsed());
                drop(answer.send(result));
            };
            match result {
                Ok(index) => applier.apply_and_answer(index, &entry, bytes, answer),
                Err(error) => answer(Err(ProposeError::stopped(&error))),
            }
        });
        match appended {
            Ok(()) => Box::pin(async {
                let lost = |_| Err(ProposeError::stopped(&"nobody answered"));
                outcome.await.unwrap_or_else(lost)
            }),
            Err(AppendError::Overloaded { .. }) => answered(Err(ProposeError::Overloaded)),
            Err(AppendError::Stopped(error)) => answered(Err(ProposeError::stopped(&error))),
            Err(error @ AppendError::TooLarge { .. }) => refused(error.to_string()),
        }
    }

    fn propose_if_leader(&self, leader: LeaderId, command: Command) -> ProposeFuture<Outcome> {
        if leader != self.id {
            return answered(Err(ProposeError::NotLeader { leader: self.id.node }));
        }
        self.propose(command)
    }

    fn state(&self) -> Arc<StateView> {
        Arc::clone(&self.applier.state)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.applier.revision.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn read_barrier(&self) -> ProposeFuture<()> {
        self.confirm_leader()
    }

    fn confirm_leader(&self) -> ProposeFuture<()> {
        // Nobody else can lead, and what was acknowledged was applied before.
        answered(match self.failure() {
            None => Ok(()),
            Some(error) => Err(ProposeError::stopped(&error)),
        })
    }

    fn health(&self) -> LogHealth {
        let stats = self.wal.stats();
        let stopped = self.failure();
        let last_index = self.applier.last_index.load(Ordering::Acquire);
        LogHealth {
            role: if stopped.is_some() { Role::Stopped } else { Role::Leader },
            leader: stopped.is_none().then_some(self.id.node),
            stopped,
            term: self.id.term,
            last_index,
            log_index: last_index,
            commit_index: last_index,
            appended: stats.appended,
            commit_p50_us: self.commit.quantile_us(50),
            commit_p99_us: self.commit.quantile_us(99),
            records_waiting: stats.waiting,
            log_bytes: stats.log_bytes,
            fsync_count: stats.fsync_count,
            fsync_p50_us: stats.fsync_p50_us,
            fsync_p99_us: stats.fsync_p99_us,
            snapshots: self.counts.saved.load(Ordering::Relaxed),
            snapshots_failed: self.counts.failed.load(Ordering::Relaxed),
            ..LogHealth::default()
        }
    }

    fn shutdown(&self) {
        self.leadership.send_replace(Leadership { term: self.id.term, leader: None, own: None });
        self.wal.stop();
        self.applier.close();
        let mut saver = self.saver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(saver) = saver.take() {
            // A panic there has ended the snapshots and nothing else.
            let _ = saver.join();
        }
    }
}

impl Drop for SingleVoter {
    fn drop(&mut self) {
        self.shutdown();
    }
}
