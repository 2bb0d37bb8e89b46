//! What can go wrong.

use thiserror::Error;

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

/// Why the log could not be opened. Nothing runs then.
#[derive(Debug, Error)]
pub enum OpenError {
    /// An entry or a snapshot is whole and yet can't be read: a newer version wrote it.
    #[error("the control log holds {what} that this version can't read: {why}")]
    Unreadable {
        /// Which.
        what: String,
        /// What was wrong.
        why: String,
    },
    /// A thread could not be started.
    #[error("the control log's thread could not start: {0}")]
    Thread(std::io::Error),
}
