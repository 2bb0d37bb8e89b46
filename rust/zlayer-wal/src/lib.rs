//! REMEMBERS: the durable log, behind a file-system trait. Knows no consensus and no command: bytes in, bytes out.
//!
//! ```text
//! LOG DIRECTORY   LOCK                       one process at a time
//!                 0000000003-…00041.wal      segments: a head, then batches chained by their checksums
//!                 snap-…00030.snap           the two newest snapshots
//!
//! append ──> queue ──> writer thread: take all, one write, one fdatasync ──> callbacks, in order
//! ```
//!
//! Promises, each held by a test at every operation of a simulated disk: what was acknowledged is there after
//! a crash; what is there was submitted, whole and in order; the first failed write or sync ends the log for good
//! ([`WalError`]), and nothing is acknowledged after it; a tail that a crash tore is cut, while damage before
//! data that was synced later refuses to open, by file and offset. Not seen: damage to the very last batch, which
//! looks like a torn tail.

mod batch;
mod directory;
mod error;
mod fs;
mod group_commit;
mod head;
mod latency;
mod queue;
mod recover;
mod segment;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;
mod wal;
mod writer;

pub use directory::{LogDir, Owner};
pub use error::{AppendError, WalError};
#[cfg(any(test, feature = "sim"))]
pub use fs::sim;
pub use fs::{File, Fs, Lock, LockError, RealFs};
pub use latency::Latency;
pub use recover::Replay;
pub use snapshot::{Saved, Snapshot, Snapshots};
pub use stats::WalStats;
pub use wal::{Wal, WalLimits};
