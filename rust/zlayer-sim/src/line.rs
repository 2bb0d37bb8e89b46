//! One connection: two ends that may be open or not without each other's knowledge, and two ways between them.

use zlayer_core::liveness::{SessionId, SessionLease};

use crate::Ms;
use crate::worker::{Answer, Link};

/// A dial and the connection that comes of it.
pub(crate) struct Line {
    pub(crate) link: Link,
    /// The worker's end is open, or it dials.
    pub(crate) worker_open: bool,
    /// The server takes its time over the handshake.
    pub(crate) handshaking: bool,
    /// The server's end, once the handshake is done.
    pub(crate) served: Option<Served>,
    pub(crate) up: Way,
    pub(crate) down: Way,
    /// The server comes to read it then, after a sleep.
    pub(crate) read_at: Ms,
    /// The kernels have been told to notice that it is dead.
    pub(crate) dying: bool,
}

/// One direction. What is sent first arrives first.
#[derive(Default)]
pub(crate) struct Way {
    /// Nothing arrives before.
    pub(crate) free_at: Ms,
    /// Something was lost: nothing arrives any more.
    pub(crate) dead: bool,
}

/// The server's end of a connection.
pub(crate) struct Served {
    /// Its session's number, once the stream is open.
    pub(crate) session: Option<SessionId>,
    pub(crate) phase: Phase,
    /// When its next beat is to come.
    pub(crate) slot: Option<Ms>,
}

/// Where the session stands, as `zlayer-node/src/server/report.rs` has it.
pub(crate) enum Phase {
    Fresh,
    Open {
        lease: SessionLease,
        incarnation: u64,
    },
    /// It said goodbye; this is answered once that is durable.
    Leaving {
        answer: Answer,
    },
}

impl Line {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            worker_open: true,
            handshaking: false,
            served: None,
            up: Way::default(),
            down: Way::default(),
            read_at: 0,
            dying: false,
        }
    }

    /// Neither end knows of it any more.
    pub(crate) fn is_gone(&self) -> bool {
        !self.worker_open && self.served.is_none() && !self.handshaking
    }
}
