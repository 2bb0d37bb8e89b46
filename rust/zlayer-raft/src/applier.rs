//! What happens to an entry once it is durable: applied, told, and now and then snapshotted.
//!
//! Runs on the log's thread, entry after entry. A panic in here ends the log by name.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use zlayer_core::command::{Entry, Outcome};
use zlayer_core::state::State;

use crate::error::ProposeError;
use crate::state_view::StateView;

/// Bytes of log that an entry takes beside its own. Derived: its length, and a share of its batch's head.
const ENTRY_OVERHEAD: u64 = 32;

/// The applying end of a log.
pub(crate) struct Applier {
    pub(crate) state: Arc<StateView>,
    pub(crate) revision: watch::Sender<u64>,
    pub(crate) last_index: AtomicU64,
    /// Set when applying panicked: the state is not to be trusted.
    pub(crate) failed: OnceLock<String>,
    snapshot_bytes: u64,
    /// Bytes applied since the last snapshot was begun.
    unsaved_bytes: AtomicU64,
    /// One snapshot is being made. Cleared by whoever made it.
    is_saving: AtomicBool,
    /// `None` once it was closed.
    copies: Mutex<Option<SyncSender<State>>>,
}

impl Applier {
    /// Also gives the end where copies of the state come out, each to be made a snapshot.
    pub(crate) fn new(
        state: State,
        last_index: u64,
        unsaved_bytes: u64,
        snapshot_bytes: u64,
    ) -> (Self, Receiver<State>) {
        let (revision, _) = watch::channel(state.revision());
        let (copies, to_save) = sync_channel(1);
        let applier = Self {
            state: Arc::new(StateView::new(state)),
            revision,
            last_index: AtomicU64::new(last_index),
            failed: OnceLock::new(),
            snapshot_bytes,
            unsaved_bytes: AtomicU64::new(unsaved_bytes),
            is_saving: AtomicBool::new(false),
            copies: Mutex::new(Some(copies)),
        };
        (applier, to_save)
    }

    /// Applies a durable entry, whose record had `bytes`, and answers whoever proposed it.
    ///
    /// # Panics
    /// When applying does, once that is noted and answered: it ends the log.
    pub(crate) fn apply_and_answer(
        &self,
        index: u64,
        entry: &Entry,
        bytes: u64,
        answer: impl FnOnce(Result<Outcome, ProposeError>),
    ) {
        match catch_unwind(AssertUnwindSafe(|| self.apply(index, entry, bytes))) {
            Ok(outcome) => answer(Ok(outcome)),
            Err(panic) => {
                let error = self.failed.get_or_init(|| format!("applying entry {index} panicked"));
                answer(Err(ProposeError::stopped(error)));
                resume_unwind(panic);
            }
        }
    }

    fn apply(&self, index: u64, entry: &Entry, bytes: u64) -> Outcome {
        let (outcome, revision) = self.state.apply(index, entry);
        self.last_index.store(index, Ordering::Release);
        self.revision.send_if_modified(|newest| {
            let is_newer = revision > *newest;
            *newest = revision;
            is_newer
        });
        let unsaved = self.unsaved_bytes.fetch_add(bytes + ENTRY_OVERHEAD, Ordering::Relaxed);
        if unsaved + bytes >= self.snapshot_bytes {
            self.begin_snapshot();
        }
        outcome
    }

    /// Hands a copy over, unless the one before is still being saved. The copy shares its records: it takes
    /// milliseconds where saving takes a second.
    fn begin_snapshot(&self) {
        if self.is_saving.swap(true, Ordering::AcqRel) {
            return;
        }
        self.unsaved_bytes.store(0, Ordering::Relaxed);
        let copy = self.state.copy();
        let sent = self.copies().as_ref().is_some_and(|copies| copies.try_send(copy).is_ok());
        if !sent {
            self.end_snapshot();
        }
    }

    /// The copy was saved, or could not be.
    pub(crate) fn end_snapshot(&self) {
        self.is_saving.store(false, Ordering::Release);
    }

    /// Hands no copy over any more, so that whoever saves them ends.
    pub(crate) fn close(&self) {
        *self.copies() = None;
    }

    fn copies(&self) -> MutexGuard<'_, Option<SyncSender<State>>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
