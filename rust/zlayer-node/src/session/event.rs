//! What a session tells its owner: events that wait to be drained, and a status that can be looked at.

use serde::Serialize;

use zlayer_core::time::MonoMs;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SessionEvent {
    /// The session stands: the server answers.
    Connected {
        /// `host:port`.
        server: String,
    },
    /// The server does not answer any more, or the connection is lost. Dialling goes on.
    Disconnected {
        /// For people.
        why: String,
    },
    /// The cluster refuses this worker: removed, superseded, not who it says. Only a slow retry goes on.
    Refused {
        /// For people.
        why: String,
        /// The node is gone from the cluster: only a new enrolment helps.
        removed: bool,
    },
    /// The desired state has changed.
    Assignments {
        /// Revision that the event brings this worker to.
        revision: u64,
    },
}

/// What the session is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Dials, or waits before the next dial.
    #[default]
    Connecting,
    /// The newest beat was answered, or its answer is not overdue.
    Connected,
    /// Says goodbye.
    Leaving,
    /// Refused by the cluster; retried slowly.
    Refused,
    /// Removed from the cluster; retried slowly.
    Removed,
    /// Ended.
    Stopped,
}

/// A look at a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: SessionState,
    /// Index of the server of the current connection.
    pub server: Option<usize>,
    /// Of the last answer, milliseconds.
    pub ttl_ms: u64,
    /// Of the last answer: nothing new is placed on this worker.
    pub draining: bool,
    /// When the next beat is planned.
    pub next_beat: Option<MonoMs>,
    /// Until when the server keeps the lease at least, as seen from here.
    pub lease_until: Option<MonoMs>,
    /// Reports sent.
    pub beats: u64,
    /// Answers received.
    pub acks: u64,
    /// Sessions after the first.
    pub reconnects: u64,
    /// Reports that were not answered in time.
    pub unanswered: u64,
    /// Reports that were sent after the lease could have ended.
    pub lapses: u64,
    /// The goodbye was answered.
    pub left: bool,
    /// Revision of the last assignments.
    pub revision: u64,
    /// Why the last dial or session failed.
    pub last_error: Option<String>,
}
