//! AGREES: proposes commands, makes them durable, applies them in order.
//!
//! ```text
//! propose ──> stamp, encode ──> zlayer-wal: one write, one fdatasync ──> apply to State ──> answer, watch
//!                                                    └──> every so many bytes: snapshot, purge
//! ```
//!
//! [`ControlLog`] is what the rest of the house sees. [`SingleVoter`] is the engine of one server that agrees with
//! itself; the replicated one comes behind the same trait. Nothing here opens a socket or knows Python.

mod applier;
mod codec;
mod control_log;
mod error;
mod options;
mod saver;
mod single_voter;
mod state_view;
#[cfg(test)]
mod tests;

pub use control_log::{ControlLog, LogHealth, ProposeFuture};
pub use error::{OpenError, ProposeError};
pub use options::{LogOptions, Machine};
pub use single_voter::SingleVoter;
pub use state_view::StateView;
pub use zlayer_wal::{WalError, WalLimits};
