//! One node as the engine sees it: what is recorded of it, what is true of it, and what is under way.

use std::sync::Arc;

use super::beat::BeatMarks;
use super::event::SessionId;
use crate::lease::LeaseHandle;
use crate::record::{Liveness, Reason};

/// What this server knows of a node by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Has an identity, and no session or lease in this server's time.
    Unseen,
    /// Loaded with a lease; it may still come back unnoticed.
    Awaited,
    /// Has a session and a lease.
    Connected,
    /// Its connection is gone; its lease runs.
    Lost,
    /// It did not come back within the reconnect window; its lease runs.
    Missed,
    /// Its lease ended. Its session may still be open.
    Expired,
    /// It said that it stops.
    Left,
}

/// The node's lease, by the ledger that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    /// Renewed by beats, or granted at load: counts for the brake.
    Live(LeaseHandle),
    /// Of a lost connection: nobody can renew it.
    Lost(LeaseHandle),
}

/// What is under way for the node's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flight {
    Idle,
    /// Proposed, with this incarnation (0: keeps the recorded one).
    Proposed(Liveness, u64),
    /// The record is read again.
    Refreshing,
}

/// About 100 bytes, plus 40 for the marks of a session.
#[derive(Debug)]
pub(super) struct Member {
    /// As recorded.
    pub(super) recorded: Liveness,
    /// As recorded.
    pub(super) epoch: u64,
    /// As recorded.
    pub(super) incarnation_recorded: u64,
    /// Of the newest session, or as recorded.
    pub(super) incarnation: u64,
    /// The newest session, default for none.
    pub(super) session: SessionId,
    /// The newest session's connection is gone.
    pub(super) session_ended: bool,
    /// The session goes on from an earlier leader's time, and its worker has heard nothing of this engine.
    pub(super) is_announced: bool,
    pub(super) presence: Presence,
    pub(super) held: Held,
    pub(super) flight: Flight,
    /// Of the newest session.
    pub(super) marks: Option<Arc<BeatMarks>>,
}

impl Member {
    pub(super) fn new(recorded: Liveness, epoch: u64, incarnation: u64) -> Self {
        let presence = match recorded {
            Liveness::Ready | Liveness::Suspect | Liveness::Unreachable => Presence::Unseen,
            Liveness::Left => Presence::Left,
        };
        Self {
            recorded,
            epoch,
            incarnation_recorded: incarnation,
            incarnation,
            session: SessionId::default(),
            session_ended: true,
            is_announced: false,
            presence,
            held: Held::Nothing,
            flight: Flight::Idle,
            marks: None,
        }
    }

    /// What should be recorded, and why; `None`: whatever is.
    fn wanted(&self) -> Option<(Liveness, Reason)> {
        match self.presence {
            Presence::Unseen | Presence::Awaited => None,
            Presence::Connected => Some((Liveness::Ready, Reason::SessionOpened)),
            Presence::Lost => Some((Liveness::Suspect, Reason::ConnectionLost)),
            Presence::Missed => Some((Liveness::Suspect, Reason::NotReconnected)),
            Presence::Expired => Some((Liveness::Unreachable, Reason::LeaseExpired)),
            Presence::Left => Some((Liveness::Left, Reason::Leaving)),
        }
    }

    /// The change that is due, if nothing is under way. A new process of a Ready node is one, too.
    pub(super) fn change_due(&self) -> Option<(Liveness, Reason)> {
        let (to, reason) = self.wanted()?;
        let new_process = to == Liveness::Ready && self.incarnation != self.incarnation_recorded;
        (self.flight == Flight::Idle && (to != self.recorded || new_process))
            .then_some((to, reason))
    }

    /// Whether an older session of this process may go on. Its newest one is gone: the worker gave that one up
    /// before it heard of it, and still speaks by the older.
    pub(super) fn may_return_to(&self, incarnation: u64) -> bool {
        let same_process = self.incarnation == incarnation;
        self.session_ended && same_process && self.presence != Presence::Left
    }

    /// Loaded with a lease, and not seen since.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.presence, Presence::Awaited | Presence::Missed)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.presence == Presence::Connected
    }
}
