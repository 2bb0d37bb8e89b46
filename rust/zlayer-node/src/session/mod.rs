//! The worker's session client: keeps one session with any of the cluster's servers, for as long as it runs.
//!
//! ```text
//!   WorkerSession (thread) ─┐
//!                           ├─ run ── Driver ── Link ── dial (TCP, TLS, HTTP/2)
//!   load swarm (many) ──────┘            │
//!                                     Protocol: what to do at which time
//! ```

mod backoff;
mod carrier;
mod control;
mod dial;
mod driver;
mod event;
mod failure;
mod identity;
mod inherited;
mod link;
mod options;
mod outbox;
mod protocol;
mod telling;
mod worker;

pub use carrier::{Carrier, CarrierTask, Requests};
pub use control::Control;
pub use dial::dial;
pub use driver::{Observer, Prepared, run};
pub use event::{SessionEvent, SessionState, Status};
pub use failure::{Failure, FailureKind};
pub use identity::{Identity, Trust};
pub use inherited::inherited_sockets;
pub use link::{Link, LinkEvent};
pub use options::{SessionOptions, Timing, parse_server};
pub use protocol::Terms;
pub use worker::WorkerSession;
pub use zlayer_wire::v1::Resources;
