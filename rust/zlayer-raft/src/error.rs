//! What can go wrong.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zlayer_wal::WalError;

/// Why a proposal has no outcome. Crosses between servers by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
pub enum ProposeError {
    /// Too much waits for the disk already. Nothing was done; try again later.
    #[error("the control log is overloaded: too many commands wait for the disk")]
    Overloaded,
    /// Another server leads. Nothing was done; ask there.
    #[error("server {leader} leads")]
    NotLeader {
        /// Who does, as far as this server knows.
        leader: u64,
    },
    /// Nobody leads, as far as this server knows: there is an election, or no quorum. Nothing was done; try again
    /// later.
    #[error("no server leads just now")]
    NoLeader,
    /// This server began to make it durable and can't tell what became of it: leadership was lost meanwhile, or it
    /// took too long. It may be there later, once, or never.
    #[error("it is unknown whether the command was committed: {why}")]
    Unknown {
        /// Why.
        why: String,
    },
    /// The log ended: shut down, or a write failed, which is final.
    #[error("the control log has stopped: {error}")]
    Stopped {
        /// Why.
        error: String,
    },
}

impl ProposeError {
    /// Somebody else leads, or nobody does.
    pub(crate) fn elsewhere(leader: Option<u64>) -> Self {
        leader.map_or(Self::NoLeader, |leader| Self::NotLeader { leader })
    }

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
    /// Snapshot and log do not fit together: acknowledged entries are missing, so that this server must not go on
    /// under its id.
    #[error("control log: {why}")]
    Missing {
        /// What is missing.
        why: String,
    },
    /// The consensus engine refuses what the disk holds, or the options.
    #[error("control log: {why}")]
    Engine {
        /// What it says.
        why: String,
    },
    /// A thread could not be started.
    #[error("control log: a thread could not start: {0}")]
    Thread(std::io::Error),
}
