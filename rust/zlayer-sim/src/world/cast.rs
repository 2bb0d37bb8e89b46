//! Who and what there is in a world.

use zlayer_core::liveness::SessionId;
use zlayer_core::record::NodeId;

use crate::Ms;
use crate::dice::Dice;
use crate::line::Line;
use crate::scenario::Fault;
use crate::worker::{Answer, Ending, Link, Report, Worker};

/// Names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) worker: u32,
    pub(crate) link: Link,
}

/// What a worker's end sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Up {
    Dial,
    Report(Report),
    /// The connection ends.
    Fin,
}

/// What the server's end sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Down {
    Opened,
    Answer(Answer),
    End(Ending),
}

/// Something due.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Happening {
    /// A worker wants to be woken.
    Wake {
        worker: u32,
    },
    /// Something has reached the server's socket, or the worker's.
    AtServer {
        wire: Wire,
        up: Up,
    },
    AtWorker {
        wire: Wire,
        down: Down,
    },
    /// The server has finished a handshake.
    Accepted {
        wire: Wire,
    },
    /// The server's kernel gives a connection up.
    GivenUp {
        wire: Wire,
    },
    /// A connection is as old as it may get.
    Old {
        wire: Wire,
        session: SessionId,
    },
    /// The server's process ticks; numbered by its boots.
    Tick {
        boot: u64,
    },
    /// A proposal is durable.
    Durable {
        boot: u64,
    },
    /// The server goes on after a pause, or starts again.
    Resume,
    Boot,
    /// A worker's process goes on, vanishes with its host, starts, or stops for good.
    Unpause {
        worker: u32,
    },
    Vanish {
        worker: u32,
    },
    Start {
        worker: u32,
    },
    End {
        worker: u32,
    },
    /// The next fault of a kind.
    Strike(Fault),
    /// One second.
    Audit,
    /// No more faults.
    Calm,
}

/// One machine that runs a worker process.
pub(crate) struct Host {
    pub(crate) node: NodeId,
    pub(crate) process: Process,
    pub(crate) session: Worker,
    /// What its kernel knows of.
    pub(crate) lines: Vec<Line>,
    /// No packet passes until then.
    pub(crate) cut_until: Ms,
    /// When it is to be woken next.
    pub(crate) wake_at: Option<Ms>,
    /// What waits while it is stopped.
    pub(crate) inbox: Vec<(Link, Down)>,
    /// It is stopped for so long once it has sent its next report.
    pub(crate) stops_after_report: Option<Ms>,
    /// A copy of an identity, which ends for good.
    pub(crate) is_twin: bool,
    /// It will not be started again.
    pub(crate) is_over: bool,
}

/// What a worker's process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Running,
    Paused,
    Off,
}

/// Who throws which dice.
pub(crate) struct AllDice {
    pub(crate) faults: Dice,
    pub(crate) network: Dice,
    pub(crate) server: Dice,
    pub(crate) workers: Dice,
}
