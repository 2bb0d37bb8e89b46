//! Why a session is not opened.

use super::event::SessionId;
use crate::lease::LeaseError;
use crate::record::NodeId;

/// A session that is not served. The server ends it; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LivenessError {
    /// Never enrolled here, or removed.
    #[error("node {node} is not a member")]
    UnknownNode {
        /// Whom.
        node: NodeId,
    },
    /// A newer session of this node is open, or was, of another process.
    #[error("node {node} has opened a newer session ({} > {})", newest.0, session.0)]
    Superseded {
        /// Whose.
        node: NodeId,
        /// The refused one.
        session: SessionId,
        /// The newest.
        newest: SessionId,
    },
    /// This session has said `leaving`, or its connection is gone.
    #[error("session {} of node {node} has ended", session.0)]
    SessionEnded {
        /// Whose.
        node: NodeId,
        /// Which.
        session: SessionId,
    },
    /// The lease table is full.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}
