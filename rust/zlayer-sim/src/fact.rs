//! What happened in a world: all that the trace keeps and the invariants are told. They see nothing else, so no
//! invariant can believe the engine.

use zlayer_core::liveness::Ack;
use zlayer_core::record::{Liveness, NodeId, Reason};

use crate::Ms;
use crate::scenario::Fault;

/// How hard a fault hits one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// One message was lost or late, one connection reset, or one dial turned away by a server with too many: it must
    /// never cost a lease.
    Light,
    /// It could not speak, or does not want to: stopped, leaving, just started.
    Heavy,
    /// It was told not to, for the sake of another process or of an operator. It waits for long.
    Refused,
}

/// One thing that happened. Times are the world's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fact {
    /// A fault was put in.
    Fault(Fault),
    /// The server's process starts.
    Booted,
    /// It read this record.
    Loaded { node: NodeId, liveness: Liveness, ttl_ms: u64 },
    /// It is gone, with all that it held in memory.
    Died,
    /// It is stopped.
    Stopped,
    /// It was stopped for so long, and goes on now.
    Slept { ms: u64 },
    /// Its next tick will come so much later than planned, for no other reason than load.
    TickLate { ms: u64 },
    /// It ticked, and decided so much.
    Ticked { decisions: u64 },
    /// Until then, commits take long or are turned away.
    Busy { until: Ms },
    /// A node became a member.
    Enrolled { node: NodeId },
    /// It is none any more.
    Removed { node: NodeId },
    /// A session was opened, or opened anew after its lease had ended. `ack` was sent.
    Opened { node: NodeId, session: u64, ack: Ack },
    /// A beat renewed a lease. `slot`: when it was to come. `ack` was sent.
    Beat { node: NodeId, session: u64, slot: Option<Ms>, ack: Ack },
    /// The server saw the end of a session's connection.
    Closed { node: NodeId, session: u64 },
    /// The server was told by this session that the worker stops.
    Leaving { node: NodeId, session: u64 },
    /// A worker got an answer; `promise`: end of the lease that it speaks of, in the time that the server was
    /// awake.
    Told { node: NodeId, promise: u64 },
    /// The engine wants this recorded.
    Proposed { node: NodeId, to: Liveness, reason: Reason },
    /// It was told what became of that.
    Answered { node: NodeId, committed: bool },
    /// The control state says so now.
    Recorded { node: NodeId, liveness: Liveness },
    /// The engine holds expiry.
    Alarm { due: u64, until: Ms },
    /// A process of this node runs from now on, or not any more.
    Process { node: NodeId, running: bool },
    /// A fault hit this node's worker.
    Struck { node: NodeId, blow: Blow },
    /// No packet of its host passes, or may still be on its way, until then.
    Cut { node: NodeId, until: Ms },
    /// A second has passed.
    Audit,
    /// From now on there are no faults.
    Calm,
    /// The world ends.
    Ended,
}

impl Fact {
    /// Whom it is about.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match *self {
            Self::Loaded { node, .. }
            | Self::Enrolled { node }
            | Self::Removed { node }
            | Self::Opened { node, .. }
            | Self::Beat { node, .. }
            | Self::Closed { node, .. }
            | Self::Leaving { node, .. }
            | Self::Told { node, .. }
            | Self::Proposed { node, .. }
            | Self::Answered { node, .. }
            | Self::Recorded { node, .. }
            | Self::Process { node, .. }
            | Self::Struck { node, .. }
            | Self::Cut { node, .. } => Some(node),
            Self::Fault(_)
            | Self::Booted
            | Self::Died
            | Self::Stopped
            | Self::Slept { .. }
            | Self::TickLate { .. }
            | Self::Ticked { .. }
            | Self::Busy { .. }
            | Self::Alarm { .. }
            | Self::Audit
            | Self::Calm
            | Self::Ended => None,
        }
    }

    /// What the trace's hash takes in: its kind and its numbers.
    pub(crate) fn words(&self) -> [u64; 4] {
        match *self {
            Self::Fault(fault) => [1, fault as u64, 0, 0],
            Self::Booted => [2, 0, 0, 0],
            Self::Loaded { node, liveness, ttl_ms } => [3, node, liveness as u64, ttl_ms],
            Self::Died => [4, 0, 0, 0],
            Self::Slept { ms } => [5, ms, 0, 0],
            Self::TickLate { ms } => [6, ms, 0, 0],
            Self::Ticked { decisions } => [7, decisions, 0, 0],
            Self::Busy { until } => [8, until, 0, 0],
            Self::Enrolled { node } => [9, node, 0, 0],
            Self::Removed { node } => [10, node, 0, 0],
            Self::Opened { node, session, ack } => {
                [11, node, session, ack.ttl_ms << 32 | ack.next_beat_in_ms]
            }
            Self::Beat { node, session, ack, .. } => {
                [12, node, session, ack.ttl_ms << 32 | ack.next_beat_in_ms]
            }
            Self::Closed { node, session } => [13, node, session, 0],
            Self::Leaving { node, session } => [14, node, session, 0],
            Self::Told { node, promise } => [15, node, promise, 0],
            Self::Proposed { node, to, reason } => [16, node, to as u64, reason as u64],
            Self::Answered { node, committed } => [17, node, u64::from(committed), 0],
            Self::Recorded { node, liveness } => [18, node, liveness as u64, 0],
            Self::Alarm { due, until } => [19, due, until, 0],
            Self::Process { node, running } => [20, node, u64::from(running), 0],
            Self::Struck { node, blow } => [21, node, blow as u64, 0],
            Self::Audit => [22, 0, 0, 0],
            Self::Calm => [23, 0, 0, 0],
            Self::Ended => [24, 0, 0, 0],
            Self::Stopped => [25, 0, 0, 0],
            Self::Cut { node, until } => [26, node, until, 0],
        }
    }
}
