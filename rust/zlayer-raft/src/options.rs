//! How to open a log, and on what.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use zlayer_core::time::UnixMs;
use zlayer_wal::{Fs, RealFs, WalLimits};

/// How to open a [`crate::SingleVoter`].
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

/// What a log runs on: this machine, or what a test puts in its place.
#[derive(Clone)]
pub struct Machine {
    /// The file system.
    pub fs: Arc<dyn Fs>,
    /// The wall clock that stamps entries. It may go back; stamps do not.
    pub clock: Arc<dyn Fn() -> UnixMs + Send + Sync>,
    /// Sizes.
    pub limits: WalLimits,
}

impl Default for Machine {
    fn default() -> Self {
        Self { fs: Arc::new(RealFs), clock: Arc::new(wall_clock), limits: WalLimits::default() }
    }
}

fn wall_clock() -> UnixMs {
    // A clock before 1970 stamps 0, and apply keeps the newest stamp that it has seen.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
