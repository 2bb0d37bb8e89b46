//! The log's directory: taken by one process, cleaned of what a crash left half made.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::WalError;
use crate::fs::{Fs, Lock, LockError};
use crate::head::CLUSTER_ID_MAX;
use crate::segment::Segment;
use crate::snapshot::Snapshots;
use crate::writer::create;

/// Name of the lock file.
const LOCK_NAME: &str = "LOCK";

/// Ending of a file that is not finished.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Whose log it is. Written into every file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Cluster, at most 255 bytes.
    pub cluster_id: String,
    /// Node in it.
    pub node_id: u64,
}

impl Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {}", self.node_id, self.cluster_id)
    }
}

/// Where the log is, and through what.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) owner: Owner,
    #[cfg(test)]
    pub(crate) planted: Option<Bug>,
}

/// Mistakes that tests make on purpose, to see that they are seen.
#[allow(dead_code, reason = "only tests plant them")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Acknowledges what was written and not synced.
    AckBeforeSync,
    /// Does not sync the directory behind a new segment.
    SegmentNameNotSynced,
    /// Lets go of the log up to the newest snapshot, without syncing the directory behind it.
    PurgeToUnsynced,
    /// Tries a failed sync again, and believes the second answer.
    SyncTriedAgain,
    /// Serves what a killed process wrote without syncing it first.
    RecoveredNotSynced,
    /// Leaves a torn tail where it is and writes behind it.
    TailNotCut,
    /// Takes damage for a torn tail.
    DamageCut,
    /// Takes every whole batch of a segment, whatever batch comes before it.
    ChainNotChecked,
}

impl Place {
    #[cfg(test)]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests look at it")]
    pub(crate) const fn has(&self, _: Bug) -> bool {
        false
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn list(&self) -> Result<Vec<String>, WalError> {
        self.fs.list(&self.dir).map_err(|error| WalError::io("list", &self.dir, error))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), WalError> {
        self.fs.remove(path).map_err(|error| WalError::io("remove", path, error))
    }

    pub(crate) fn sync_names(&self) -> Result<(), WalError> {
        self.fs.sync_dir(&self.dir).map_err(|error| WalError::io("sync", &self.dir, error))
    }

    /// Makes a file appear whole or not at all, durably: written under another name, synced, renamed.
    pub(crate) fn publish(&self, path: &Path, parts: &[&[u8]]) -> Result<(), WalError> {
        let unfinished = path.with_extension(&UNFINISHED[1..]);
        let doing = |doing| move |error| WalError::io(doing, path, error);
        let mut file = self.fs.create(&unfinished).map_err(doing("create"))?;
        let mut offset = 0;
        for part in parts {
            crate::fs::write_all(file.as_mut(), part, offset).map_err(doing("write"))?;
            offset += part.len() as u64;
        }
        file.sync_data().map_err(doing("sync"))?;
        self.fs.rename(&unfinished, path).map_err(doing("rename"))
    }
}

/// A log directory that this process has for itself.
pub struct LogDir {
    pub(crate) place: Place,
    pub(crate) lock: Box<dyn Lock>,
}

impl LogDir {
    /// Makes the directory if need be, mode 0700, and takes it.
    ///
    /// # Errors
    /// [`WalError::Locked`] while anybody has it; [`WalError::Io`].
    pub fn open(fs: Arc<dyn Fs>, dir: PathBuf, owner: Owner) -> Result<Self, WalError> {
        if owner.cluster_id.len() > CLUSTER_ID_MAX {
            let why = format!("a cluster id has at most {CLUSTER_ID_MAX} bytes");
            let error = io::Error::new(io::ErrorKind::InvalidInput, why);
            return Err(WalError::io("open", &dir, error));
        }
        fs.create_dir(&dir).map_err(|error| WalError::io("create", &dir, error))?;
        let holder = format!("process {}", std::process::id());
        let lock = fs.lock(&dir.join(LOCK_NAME), &holder).map_err(|error| match error {
            LockError::Held(holder) => WalError::Locked { dir: dir.clone(), holder },
            LockError::Io(error) => WalError::io("lock", &dir, error),
        })?;
        let place = Place {
            fs,
            dir,
            owner,
            #[cfg(test)]
            planted: None,
        };
        for name in place.list()?.iter().filter(|name| name.ends_with(UNFINISHED)) {
            place.remove(&place.path(name))?;
        }
        // A process that was killed may have left names that are not durable yet, and they are relied on now.
        place.sync_names()?;
        Ok(Self { place, lock })
    }

    /// Begins a log in a new directory whose next record has the index behind `index`: that of a snapshot which came
    /// from elsewhere, and is saved next. One that is cut short in between is refused at its opening.
    ///
    /// # Errors
    /// [`WalError::Missing`] where a log is there already; [`WalError::Io`].
    pub fn begin_behind(&self, index: u64) -> Result<(), WalError> {
        if self.place.list()?.iter().any(|name| Segment::parse(name).is_some()) {
            return Err(WalError::missing(&self.place.dir, "there is a log already"));
        }
        create(&self.place, Segment { number: 1, first_index: index + 1 }, 0).map(drop)
    }

    /// Its snapshots.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(self.place.clone())
    }
}
