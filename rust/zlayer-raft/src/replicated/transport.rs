//! How servers reach each other: opaque bytes, a deadline on each call. Whoever implements it knows sockets, TLS and
//! certificates; what is in the bytes is not its business.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use thiserror::Error;

/// What a call is about. Says on which connection it belongs, and how long its bytes may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A few entries or none: a heartbeat.
    Append,
    /// A request to be voted for.
    Vote,
    /// The question whether one would be voted for.
    PreVote,
    /// A piece of a snapshot.
    Snapshot,
    /// A leader that hands over.
    TransferLeader,
    /// The question how far the log must be applied before a read is current.
    ReadIndex,
    /// The question who is there.
    Hello,
}

/// Connections that must not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Heartbeats, votes, and all else that is short and must be quick.
    Urgent,
    /// The stream of entries.
    Bulk,
    /// Snapshots.
    Snapshot,
}

impl Kind {
    /// All kinds, in the order of their numbers on the wire, from 1.
    pub(crate) const ALL: [Self; 7] = [
        Self::Append,
        Self::Vote,
        Self::PreVote,
        Self::Snapshot,
        Self::TransferLeader,
        Self::ReadIndex,
        Self::Hello,
    ];

    /// The connection for a call of this kind. The stream of entries goes by [`Lane::Bulk`].
    pub const fn lane(self) -> Lane {
        match self {
            Self::Snapshot => Lane::Snapshot,
            _ => Lane::Urgent,
        }
    }

    pub(crate) fn number(self) -> u8 {
        Self::ALL.iter().position(|kind| *kind == self).map_or(0, |at| at as u8 + 1)
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number.checked_sub(1)?)).copied()
    }
}

/// Whom to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its node id; who answers must prove to be that.
    pub id: u64,
    /// `host:port`.
    pub addr: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} at {}", self.id, self.addr)
    }
}

/// Why there is no answer. Whether the other server has seen the request is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransportError {
    /// There is no connection, and none could be made. Tried again later.
    #[error("{0}")]
    Unreachable(String),
    /// The deadline went by.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke. Tried again at once.
    #[error("{0}")]
    Broken(String),
}

/// An answer to come.
pub type TransportFuture = Pin<Box<dyn Future<Output = Result<Bytes, TransportError>> + Send>>;

/// Requests of a stream, in order.
pub type Requests = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Answers of a stream, one a request, in the order of the requests. Ends after the last one or an error.
pub type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// The way to the other servers.
///
/// Called on the runtime of [`crate::Replicated`]; may spawn and sleep there. Must not block. What arrives is given
/// to [`crate::Replicated::handle`] and [`crate::Replicated::handle_appends`] of the server that it was for,
/// together with the node id that the sender's certificate proves.
pub trait Transport: Send + Sync + 'static {
    /// Asks once. The future ends within `deadline`, with [`TransportError::TimedOut`] if need be.
    fn call(
        &self,
        target: &Target,
        kind: Kind,
        request: Bytes,
        deadline: Duration,
    ) -> TransportFuture;

    /// Opens a stream of entries: several requests may be on their way before the first answer. Dropping the answers
    /// ends it. A request that may be lost ends it with an error: nothing is skipped.
    fn appends(&self, target: &Target, requests: Requests) -> Answers;
}
