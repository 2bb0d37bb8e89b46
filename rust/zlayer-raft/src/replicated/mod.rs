//! The engine of several servers, which agree by Raft. The one room that names openraft.
//!
//! ```text
//! propose ──> stamp, encode ──> openraft ──> LogStore ──> zlayer-wal: one write, one fdatasync ─┐
//!                                   ├──> Network ──> Transport ──> Door of the other servers    │
//!                                   │                                                           v
//!     answer <── Machine: apply <── committed <── a quorum has it <─────────────────────────────┘
//!                    └── every so many bytes: a copy ──> snapshot's thread ──> Shelf ──> purge
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `types` `peer` `form` | what openraft is told to work with, and its bytes |
//! | `record` `book` `store` | the log: records, what they say, openraft's side of it |
//! | `image` `shelf` `machine` | the state machine and its snapshots |
//! | `wire` `refusal` `link` `network` | what is said to the others |
//! | `door` `arrival` | what the others say |
//! | `replica` `engine` `propose` `reading` `look` | what is asked of it |
//! | `keeper` `change` | who leads, snapshots, members |
//! | `load` | what the disk holds at the start, also that of a single voter |
//! | `switchboard` `bare_log` `planted` | for tests |

mod arrival;
#[cfg(any(test, feature = "sim"))]
pub mod bare_log;
mod book;
mod change;
mod door;
mod engine;
mod form;
mod image;
mod keeper;
mod link;
mod load;
mod look;
mod machine;
mod membership_error;
mod network;
mod options;
mod peer;
mod pending;
mod planted;
mod propose;
mod reading;
mod record;
mod refusal;
mod replica;
mod roster;
mod saving;
mod shelf;
mod store;
#[cfg(any(test, feature = "sim"))]
pub mod switchboard;
#[cfg(test)]
mod tests;
mod transport;
mod types;
mod wire;

pub use change::VOTER_LAG_MAX;
pub use membership_error::MembershipError;
pub use options::{ReplicatedLimits, ReplicatedOptions, Timers};
pub use peer::Peer;
pub use refusal::PeerRefusal;
pub use replica::{ChangeFuture, Replicated};
pub use roster::Members;
pub use transport::{
    Answers, Kind, Lane, Requests, Target, Transport, TransportError, TransportFuture,
};
