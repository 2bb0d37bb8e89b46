//! PRETENDS: seeded worlds that drive the core and check its promises.
//!
//! ```text
//!   seed ──> scenario, faults ───┐
//!                                ▼
//!   workers <──> network <──> server: Liveness, BeatPath <──> journal: State
//!                                │
//!                              facts ──> trace: a rolling hash, and the last of them
//!                                └─────> invariants ──> seed, time, promise, last facts, command
//! ```
//!
//! One thread, one calendar, whole milliseconds, no clock: equal [`Settings`] make equal traces. The engine and the
//! control state are the core's own. The server around them, the worker's session and the kernels' habits are models
//! of `zlayer-node` in small; every process of the server has another monotonic clock. Not modelled: TLS and HTTP/2
//! beyond what a handshake costs, limits on rates, clocks that run at different speeds, and the disk, which
//! `zlayer-wal` tests by itself. More servers than one come with the replicated log.
//!
//! # What is promised, and how it is judged
//!
//! The invariants see facts, never the engine. One file each, in `invariants/`:
//!
//! * **Not early.** A lease lasts TTL + grace from the receipt of any beat that was answered, in time in which the
//!   server was awake; 250 ms more, for the second look; and 300 ms after any sleep.
//! * **Not late.** A silent node is recorded Unreachable 1 s after the end of its lease. To that is added: for a sleep
//!   of the server of `d` (a gap between ticks above 600 ms) `d` + 1 s, and after a sleep longer than the grace the
//!   lease lasts until 30 s after it at least; a shorter stop or a late tick by its length; the time in which commits
//!   are slow or turned away, and 0.4 s; and, for a connection that stands, the minute for which the brake holds. After
//!   a failover the lease is the failover window and its spread.
//! * **Not falsely.** When a lease ends, a process of its node that runs has had a reason to be silent since its last
//!   answer: it was cut off, stopped, refused for the sake of another or new, the server was killed, or two of its
//!   messages were lost, late by more than 100 ms, met a reset, or a server with too many handshakes. One such message
//!   is never enough, nor are stops and suspensions of the server (of up to a minute); and no reason is enough once it
//!   is 75 s past, or 135 s if that was a refusal.
//! * **Suspect at once.** When the server sees the end of the newest session's connection, it proposes Suspect in the
//!   same call, or with the next tick after what is under way for the node; and for no other reason.
//! * **Recorded.** Within 1 s (and the additions above) the control state says what is true.
//! * **Paced.** In any second no more beats are planned than the cap, and no more of those arrive that come within
//!   20 ms of their slot than the cap and 5 %; in a steady world these are all. Beats that faults delayed come on top:
//!   after a sleep all those that waited in the sockets, at once. First reports are not beats: when all connections
//!   are reset and the server is well, they come at 1.5 times `reconnects_per_second` at most (a worker does not wait
//!   beyond its next beat, so the first seconds are denser); after the server was down, the workers' own back-off
//!   spreads them, and only what they come to is told.
//! * **Held.** Of leases whose connection stands, no more than `max(10, 30 % of those whose turn it was)` end in 5 s
//!   before the brake holds; it holds for a minute at most, and for ten or fewer never.
//! * And: a new server waits for those that it loads; one session counts; the log, read again, gives the same state;
//!   the core's own checks hold; once the faults end, everything comes right.
//!
//! Where a world has more workers than the cap allows within the longest TTL, the plan exceeds the cap; no world here
//! has.
//!
//! # How to use it
//!
//! ```console
//! $ cargo run --release -p zlayer-sim -- --seed 1 --workers 10000 --hours 24
//! $ cargo run --release -p zlayer-sim -- --seeds 1..500 --scenario churn
//! $ cargo run --release -p zlayer-sim --features planted-bugs -- --bug NoShift --scenario pauses
//! ```
//!
//! A failure prints the command that shows it again; `--facts 2000` shows more of what led to it. [`Flaw`] lists the
//! mistakes that can be put in; `tests/planted.rs` shows that each is seen. The core's own are compiled in with the
//! feature `planted-bugs`, which only this crate's tests turn on.

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
