//! What can go wrong with the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Why the log could not be opened, or why it ended. Cheap to clone: everything that waits gets the same.
#[derive(Debug, Clone, Error)]
pub enum WalError {
    /// The file system failed. Once the log is open, the first of these ends it for good: what a failed sync
    /// left on the disk can't be known.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was tried, such as `write`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Somebody has the directory open: another process, or this one; also if its log ended by an error, since a
    /// process that saw one can't trust what it reads back.
    #[error("{dir} is in use by {holder}")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The directory is of another cluster or node.
    #[error("{file} belongs to {found}, not to {expected}")]
    WrongOwner {
        /// The file that says so.
        file: PathBuf,
        /// Who opens.
        expected: String,
        /// Whose it is.
        found: String,
    },
    /// A newer version wrote it.
    #[error("{file} has format {found}; this version reads format {known}")]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Data that was acknowledged is damaged. Nothing is repaired or skipped.
    #[error("{file} is damaged at offset {offset}: {why}")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Bytes from its start.
        offset: u64,
        /// What was wrong.
        why: String,
    },
    /// Records between the snapshot and the log, or between two segments, are not there.
    #[error("{dir}: {why}")]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Whoever replayed the records refused one.
    #[error("record {index} in {file}: {why}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Its index.
        index: u64,
        /// What was wrong.
        why: String,
    },
    /// The writer ended by a panic, its own or that of a callback.
    #[error("the log's thread panicked: {0}")]
    Panicked(String),
    /// It was stopped as asked.
    #[error("the log was shut down")]
    ShutDown,
}

impl WalError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(file: &Path, offset: usize, why: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset: offset as u64, why: why.into() }
    }

    pub(crate) fn missing(dir: &Path, why: impl Into<String>) -> Self {
        Self::Missing { dir: dir.to_owned(), why: why.into() }
    }
}

/// Why a record was not taken. Its callback is not called then, and never will be.
#[derive(Debug, Clone, Error)]
pub enum AppendError {
    /// As much waits as may. Nothing was done.
    #[error("{records} records wait to be written already")]
    Overloaded {
        /// How many.
        records: usize,
    },
    /// Nothing was done.
    #[error("a record of {bytes} bytes is longer than {max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The log has ended.
    #[error("{0}")]
    Stopped(WalError),
}
