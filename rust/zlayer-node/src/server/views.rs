//! What the API shows, as JSON. Reads the control state and what this server knows by itself; changes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::json;
use zlayer_core::record::{
    EventRecord, Labels, Liveness, NodeId, NodeRecord, Profile, TokenRecord,
};
use zlayer_core::time::{MonoMs, UnixMs};
use zlayer_raft::LogHealth;

use super::shared::Shared;

/// Nodes on one page when the query names no limit.
const NODES_DEFAULT: usize = 1_000;

/// Which nodes to list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodesQuery {
    /// Only ids above this.
    pub after_id: NodeId,
    /// At most so many; 0: 1,000.
    pub limit: usize,
    /// Only this state: `Ready`, `Suspect`, `Unreachable`, `Draining` or `Left`.
    pub state: Option<String>,
    /// Only with all of these labels.
    pub labels: Labels,
}

#[derive(Serialize)]
struct Page<T> {
    items: Vec<T>,
    revision: u64,
    /// Said by a server that does not lead: it may be behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<&'static str>,
}

#[derive(Serialize)]
struct EventsPage {
    items: Vec<EventRecord>,
    revision: u64,
    first_kept: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<&'static str>,
}

#[derive(Serialize)]
struct ResourcesView {
    cpu_millicores: u32,
    memory_bytes: u64,
    disk_bytes: u64,
}

#[derive(Serialize)]
struct NodeView {
    id: NodeId,
    name: String,
    role: &'static str,
    state: &'static str,
    reason: zlayer_core::record::Reason,
    since_ms: UnixMs,
    enrolled_ms: UnixMs,
    draining: bool,
    labels: Labels,
    profile: Profile,
    token_jti: String,
    /// Text: it has 64 bits, and JSON readers keep 53.
    incarnation: String,
    certificate_not_after_ms: Option<UnixMs>,
    connected: bool,
    address: Option<String>,
    ttl_ms: u64,
    next_beat_in_ms: Option<u64>,
    lease_remaining_ms: Option<u64>,
    last_beat_ago_ms: Option<u64>,
    resources: Option<ResourcesView>,
}

/// What is read on a server that does not lead may be behind what was acknowledged elsewhere.
fn consistency(shared: &Shared) -> Option<&'static str> {
    (!shared.engine.leads()).then_some("stale")
}

/// The state as people see it: a node that is up and drains is `Draining`.
fn state_name(record: &NodeRecord) -> &'static str {
    match record.liveness {
        Liveness::Ready if record.draining => "Draining",
        Liveness::Ready => "Ready",
        Liveness::Suspect => "Suspect",
        Liveness::Unreachable => "Unreachable",
        Liveness::Left => "Left",
    }
}

impl NodesQuery {
    fn matches(&self, record: &NodeRecord) -> bool {
        self.state.as_deref().is_none_or(|state| state == state_name(record))
            && self.labels.iter().all(|(key, value)| record.labels.get(key) == Some(value))
    }
}

fn node_view(shared: &Shared, now: MonoMs, record: NodeRecord) -> NodeView {
    let known = shared.engine.view(record.id);
    let presence = shared.registry.presence(record.id);
    let relayed = || known.and_then(|node| node.session).and_then(|id| shared.hosts.address(id));
    let address = presence.address.or_else(relayed);
    NodeView {
        id: record.id,
        role: "worker",
        state: state_name(&record),
        reason: record.reason,
        since_ms: record.since_ms,
        enrolled_ms: record.enrolled_ms,
        draining: record.draining,
        incarnation: record.incarnation.to_string(),
        certificate_not_after_ms: record.certificates.last().map(|c| c.not_after_ms),
        connected: known.is_some_and(|node| node.connected),
        address: address.map(|address| address.to_string()),
        ttl_ms: known.map(|node| node.ttl_ms).filter(|ttl| *ttl != 0).unwrap_or(record.ttl_ms),
        next_beat_in_ms: known.and_then(|node| node.next_beat).map(|at| at.since(now)),
        lease_remaining_ms: known.and_then(|node| node.deadline).map(|at| at.since(now)),
        last_beat_ago_ms: known.and_then(|node| node.last_beat).map(|at| now.since(at)),
        resources: presence.resources.map(|resources| ResourcesView {
            cpu_millicores: resources.cpu_millicores,
            memory_bytes: resources.memory_bytes,
            disk_bytes: resources.disk_bytes,
        }),
        name: record.name,
        labels: record.labels,
        profile: record.profile,
        token_jti: record.token_jti,
    }
}

