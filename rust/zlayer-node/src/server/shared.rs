//! What every task of the server shares.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use zlayer_core::liveness::{Ack, Event, LivenessError, SessionId};
use zlayer_core::record::NodeId;
use zlayer_core::time::MonoMs;
use zlayer_raft::{ControlLog, StateView};

use super::connection::Connection;
use super::engine::{Engine, Lease, OpenError};
use super::hosted::Hosts;
use super::lock_leases::LockLeases;
use super::metrics::Metrics;
use super::registry::Registry;
use super::seats::Seats;
use crate::clock::Clock;
use crate::limits::{Gate, Rates};
use crate::options::{ServerLimits, ServerOptions};
use crate::refusal::Refusal;
use crate::sni::Names;
use crate::wake::Wake;

/// Time for a worker to come back after it was asked to connect anew, milliseconds. Chosen: a handshake under
/// load, and still well below the time in which a dead host is noticed.
const HANDOVER_MS: u64 = 3_000;

/// Why a session is not opened here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Another server decides, or none.
    NotLeading,
    /// It must not be served.
    Refused(Refusal),
}

/// The server's parts.
pub(crate) struct Shared {
    pub(crate) cluster_id: String,
    pub(crate) node_id: NodeId,
    pub(crate) clock: Clock,
    pub(crate) limits: ServerLimits,
    pub(crate) names: Names,
    pub(crate) join_socket: PathBuf,
    /// Of `server.<cluster>`, for new connections.
    pub(crate) tls: ArcSwap<ServerConfig>,
    /// Whether the join name is answered.
    pub(crate) join_open: AtomicBool,
    pub(crate) handshakes: Arc<Gate>,
    pub(crate) connections: Arc<Gate>,
    pub(crate) splices: Arc<Gate>,
    pub(crate) splice_rates: Rates,
    pub(crate) registry: Registry,
    /// Sessions on this server's connections.
    pub(crate) seats: Seats,
    /// Sessions that followers serve for this server.
    pub(crate) hosts: Hosts,
    pub(crate) metrics: Metrics,
    pub(crate) engine: Engine,
    /// Leases of locks, while this server leads.
    pub(crate) lock_leases: LockLeases,
    /// There has been no leader for long: nobody is served here.
    outage: AtomicBool,
    pub(crate) log: Arc<dyn ControlLog>,
    pub(crate) state: Arc<StateView>,
    /// Cap on heartbeats, for the status page.
    pub(crate) max_heartbeats_per_second: u32,
    /// Wakes the embedding event loop.
    pub(crate) wake: Arc<Wake>,
    /// Sessions that this server asked to connect anew: when they count as lost.
    pub(crate) handovers: Mutex<VecDeque<(MonoMs, NodeId, SessionId)>>,
    /// Beats of the last full second.
    pub(crate) beats_per_second: AtomicU64,
    /// Why the server ended by itself.
    failed: OnceLock<String>,
    /// Nothing new is accepted, and nothing is proposed.
    pub(crate) stopping: CancellationToken,
}

impl Shared {
    pub(crate) fn new(
        options: &ServerOptions,
        clock: Clock,
        tls: Arc<ServerConfig>,
        engine: Engine,
        log: Arc<dyn ControlLog>,
        wake: Arc<Wake>,
    ) -> Self {
        let limits = options.limits.clone();
        Self {
            cluster_id: options.cluster_id.clone(),
            node_id: options.node_id,
            clock,
            max_heartbeats_per_second: options.ttl.max_heartbeats_per_second,
            names: Names::new(&options.cluster_id),
            join_socket: options.join_socket.clone(),
            tls: ArcSwap::new(tls),
            join_open: AtomicBool::new(false),
            handshakes: Gate::new(limits.handshakes_max, limits.handshakes_per_source_max),
            connections: Gate::new(limits.connections_max, limits.connections_per_source_max),
            splices: Gate::new(limits.splices_max, limits.splices_per_source_max),
            splice_rates: Rates::new(
                clock.now(),
                limits.splices_per_second,
                limits.splices_per_second_per_source,
            ),
            registry: Registry::default(),
            seats: Seats::default(),
            hosts: Hosts::default(),
            lock_leases: LockLeases::default(),
            outage: AtomicBool::new(false),
            metrics: Metrics::default(),
            engine,
            state: log.state(),
            log,
            wake,
            handovers: Mutex::default(),
            beats_per_second: AtomicU64::new(0),
            failed: OnceLock::new(),
            stopping: CancellationToken::new(),
            limits,
        }
    }

