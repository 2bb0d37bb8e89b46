//! What can be asked of the control state: commands, and what applying each one answers.
//!
//! A command becomes an [`Entry`] when the leader stamps it. Entries are what the log holds.

use serde::{Deserialize, Serialize};

use crate::record::{
    CertificateRecord, Labels, Liveness, NodeId, Profile, Reason, TokenRole, Value,
};
use crate::time::UnixMs;

/// A command with the leader's stamp: one line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's wall clock; apply clamps it to be non-decreasing.
    pub stamp_ms: UnixMs,
    /// What to do.
    pub command: Command,
}

/// A change of the control state. JSON form: `{"type": "redeem", "jti": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Makes a token. Answers `Done`.
    CreateToken {
        /// Token id, 32 lower-case hex digits; must be new.
        jti: String,
        /// Name for people.
        #[serde(default)]
        name: String,
        /// End of validity.
        expires_ms: UnixMs,
        /// What it makes of a machine.
        #[serde(default)]
        role: TokenRole,
        /// Distinct keys that it admits, at least 1.
        uses_max: u32,
        /// See [`crate::record::TokenRecord::labels`].
        #[serde(default)]
        labels: Labels,
        /// See [`crate::record::TokenRecord::labels_allowed`].
        #[serde(default)]
        labels_allowed: Vec<String>,
    },
    /// Revokes a token for good. Answers `Done`; revoking twice is no error.
    RevokeToken {
        /// Token id.
        jti: String,
    },
    /// Counts one use of a token, once for each (token, key), and allots a node id. Answers `Redeemed`.
    Redeem {
        /// Token id.
        jti: String,
        /// Name for people; empty: `worker-<id>`.
        #[serde(default)]
        name: String,
        /// Labels that the worker asks for.
        #[serde(default)]
        labels: Labels,
        /// Self-description.
        #[serde(default)]
        profile: Profile,
        /// The certificate that will be signed once this is committed.
        certificate: CertificateRecord,
    },
    /// Records the successor of a certificate. Answers `Done`. Idempotent for the same pair of keys.
    RenewCertificate {
        /// Whose.
        node_id: NodeId,
        /// Key hash that the proof was made with; must be one of the node's.
        old_key_hash: String,
        /// The certificate that will be signed once this is committed.
        certificate: CertificateRecord,
    },
    /// Liveness changes that the leader decided, in order. Answers `Transitioned`.
    Transition {
        /// Each is applied only where `epoch` still holds.
        items: Vec<Transition>,
    },
    /// Switches draining. Answers `Done`.
    SetDraining {
        /// Whom.
        node_id: NodeId,
        /// On or off.
        draining: bool,
    },
    /// Removes a node for good: the id is not reused and its certificates are refused. Answers `Done`.
    RemoveNode {
        /// Whom.
        node_id: NodeId,
    },
    /// Records that the mass-expiry brake holds. Answers `Done`.
    HoldExpiry {
        /// Leases that came due.
        due: u64,
        /// Leases in all.
        leases: u64,
    },
    /// Counts one use of a token for servers, once for each (token, key), and records a server. Answers `Redeemed`.
    RedeemServer {
        /// Token id.
        jti: String,
        /// 1..=999, never given before; 0: the next one.
        id: NodeId,
        /// Name for people; empty: `server-<id>`.
        #[serde(default)]
        name: String,
        /// `host:port` for the other servers.
        raft_addr: String,
        /// `host:port` of its HTTP API.
        api_addr: String,
        /// The certificate that will be signed once this is committed.
        certificate: CertificateRecord,
    },
    /// Records a server that is a member already, or its new addresses. Answers `Done`.
    NoteServer {
        /// Which.
        id: NodeId,
        /// `host:port` for the other servers.
        raft_addr: String,
        /// `host:port` of its HTTP API.
        api_addr: String,
    },
    /// Removes a server for good: the id is not given again. Answers `Done`; twice is no error.
    RemoveServer {
        /// Which.
        id: NodeId,
    },
    /// Makes a node of a server that is one itself, or changes its name and labels. Answers `Done`.
    JoinPeer {
        /// 1..=999.
        id: NodeId,
        /// Name for people.
        name: String,
        /// What work is placed by.
        #[serde(default)]
        labels: Labels,
    },
    /// Puts a value. Answers `Written`.
    Put {
        /// Where.
        key: String,
        /// What.
        value: Value,
        /// Only if the key's revision is this; 0: only if there is none.
        #[serde(default)]
        if_revision: Option<u64>,
    },
    /// Deletes a key. Answers `Written` with the revision that it had, 0 where there was none.
    Delete {
        /// Which.
        key: String,
        /// Only if the key's revision is this.
        #[serde(default)]
        if_revision: Option<u64>,
    },
    /// Takes a lock that nobody holds. Answers `Locked`; again, for the same holder, the same.
    AcquireLock {
        /// Which.
        name: String,
        /// 32 lower-case hex digits, made at random for each time that it is to be held.
        holder: String,
        /// Who that is, for people.
        #[serde(default)]
        owner: String,
        /// Time without a renewal after which it is free again, milliseconds.
        ttl_ms: u64,
    },
    /// Lets go of locks that are still held under these fences. Answers `Released`.
    ReleaseLocks {
        /// Which.
        items: Vec<HeldLock>,
    },
}

