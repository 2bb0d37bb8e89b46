//! The parts of a running server that its calls work with.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use openraft::Raft;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use zlayer_core::time::UnixMs;
use zlayer_wal::Wal;

use crate::control_log::Leadership;
use crate::replicated::door::Door;
use crate::replicated::link::Link;
use crate::replicated::machine::{Core, Machine};
use crate::replicated::options::Timers;
use crate::replicated::pending::Pending;
use crate::replicated::store::LogStore;
use crate::replicated::types::Types;

/// See the module.
pub(crate) struct Engine {
    /// Its own runtime.
    pub(crate) handle: tokio::runtime::Handle,
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) core: Arc<Core>,
    pub(crate) link: Arc<Link>,
    pub(crate) door: Arc<Door>,
    pub(crate) store: LogStore,
    pub(crate) wal: Arc<Wal>,
    pub(crate) clock: Arc<dyn Fn() -> UnixMs + Send + Sync>,
    pub(crate) pending: Pending,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) elections: AtomicU64,
    /// Held while members change: one change at a time.
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
    /// Takes no proposals any more.
    pub(crate) is_closing: AtomicBool,
    /// Set when openraft has ended, by an error or by a panic.
    pub(crate) ended: OnceLock<String>,
    pub(crate) timers: Timers,
    pub(crate) entry_bytes_max: usize,
}

impl Engine {
    /// Why it stopped, if it did. The first cause is named: what openraft says is mostly a consequence.
    pub(crate) fn failure(&self) -> Option<String> {
        if let Some(error) = self.core.failed.get() {
            return Some(error.clone());
        }
        if let Some(error) = self.store.failure() {
            return Some(error);
        }
        if let Some(error) = self.wal.failure() {
            return Some(error.to_string());
        }
        self.ended.get().cloned()
    }
}

/// A runtime that may be let go of anywhere, also within another one: its tasks are dropped, not waited for.
pub(crate) struct Threads(Option<Runtime>);

impl Threads {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self(Some(runtime))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