/// Serialises one of the documents below. None of them can fail: keys are text and numbers are finite.
fn bytes(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_else(|_| b"null".to_vec())
}

pub(crate) fn nodes(shared: &Shared, query: &NodesQuery) -> Vec<u8> {
    let limit = if query.limit == 0 { NODES_DEFAULT } else { query.limit };
    // Records are copied out, so that the state's lock is not held while the rest is looked up.
    let (records, revision) = shared.state.with_state(|state| {
        let records: Vec<NodeRecord> = state
            .nodes()
            .skip_while(|record| record.id <= query.after_id)
            .filter(|record| query.matches(record))
            .take(limit)
            .cloned()
            .collect();
        (records, state.revision())
    });
    let now = shared.clock.now();
    let items = records.into_iter().map(|record| node_view(shared, now, record)).collect();
    bytes(&Page { items, revision, consistency: consistency(shared) })
}

pub(crate) fn node(shared: &Shared, id: NodeId) -> Option<Vec<u8>> {
    let record = shared.state.with_state(|state| state.node(id).cloned())?;
    Some(bytes(&node_view(shared, shared.clock.now(), record)))
}

pub(crate) fn tokens(shared: &Shared) -> Vec<u8> {
    let (items, revision) = shared.state.with_state(|state| {
        (state.tokens().cloned().collect::<Vec<TokenRecord>>(), state.revision())
    });
    bytes(&Page { items, revision, consistency: consistency(shared) })
}

pub(crate) fn token(shared: &Shared, jti: &str) -> Option<Vec<u8>> {
    shared.state.with_state(|state| state.token(jti).cloned()).map(|record| bytes(&record))
}

/// A key's record, or nothing.
pub(crate) fn value(shared: &Shared, key: &str) -> Option<Vec<u8>> {
    shared.state.with_state(|state| state.value(key).cloned()).map(|record| bytes(&record))
}

/// A page of keys that begin with `prefix`, after `after`.
pub(crate) fn values(shared: &Shared, prefix: &str, after: &str, limit: usize) -> Vec<u8> {
    let (items, revision) = shared.state.with_state(|state| {
        let page: Vec<_> = state.values(prefix, after).take(limit).cloned().collect();
        (page, state.applied_index())
    });
    bytes(&Page { items, revision, consistency: consistency(shared) })
}

/// Who holds which lock.
pub(crate) fn locks(shared: &Shared) -> Vec<u8> {
    let (items, revision) = shared
        .state
        .with_state(|state| (state.locks().cloned().collect::<Vec<_>>(), state.locks_revision()));
    bytes(&Page { items, revision, consistency: consistency(shared) })
}

pub(crate) fn events(shared: &Shared, after: u64, limit: usize) -> Vec<u8> {
    let page = shared.state.with_state(|state| state.events_after(after, limit));
    bytes(&EventsPage {
        items: page.events,
        revision: page.last_revision,
        first_kept: page.first_kept,
        consistency: consistency(shared),
    })
}

