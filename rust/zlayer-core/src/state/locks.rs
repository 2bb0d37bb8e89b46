//! Rules of locks: who holds one, under which fence. When a lease of one ends is decided by the leader, in memory; here
//! it is only let go of.

use std::sync::Arc;

use super::values::check_key;
use super::{Applied, State, rules};
use crate::command::{HeldLock, Outcome, Refusal};
use crate::record::LockRecord;

/// Locks at once. Chosen.
pub const LOCKS_MAX: usize = 10_000;

/// Shortest lease of a lock, milliseconds. Chosen: an election, and then some.
pub const LOCK_TTL_MS_MIN: u64 = 1_000;

/// Longest lease of a lock, milliseconds: an hour. Chosen.
pub const LOCK_TTL_MS_MAX: u64 = 3_600_000;

/// Bytes of an owner's description.
const OWNER_BYTES_MAX: usize = 128;

impl State {
    pub(super) fn acquire_lock(
        &mut self,
        name: &str,
        holder: &str,
        owner: &str,
        ttl_ms: u64,
    ) -> Applied {
        check_key("name", name)?;
        rules::check_jti(holder)
            .map_err(|_| rules::invalid("holder", "32 lower-case hex digits"))?;
        if owner.len() > OWNER_BYTES_MAX || owner.chars().any(char::is_control) {
            let why = format!("at most {OWNER_BYTES_MAX} bytes, no control characters");
            return Err(rules::invalid("owner", why));
        }
        if !(LOCK_TTL_MS_MIN..=LOCK_TTL_MS_MAX).contains(&ttl_ms) {
            let why = format!("{LOCK_TTL_MS_MIN} to {LOCK_TTL_MS_MAX}, got {ttl_ms}");
            return Err(rules::invalid("ttl_ms", why));
        }
        if let Some(held) = self.locks.get(name) {
            if held.holder == holder {
                return Ok(Outcome::Locked { fence: held.fence });
            }
            let (owner, fence) = (held.owner.clone(), held.fence);
            return Err(Refusal::LockHeld { name: name.to_owned(), owner, fence });
        }
        if self.locks.len() >= LOCKS_MAX {
            return Err(Refusal::LimitReached { what: "locks".into(), limit: LOCKS_MAX as u64 });
        }
        let fence = self.applied_index;
        let record = LockRecord {
            name: name.to_owned(),
            holder: holder.to_owned(),
            owner: owner.to_owned(),
            ttl_ms,
            fence,
            since_ms: self.now,
        };
        self.digest.fold(&record);
        self.locks.insert(name.to_owned(), Arc::new(record));
        self.locks_revision = self.applied_index;
        Ok(Outcome::Locked { fence })
    }

    pub(super) fn release_locks(&mut self, items: &[HeldLock]) -> Applied {
        if items.len() > LOCKS_MAX {
            let why = format!("at most {LOCKS_MAX}, got {}", items.len());
            return Err(rules::invalid("items", why));
        }
        let mut count = 0;
        for HeldLock { name, fence } in items {
            if self.locks.get(name).is_some_and(|held| held.fence == *fence) {
                self.locks.remove(name);
                self.digest.fold(&(name, fence));
                self.locks_revision = self.applied_index;
                count += 1;
            }
        }
        Ok(Outcome::Released { count })
    }

    /// A lock that somebody holds.
    pub fn lock(&self, name: &str) -> Option<&LockRecord> {
        self.locks.get(name).map(AsRef::as_ref)
    }

    /// The locks that are held, by name.
    pub fn locks(&self) -> impl Iterator<Item = &LockRecord> {
        self.locks.values().map(AsRef::as_ref)
    }

    /// Index of the entry that changed the locks last; of no meaning after a restart but that it may have grown.
    pub fn locks_revision(&self) -> u64 {
        self.locks_revision
    }
}
