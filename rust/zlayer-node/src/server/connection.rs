//! One worker connection, as the tasks that serve it, the engine and the API see it together.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use zlayer_core::liveness::SessionId;
use zlayer_core::record::NodeId;
use zlayer_core::time::UnixMs;
use zlayer_wire::v1::Resources;

use crate::limits::SharedRate;
use crate::peer::WorkerIdentity;
use crate::refusal::Refusal;

/// A connection. It carries at most one session at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Unique in this process, from 1.
    pub(crate) id: u64,
    /// The certificate's.
    pub(crate) node_id: NodeId,
    /// End of the certificate's validity.
    pub(crate) not_after: UnixMs,
    /// Where it comes from.
    pub(crate) address: SocketAddr,
    /// Told to the worker in each ack.
    pub(crate) draining: AtomicBool,
    /// Number of the refusal that ends it; 0 while it goes on.
    ending: AtomicU8,
    /// Number of the refusal that answers every request; 0 while they are served.
    refused: AtomicU8,
    /// Id of the session; 0 for none.
    session: AtomicU64,
    /// The session has said `leaving`, and that is durable.
    left: AtomicBool,
    /// Open streams that keep it open.
    held_open: AtomicU32,
    /// Of the task that drives it.
    waker: AtomicWaker,
}

impl Connection {
    pub(crate) fn new(id: u64, identity: WorkerIdentity, address: SocketAddr) -> Self {
        Self {
            id,
            node_id: identity.node_id,
            not_after: identity.not_after,
            address,
            draining: AtomicBool::new(false),
            ending: AtomicU8::new(0),
            refused: AtomicU8::new(0),
            session: AtomicU64::new(0),
            left: AtomicBool::new(false),
            held_open: AtomicU32::new(0),
            waker: AtomicWaker::new(),
        }
    }

    /// Ends every stream with this refusal and closes the connection soon after. The first call decides.
    pub(crate) fn end(&self, why: Refusal) {
        let first = self.ending.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Relaxed);
        if first.is_ok() {
            self.waker.wake();
        }
    }

    /// Refuses every request with this, without ending: the peer must be able to hear it. A connection that is
    /// refused so has no stream that keeps it open, and is closed by the limit on that.
    pub(crate) fn refuse_all(&self, why: Refusal) {
        let _ = self.refused.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Why no request is served, if so.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        Refusal::from_u8(self.refused.load(Ordering::Acquire)).or_else(|| self.ending())
    }

    /// Whether its node is none of the cluster's, or no longer.
    pub(crate) fn is_of_no_member(&self) -> bool {
        matches!(self.refused(), Some(Refusal::Removed | Refusal::Unknown))
    }

    /// Why it ends, if it does.
    pub(crate) fn ending(&self) -> Option<Refusal> {
        Refusal::from_u8(self.ending.load(Ordering::Acquire))
    }

    /// Wakes the task that drives it: an answer has come.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Sets the task that is woken by every change from outside.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Takes the one session; false when it is taken.
    pub(crate) fn take_session(&self, session: SessionId) -> bool {
        self.session.compare_exchange(0, session.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Gives the session back, so that a worker may open its report stream anew on the same connection.
    pub(crate) fn release_session(&self) {
        self.session.store(0, Ordering::Release);
    }

    /// Its session, if it has one.
    pub(crate) fn session(&self) -> Option<SessionId> {
        Some(SessionId(self.session.load(Ordering::Acquire))).filter(|session| session.0 != 0)
    }

    /// The session says `leaving` now; what an earlier one said does not count.
    pub(crate) fn begin_leaving(&self) {
        self.left.store(false, Ordering::Release);
    }

    /// Notes that the node's leaving is durable.
    pub(crate) fn note_left(&self) {
        self.left.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the node's leaving is durable.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Counts a stream that keeps the connection open.
    pub(crate) fn hold_open(&self) {
        self.held_open.fetch_add(1, Ordering::Relaxed);
    }

    /// The inverse of [`Connection::hold_open`].
    pub(crate) fn let_go(&self) {
        self.held_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a stream keeps it open.
    pub(crate) fn is_held_open(&self) -> bool {
        self.held_open.load(Ordering::Relaxed) > 0
    }
}

/// What a node's sessions share, also one after the other: a new connection starts nothing afresh.
#[derive(Debug, Default)]
pub(crate) struct NodeLedger {
    pub(crate) resources: LastResources,
    /// Of all its reports.
    pub(crate) reports: SharedRate,
}

/// The resources that a node reported last. Written by a beat's thread, read by the API, no lock in between:
/// each value is true by itself, and two of them may be one report apart.
#[derive(Debug, Default)]
pub(crate) struct LastResources {
    reported: AtomicBool,
    cpu_millicores: AtomicU32,
    memory_bytes: AtomicU64,
    disk_bytes: AtomicU64,
}

impl LastResources {
    /// Notes what a report carried.
    pub(crate) fn note(&self, resources: &Resources) {
        self.cpu_millicores.store(resources.cpu_millicores, Ordering::Relaxed);
        self.memory_bytes.store(resources.memory_bytes, Ordering::Relaxed);
        self.disk_bytes.store(resources.disk_bytes, Ordering::Relaxed);
        self.reported.store(true, Ordering::Relaxed);
    }

    /// A reading, or `None` before the first report.
    pub(crate) fn read(&self) -> Option<Resources> {
        self.reported.load(Ordering::Relaxed).then(|| Resources {
            cpu_millicores: self.cpu_millicores.load(Ordering::Relaxed),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
        })
    }
}
