//! The trait that every engine implements.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use zlayer_core::command::{Command, Outcome};

use crate::error::ProposeError;
use crate::replicated::Peer;
use crate::state_view::StateView;

/// What a proposal resolves to. Dropping it does not withdraw the command.
pub type ProposeFuture<T> = Pin<Box<dyn Future<Output = Result<T, ProposeError>> + Send>>;

/// Names one time in office: a term has at most one leader at a time, and may have several one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderId {
    /// Grows with every election.
    pub term: u64,
    /// Who leads.
    pub node: u64,
}

/// Who leads, as this server knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Newest term that this server has heard of.
    pub term: u64,
    /// Who leads; `None` while nobody is known to.
    pub leader: Option<u64>,
    /// Set while this server leads and a quorum has confirmed it lately: decisions may be prepared then. One that
    /// matters is confirmed first ([`ControlLog::confirm_leader`]) and proposed for this time in office alone
    /// ([`ControlLog::propose_if_leader`]).
    pub own: Option<LeaderId>,
}

/// The control log as the rest of the house sees it.
pub trait ControlLog: Send + Sync + 'static {
    /// Proposes a command; the future resolves once it is durable and applied, with what applying answered.
    /// The command is on its way when this returns, polled or not. Never blocks; from any thread, with or
    /// without a runtime.
    ///
    /// On [`ProposeError::Overloaded`], [`ProposeError::NotLeader`] and [`ProposeError::NoLeader`] nothing was done.
    /// After [`ProposeError::Unknown`] and [`ProposeError::Stopped`] it is unknown whether the command will be there.
    fn propose(&self, command: Command) -> ProposeFuture<Outcome>;

    /// As [`ControlLog::propose`], if this server still leads as `leader` when the command enters the log. For
    /// whatever was decided by a leader alone, such as that a lease has ended.
    fn propose_if_leader(&self, leader: LeaderId, command: Command) -> ProposeFuture<Outcome>;

    /// Read access to what was applied. Another server may be further.
    fn state(&self) -> Arc<StateView>;

    /// Revision of the newest event. Changes after the event can be read.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Who leads. Changes soon after it does.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Resolves once it is sure that this server leads now, and that its state holds all that was
    /// acknowledged before the call.
    fn confirm_leader(&self) -> ProposeFuture<()>;

    /// Resolves once the state holds all that was acknowledged, by any server, before the call: a read is
    /// linearizable then. Asks the leader where that is another server.
    fn read_barrier(&self) -> ProposeFuture<()>;

    /// A look at the engine.
    fn health(&self) -> LogHealth;

    /// Finishes what was proposed, then stops. Blocks for as long as that takes; again is no error.
    fn shutdown(&self);
}

/// What a server does in its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// It gets the log and does not vote; also before it is a member of anything.
    #[default]
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks to be elected.
    Candidate,
    /// It leads.
    Leader,
    /// It has stopped.
    Stopped,
}

impl Role {
    /// Name for people and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        }
    }
}

/// Another server, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHealth {
    /// Its node id.
    pub id: u64,
    /// Where it is.
    pub peer: Peer,
    /// Whether it votes.
    pub is_voter: bool,
    /// Newest entry that it is known to have; 0 while none is.
    pub matched: u64,
    /// Entries that it lacks.
    pub lag: u64,
    /// Time since it answered last, milliseconds; `None` where it has not, or this server does not lead.
    pub silent_ms: Option<u64>,
    /// Why it does not listen to this server, or this one to it; `None` where all is well.
    pub refused: Option<String>,
}

/// A look at an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogHealth {
    /// Why it stopped for good; `None` while it runs.
    pub stopped: Option<String>,
    /// What this server does.
    pub role: Role,
    /// Newest term: grows with every election, and with every opening of a single voter.
    pub term: u64,
    /// Who leads, as far as is known.
    pub leader: Option<u64>,
    /// A member has said that this server was removed.
    pub is_retired: bool,
    /// Position of the newest applied entry.
    pub last_index: u64,
    /// Position of the newest entry in the log.
    pub log_index: u64,
    /// Position of the newest entry that is known to be committed.
    pub commit_index: u64,
    /// Changes of the leader, or of the term, seen since opening.
    pub elections: u64,
    /// The other servers. Positions are known to the leader alone.
    pub peers: Vec<PeerHealth>,
    /// Entries made durable since opening.
    pub appended: u64,
    /// Entries kept in memory, to be sent to servers that lack them.
    pub entries_kept: u64,
    /// Bytes of log on disk, without snapshots.
    pub log_bytes: u64,
    /// Synchronisations of the log with the disk since opening.
    pub fsync_count: u64,
    /// Median time of one, microseconds.
    pub fsync_p50_us: u64,
    /// 99th percentile of that, microseconds.
    pub fsync_p99_us: u64,
    /// Median time from a proposal to its answer, microseconds; of those proposed here.
    pub commit_p50_us: u64,
    /// 99th percentile of that, microseconds.
    pub commit_p99_us: u64,
    /// Proposals that wait for their answer.
    pub proposals_waiting: u64,
    /// Records that wait for the disk.
    pub records_waiting: u64,
    /// Snapshots made since opening.
    pub snapshots: u64,
    /// Snapshots that could not be made. The log is kept then, and the next one tried later.
    pub snapshots_failed: u64,
}
