//! Why a server does not listen to another.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a request was refused, by name. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
pub enum PeerRefusal {
    /// It is for a cluster that this server is not of.
    #[error("this server is of cluster {expected}, the request is for {found}")]
    WrongCluster {
        /// Ours.
        expected: String,
        /// Theirs.
        found: String,
    },
    /// It is for another server.
    #[error("this is server {expected}, the request is for {found}")]
    WrongTarget {
        /// Ours.
        expected: u64,
        /// Theirs.
        found: u64,
    },
    /// It says to be from a server that the sender's certificate does not prove.
    #[error("the request says to be from server {found}, the certificate is of {expected}")]
    WrongSender {
        /// By the certificate.
        expected: u64,
        /// By the request.
        found: u64,
    },
    /// The server with this id has another disk than the one that it joined with: it was wiped, or is a copy.
    #[error("server {id} has not the disk that it joined with; remove it, and join under a new id")]
    WrongStore {
        /// Whose.
        id: u64,
    },
    /// The sender was a member, and was removed.
    #[error("server {id} was removed; its id is not used again")]
    Retired {
        /// Who.
        id: u64,
    },
    /// The sender is not a member, as far as this server knows.
    #[error("server {id} is not a member")]
    NotMember {
        /// Who.
        id: u64,
    },
    /// The request can't be understood: another version made it, or nobody's.
    #[error("the request can't be read: {why}")]
    Unreadable {
        /// What was wrong.
        why: String,
    },
    /// The request is longer than it may be.
    #[error("the request of {bytes} bytes is longer than {max}")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// This server has stopped, and says why.
    #[error("this server has stopped: {why}")]
    Stopped {
        /// Why.
        why: String,
    },
}
