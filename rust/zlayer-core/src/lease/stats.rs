//! What a lease table has done so far.

/// Counters since the table was made; `live` is a level.
///
/// `live == granted - expired - revoked`. Renewals are not counted: the counter would be the one
/// cache line that every renewing thread writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseStats {
    /// Leases held now.
    pub live: u64,
    /// Leases granted.
    pub granted: u64,
    /// Leases ended by their deadline.
    pub expired: u64,
    /// Leases ended by [`revoke`](super::LeaseTable::revoke).
    pub revoked: u64,
    /// Times a lease was found renewed and put to a later place in the wheel.
    pub rearmed: u64,
    /// Sum of all shifts, in milliseconds, thaws included.
    pub shifted_ms: u64,
}