/// A lock, as it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeldLock {
    /// Which.
    pub name: String,
    /// The fence that it was granted under.
    pub fence: u64,
}

/// One conditional liveness change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Whom.
    pub node_id: NodeId,
    /// [`crate::record::NodeRecord::epoch`] that the decision was made on.
    pub epoch: u64,
    /// New state.
    pub to: Liveness,
    /// Why.
    pub reason: Reason,
    /// The worker process that it is about; 0 keeps the recorded one.
    #[serde(default)]
    pub incarnation: u64,
    /// TTL handed out with it, milliseconds; 0 keeps the recorded one.
    #[serde(default)]
    pub ttl_ms: u64,
    /// For people.
    #[serde(default)]
    pub detail: String,
}

/// What applying a command answered. JSON form: `{"type": "redeemed", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing to add.
    Done,
    /// Of `Redeem`.
    Redeemed {
        /// The allotted id, or the one that the same key got before.
        node_id: NodeId,
        /// The recorded name.
        name: String,
        /// The recorded labels.
        labels: Labels,
        /// False for a repeat.
        first: bool,
    },
    /// Of `Transition`: one answer an item, in order.
    Transitioned {
        /// `Some(new epoch)`, or `None` where the condition did not hold and nothing was done.
        epochs: Vec<Option<u64>>,
    },
    /// Of `Put` and `Delete`.
    Written {
        /// The revision.
        revision: u64,
    },
    /// Of `AcquireLock`.
    Locked {
        /// Grows from holder to holder: what a lock protects refuses a smaller one than it has seen.
        fence: u64,
    },
    /// Of `ReleaseLocks`.
    Released {
        /// How many were still held.
        count: u64,
    },
    /// Refused; nothing was changed.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}

/// Why a command was refused. `snake_case` names are stable: Python maps each to one exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// No such token, or it expired, or it was revoked: one answer for all, so that nobody can probe.
    #[error("the token does not admit")]
    TokenInvalid,
    /// The token is genuine and used up.
    #[error("token {jti} has no uses left ({uses_max} of {uses_max})")]
    TokenUsedUp {
        /// Which.
        jti: String,
        /// Its limit.
        uses_max: u32,
    },
    /// A token with this id exists.
    #[error("token {jti} exists already")]
    TokenExists {
        /// Which.
        jti: String,
    },
    /// No such token, said to an operator.
    #[error("there is no token {jti}")]
    TokenNotFound {
        /// Which.
        jti: String,
    },
    /// A label outside the token's bounds.
    #[error("label {key}: {why}")]
    LabelNotPermitted {
        /// Which.
        key: String,
        /// What was wrong.
        why: String,
    },
    /// A field of the command is out of its range.
    #[error("{field}: {why}")]
    Invalid {
        /// Which.
        field: String,
        /// What was wrong.
        why: String,
    },
    /// The key belongs to another node, or was used before by a removed one.
    #[error("this key is bound to another node")]
    KeyInUse,
    /// No such node, or it was removed.
    #[error("there is no node {node_id}")]
    NodeNotFound {
        /// Which.
        node_id: NodeId,
    },
    /// The old key is not one of the node's.
    #[error("node {node_id} has no such key")]
    KeyUnknown {
        /// Which.
        node_id: NodeId,
    },
    /// The id was given to another server.
    #[error("server id {id} was given to another server; ids are not used again")]
    ServerIdTaken {
        /// Which.
        id: NodeId,
    },
    /// No such server.
    #[error("there is no server {id}")]
    ServerNotFound {
        /// Which.
        id: NodeId,
    },
    /// It was removed.
    #[error("server {id} was removed; its id is not used again")]
    ServerRemoved {
        /// Which.
        id: NodeId,
    },
    /// The key has another revision than the command was meant for.
    #[error("{key} has the revision {revision}")]
    RevisionMismatch {
        /// Which.
        key: String,
        /// The one that it has; 0 where there is no such key.
        revision: u64,
    },
    /// Somebody else holds the lock.
    #[error("lock {name} is held by {owner} (fence {fence})")]
    LockHeld {
        /// Which.
        name: String,
        /// Who.
        owner: String,
        /// Under which fence.
        fence: u64,
    },
    /// A limit of the control state was reached.
    #[error("limit reached: {what} ({limit})")]
    LimitReached {
        /// Of what.
        what: String,
        /// The limit.
        limit: u64,
    },
}
