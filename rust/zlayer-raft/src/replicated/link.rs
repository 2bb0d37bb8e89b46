//! Talking to the other servers: seals what is said, opens what is answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::codec::Why;
use crate::replicated::form::{Get, Put};
use crate::replicated::peer::Peer;
use crate::replicated::refusal::PeerRefusal;
use crate::replicated::roster::Roster;
use crate::replicated::transport::{Kind, Target, Transport, TransportError};
use crate::replicated::wire::{self, Envelope, NoAnswer};

/// Why a peer gave no answer that helps.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{0}")]
    Refused(PeerRefusal),
    #[error("the answer can't be read: {0}")]
    Unreadable(Why),
}

/// One server's way to all others.
pub(crate) struct Link {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) cluster_id: String,
    pub(crate) id: u64,
    pub(crate) store: u64,
    pub(crate) roster: Arc<Roster>,
    /// Time without an answer after which a stream of entries is given up.
    pub(crate) append_timeout: Duration,
    /// Bytes of a snapshot in one message.
    pub(crate) piece_bytes: usize,
    /// When a leader was heard last.
    heard: Mutex<Option<Instant>>,
    /// A member has said that this server was removed.
    is_retired: AtomicBool,
    refusals: Mutex<BTreeMap<u64, PeerRefusal>>,
}

impl Link {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        (cluster_id, id, store): (String, u64, u64),
        roster: Arc<Roster>,
        append_timeout: Duration,
        piece_bytes: usize,
    ) -> Self {
        Self {
            transport,
            cluster_id,
            id,
            store,
            roster,
            append_timeout,
            piece_bytes,
            heard: Mutex::default(),
            is_retired: AtomicBool::new(false),
            refusals: Mutex::default(),
        }
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<u64, PeerRefusal>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a server is now. The address in a membership may have changed since a task was begun with it.
    pub(crate) fn target(&self, id: u64, known: &Peer) -> Target {
        let addr = self.roster.peer(id).map(|peer| peer.raft_addr);
        Target { id, addr: addr.unwrap_or_else(|| known.raft_addr.clone()) }
    }

    pub(crate) fn envelope(&self, kind: Kind, to: u64, to_store: u64) -> Envelope {
        Envelope {
            kind,
            cluster_id: self.cluster_id.clone(),
            from: self.id,
            from_store: self.store,
            to,
            to_store,
        }
    }

    /// Asks once.
    pub(crate) async fn ask<T>(
        &self,
        (to, known): (u64, &Peer),
        kind: Kind,
        put: impl FnOnce(&mut Put) -> Result<(), Why>,
        read: impl FnOnce(&mut Get<'_>) -> Result<T, Why>,
        deadline: Duration,
    ) -> Result<T, LinkError> {
        let request = self.envelope(kind, to, known.store).seal(put);
        let request = request.map_err(LinkError::Unreadable)?;
        let target = self.target(to, known);
        let answer = self.transport.call(&target, kind, request, deadline).await?;
        self.read(to, &answer, read)
    }

    /// Reads what a peer has answered.
    pub(crate) fn read<T>(
        &self,
        from: u64,
        answer: &[u8],
        read: impl FnOnce(&mut Get<'_>) -> Result<T, Why>,
    ) -> Result<T, LinkError> {
        match wire::read_answer(answer, read) {
            Ok(answer) => {
                self.refusals().remove(&from);
                Ok(answer)
            }
            Err(NoAnswer::Unreadable(why)) => Err(LinkError::Unreadable(why)),
            Err(NoAnswer::Refused(refusal)) => {
                self.note_refusal(from, &refusal);
                Err(LinkError::Refused(refusal))
            }
        }
    }

    fn note_refusal(&self, from: u64, refusal: &PeerRefusal) {
        if matches!(refusal, PeerRefusal::Retired { id } if *id == self.id) {
            self.is_retired.store(true, Ordering::Release);
        }
        let before = self.refusals().insert(from, refusal.clone());
        if before.as_ref() != Some(refusal) {
            tracing::warn!(peer = from, %refusal, "a server refuses this one");
        }
    }

    /// A leader was heard.
    pub(crate) fn note_leader(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a leader was heard within that time.
    pub(crate) fn has_heard_within(&self, time: Duration) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| heard.elapsed() < time)
    }

    /// Whether a member has said that this server was removed.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// What each server refused last, and has not accepted since.
    pub(crate) fn refused(&self) -> BTreeMap<u64, String> {
        self.refusals().iter().map(|(id, refusal)| (*id, refusal.to_string())).collect()
    }
}
