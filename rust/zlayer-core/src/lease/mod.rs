//! Who holds a lease, until when, and whose has ended. Decides nothing about workers.
//!
//! ```text
//!   renew ──CAS──> LeaseSlots  one word a slot: generation:24 | deadline:40   lock-free, shared
//!                      ▲ read when a wheel slot fires
//!   grant, expire ─> LeaseTable ─> Wheel   where each slot is looked at next   one owner
//! ```
//!
//! A renewal writes one word and never touches the wheel. When a wheel slot fires, leases whose
//! deadline has moved are put back (at most once in a window), the rest are due. A deadline never
//! moves backwards within one lease, so the wheel can look too early but never too late.
//!
//! Source: hashed and hierarchical timing wheels, Varghese and Lauck 1987, scheme 7.

mod slots;
mod stats;
mod table;
mod wheel;

pub use slots::LeaseSlots;
pub use stats::LeaseStats;
pub use table::LeaseTable;

use thiserror::Error;

use crate::time::MonoMs;

/// Most leases that one table can hold, whatever capacity it is asked for: 2^30.
///
/// Chosen: the links of the wheel keep two bits of a slot number for themselves.
pub const LEASES_MAX: u32 = 1 << 30;

/// Names one lease: the slot it lives in and which of the slot's leases it is.
///
/// A slot's generation has 24 bits and skips 0. After 16,777,215 leases in one slot it starts over,
/// and a handle of exactly that age would be taken for the present one. Vacated slots wait in a
/// queue, so that reuse is spread over all of them. A handle made from 0 is never valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseHandle {
    slot: u32,
    generation: u32,
}

impl LeaseHandle {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// The slot: dense, from 0, below the table's capacity; reused after the lease ends.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which of the slot's leases this is.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// `generation << 32 | slot`: how a handle crosses to other languages.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// The inverse of [`Self::as_u64`]; any number is taken, and one that names no lease is stale.
    #[must_use]
    pub const fn from_u64(handle: u64) -> Self {
        Self { slot: handle as u32, generation: (handle >> 32) as u32 }
    }
}

/// Why a lease call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LeaseError {
    /// Every slot holds a lease.
    #[error("the lease table is full: all {capacity} leases are taken")]
    Full {
        /// Leases that the table can hold.
        capacity: u32,
    },
    /// The lease expired, was revoked, or never was.
    #[error("lease {}/{} is no longer held", .0.slot, .0.generation)]
    Stale(LeaseHandle),
}

/// A lease that ended because its deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The lease; stale from now on.
    pub handle: LeaseHandle,
    /// When it was due.
    pub deadline: MonoMs,
    /// How much later than that it was expired, in milliseconds.
    pub overdue_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_cross_as_one_number() {
        let handle = LeaseHandle::new(7, 3);
        assert_eq!(handle.as_u64(), 3 << 32 | 7);
        assert_eq!(LeaseHandle::from_u64(handle.as_u64()), handle);
        assert_eq!((handle.slot(), handle.generation()), (7, 3));
    }

    #[test]
    fn errors_name_the_lease_and_the_limit() {
        let stale = LeaseError::Stale(LeaseHandle::new(7, 3));
        assert_eq!(stale.to_string(), "lease 7/3 is no longer held");
        let full = LeaseError::Full { capacity: 5 };
        assert_eq!(full.to_string(), "the lease table is full: all 5 leases are taken");
    }
}
