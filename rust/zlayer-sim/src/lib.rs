//! PRETENDS: seeded worlds that drive the core and check its invariants.
//!
//! ```text
//!   seed ──> scenario, faults ──┐
//!                               ▼
//!   worker, worker, … <──> network <──> server: Liveness, BeatPath ──> journal: State
//!                               │
//!                             facts ──> trace (hash)
//!                               └─────> invariants ──> violation: seed, time, promise, last facts, command
//! ```
mod agenda;
mod dice;
mod fact;
mod flaw;
mod invariants;
mod journal;
mod line;
mod scenario;
mod server;
mod settings;
mod times;
mod trace;
mod verdict;
mod worker;
mod world;

pub use flaw::Flaw;
pub use scenario::{Fault, SCENARIOS, Scenario};
pub use settings::Settings;
pub use verdict::{Failure, Summary, Violation};
pub use world::World;

/// A world's time: milliseconds since it began.
pub type Ms = u64;
