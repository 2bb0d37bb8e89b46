//! How positions, votes, entries and memberships become bytes: alike in the log and between servers.
//!
//! Numbers are little-endian. An optional value has a byte before it, 0 or 1; bytes and texts have their length, 4
//! bytes, before them. Whatever can grow is a record of its own kind or a body of named fields, never a field here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::Why;
use crate::replicated::peer::Peer;
use crate::replicated::types::{
    Encoded, LogEntry, LogId, Membership, Payload, StoredMembership, Vote, log_id,
};

/// Kinds of payload.
const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes that an entry takes beside its payload.
pub(crate) const ENTRY_HEAD: usize = 3 * 8 + 1 + 4;

/// Builds bytes.
#[derive(Default)]
pub(crate) struct Put(pub(crate) Vec<u8>);

impl Put {
    pub(crate) fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
    }

    pub(crate) fn log_id(&mut self, id: &LogId) {
        self.u64(id.leader_id.term);
        self.u64(id.leader_id.node_id);
        self.u64(id.index);
    }

    pub(crate) fn optional<T>(&mut self, value: Option<&T>, put: impl FnOnce(&mut Self, &T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub(crate) fn optional_log_id(&mut self, id: Option<&LogId>) {
        self.optional(id, Self::log_id);
    }

    pub(crate) fn vote(&mut self, vote: &Vote) {
        self.u64(vote.leader_id.term);
        self.u64(vote.leader_id.node_id);
        self.u8(u8::from(vote.committed));
    }

    pub(crate) fn entry(&mut self, entry: &LogEntry) -> Result<(), Why> {
        self.log_id(&entry.log_id);
        match &entry.payload {
            Payload::Blank => {
                self.u8(BLANK);
                self.bytes(&[]);
            }
            Payload::Normal(command) => {
                self.u8(COMMAND);
                self.bytes(command.bytes());
            }
            Payload::Membership(membership) => {
                self.u8(MEMBERSHIP);
                self.bytes(&encode_named(&Members::of(membership))?);
            }
        }
        Ok(())
    }
}

/// Reads bytes.
pub(crate) struct Get<'a>(pub(crate) &'a [u8]);

impl<'a> Get<'a> {
    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Why> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        self.raw(N)?.try_into().map_err(|_| "it ends too early".into())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Why> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Why> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{other} is neither yes nor no")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Why> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Why> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Why> {
        let length = self.u32()? as usize;
        self.raw(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, Why> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| "a text is no UTF-8".into())
    }

    pub(crate) fn log_id(&mut self) -> Result<LogId, Why> {
        Ok(log_id(self.u64()?, self.u64()?, self.u64()?))
    }

    pub(crate) fn optional<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Result<T, Why>,
    ) -> Result<Option<T>, Why> {
        if self.flag()? { get(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn optional_log_id(&mut self) -> Result<Option<LogId>, Why> {
        self.optional(Self::log_id)
    }

    pub(crate) fn vote(&mut self) -> Result<Vote, Why> {
        let (term, node) = (self.u64()?, self.u64()?);
        let committed = self.flag()?;
        Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
    }

    pub(crate) fn entry(&mut self) -> Result<LogEntry, Why> {
        let log_id = self.log_id()?;
        let kind = self.u8()?;
        let body = self.bytes()?;
        let payload = match kind {
            BLANK => Payload::Blank,
            COMMAND => Payload::Normal(Encoded::read(Bytes::copy_from_slice(body))?),
            MEMBERSHIP => Payload::Membership(decode_named::<Members>(body)?.into_membership()?),
            other => return Err(format!("this version knows no entry of kind {other}")),
        };
        Ok(LogEntry { log_id, payload })
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), Why> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", self.0.len())) }
    }
}

/// Bytes of an entry's payload.
pub(crate) fn payload_len(entry: &LogEntry) -> usize {
    match &entry.payload {
        Payload::Blank => 0,
        Payload::Normal(command) => command.bytes().len(),
        // Rare, and bounded by the number of servers.
        Payload::Membership(membership) => 64 * membership.nodes().count(),
    }
}

/// A membership: its sets of voters (two of them while it changes) and all servers, learners too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) configs: Vec<BTreeSet<u64>>,
    pub(crate) peers: BTreeMap<u64, Peer>,
}

impl Members {
    pub(crate) fn of(membership: &Membership) -> Self {
        Self {
            configs: membership.get_joint_config().clone(),
            peers: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
        }
    }

    pub(crate) fn into_membership(self) -> Result<Membership, Why> {
        Membership::new(self.configs, self.peers).map_err(|error| error.to_string())
    }
}

/// A membership and the entry that brought it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMembers {
    pub(crate) at: Option<Position>,
    pub(crate) members: Members,
}

impl StoredMembers {
    pub(crate) fn of(stored: &StoredMembership) -> Self {
        Self {
            at: stored.log_id().as_ref().map(Position::of),
            members: Members::of(stored.membership()),
        }
    }

    pub(crate) fn into_stored(self) -> Result<StoredMembership, Why> {
        let at = self.at.map(Position::into_log_id);
        Ok(StoredMembership::new(at, self.members.into_membership()?))
    }
}

/// A log position, with named fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) index: u64,
}

impl Position {
    pub(crate) fn of(id: &LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }

    pub(crate) fn into_log_id(self) -> LogId {
        log_id(self.term, self.node, self.index)
    }
}

/// `MessagePack` with named fields, so that a later version can add one.
pub(crate) fn encode_named(value: &impl Serialize) -> Result<Vec<u8>, Why> {
    rmp_serde::to_vec_named(value).map_err(|error| error.to_string())
}

pub(crate) fn decode_named<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Why> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}
