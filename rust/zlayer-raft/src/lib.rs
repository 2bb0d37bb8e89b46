//! AGREES: proposes commands, makes them durable, applies them in order.
//!
//! ```text
//! propose ──> stamp, encode ──> zlayer-wal: one write, one fdatasync ──> apply to State ──> answer, watch
//!                                                    └──> every so many bytes: snapshot, purge
//! ```
//!
//! [`ControlLog`] is what the rest of the house sees. [`SingleVoter`] is the engine of one server that agrees with
//! itself, [`Replicated`] that of several, which agree by Raft; it takes over the directory of the former. Nothing
//! here opens a socket or knows Python: [`Transport`] is the way to the other servers.

mod applier;
pub mod backup;
mod codec;
mod control_log;
mod error;
mod options;
mod replicated;
mod saver;
mod single_voter;
mod state_view;
#[cfg(test)]
mod tests;

pub use control_log::{
    ControlLog, LeaderId, Leadership, LogHealth, PeerHealth, ProposeFuture, Role,
};
pub use error::{OpenError, ProposeError};
pub use options::{LogOptions, Machine};
pub use replicated::{
    Answers, ChangeFuture, Kind, Lane, Members, MembershipError, Peer, PeerRefusal, Replicated,
    ReplicatedLimits, ReplicatedOptions, Requests, Target, Timers, Transport, TransportError,
    TransportFuture, VOTER_LAG_MAX,
};
#[cfg(any(test, feature = "sim"))]
pub use replicated::{bare_log, switchboard};
pub use single_voter::SingleVoter;
pub use state_view::StateView;
pub use zlayer_wal::{WalError, WalLimits};
