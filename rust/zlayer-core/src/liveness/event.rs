//! What the engine is told, and what it asks for. Plain data, so that a trace of a real server replays in a
//! test.

use serde::{Deserialize, Serialize};

use crate::command::Transition;
use crate::record::{Liveness, NodeId};
use crate::time::MonoMs;

/// A worker's session as the server numbers it: unique in one process of the server, growing in the order in
/// which sessions are opened. 0 stands for none.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// What happened. A session that opens is no event but the call [`super::Liveness::open`], which has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A record of the control state, told at start or when leadership begins, before the first `Tick`.
    /// A node that was Ready or Suspect gets a lease with the failover window.
    Loaded {
        /// Whom.
        node: NodeId,
        /// As recorded.
        liveness: Liveness,
        /// As recorded.
        epoch: u64,
        /// As recorded.
        incarnation: u64,
        /// As recorded.
        ttl_ms: u64,
    },
    /// A token was redeemed. The node holds no lease until its first session opens; a known node is left
    /// as it is.
    Enrolled {
        /// Whom.
        node: NodeId,
        /// As recorded.
        liveness: Liveness,
        /// As recorded.
        epoch: u64,
    },
    /// A session's connection is gone. Of an older session than the present one: nothing.
    Disconnected {
        /// Whose.
        node: NodeId,
        /// Which.
        session: SessionId,
    },
    /// The worker said that it stops. Of an older session than the present one: nothing.
    Leaving {
        /// Who.
        node: NodeId,
        /// By which session.
        session: SessionId,
    },
    /// The node's record is gone for good.
    Removed {
        /// Whom.
        node: NodeId,
    },
    /// Answers the node's [`Effect::Propose`].
    Committed {
        /// Whom.
        node: NodeId,
        /// The new epoch. `None`: the condition did not hold, or nobody knows whether it was committed.
        epoch: Option<u64>,
    },
    /// Answers [`Effect::Refresh`] with the record as it is now; `Removed` does where it is gone.
    Refreshed {
        /// Whom.
        node: NodeId,
        /// As recorded.
        liveness: Liveness,
        /// As recorded.
        epoch: u64,
        /// As recorded.
        incarnation: u64,
    },
    /// Time passes; due at every [`super::Liveness::next_wakeup`].
    Tick,
}

/// What must be done. The caller drains them after each call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Commit this; answer with `Committed`. At most one a node is in flight.
    Propose(Transition),
    /// Read the node's record; answer with `Refreshed` or `Removed`.
    Refresh {
        /// Whose.
        node: NodeId,
    },
    /// End a session; its `Disconnected` may follow and changes nothing.
    CloseSession {
        /// Whose.
        node: NodeId,
        /// Which.
        session: SessionId,
        /// Why.
        why: CloseReason,
    },
    /// Two living processes hold one identity. The newer session is served; say it loudly.
    DuplicateSession {
        /// Whose identity.
        node: NodeId,
        /// Closed.
        old: SessionId,
        /// Served.
        new: SessionId,
    },
    /// The mass-expiry brake holds. Raised once a hold.
    Alarm(ExpiryHeld),
}

/// Why the server ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The node was removed.
    Removed,
    /// Another process with the same identity opened a session.
    Duplicate,
}

/// More leases came due without a beat than can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryHeld {
    /// Leases that came due within the brake's window, at least.
    pub due: u64,
    /// Leases held in all.
    pub leases: u64,
    /// When the brake opens by itself.
    pub until: MonoMs,
}