    /// Stops the server for good, by name. The first cause stays.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!(%why, "the server stops");
        let _ = self.failed.set(why);
        self.stopping.cancel();
        self.wake.wake();
    }

    /// Why it stopped by itself, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failed.get().cloned()
    }

    /// Notes whether there has been no leader for long; true when it is so since now.
    pub(crate) fn note_outage(&self, lasts: bool) -> bool {
        !self.outage.swap(lasts, Ordering::AcqRel) && lasts
    }

    /// Whether there has been no leader for long.
    pub(crate) fn has_outage(&self) -> bool {
        self.outage.load(Ordering::Acquire)
    }

    /// Whether a node may have a session, by the control state; and whether it drains. A server that does not lead
    /// may not have heard of a new node yet: the leader decides then.
    ///
    /// # Errors
    /// [`Refusal::Removed`] or [`Refusal::Unknown`].
    pub(crate) fn member(&self, node_id: NodeId) -> Result<bool, Refusal> {
        self.state.with_state(|state| match state.node(node_id) {
            Some(record) => Ok(record.draining),
            None if state.is_removed(node_id) => Err(Refusal::Removed),
            None if !self.engine.leads() => Ok(false),
            None => Err(Refusal::Unknown),
        })
    }

    /// Tells a connection what the control state says of its node.
    ///
    /// # Errors
    /// [`Refusal::Removed`] or [`Refusal::Unknown`].
    pub(crate) fn prepare(&self, connection: &Connection) -> Result<(), Refusal> {
        let mut draining = self.member(connection.node_id)?;
        loop {
            connection.draining.store(draining, Ordering::Relaxed);
            // Whoever changes it after this look tells the connection after what was stored here.
            match self.member(connection.node_id)? {
                same if same == draining => return Ok(()),
                newer => draining = newer,
            }
        }
    }

    /// Opens a session, or opens it anew after its lease has ended.
    ///
    /// # Errors
    /// Why the session is not opened.
    pub(crate) fn open_session(
        &self,
        node_id: NodeId,
        session: SessionId,
        incarnation: u64,
    ) -> Result<(Lease, Ack), Opening> {
        self.with_member(node_id, || self.engine.open(node_id, session, incarnation))
    }

    /// Notes a session that goes on from an earlier leader's time.
    ///
    /// # Errors
    /// Why the session must end.
    pub(crate) fn announce_session(
        &self,
        node_id: NodeId,
        session: SessionId,
        incarnation: u64,
    ) -> Result<(), Opening> {
        self.with_member(node_id, || self.engine.announce(node_id, session, incarnation))
    }

    fn with_member<T>(
        &self,
        node_id: NodeId,
        decide: impl Fn() -> Result<T, OpenError>,
    ) -> Result<T, Opening> {
        match decide() {
            // It enrolled a moment ago, and the ticker has not come to it.
            Err(OpenError::Refused(LivenessError::UnknownNode { .. })) => {
                self.member(node_id).map_err(Opening::Refused)?;
                self.introduce(node_id);
                Ok(decide()?)
            }
            decided => Ok(decided?),
        }
    }

    /// Tells the engine of a node that the control state knows. Again changes nothing.
    pub(crate) fn introduce(&self, node: NodeId) {
        let record = self
            .state
            .with_state(|state| state.node(node).map(|record| (record.liveness, record.epoch)));
        if let Some((liveness, epoch)) = record {
            self.engine.tell(Event::Enrolled { node, liveness, epoch });
        }
    }

    /// Tells the engine that a session is gone: at once, or after the time that a worker needs to come back when
    /// it was this server that asked it to.
    pub(crate) fn session_ended(&self, node: NodeId, session: SessionId, hand_over: bool) {
        if hand_over {
            let due = self.clock.now().plus(HANDOVER_MS);
            self.handovers().push_back((due, node, session));
        } else {
            self.engine.tell(Event::Disconnected { node, session });
        }
    }

    /// Sessions that were asked to come back and are due now.
    pub(crate) fn take_handovers(&self) -> Vec<Event> {
        let now = self.clock.now();
        let mut handovers = self.handovers();
        let due = handovers.iter().take_while(|(at, ..)| *at <= now).count();
        handovers
            .drain(..due)
            .map(|(_, node, session)| Event::Disconnected { node, session })
            .collect()
    }

    fn handovers(&self) -> MutexGuard<'_, VecDeque<(MonoMs, NodeId, SessionId)>> {
        self.handovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the join name only while somebody could use it: a token admits, or a node may renew.
    pub(crate) fn refresh_join_open(&self) {
        let now = Clock::unix();
        let open = self.state.with_state(|state| {
            state.nodes().next().is_some()
                || state.tokens().any(|token| {
                    let unused = (token.uses.len() as u64) < u64::from(token.uses_max);
                    !token.revoked && now < token.expires_ms && unused
                })
        });
        self.join_open.store(open, Ordering::Relaxed);
    }
}
