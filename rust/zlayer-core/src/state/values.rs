//! Rules of keys and values: a small store with compare-and-swap, for what a cluster's users have to agree on.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Applied, State, rules};
use crate::command::{Outcome, Refusal};
use crate::record::{Value, ValueRecord};

/// Bytes of a key, or of a lock's name. Chosen.
pub const KEY_BYTES_MAX: usize = 256;

/// Bytes of a value. Chosen: a configuration, not a file.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Keys at once. Chosen.
pub const VALUES_MAX: usize = 100_000;

/// Bytes of all keys and values. Chosen: every snapshot holds all of them.
pub const VALUES_BYTES_MAX: usize = 64 << 20;

/// All keys, and how many bytes they and their values have.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    pub(super) records: BTreeMap<String, Arc<ValueRecord>>,
    pub(super) bytes: usize,
}

impl Values {
    /// Puts a record in the place of the one with its key.
    pub(super) fn insert(&mut self, record: ValueRecord) {
        self.bytes += size(&record);
        let before = self.records.insert(record.key.clone(), Arc::new(record));
        self.bytes -= before.map_or(0, |before| size(&before));
    }

    fn remove(&mut self, key: &str) {
        if let Some(before) = self.records.remove(key) {
            self.bytes -= size(&before);
        }
    }
}

pub(super) fn size(record: &ValueRecord) -> usize {
    record.key.len() + record.value.0.len()
}

/// What a key, or a lock's name, looks like.
pub(super) fn check_key(field: &str, key: &str) -> Result<(), Refusal> {
    let is_one =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let why = format!("1 to {KEY_BYTES_MAX} bytes of printable ASCII without spaces");
    if is_one { Ok(()) } else { Err(rules::invalid(field, why)) }
}

impl State {
    pub(super) fn put(&mut self, key: &str, value: &Value, if_revision: Option<u64>) -> Applied {
        check_key("key", key)?;
        if value.0.len() > VALUE_BYTES_MAX {
            let why = format!("at most {VALUE_BYTES_MAX} bytes, got {}", value.0.len());
            return Err(rules::invalid("value", why));
        }
        let before = self.check_revision(key, if_revision)?;
        if before.is_none() && self.values.records.len() >= VALUES_MAX {
            return Err(Refusal::LimitReached { what: "keys".into(), limit: VALUES_MAX as u64 });
        }
        let revision = self.applied_index;
        let record = ValueRecord {
            key: key.to_owned(),
            value: value.clone(),
            revision,
            created_revision: before.as_ref().map_or(revision, |before| before.created_revision),
            changed_ms: self.now,
        };
        let bytes = self.values.bytes + size(&record) - before.as_deref().map_or(0, size);
        if bytes > VALUES_BYTES_MAX {
            let limit = VALUES_BYTES_MAX as u64;
            return Err(Refusal::LimitReached { what: "bytes of values".into(), limit });
        }
        self.digest.fold(&record);
        self.values.insert(record);
        Ok(Outcome::Written { revision })
    }

    pub(super) fn delete(&mut self, key: &str, if_revision: Option<u64>) -> Applied {
        check_key("key", key)?;
        let before = self.check_revision(key, if_revision)?;
        let Some(before) = before else { return Ok(Outcome::Written { revision: 0 }) };
        self.digest.fold(&(key, before.revision));
        self.values.remove(key);
        Ok(Outcome::Written { revision: before.revision })
    }

    /// The record of a key, if its revision is the wanted one.
    fn check_revision(
        &self,
        key: &str,
        wanted: Option<u64>,
    ) -> Result<Option<Arc<ValueRecord>>, Refusal> {
        let record = self.values.records.get(key).cloned();
        let revision = record.as_ref().map_or(0, |record| record.revision);
        if wanted.is_some_and(|wanted| wanted != revision) {
            return Err(Refusal::RevisionMismatch { key: key.to_owned(), revision });
        }
        Ok(record)
    }

    /// A key's record.
    pub fn value(&self, key: &str) -> Option<&ValueRecord> {
        self.values.records.get(key).map(AsRef::as_ref)
    }

    /// The keys that begin with `prefix` and come after `after`, in order.
    pub fn values<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
    ) -> impl Iterator<Item = &'a ValueRecord> {
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let found = self.values.records.range::<str, _>((from, Bound::Unbounded));
        found.map(|(_, record)| record.as_ref()).take_while(move |r| r.key.starts_with(prefix))
    }

    /// How many keys there are.
    pub fn value_count(&self) -> usize {
        self.values.records.len()
    }
}
