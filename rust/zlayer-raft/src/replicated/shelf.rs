//! The snapshots of a server: on its disk, on their way to a peer, or just arrived from one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zlayer_wal::{Snapshots, WalError};

use crate::replicated::planted::{Bug, Planted};
use crate::replicated::types::SnapshotMeta;

/// The snapshots on this disk.
pub(crate) struct Shelf {
    snapshots: Snapshots,
    newest: Mutex<Option<Stored>>,
    planted: Planted,
    pub(crate) saved: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// A snapshot that is on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) meta: SnapshotMeta,
    pub(crate) index: u64,
    pub(crate) bytes: u64,
    /// Entries up to this index are stood for twice.
    pub(crate) purge_to: u64,
}

impl Shelf {
    pub(crate) fn new(snapshots: Snapshots, newest: Option<Stored>, planted: Planted) -> Self {
        Self {
            snapshots,
            newest: Mutex::new(newest),
            planted,
            saved: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stored>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn newest(&self) -> Option<Stored> {
        self.lock().clone()
    }

    /// Saves a snapshot durably. Blocks. Where a newer one is there already, that one stays the newest.
    pub(crate) fn save(&self, meta: SnapshotMeta, body: &[u8]) -> Result<(), WalError> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        // Held while it is written: one at a time.
        let mut newest = self.lock();
        let mut purge_to = index;
        if !self.planted.has(Bug::SnapshotNotSaved) {
            purge_to = match self.snapshots.save(index, body) {
                Ok(saved) => saved.purge_to,
                Err(error) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    return Err(error);
                }
            };
        }
        if self.planted.has(Bug::PurgeToNewest) {
            purge_to = index;
        }
        self.saved.fetch_add(1, Ordering::Relaxed);
        if newest.as_ref().is_none_or(|newest| newest.index <= index) {
            *newest = Some(Stored { meta, index, bytes: body.len() as u64, purge_to });
        }
        Ok(())
    }
}

/// The bytes of a snapshot, or where they are.
#[derive(Clone)]
pub(crate) enum Handle {
    /// On this disk.
    Stored { shelf: Arc<Shelf>, index: u64 },
    /// Received from a peer.
    Received(Bytes),
}

impl Handle {
    /// The bytes. Blocks while it reads them.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Stored { shelf, index } => match shelf.snapshots.load(*index) {
                Ok(body) => Ok(body.into()),
                Err(error) => Err(io::Error::other(error.to_string())),
            },
            Self::Received(bytes) => Ok(bytes.clone()),
        }
    }
}
