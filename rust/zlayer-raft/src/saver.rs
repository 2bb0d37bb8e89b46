//! The thread that makes snapshots, beside the log's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{Builder, JoinHandle};

use zlayer_core::state::State;
use zlayer_wal::{Snapshots, Wal};

use crate::applier::Applier;
use crate::codec::encode_snapshot;

/// Counts of snapshots.
#[derive(Debug, Default)]
pub(crate) struct SaverCounts {
    pub(crate) saved: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// What the thread works with.
pub(crate) struct Saver {
    pub(crate) term: u64,
    pub(crate) snapshots: Snapshots,
    pub(crate) wal: Arc<Wal>,
    pub(crate) applier: Arc<Applier>,
    pub(crate) counts: Arc<SaverCounts>,
}

impl Saver {
    /// Runs until the applier is closed.
    pub(crate) fn start(self, copies: Receiver<State>) -> io::Result<JoinHandle<()>> {
        Builder::new().name("zlayer-snapshot".into()).spawn(move || {
            while let Ok(state) = copies.recv() {
                self.save(&state);
                self.applier.end_snapshot();
            }
        })
    }

    /// Saves, then lets go of the log that is not needed any more. A failure leaves log and older snapshots as they
    /// are; the next try comes with the next share of log.
    fn save(&self, state: &State) {
        let index = state.applied_index();
        let saved = encode_snapshot(self.term, state)
            .and_then(|body| self.snapshots.save(index, &body).map_err(|error| error.to_string()));
        match saved {
            Ok(saved) => {
                self.counts.saved.fetch_add(1, Ordering::Relaxed);
                self.wal.purge(saved.purge_to);
                tracing::info!(index, "snapshot saved");
            }
            Err(error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(index, error, "the snapshot could not be saved; the log grows on");
            }
        }
    }
}
