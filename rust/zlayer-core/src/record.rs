//! What the control state remembers: one plain record a thing. Serialised into the log, into snapshots and, as
//! JSON, to Python; fields are only ever added, with a default.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::time::UnixMs;

/// Labels of a node, or the bounds of a token. Sorted, so that equal sets are equal bytes.
pub type Labels = BTreeMap<String, String>;

/// A node's id. Allotted by the log, never reused. Servers have 1..=999, workers count from 1000.
pub type NodeId = u64;

/// First id given to a worker.
pub const FIRST_WORKER_ID: NodeId = 1000;

/// Highest id of a server.
pub const LAST_SERVER_ID: NodeId = FIRST_WORKER_ID - 1;

/// Whether a node is alive, as the leader decided it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Liveness {
    /// Connected, lease held.
    Ready,
    /// No connection, lease still held. Nothing new is placed here.
    Suspect,
    /// The lease ended without a beat.
    Unreachable,
    /// It said that it stops.
    Left,
}

/// Why a node is in its state. `detail` is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It has an identity and has never had a session.
    Enrolled,
    /// A session was opened.
    SessionOpened,
    /// Its connection closed without a `leaving` report.
    ConnectionLost,
    /// TTL and grace went by without a beat.
    LeaseExpired,
    /// After a restart or failover of the server it has not come back within the reconnect window.
    NotReconnected,
    /// It reported `leaving`.
    Leaving,
    /// An operator removed it.
    Removed,
}

/// What a machine said of itself at enrolment. Informative.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Operating system, such as `linux`.
    pub os: String,
    /// CPU architecture, such as `x86_64`.
    pub arch: String,
    /// Version of zlayer-native.
    pub version: String,
    /// Logical cores; 0 unknown.
    pub cpu_cores: u32,
    /// Bytes; 0 unknown.
    pub memory_bytes: u64,
    /// Bytes; 0 unknown.
    pub disk_bytes: u64,
}

/// A certificate that was, or is about to be, issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 of the `SubjectPublicKeyInfo`, lower-case hex.
    pub key_hash: String,
    /// End of validity.
    pub not_after_ms: UnixMs,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// See [`NodeId`].
    pub id: NodeId,
    /// Name for people, unique is not promised.
    pub name: String,
    /// Last decided liveness.
    pub liveness: Liveness,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since_ms: UnixMs,
    /// When the token was redeemed.
    pub enrolled_ms: UnixMs,
    /// Nothing new is placed here.
    pub draining: bool,
    /// Recorded at enrolment, inside the token's bounds.
    pub labels: Labels,
    /// Self-description.
    pub profile: Profile,
    /// Token it enrolled with.
    pub token_jti: String,
    /// Certificates that may still be used to renew: the newest last, at most [`CERTIFICATES_KEPT`].
    pub certificates: Vec<CertificateRecord>,
    /// Counts liveness changes; a conditional transition names the value that it saw.
    pub epoch: u64,
    /// Random number of the worker process seen last; 0 before the first session.
    pub incarnation: u64,
    /// Longest TTL handed out in its current lease, milliseconds. A new leader waits at least this plus grace.
    pub ttl_ms: u64,
}

/// Certificates remembered for each node.
pub const CERTIFICATES_KEPT: usize = 4;

/// What a token makes of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// A worker.
    #[default]
    Worker,
    /// A server.
    Server,
}

/// A server that enrolled with a token, or was a member when nobody had asked for one. Kept for good, so that no id is
/// given twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// 1..=999.
    pub id: NodeId,
    /// Name for people.
    pub name: String,
    /// `host:port` for the other servers.
    pub raft_addr: String,
    /// `host:port` of its HTTP API.
    pub api_addr: String,
    /// Token it enrolled with; empty where it was there before.
    pub token_jti: String,
    /// The certificate that it enrolled with; none where it was there before.
    pub certificate: Option<CertificateRecord>,
    /// When it enrolled or was noted.
    pub enrolled_ms: UnixMs,
    /// It is no server any more.
    pub removed: bool,
}

/// Bytes that somebody keeps here. Base64 where people or Python read them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Value(pub Vec<u8>);

impl std::fmt::Debug for Value {
    /// Its length alone: it may be long, and nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl serde::de::Visitor<'_> for Reader {
            type Value = Value;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("base64, or bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
                STANDARD.decode(text).map(Value).map_err(E::custom)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(Value(bytes.to_vec()))
            }
        }
        // A command is read as a map first, for its `type`: what it is is only known from what was found.
        deserializer.deserialize_any(Reader)
    }
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueRecord {
    /// Printable ASCII without spaces.
    pub key: String,
    /// What was put there last.
    pub value: Value,
    /// Index of the log entry that put it there.
    pub revision: u64,
    /// Index of the log entry that made the key.
    pub created_revision: u64,
    /// When it was put there.
    pub changed_ms: UnixMs,
}

/// A lock that somebody holds. How long is the leader's business, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// As a key's.
    pub name: String,
    /// 32 hex digits, made at random by whoever holds it.
    pub holder: String,
    /// Who that is, for people.
    pub owner: String,
    /// Time without a renewal after which it is free again, milliseconds.
    pub ttl_ms: u64,
    /// Index of the log entry that granted it: grows from holder to holder.
    pub fence: u64,
    /// Since when.
    pub since_ms: UnixMs,
}

/// A bootstrap token. The token line itself is never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Token id, 32 lower-case hex digits.
    pub jti: String,
    /// Name for people; may be empty.
    pub name: String,
    /// When it was made.
    pub created_ms: UnixMs,
    /// From then on it admits nobody.
    pub expires_ms: UnixMs,
    /// What it makes of a machine.
    #[serde(default)]
    pub role: TokenRole,
    /// Distinct keys that it admits, at least 1.
    pub uses_max: u32,
    /// Labels that every worker of this token gets; a worker that asks for another value of a key, or for a key
    /// outside these and `labels_allowed`, is refused.
    pub labels: Labels,
    /// Keys that the worker may set by itself, to any valid value.
    pub labels_allowed: Vec<String>,
    /// Revoked by an operator.
    pub revoked: bool,
    /// Key hash of each use, and the node that it became.
    pub uses: BTreeMap<String, NodeId>,
}

/// What happened to a node. The names are what `zlayerd events` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A token was redeemed: the node has an id and a certificate.
    Enrolled,
    /// First session of a process of this node.
    Joined,
    /// Its connection was lost.
    Suspect,
    /// Its lease ended.
    Unreachable,
    /// It is back in the state Ready.
    Recovered,
    /// It stopped on purpose.
    Left,
    /// An operator removed it; its certificate is of no use.
    Removed,
    /// Draining was switched on.
    DrainStarted,
    /// Draining was switched off.
    DrainStopped,
    /// A token was made. `node_id` is 0.
    TokenCreated,
    /// A token was revoked. `node_id` is 0.
    TokenRevoked,
    /// More leases than the set share came due at once: expiry is held. `node_id` is 0.
    ExpiryHeld,
    /// A server enrolled, or was noted.
    ServerJoined,
    /// An operator removed a server.
    ServerRemoved,
}

/// One line of the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Position in the event log, from 1, without holes.
    pub revision: u64,
    /// When the leader decided it.
    pub at_ms: UnixMs,
    /// What.
    pub kind: EventKind,
    /// Whom; 0 where it concerns no node.
    pub node_id: NodeId,
    /// Its name at that time.
    pub node_name: String,
    /// Why, for liveness events.
    pub reason: Option<Reason>,
    /// For people; may be empty.
    pub detail: String,
}
