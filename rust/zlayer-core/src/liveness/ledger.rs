//! A lease table that knows whose each lease is.

use std::sync::Arc;

use crate::lease::{Expired, LeaseError, LeaseHandle, LeaseSlots, LeaseTable};
use crate::record::NodeId;
use crate::time::MonoMs;

/// Leases of one kind, with their owners.
pub(super) struct Ledger {
    table: LeaseTable,
    /// By slot; an entry whose lease is gone is stale and is never read.
    owners: Vec<NodeId>,
    expired: Vec<Expired>,
}

impl Ledger {
    /// With room for `leases_max`, and one more while a session replaces another.
    pub(super) fn new(leases_max: u32) -> Self {
        let capacity = leases_max.saturating_add(1);
        Self { table: LeaseTable::new(capacity), owners: Vec::new(), expired: Vec::new() }
    }

    pub(super) fn slots(&self) -> Arc<LeaseSlots> {
        self.table.slots()
    }

    pub(super) fn len(&self) -> u64 {
        self.table.len() as u64
    }

    pub(super) fn grant(
        &mut self,
        node: NodeId,
        now: MonoMs,
        window_ms: u64,
    ) -> Result<LeaseHandle, LeaseError> {
        let handle = self.table.grant(now, window_ms)?;
        let slot = handle.slot() as usize;
        if slot >= self.owners.len() {
            self.owners.resize(slot + 1, 0);
        }
        self.owners[slot] = node;
        Ok(handle)
    }

    /// Ends a lease. False: it had ended before.
    pub(super) fn revoke(&mut self, handle: LeaseHandle) -> bool {
        self.table.revoke(handle).is_ok()
    }

    pub(super) fn deadline(&self, handle: LeaseHandle) -> Option<MonoMs> {
        self.table.deadline(handle)
    }

    /// How many leases end at or before `horizon`; counts no further than `max`.
    pub(super) fn count_due(&mut self, horizon: MonoMs, max: usize) -> usize {
        self.table.peek_due(horizon, max)
    }

    /// Takes out at most `max` leases that end at or before `horizon`, earliest first, and appends their owners.
    pub(super) fn expire(&mut self, horizon: MonoMs, max: usize, out: &mut Vec<NodeId>) {
        self.expired.clear();
        // Whether more are due is known from `max` leases coming out.
        let _ = self.table.expire(horizon, max, &mut self.expired);
        let owners = &self.owners;
        out.extend(self.expired.iter().map(|expired| owners[expired.handle.slot() as usize]));
    }

    pub(super) fn shift_by(&mut self, ms: u64) {
        self.table.shift_by(ms);
    }

    /// Extends every lease to at least `window_ms` from `now`, plus a share of `spread_ms` each.
    pub(super) fn promote(&mut self, now: MonoMs, window_ms: u64, spread_ms: u64) {
        self.table.promote(now, |_| window_ms, spread_ms);
    }

    /// Whose lease this is.
    pub(super) fn owner(&self, handle: LeaseHandle) -> Option<NodeId> {
        self.deadline(handle).and_then(|_| self.owners.get(handle.slot() as usize).copied())
    }

    pub(super) fn check_invariants(&self) {
        self.table.check_invariants();
    }
}
