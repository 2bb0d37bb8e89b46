//! ACTS: sockets, TLS, sessions, clock; the worker session client.
//!
//! ```text
//! accept ─ sni ─┬─ join.<cluster>   → splice → unix socket of the Enrollment service
//!               └─ server.<cluster> → tls, peer → server/ (ReportStatus, WatchAssignments)
//! peers/ ─ the other servers: consensus, and the sessions that followers serve for the leader
//! ```
//!
//! What is decided (who is alive, who may enrol) is decided in `zlayer-core`; this crate carries it out.

pub mod clock;
pub mod error;
pub mod memory;
pub mod options;
pub mod refusal;
pub mod server;
pub mod session;
pub mod wake;

mod accept;
mod limits;
mod peer;
mod peers;
mod sni;
mod splice;
mod tls;

pub use error::NodeError;
pub use options::{MemberOptions, RaftOptions, ServerLimits, ServerOptions};
pub use server::{Answered, Asked, AskedError, Completion, NodesQuery, ServerNode, Wanted};
pub use zlayer_raft::{ControlLog, MembershipError, ProposeError, backup};
