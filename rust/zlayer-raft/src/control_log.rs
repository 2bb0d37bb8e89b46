//! The trait that every engine implements.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use zlayer_core::command::{Command, Outcome};

use crate::error::ProposeError;
use crate::state_view::StateView;

/// What a proposal resolves to. Dropping it does not withdraw the command.
pub type ProposeFuture<T> = Pin<Box<dyn Future<Output = Result<T, ProposeError>> + Send>>;

/// The control log as the rest of the house sees it.
pub trait ControlLog: Send + Sync + 'static {
    /// Proposes a command; the future resolves once it is durable and applied, with what applying answered.
    /// The command is on its way when this returns, polled or not. Never blocks; from any thread, with or
    /// without a runtime.
    ///
    /// On [`ProposeError::Overloaded`] nothing was done. After [`ProposeError::Stopped`] it is unknown whether
    /// the command will be there when the log is opened again.
    fn propose(&self, command: Command) -> ProposeFuture<Outcome>;

    /// Read access to what was applied.
    fn state(&self) -> Arc<StateView>;

    /// Revision of the newest event. Changes after the event can be read.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Resolves once it is sure that this server leads now, and that its state holds all that was
    /// acknowledged before the call.
    fn confirm_leader(&self) -> ProposeFuture<()>;

    /// A look at the engine.
    fn health(&self) -> LogHealth;

    /// Finishes what was proposed, then stops. Blocks for as long as that takes; again is no error.
    fn shutdown(&self);
}

/// A look at an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogHealth {
    /// Why it stopped for good; `None` while it runs.
    pub stopped: Option<String>,
    /// Term of the leadership: grows with every opening of a single voter.
    pub term: u64,
    /// Position of the newest applied entry.
    pub last_index: u64,
    /// Entries made durable since opening.
    pub appended: u64,
    /// Bytes of log on disk, without snapshots.
    pub log_bytes: u64,
    /// Synchronisations of the log with the disk since opening.
    pub fsync_count: u64,
    /// Median time of one, microseconds.
    pub fsync_p50_us: u64,
    /// 99th percentile of that, microseconds.
    pub fsync_p99_us: u64,
    /// Snapshots made since opening.
    pub snapshots: u64,
    /// Snapshots that could not be made. The log is kept then, and the next one tried later.
    pub snapshots_failed: u64,
}