pub(crate) fn status(shared: &Shared, version: &str, listen: &str) -> Vec<u8> {
    let counts = shared.engine.counts();
    let health = shared.log.health();
    let (mut workers, revision) = shared.state.with_state(|state| {
        let mut workers: BTreeMap<&'static str, u64> =
            ["Ready", "Suspect", "Unreachable", "Draining", "Left"].map(|name| (name, 0)).into();
        for record in state.nodes() {
            *workers.entry(state_name(record)).or_default() += 1;
        }
        (workers, state.revision())
    });
    workers.insert("total", workers.values().sum());
    workers.insert("connected", counts.connected);
    bytes(&json!({
        "cluster_id": shared.cluster_id,
        "node_id": shared.node_id,
        "version": version,
        "role": health.role.name(),
        "term": health.term,
        "leader": health.leader,
        "consistency": consistency(shared).unwrap_or("leader"),
        "elections": health.elections,
        "peers": peers(&health),
        "uptime_ms": shared.clock.now().0,
        "workers": workers,
        "ttl_ms": counts.ttl_ms,
        "beats_per_second": shared.beats_per_second.load(Ordering::Relaxed),
        "max_heartbeats_per_second": shared.max_heartbeats_per_second,
        "revision": revision,
        "expiry_held": counts.expiry_held,
        "log": {
            "last_index": health.last_index,
            "log_index": health.log_index,
            "commit_index": health.commit_index,
            "commit_p50_us": health.commit_p50_us,
            "commit_p99_us": health.commit_p99_us,
            "bytes": health.log_bytes,
            "fsync_p50_us": health.fsync_p50_us,
            "fsync_p99_us": health.fsync_p99_us,
        },
        "listen": listen,
    }))
}

fn peers(health: &LogHealth) -> Vec<serde_json::Value> {
    let shown = health.peers.iter().map(|peer| {
        json!({
            "id": peer.id,
            "raft_addr": peer.peer.raft_addr,
            "api_addr": peer.peer.api_addr,
            "voter": peer.is_voter,
            "matched": peer.matched,
            "lag": peer.lag,
            "silent_ms": peer.silent_ms,
            "refused": peer.refused,
        })
    });
    shown.collect()
}

pub(crate) fn metrics(shared: &Shared) -> Vec<u8> {
    let mut all = shared.metrics.read();
    let (counts, stats, health) =
        (shared.engine.counts(), shared.engine.stats(), shared.log.health());
    let members = shared.state.with_state(|state| state.node_count() as u64);
    let more: [(&str, u64); 38] = [
        ("members", members),
        ("nodes", counts.nodes),
        ("leases", counts.leases),
        ("connected_workers", counts.connected),
        ("transitions_in_flight", counts.in_flight),
        ("ttl_ms", counts.ttl_ms),
        ("expiry_held", u64::from(counts.expiry_held)),
        ("sessions_replaced_total", stats.sessions_replaced),
        ("suspects_total", stats.suspects),
        ("not_reconnected_total", stats.not_reconnected),
        ("expiries_total", stats.expiries),
        ("leaves_total", stats.leaves),
        ("expiry_shifts_total", stats.shifts),
        ("expiry_shift_ms_total", stats.shift_ms_total),
        ("tick_lag_ms_max", stats.tick_lag_ms_max),
        ("expiry_holds_total", stats.brake_holds),
        ("refreshes_total", stats.refreshes),
        ("handshakes_in_flight", shared.handshakes.used() as u64),
        ("open_connections", shared.connections.used() as u64),
        ("open_joins", shared.splices.used() as u64),
        ("beats_per_second", shared.beats_per_second.load(Ordering::Relaxed)),
        ("relayed_sessions", shared.hosts.len() as u64),
        ("raft_leads", u64::from(shared.engine.leads())),
        ("raft_term", health.term),
        ("raft_leader", health.leader.unwrap_or(0)),
        ("raft_elections_total", health.elections),
        ("raft_peers", health.peers.len() as u64),
        ("raft_commit_index", health.commit_index),
        ("raft_proposals_waiting", health.proposals_waiting),
        ("raft_records_waiting", health.records_waiting),
        ("commit_p50_us", health.commit_p50_us),
        ("commit_p99_us", health.commit_p99_us),
        ("log_last_index", health.last_index),
        ("log_bytes", health.log_bytes),
        ("log_appended_total", health.appended),
        ("fsync_count", health.fsync_count),
        ("fsync_p50_us", health.fsync_p50_us),
        ("fsync_p99_us", health.fsync_p99_us),
    ];
    all.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    bytes(&all)
}
