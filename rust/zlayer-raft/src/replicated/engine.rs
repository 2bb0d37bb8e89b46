//! The parts of a running server that its calls work with.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use openraft::Raft;
use tokio::sync::watch;

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
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) core: Arc<Core>,
    pub(crate) link: Arc<Link>,
    pub(crate) door: Arc<Door>,
    pub(crate) store: LogStore,
    pub(crate) pending: Arc<Pending>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) elections: Arc<AtomicU64>,
    /// Held while members change: one change at a time.
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
    /// Set when openraft has ended, by an error or by a panic.
    pub(crate) ended: Arc<OnceLock<String>>,
    pub(crate) timers: Timers,
}
