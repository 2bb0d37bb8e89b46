//! Which node a public key belongs to: one key, one node, for as long as a certificate of it may be valid.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::NodeId;
use crate::time::UnixMs;

/// Keys known at once, held and remembered. Derived: all certificates of a full fleet, and one more a node.
pub const KEYS_MAX: usize = super::NODES_MAX * (crate::record::CERTIFICATES_KEPT + 1);

/// Remembered keys that one entry forgets at most, so that no entry takes long. Chosen.
const FORGET_MAX: usize = 64;

/// SHA-256 of a `SubjectPublicKeyInfo`.
pub(super) type Key = [u8; 32];

/// Reads a key hash: 64 lower-case hex digits.
pub(super) fn parse(hash: &str) -> Option<Key> {
    let mut key = [0; 32];
    if hash.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(hash.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Writes a key as [`parse`] reads it.
pub(super) fn format(key: &Key) -> String {
    use std::fmt::Write;
    key.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A key that no record holds any more, while a certificate of it may still be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remembered {
    /// When the last certificate of it ends.
    pub(super) until: UnixMs,
    pub(super) key: Key,
    /// Whose it was.
    pub(super) node_id: NodeId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    node_id: NodeId,
    /// `None` while one of the node's recorded certificates has it.
    until: Option<UnixMs>,
}

/// All keys in use.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyIndex {
    owners: BTreeMap<Key, Owner>,
    remembered: BTreeSet<Remembered>,
}

impl KeyIndex {
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whose key it is at `now`.
    pub(super) fn owner(&self, key: &Key, now: UnixMs) -> Option<NodeId> {
        let owner = self.owners.get(key)?;
        owner.until.is_none_or(|until| now < until).then_some(owner.node_id)
    }

    /// Whether one of the node's recorded certificates has it.
    pub(super) fn is_held(&self, key: &Key, node_id: NodeId) -> bool {
        self.owners.get(key) == Some(&Owner { node_id, until: None })
    }

    /// Binds a key to a node that records a certificate of it.
    pub(super) fn hold(&mut self, key: Key, node_id: NodeId) {
        let before = self.owners.insert(key, Owner { node_id, until: None });
        if let Some(Owner { node_id, until: Some(until) }) = before {
            self.remembered.remove(&Remembered { until, key, node_id });
        }
    }

    /// The node's record dropped the certificate of this key, which is valid until `until`.
    pub(super) fn release(&mut self, key: Key, node_id: NodeId, until: UnixMs) {
        self.owners.insert(key, Owner { node_id, until: Some(until) });
        self.remembered.insert(Remembered { until, key, node_id });
    }

    /// Forgets some of the keys whose certificates have all ended.
    pub(super) fn forget_expired(&mut self, now: UnixMs) {
        for _ in 0..FORGET_MAX {
            match self.remembered.first() {
                Some(first) if first.until <= now => {
                    let first = *first;
                    self.remembered.remove(&first);
                    self.owners.remove(&first.key);
                }
                _ => return,
            }
        }
    }

    pub(super) fn remembered(&self) -> impl Iterator<Item = &Remembered> {
        self.remembered.iter()
    }
}
