//! The control state: what the log says, applied.
//!
//! ```text
//! log entry ──> apply ──> token rules │ node rules ──> records, events, rolling hash ──> outcome
//! ```
//!
//! A pure function of the entries: two servers that applied the same log hold equal states and equal
//! [`State::hash`]es. No clock is read; time is the entry's stamp, which never goes back here even if the
//! leader's clock does. A refused command changes nothing but the position in the log and the time.

mod digest;
mod events;
mod image;
mod invariants;
mod keys;
mod locks;
mod nodes;
mod redeem;
mod restore;
mod rules;
mod servers;
#[cfg(test)]
mod tests;
mod tokens;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use crate::command::{Command, Entry, Outcome, Refusal};
use crate::record::{FIRST_WORKER_ID, LockRecord, NodeId, NodeRecord, ServerRecord, TokenRecord};
use crate::time::UnixMs;

use digest::Digest;
use events::EventLog;
pub use events::{EVENTS_KEPT, EventsPage};
pub use keys::KEYS_MAX;
use keys::KeyIndex;
pub use locks::{LOCK_TTL_MS_MAX, LOCK_TTL_MS_MIN, LOCKS_MAX};
pub use nodes::TRANSITIONS_MAX;
pub use rules::{LABELS_MAX, PROFILE_TEXT_MAX, USES_MAX_LIMIT};
pub use tokens::{TOKEN_KEPT_AFTER_MS, TOKEN_LIFE_MS_MAX, TOKENS_MAX};
use values::Values;
pub use values::{KEY_BYTES_MAX, VALUE_BYTES_MAX, VALUES_BYTES_MAX, VALUES_MAX};

/// Nodes at once. Chosen: ten times the fleet that the design is measured with.
pub const NODES_MAX: usize = 100_000;

/// What applying answers on the way: a refusal ends it, with nothing changed.
type Applied = Result<Outcome, Refusal>;

/// The control state. A clone shares the records, so it costs a pointer for each node, token and key.
///
/// Serialises to a snapshot, in any format that names fields.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "image::Image")]
pub struct State {
    cluster_id: String,
    applied_index: u64,
    /// Newest stamp, clamped. Only ever grows.
    now: UnixMs,
    digest: Digest,
    next_node_id: NodeId,
    nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    tokens: BTreeMap<String, Arc<TokenRecord>>,
    servers: BTreeMap<NodeId, Arc<ServerRecord>>,
    /// Servers that were nodes themselves, and were removed: their ids are below those that are counted.
    peers_removed: BTreeSet<NodeId>,
    keys: KeyIndex,
    values: Values,
    locks: BTreeMap<String, Arc<LockRecord>>,
    locks_revision: u64,
    events: EventLog,
}

impl State {
    /// An empty state, before the first entry.
    pub fn new(cluster_id: String) -> Self {
        let mut digest = Digest::default();
        digest.fold(&cluster_id);
        Self {
            cluster_id,
            applied_index: 0,
            now: UnixMs::default(),
            digest,
            next_node_id: FIRST_WORKER_ID,
            nodes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            servers: BTreeMap::new(),
            peers_removed: BTreeSet::new(),
            keys: KeyIndex::default(),
            values: Values::default(),
            locks: BTreeMap::new(),
            locks_revision: 0,
            events: EventLog::default(),
        }
    }

