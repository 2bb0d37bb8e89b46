//! The state machine: applies what is committed, answers, and makes snapshots beside it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_core::Stream;
use futures_util::TryStreamExt;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{RaftSnapshotBuilder, Snapshot};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use zlayer_core::command::Outcome;
use zlayer_core::state::State;

use crate::replicated::form::{ENTRY_HEAD, payload_len};
use crate::replicated::image::{self, Applied, Image};
use crate::replicated::planted::{Bug, Planted};
use crate::replicated::shelf::{Handle, Shelf};
use crate::replicated::types::{
    LeaderOf, LogEntry, LogId, Payload, SnapshotMeta, StoredMembership, Types,
};
use crate::state_view::StateView;

type SnapshotOf = Snapshot<LeaderOf, u64, crate::replicated::peer::Peer, Handle>;

/// A copy of all that was applied, to be made a snapshot.
pub(crate) struct Copy {
    applied: Applied,
    state: State,
}

impl Copy {
    /// Saves it durably. Blocks.
    pub(crate) fn save(&self, to: &Shelf) -> io::Result<()> {
        let body = image::encode(&self.applied, &self.state).map_err(io::Error::other)?;
        to.save(self.applied.meta(), &body).map_err(|error| io::Error::other(error.to_string()))
    }

    pub(crate) fn index(&self) -> u64 {
        self.applied.last.map_or(0, |last| last.index)
    }
}

/// What the state machine shares with those who read it.
pub(crate) struct Core {
    cluster_id: String,
    pub(crate) view: Arc<StateView>,
    pub(crate) revision: watch::Sender<u64>,
    pub(crate) last_index: AtomicU64,
    /// Set when applying panicked, or met what it can't read: the state is not to be trusted.
    pub(crate) failed: OnceLock<String>,
    pub(crate) shelf: Arc<Shelf>,
    applied: Mutex<Applied>,
    planted: Planted,
    /// Bytes applied since the last snapshot was begun, and after how many one is.
    unsaved_bytes: AtomicU64,
    snapshot_bytes: u64,
    is_saving: AtomicBool,
    copies: Mutex<Option<SyncSender<Copy>>>,
}

impl Core {
    /// Also gives the end where copies come out, each to be made a snapshot.
    pub(crate) fn new(
        image: Image,
        shelf: Arc<Shelf>,
        snapshot_bytes: u64,
        planted: Planted,
    ) -> (Self, Receiver<Copy>) {
        let Image { applied, state } = image;
        let (copies, to_save) = sync_channel(1);
        let core = Self {
            cluster_id: state.cluster_id().to_owned(),
            revision: watch::channel(state.revision()).0,
            last_index: AtomicU64::new(applied.last.map_or(0, |last| last.index)),
            view: Arc::new(StateView::new(state)),
            failed: OnceLock::new(),
            shelf,
            applied: Mutex::new(applied),
            planted,
            unsaved_bytes: AtomicU64::new(0),
            snapshot_bytes,
            is_saving: AtomicBool::new(false),
            copies: Mutex::new(Some(copies)),
        };
        (core, to_save)
    }

