//! What must hold after every entry. Panics by name where it does not: for tests and simulation.

use std::collections::{BTreeMap, BTreeSet};

use super::values::size;
use super::{
    EVENTS_KEPT, KEYS_MAX, LOCKS_MAX, NODES_MAX, State, TOKENS_MAX, VALUES_BYTES_MAX, VALUES_MAX,
    keys,
};
use crate::record::{CERTIFICATES_KEPT, FIRST_WORKER_ID, TokenRole};

impl State {
    /// Checks the whole state; takes time in proportion to it.
    ///
    /// # Panics
    /// When one of the promises of this module is broken, naming it.
    pub fn check_invariants(&self) {
        self.check_nodes();
        self.check_tokens();
        self.check_servers();
        self.check_keys();
        self.check_values();
        self.check_events();
    }

    fn check_nodes(&self) {
        assert!(self.nodes.len() <= NODES_MAX, "nodes: {}", self.nodes.len());
        for (&id, node) in &self.nodes {
            assert_eq!(id, node.id, "a node is filed under another id");
            let is_peer = (1..FIRST_WORKER_ID).contains(&id);
            assert!(is_peer || self.allotted().contains(&id), "{id} was never allotted");
            assert!(!self.is_removed(id), "member {id} is removed");
            let kept = node.certificates.len();
            let least = usize::from(!is_peer);
            assert!((least..=CERTIFICATES_KEPT).contains(&kept), "{id} has {kept} certificates");
            assert!(node.enrolled_ms <= node.since_ms, "{id} changed before it enrolled");
            assert!(node.since_ms <= self.now, "{id} changes in the future");
        }
    }

    fn check_tokens(&self) {
        assert!(self.tokens.len() <= TOKENS_MAX, "tokens: {}", self.tokens.len());
        let mut ids = BTreeSet::new();
        for (jti, token) in &self.tokens {
            assert_eq!(jti, &token.jti, "a token is filed under another id");
            let uses = token.uses.len() as u64;
            assert!(uses <= u64::from(token.uses_max), "token {jti} was used {uses} times");
            for (key, &id) in &token.uses {
                if token.role == TokenRole::Server {
                    let server = self.servers.get(&id);
                    assert_eq!(server.map(|server| &server.token_jti), Some(jti), "{id}: {key}");
                    continue;
                }
                assert!(id < self.next_node_id, "token {jti} names {id}, which was never allotted");
                assert!(ids.insert(id), "node {id} used two tokens");
                if let Some(node) = self.nodes.get(&id) {
                    assert_eq!(&node.token_jti, jti, "{key} was redeemed with another token");
                }
            }
        }
        let workers = self.nodes.iter().filter(|(id, _)| **id >= FIRST_WORKER_ID);
        for (id, node) in workers {
            let dropped = !self.tokens.contains_key(&node.token_jti);
            assert!(dropped || ids.contains(id), "node {id} was not counted");
        }
    }

    fn check_servers(&self) {
        for (&id, server) in &self.servers {
            assert_eq!(id, server.id, "a server is filed under another id");
            assert!((1..FIRST_WORKER_ID).contains(&id), "{id} is no id of a server");
            assert!(
                !server.removed || server.certificate.is_none(),
                "{id} has gone, its key stays"
            );
        }
    }

    fn check_values(&self) {
        assert!(self.values.records.len() <= VALUES_MAX, "keys: {}", self.values.records.len());
        let bytes: usize = self.values.records.values().map(|record| size(record)).sum();
        assert_eq!(bytes, self.values.bytes, "bytes of values");
        assert!(bytes <= VALUES_BYTES_MAX, "bytes of values: {bytes}");
        for (key, record) in &self.values.records {
            assert_eq!(key, &record.key, "a value is filed under another key");
            let revisions = (record.created_revision, record.revision, self.applied_index);
            assert!(revisions.0 <= revisions.1 && revisions.1 <= revisions.2, "{revisions:?}");
        }
        assert!(self.locks.len() <= LOCKS_MAX, "locks: {}", self.locks.len());
        let mut fences = BTreeSet::new();
        for (name, lock) in &self.locks {
            assert_eq!(name, &lock.name, "a lock is filed under another name");
            assert!(lock.fence <= self.applied_index, "a fence of the future");
            assert!(fences.insert(lock.fence), "one fence for two locks");
        }
    }

    fn check_keys(&self) {
        assert!(self.keys.len() <= KEYS_MAX, "keys: {}", self.keys.len());
        let mut held = BTreeMap::new();
        for (&id, node) in &self.nodes {
            for certificate in &node.certificates {
                let key = keys::parse(&certificate.key_hash);
                let Some(key) = key else { panic!("node {id} has a key that is none") };
                assert_eq!(held.insert(key, id), None, "one key is held twice, by {id} too");
                assert!(self.keys.is_held(&key, id), "a key of {id} is not in the index");
            }
        }
        for (&id, server) in &self.servers {
            let Some(certificate) = &server.certificate else { continue };
            let Some(key) = keys::parse(&certificate.key_hash) else { panic!("no key of {id}") };
            assert_eq!(held.insert(key, id), None, "one key is held twice, by server {id} too");
            assert!(self.keys.is_held(&key, id), "the key of server {id} is not in the index");
        }
        let remembered = self.keys.remembered().count();
        assert_eq!(held.len() + remembered, self.keys.len(), "keys in the index that nobody has");
    }

    fn check_events(&self) {
        let kept = self.events.kept().len();
        assert!(kept <= EVENTS_KEPT, "events: {kept}");
        let revisions = self.events.first_kept()..=self.events.last_revision();
        assert!(
            self.events.kept().map(|event| event.revision).eq(revisions),
            "a hole in the events"
        );
        assert!(self.events.kept().is_sorted_by_key(|event| event.at_ms), "events go back in time");
    }
}