    /// Applies the entry at `index` of the log. Indexes grow, with holes where the log holds what is no
    /// command; an index that was applied already must not come again.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Outcome {
        debug_assert!(index > self.applied_index, "entry {index} after {}", self.applied_index);
        self.applied_index = index;
        self.now = self.now.max(entry.stamp_ms);
        self.digest.fold(&(index, self.now));
        self.keys.forget_expired(self.now);
        let outcome = self
            .apply_command(&entry.command)
            .unwrap_or_else(|refusal| Outcome::Refused { refusal });
        self.digest.fold(&outcome);
        outcome
    }

    fn apply_command(&mut self, command: &Command) -> Applied {
        match command {
            Command::CreateToken {
                jti,
                name,
                expires_ms,
                role,
                uses_max,
                labels,
                labels_allowed,
            } => self.create_token(TokenRecord {
                jti: jti.clone(),
                name: name.clone(),
                created_ms: self.now,
                expires_ms: *expires_ms,
                role: *role,
                uses_max: *uses_max,
                labels: labels.clone(),
                labels_allowed: labels_allowed.clone(),
                revoked: false,
                uses: BTreeMap::new(),
            }),
            Command::RevokeToken { jti } => self.revoke_token(jti),
            Command::Redeem { jti, name, labels, profile, certificate } => {
                self.redeem(&redeem::Ask { jti, name, labels, profile, certificate })
            }
            Command::RenewCertificate { node_id, old_key_hash, certificate } => {
                self.renew_certificate(*node_id, old_key_hash, certificate)
            }
            Command::Transition { items } => self.transition(items),
            Command::SetDraining { node_id, draining } => self.set_draining(*node_id, *draining),
            Command::RemoveNode { node_id } => self.remove_node(*node_id),
            Command::HoldExpiry { due, leases } => Ok(self.hold_expiry(*due, *leases)),
            Command::RedeemServer { jti, id, name, raft_addr, api_addr, certificate } => {
                let id = *id;
                self.redeem_server(&servers::Ask {
                    jti,
                    id,
                    name,
                    raft_addr,
                    api_addr,
                    certificate,
                })
            }
            Command::NoteServer { id, raft_addr, api_addr } => {
                self.note_server(*id, raft_addr, api_addr)
            }
            Command::RemoveServer { id } => self.remove_server(*id),
            Command::JoinPeer { id, name, labels } => self.join_peer(*id, name, labels),
            Command::Put { key, value, if_revision } => self.put(key, value, *if_revision),
            Command::Delete { key, if_revision } => self.delete(key, *if_revision),
            Command::AcquireLock { name, holder, owner, ttl_ms } => {
                self.acquire_lock(name, holder, owner, *ttl_ms)
            }
            Command::ReleaseLocks { items } => self.release_locks(items),
        }
    }

    /// Whose state it is.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// A member.
    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(&id).map(AsRef::as_ref)
    }

    /// The members, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values().map(AsRef::as_ref)
    }

    /// The members with an id above `id`, by id.
    pub fn nodes_after(&self, id: NodeId) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.range(id.saturating_add(1)..).map(|(_, node)| node.as_ref())
    }

    /// How many members there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Every id that was allotted so far, of members and of nodes that were removed.
    pub fn allotted(&self) -> Range<NodeId> {
        FIRST_WORKER_ID..self.next_node_id
    }

    /// Whether `id` was allotted once and its node was removed. Needs no list: ids are never given twice. Servers
    /// that are nodes themselves are the exception, and few.
    pub fn is_removed(&self, id: NodeId) -> bool {
        self.peers_removed.contains(&id)
            || self.allotted().contains(&id) && !self.nodes.contains_key(&id)
    }

    /// A token.
    pub fn token(&self, jti: &str) -> Option<&TokenRecord> {
        self.tokens.get(jti).map(AsRef::as_ref)
    }

    /// The tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenRecord> {
        self.tokens.values().map(AsRef::as_ref)
    }

    /// At most `max` events with a revision above `revision`, oldest first. Where older ones were dropped, the
    /// page starts at [`EventsPage::first_kept`].
    pub fn events_after(&self, revision: u64, max: usize) -> EventsPage {
        self.events.after(revision, max)
    }

    /// Revision of the newest event, 0 before the first.
    pub fn revision(&self) -> u64 {
        self.events.last_revision()
    }

    /// Position in the log of the entry applied last, 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Newest stamp of an entry, clamped to be non-decreasing.
    pub fn stamp(&self) -> UnixMs {
        self.now
    }

    /// Hash of all that was applied: of each entry its index, its stamp, every record and event that it
    /// changed, and its outcome. Not cryptographic: it shows servers that drifted apart.
    pub fn hash(&self) -> u64 {
        self.digest.value()
    }
}
