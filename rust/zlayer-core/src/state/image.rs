//! The form of a snapshot: what can't be worked out from the rest, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::digest::Digest;
use super::events::EventLog;
use super::keys::{self, KeyIndex};
use super::values::Values;
use super::{State, rules};
use crate::record::{
    EventRecord, FIRST_WORKER_ID, LockRecord, NodeId, NodeRecord, ServerRecord, TokenRecord,
    ValueRecord,
};
use crate::time::UnixMs;

/// What is read. Fields are only ever added, with a default.
#[derive(Deserialize)]
pub(super) struct Image {
    cluster_id: String,
    applied_index: u64,
    now_ms: UnixMs,
    digest: Digest,
    next_node_id: NodeId,
    nodes: Vec<NodeRecord>,
    tokens: Vec<TokenRecord>,
    /// Keys that no record holds any more. The others are in the records.
    keys_remembered: Vec<RememberedKey>,
    last_revision: u64,
    events: Vec<EventRecord>,
    #[serde(default)]
    servers: Vec<ServerRecord>,
    #[serde(default)]
    peers_removed: BTreeSet<NodeId>,
    #[serde(default)]
    values: Vec<ValueRecord>,
    #[serde(default)]
    locks: Vec<LockRecord>,
}

#[derive(Serialize, Deserialize)]
struct RememberedKey {
    key_hash: String,
    node_id: NodeId,
    until_ms: UnixMs,
}

/// What is written: the same fields, borrowed.
#[derive(Serialize)]
struct ImageRef<'a> {
    cluster_id: &'a str,
    applied_index: u64,
    now_ms: UnixMs,
    digest: Digest,
    next_node_id: NodeId,
    nodes: Vec<&'a NodeRecord>,
    tokens: Vec<&'a TokenRecord>,
    keys_remembered: Vec<RememberedKey>,
    last_revision: u64,
    events: Vec<&'a EventRecord>,
    servers: Vec<&'a ServerRecord>,
    peers_removed: &'a BTreeSet<NodeId>,
    values: Vec<&'a ValueRecord>,
    locks: Vec<&'a LockRecord>,
}

/// Why a snapshot is not a state.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error("node {0} is listed twice, or its id was never allotted")]
    Node(NodeId),
    #[error("token {0} is listed twice")]
    Token(String),
    #[error("key {0} of node {1} is no key, or has another owner too")]
    Key(String, NodeId),
    #[error("server {0} is listed twice")]
    Server(NodeId),
    #[error("the events have a hole, or do not end at revision {0}")]
    Events(u64),
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let remembered = |key: &keys::Remembered| RememberedKey {
            key_hash: keys::format(&key.key),
            node_id: key.node_id,
            until_ms: key.until,
        };
        ImageRef {
            cluster_id: &self.cluster_id,
            applied_index: self.applied_index,
            now_ms: self.now,
            digest: self.digest,
            next_node_id: self.next_node_id,
            nodes: self.nodes().collect(),
            tokens: self.tokens().collect(),
            keys_remembered: self.keys.remembered().map(remembered).collect(),
            last_revision: self.revision(),
            events: self.events.kept().collect(),
            servers: self.servers().collect(),
            peers_removed: &self.peers_removed,
            values: self.values("", "").collect(),
            locks: self.locks().collect(),
        }
        .serialize(serializer)
    }
}

impl TryFrom<Image> for State {
    type Error = ImageError;

    fn try_from(image: Image) -> Result<Self, ImageError> {
        let keys = keys_of(&image)?;
        let allotted = FIRST_WORKER_ID..image.next_node_id;
        let mut nodes = BTreeMap::new();
        for node in image.nodes {
            let id = node.id;
            let is_peer = (1..FIRST_WORKER_ID).contains(&id);
            if !(allotted.contains(&id) || is_peer) || nodes.insert(id, Arc::new(node)).is_some() {
                return Err(ImageError::Node(id));
            }
        }
        let mut tokens = BTreeMap::new();
        for token in image.tokens {
            let jti = token.jti.clone();
            if tokens.insert(jti.clone(), Arc::new(token)).is_some() {
                return Err(ImageError::Token(rules::cut(&jti, 64).to_owned()));
            }
        }
        let mut servers = BTreeMap::new();
        for server in image.servers {
            let id = server.id;
            if servers.insert(id, Arc::new(server)).is_some() {
                return Err(ImageError::Server(id));
            }
        }
        let mut values = Values::default();
        for record in image.values {
            values.insert(record);
        }
        let locks: BTreeMap<_, _> =
            image.locks.into_iter().map(|lock| (lock.name.clone(), Arc::new(lock))).collect();
        let events = EventLog::from_parts(image.events, image.last_revision)
            .ok_or(ImageError::Events(image.last_revision))?;
        Ok(Self {
            cluster_id: image.cluster_id,
            applied_index: image.applied_index,
            now: image.now_ms,
            digest: image.digest,
            next_node_id: image.next_node_id,
            nodes,
            tokens,
            servers,
            peers_removed: image.peers_removed,
            keys,
            values,
            locks,
            locks_revision: image.applied_index,
            events,
        })
    }
}

fn keys_of(image: &Image) -> Result<KeyIndex, ImageError> {
    let mut index = KeyIndex::default();
    let mut count = 0;
    let bad = |hash: &str, node| ImageError::Key(rules::cut(hash, 64).to_owned(), node);
    for node in &image.nodes {
        for held in &node.certificates {
            let key = keys::parse(&held.key_hash).ok_or_else(|| bad(&held.key_hash, node.id))?;
            index.hold(key, node.id);
            count += 1;
            if index.len() != count {
                return Err(bad(&held.key_hash, node.id));
            }
        }
    }
    for server in &image.servers {
        let Some(held) = &server.certificate else { continue };
        let key = keys::parse(&held.key_hash).ok_or_else(|| bad(&held.key_hash, server.id))?;
        index.hold(key, server.id);
        count += 1;
        if index.len() != count {
            return Err(bad(&held.key_hash, server.id));
        }
    }
    for remembered in &image.keys_remembered {
        let (hash, node_id) = (&remembered.key_hash, remembered.node_id);
        let key = keys::parse(hash).ok_or_else(|| bad(hash, node_id))?;
        index.release(key, node_id, remembered.until_ms);
        count += 1;
        if index.len() != count {
            return Err(bad(hash, node_id));
        }
    }
    Ok(index)
}
