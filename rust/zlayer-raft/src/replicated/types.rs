//! The types that openraft is told to work with.

use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use openraft::RaftTypeConfig;
use openraft::impls::leader_id_adv::LeaderId as AdvLeaderId;
use openraft::raft::responder::Responder;
use zlayer_core::command::{Entry, Outcome};

use crate::codec::{self, Why};
use crate::replicated::peer::Peer;

/// The choice of types. A leader is named by term and node, so that a term can have several of them, one after
/// another, and split votes are rare; whoever orders or fences uses both, never the term alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Encoded;
    type R = Outcome;
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = AdvLeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Encoded, u64, Peer>;
    type Entry = openraft::Entry<Self::LeaderId, Self::Payload>;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type Responder<T>
        = Reply<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LeaderOf = AdvLeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<LeaderOf>;
pub(crate) type Vote = openraft::Vote<LeaderOf>;
pub(crate) type Payload = openraft::EntryPayload<Encoded, u64, Peer>;
pub(crate) type LogEntry = openraft::Entry<LeaderOf, Payload>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderOf, u64, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderOf, u64, Peer>;

/// Names a log position.
pub(crate) fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(LeaderOf { term, node_id: node }, index)
}

/// An entry of the control log as it lies in the log and goes to the peers: encoded once, by the leader.
#[derive(Clone)]
pub(crate) struct Encoded(Arc<Content>);

struct Content {
    bytes: Bytes,
    /// What the bytes say, between reading them and applying them.
    entry: Mutex<Option<Entry>>,
}

impl Encoded {
    /// Encodes an entry.
    pub(crate) fn new(entry: Entry) -> Result<Self, Why> {
        let bytes = codec::encode_entry(&entry)?.into();
        Ok(Self(Arc::new(Content { bytes, entry: Mutex::new(Some(entry)) })))
    }

    /// Takes what a log or a peer has; reads it, so that what can't be understood here is refused before it counts.
    pub(crate) fn read(bytes: Bytes) -> Result<Self, Why> {
        let entry = Some(decode(&bytes)?);
        Ok(Self(Arc::new(Content { bytes, entry: Mutex::new(entry) })))
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The entry, to be applied.
    pub(crate) fn take(&self) -> Result<Entry, Why> {
        let read = self.0.entry.lock().unwrap_or_else(PoisonError::into_inner).take();
        read.map_or_else(|| decode(&self.0.bytes), Ok)
    }
}

fn decode(bytes: &[u8]) -> Result<Entry, Why> {
    match codec::decode_record(bytes)? {
        codec::Record::Entry(entry) => Ok(*entry),
        codec::Record::Elected { .. } => Err("it is no command".into()),
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.bytes.len())
    }
}

impl Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self, f)
    }
}

type Callback<T> = Box<dyn FnOnce(Option<T>) + Send>;

/// Gets the answer to a proposal; `None` where openraft ended without one.
pub(crate) struct Reply<T>(Option<Callback<T>>);

impl<T> Reply<T> {
    pub(crate) fn new(callback: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }
}

impl<T: Send + 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(mut self, result: T) {
        if let Some(callback) = self.0.take() {
            callback(Some(result));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            callback(None);
        }
    }
}