    pub(crate) fn applied(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this server was a member once and is not any more.
    pub(crate) fn is_retired(&self, id: u64) -> bool {
        self.applied().retired.contains(&id)
    }

    fn apply(&self, entry: &LogEntry) -> Result<Outcome, String> {
        let index = entry.log_id.index;
        let outcome = match &entry.payload {
            Payload::Blank => Outcome::Done,
            Payload::Normal(command) => {
                let command = command.take()?;
                let (outcome, revision) = self.view.apply(index, &command);
                self.note_revision(revision);
                outcome
            }
            Payload::Membership(membership) => {
                let mut applied = self.applied();
                let gone: Vec<u64> = applied
                    .members
                    .nodes()
                    .map(|(id, _)| *id)
                    .filter(|id| membership.get_node(id).is_none())
                    .collect();
                applied.retired.extend(gone);
                applied.members = StoredMembership::new(Some(entry.log_id), membership.clone());
                Outcome::Done
            }
        };
        self.applied().last = Some(entry.log_id);
        self.last_index.store(index, Ordering::Release);
        let bytes = (payload_len(entry) + ENTRY_HEAD) as u64;
        let unsaved = self.unsaved_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unsaved >= self.threshold() {
            self.begin_snapshot();
        }
        Ok(outcome)
    }

    /// A snapshot that is long is made less often: never more than half of what is written is snapshots.
    fn threshold(&self) -> u64 {
        let newest = self.shelf.newest().map_or(0, |newest| newest.bytes);
        self.snapshot_bytes.max(2 * newest)
    }

    fn note_revision(&self, revision: u64) {
        self.revision.send_if_modified(|newest| {
            let is_newer = revision > *newest;
            *newest = revision;
            is_newer
        });
    }

    /// Hands a copy over, unless the one before is still being saved.
    fn begin_snapshot(&self) {
        if self.is_saving.swap(true, Ordering::AcqRel) {
            return;
        }
        self.unsaved_bytes.store(0, Ordering::Relaxed);
        let copy = self.copy();
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if copies.as_ref().is_none_or(|copies| copies.try_send(copy).is_err()) {
            self.end_snapshot();
        }
    }

    /// The copy was saved, or could not be.
    pub(crate) fn end_snapshot(&self) {
        self.is_saving.store(false, Ordering::Release);
    }

    /// Hands no copy over any more, so that whoever saves them ends.
    pub(crate) fn close(&self) {
        *self.copies.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Only the one that applies may ask for it, so that both halves are of one moment.
    fn copy(&self) -> Copy {
        let mut applied = self.applied().clone();
        if self.planted.has(Bug::SnapshotWithoutMembers) {
            applied.members = StoredMembership::default();
        }
        Copy { applied, state: self.view.copy() }
    }

    /// Puts a snapshot in place of all that was applied.
    fn replace(&self, Image { applied, state }: Image) {
        let (revision, index) = (state.revision(), applied.last.map_or(0, |last| last.index));
        self.view.replace(state);
        *self.applied() = applied;
        self.last_index.store(index, Ordering::Release);
        self.unsaved_bytes.store(0, Ordering::Relaxed);
        self.note_revision(revision);
    }
}

/// The end that openraft drives.
pub(crate) struct Machine(pub(crate) Arc<Core>);

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Handle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.0.applied();
        Ok((applied.last, applied.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let core = &self.0;
            let applied = catch_unwind(AssertUnwindSafe(|| core.apply(&entry)))
                .unwrap_or_else(|_| Err("it panicked".into()));
            let outcome = applied.map_err(|why| {
                let why = format!("applying entry {}: {why}", entry.log_id.index);
                io::Error::other(core.failed.get_or_init(|| why).clone())
            })?;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if force {
            return Some(self.get_snapshot_builder().await);
        }
        // What is asked for was saved before it was: openraft only has to hear of it, and a disk that refuses a
        // snapshot ends nothing.
        let newest = self.0.shelf.newest()?;
        Some(Builder { core: Arc::clone(&self.0), copy: None, meta: newest.meta })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let copy = self.0.copy();
        let meta = copy.applied.meta();
        Builder { core: Arc::clone(&self.0), copy: Some(copy), meta }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Handle,
    ) -> Result<(), io::Error> {
        let core = Arc::clone(&self.0);
        let meta = meta.clone();
        let image = spawn_blocking(move || {
            let body = snapshot.read()?;
            let image = image::decode(&body, &core.cluster_id).map_err(io::Error::other)?;
            if image.applied.meta() != meta {
                return Err(io::Error::other("the snapshot is not the one that was announced"));
            }
            core.shelf.save(meta, &body).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(image)
        });
        let image = image.await.map_err(io::Error::other)??;
        self.0.replace(image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        let on_disk = &self.0.shelf;
        Ok(on_disk.newest().map(|newest| Snapshot {
            meta: newest.meta,
            snapshot: Handle::Stored { shelf: Arc::clone(on_disk), index: newest.index },
        }))
    }
}

/// Makes a snapshot, or names one that was made.
pub(crate) struct Builder {
    core: Arc<Core>,
    copy: Option<Copy>,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Handle;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, io::Error> {
        if let Some(copy) = self.copy.take() {
            let core = Arc::clone(&self.core);
            spawn_blocking(move || copy.save(&core.shelf)).await.map_err(io::Error::other)??;
        }
        let index = self.meta.last_log_id.map_or(0, |id| id.index);
        let snapshot = Handle::Stored { shelf: Arc::clone(&self.core.shelf), index };
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
