//! What can go wrong.

use thiserror::Error;
use zlayer_wal::WalError;

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Too much waits for the disk already. Nothing was done; try again later.
    #[error("the control log is overloaded: too many commands wait for the disk")]
    Overloaded,
    /// The log ended: shut down, or a write failed, which is final.
    #[error("the control log has stopped: {error}")]
    Stopped {
        /// Why.
        error: String,
    },
}

impl ProposeError {
    /// The log has stopped, for this reason.
    pub fn stopped(why: &impl ToString) -> Self {
        Self::Stopped { error: why.to_string() }
    }
}

/// Why the log could not be opened. Nothing runs then.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory or a file in it.
    #[error("control log: {0}")]
    Log(#[from] WalError),
    /// A snapshot is whole and yet can't be read: a newer version wrote it.
    #[error("control log: the snapshot at {index}: {why}")]
    Snapshot {
        /// Index that it reaches.
        index: u64,
        /// What was wrong.
        why: String,
    },
    /// The record that begins the term could not be made.
    #[error("control log: {why}")]
    Record {
        /// What was wrong.
        why: String,
    },
    /// A thread could not be started.
    #[error("control log: a thread could not start: {0}")]
    Thread(std::io::Error),
}
