//! The rules of the engine, one a test. Here: a small server around the engine that ticks and commits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod doubt;
mod failover;
mod lease;
mod record;
mod session;
mod threads;

use std::collections::BTreeMap;

use super::{Ack, BeatPath, Effect, Event, Liveness, LivenessLimits, SessionId, SessionLease};
use crate::command::Transition;
use crate::record::{Liveness as State, NodeId, Reason};
use crate::time::MonoMs;
use crate::ttl::AdaptiveTtlConfig;
use std::sync::Arc;

/// An engine, a clock that is set by hand, and a control state that commits at once while `commits`.
struct Server {
    engine: Liveness,
    beats: Arc<BeatPath>,
    now: MonoMs,
    commits: bool,
    next_session: u64,
    epochs: BTreeMap<NodeId, u64>,
    /// What was proposed: when, whom, to what, why.
    log: Vec<(u64, NodeId, State, Reason)>,
    /// Everything else.
    other: Vec<Effect>,
}

impl Server {
    fn new() -> Self {
        Self::with(AdaptiveTtlConfig::default(), LivenessLimits::default())
    }

    fn with(config: AdaptiveTtlConfig, limits: LivenessLimits) -> Self {
        let (engine, beats) = Liveness::new(config, limits);
        Self {
            engine,
            beats,
            now: MonoMs(1_000_000),
            commits: true,
            next_session: 1,
            epochs: BTreeMap::new(),
            log: Vec::new(),
            other: Vec::new(),
        }
    }

    /// A server with `nodes` connected workers, ids from 1000, all opened at the same time.
    fn with_workers(nodes: u64) -> (Self, Vec<SessionLease>) {
        let mut server = Self::new();
        let leases = (1_000..1_000 + nodes)
            .map(|node| {
                server.enrol(node);
                server.open(node).0
            })
            .collect();
        server.log.clear();
        (server, leases)
    }

    fn handle(&mut self, event: Event) {
        let mut out = Vec::new();
        self.engine.handle(self.now, event, &mut out);
        self.perform(out);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Propose(transition) => self.propose(&transition),
                other => self.other.push(other),
            }
        }
        // Large fleets would spend all their time on this.
        if self.epochs.len() <= 100 {
            self.engine.check_invariants();
        }
    }

    fn propose(&mut self, transition: &Transition) {
        let Transition { node_id, to, reason, epoch, .. } = *transition;
        assert_eq!(Some(&epoch), self.epochs.get(&node_id), "proposed on the recorded epoch");
        self.log.push((self.now.0, node_id, to, reason));
        if self.commits {
            self.commit(node_id);
        }
    }

    /// Commits the node's proposal.
    fn commit(&mut self, node: NodeId) {
        let epoch = self.epochs.get_mut(&node).unwrap();
        *epoch += 1;
        let epoch = Some(*epoch);
        self.handle(Event::Committed { node, epoch });
    }

    fn enrol(&mut self, node: NodeId) {
        self.epochs.insert(node, 0);
        self.handle(Event::Enrolled { node, liveness: State::Unreachable, epoch: 0 });
    }

    fn load(&mut self, node: NodeId, liveness: State, ttl_ms: u64) {
        self.epochs.insert(node, 7);
        self.handle(Event::Loaded { node, liveness, epoch: 7, incarnation: 1, ttl_ms });
    }

    /// A new session of the node's process number 1.
    fn open(&mut self, node: NodeId) -> (SessionLease, Ack) {
        self.open_process(node, 1)
    }

    fn open_process(&mut self, node: NodeId, incarnation: u64) -> (SessionLease, Ack) {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        self.open_session(node, session, incarnation).expect("the session opens")
    }

    fn open_session(
        &mut self,
        node: NodeId,
        session: SessionId,
        incarnation: u64,
    ) -> Result<(SessionLease, Ack), super::LivenessError> {
        let mut out = Vec::new();
        let opened = self.engine.open(self.now, node, session, incarnation, &mut out);
        self.perform(out);
        opened
    }

    fn beat(&self, lease: &SessionLease) -> Ack {
        self.beats.beat(lease, self.now).expect("the lease is held")
    }

    fn disconnect(&mut self, lease: &SessionLease) {
        self.handle(Event::Disconnected { node: lease.node(), session: lease.session() });
    }

    /// Lets `ms` pass with a tick every 100 ms.
    fn pass(&mut self, ms: u64) {
        let end = self.now.plus(ms);
        while self.now < end {
            self.now = self.now.plus(100).min(end);
            self.handle(Event::Tick);
        }
    }

    /// Lets `ms` pass while `leases` beat every 5 s.
    fn pass_beating(&mut self, ms: u64, leases: &[SessionLease]) {
        let end = self.now.plus(ms);
        while self.now < end {
            for lease in leases {
                self.beat(lease);
            }
            let step = end.since(self.now).min(5_000);
            self.pass(step);
        }
    }

    /// The server sleeps: no tick, no beat.
    fn sleep(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
    }

    /// When the node was proposed to be in `to`, and why, the last time.
    fn when(&self, node: NodeId, to: State) -> Option<(u64, Reason)> {
        let found = self.log.iter().rev().find(|&&(_, id, state, _)| (id, state) == (node, to));
        found.map(|&(at, _, _, reason)| (at, reason))
    }

    fn alarms(&self) -> usize {
        self.other.iter().filter(|effect| matches!(effect, Effect::Alarm(_))).count()
    }
}
