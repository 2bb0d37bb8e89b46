//! DECIDES: TTL, leases, pacing, liveness, membership.
//!
//! Everything here is a function of its arguments: time is the argument `now`, randomness is a seed, and what
//! must be done comes back as effects. No clock, no I/O, no async runtime, no Python, no `unsafe`.

pub mod command;
pub mod lease;
pub mod liveness;
pub mod pacing;
pub mod record;
pub mod state;
pub mod time;
pub mod ttl;
