//! Which connections there are, by node. Touched when one opens or closes and by the API, never by a beat.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zlayer_core::liveness::SessionId;
use zlayer_core::record::NodeId;
use zlayer_wire::v1::Resources;

use super::connection::{Connection, NodeLedger};
use crate::refusal::Refusal;

/// The connections of this server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    last_id: AtomicU64,
    nodes: Mutex<HashMap<NodeId, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    ledger: Arc<NodeLedger>,
    /// Open ones, oldest first.
    connections: Vec<Arc<Connection>>,
}

/// What the API shows of a node beside its record and its lease.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Presence {
    /// Where its session comes from, while it has one.
    pub(crate) address: Option<SocketAddr>,
    /// What it reported last since this process started.
    pub(crate) resources: Option<Resources>,
}

impl Registry {
    fn nodes(&self) -> MutexGuard<'_, HashMap<NodeId, Entry>> {
        // No code under the lock leaves it half done, so a panic elsewhere does not spoil it.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new connection or session; they share one sequence, which only grows.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a connection. With more than `per_node_max` the node's oldest is ended.
    pub(crate) fn insert(
        &self,
        connection: &Arc<Connection>,
        per_node_max: usize,
    ) -> Arc<NodeLedger> {
        let mut nodes = self.nodes();
        let entry = nodes.entry(connection.node_id).or_default();
        entry.connections.reserve_exact(1);
        entry.connections.push(Arc::clone(connection));
        let surplus = entry.connections.len().saturating_sub(per_node_max);
        for old in &entry.connections[..surplus] {
            old.end(Refusal::Superseded);
        }
        Arc::clone(&entry.ledger)
    }

    /// Forgets a connection. What its node's sessions share stays until [`Registry::forget_node`], or goes as well
    /// where the node was no member: there is no end to such ids.
    pub(crate) fn remove(&self, connection: &Connection) {
        let mut nodes = self.nodes();
        let Some(entry) = nodes.get_mut(&connection.node_id) else { return };
        entry.connections.retain(|other| other.id != connection.id);
        entry.connections.shrink_to_fit();
        if entry.connections.is_empty() && connection.is_of_no_member() {
            nodes.remove(&connection.node_id);
        }
    }

    /// Ends every connection of a node and forgets what it reported.
    pub(crate) fn forget_node(&self, node_id: NodeId, why: Refusal) {
        if let Some(entry) = self.nodes().remove(&node_id) {
            entry.connections.iter().for_each(|connection| connection.end(why));
        }
    }

    /// Calls `visit` for each open connection of a node.
    pub(crate) fn each_of(&self, node_id: NodeId, visit: impl Fn(&Connection)) {
        if let Some(entry) = self.nodes().get(&node_id) {
            entry.connections.iter().for_each(|connection| visit(connection));
        }
    }

    /// Ends the connection that carries this session, if it is open.
    pub(crate) fn end_session(&self, node_id: NodeId, session: SessionId, why: Refusal) {
        self.each_of(node_id, |connection| {
            if connection.session() == Some(session) {
                connection.end(why);
            }
        });
    }

    /// Ends all.
    pub(crate) fn end_all(&self, why: Refusal) {
        let nodes = self.nodes();
        nodes.values().flat_map(|entry| &entry.connections).for_each(|c| c.end(why));
    }

    /// Notes what a node reported by way of another server.
    pub(crate) fn note_resources(&self, node_id: NodeId, resources: &Resources) {
        self.nodes().entry(node_id).or_default().ledger.resources.note(resources);
    }

    /// What is known of a node beside its record and its lease.
    pub(crate) fn presence(&self, node_id: NodeId) -> Presence {
        let nodes = self.nodes();
        let Some(entry) = nodes.get(&node_id) else { return Presence::default() };
        let newest = entry.connections.iter().rev().find(|c| c.session().is_some());
        Presence {
            address: newest.map(|connection| connection.address),
            resources: entry.ledger.resources.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use zlayer_core::time::UnixMs;

    use super::*;
    use crate::peer::WorkerIdentity;

    fn connection(registry: &Registry, node_id: NodeId) -> Arc<Connection> {
        let identity = WorkerIdentity { node_id, not_after: UnixMs(0) };
        Arc::new(Connection::new(registry.next_id(), identity, ([127, 0, 0, 1], 9).into()))
    }

    #[test]
    fn one_connection_too_many_ends_the_oldest_of_that_node() {
        let registry = Registry::default();
        let all: Vec<_> = (0..3).map(|_| connection(&registry, 1000)).collect();
        let other = connection(&registry, 1001);
        registry.insert(&other, 2);
        for connection in &all {
            registry.insert(connection, 2);
        }
        assert_eq!(all[0].ending(), Some(Refusal::Superseded));
        assert_eq!((all[1].ending(), all[2].ending(), other.ending()), (None, None, None));
    }

    #[test]
    fn a_removed_node_ends_all_its_connections_and_no_other() {
        let registry = Registry::default();
        let (mine, theirs) = (connection(&registry, 1000), connection(&registry, 1001));
        registry.insert(&mine, 4);
        registry.insert(&theirs, 4);
        registry.forget_node(1000, Refusal::Removed);
        assert_eq!(mine.ending(), Some(Refusal::Removed));
        assert_eq!(theirs.ending(), None);
    }

    #[test]
    fn of_a_node_that_is_no_member_nothing_is_kept() {
        let registry = Registry::default();
        let (first, second) = (connection(&registry, 1000), connection(&registry, 1000));
        let member = connection(&registry, 1001);
        let ledger = registry.insert(&member, 4);
        registry.remove(&member);
        for connection in [&first, &second] {
            registry.insert(connection, 4);
            connection.refuse_all(Refusal::Removed);
        }
        registry.remove(&first);
        assert_eq!(registry.nodes().len(), 2, "one of its connections is open");
        registry.remove(&second);
        assert_eq!(registry.nodes().len(), 1);
        let again = registry.insert(&connection(&registry, 1001), 4);
        assert!(Arc::ptr_eq(&ledger, &again), "a member starts nothing afresh");
    }

    #[test]
    fn a_session_is_ended_by_its_own_number_only() {
        let registry = Registry::default();
        let connection = connection(&registry, 1000);
        registry.insert(&connection, 4);
        assert!(connection.take_session(SessionId(7)));
        assert!(!connection.take_session(SessionId(8)), "one at a time");
        registry.end_session(1000, SessionId(8), Refusal::Superseded);
        assert_eq!(connection.ending(), None);
        registry.end_session(1000, SessionId(7), Refusal::Superseded);
        assert_eq!(connection.ending(), Some(Refusal::Superseded));
    }
}
