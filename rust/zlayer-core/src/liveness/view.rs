//! What the engine shows of itself: for the status page, the node list and the metrics.

use serde::{Deserialize, Serialize};

use super::event::SessionId;
use crate::time::MonoMs;

/// Sums over all nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Members, whatever their state.
    pub nodes: u64,
    /// Nodes that hold a lease: the `n` of the TTL.
    pub leases: u64,
    /// Nodes with a session.
    pub connected: u64,
    /// Transitions that wait for their commit.
    pub in_flight: u64,
    /// TTL handed out now, milliseconds.
    pub ttl_ms: u64,
    /// The mass-expiry brake holds.
    pub expiry_held: bool,
}

/// Counters since the engine was made; they only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivenessStats {
    /// Sessions that were opened.
    pub sessions_opened: u64,
    /// Of these, those that replaced a living session of the same process.
    pub sessions_replaced: u64,
    /// Of these, those that replaced a living session of another process.
    pub sessions_duplicate: u64,
    /// Connections lost without `leaving`.
    pub suspects: u64,
    /// Loaded nodes that did not come back in time.
    pub not_reconnected: u64,
    /// Leases that ended without a beat.
    pub expiries: u64,
    /// Nodes that said `leaving`.
    pub leaves: u64,
    /// Gaps between ticks that shifted the deadlines.
    pub shifts: u64,
    /// Sum of those gaps, milliseconds.
    pub shift_ms_total: u64,
    /// Latest tick against its plan, milliseconds.
    pub tick_lag_ms_max: u64,
    /// Times that the mass-expiry brake held.
    pub brake_holds: u64,
    /// Proposals whose condition did not hold.
    pub refreshes: u64,
}

/// One node, as far as this server knows it by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// End of its lease; `None`: holds none.
    pub deadline: Option<MonoMs>,
    /// When its next beat is due; `None` without a session.
    pub next_beat: Option<MonoMs>,
    /// Receipt of the newest beat of its newest session.
    pub last_beat: Option<MonoMs>,
    /// TTL that it was handed last, milliseconds; 0: none yet.
    pub ttl_ms: u64,
    /// Its newest session, which may have ended.
    pub session: Option<SessionId>,
    /// Whether that session is open.
    pub connected: bool,
}
