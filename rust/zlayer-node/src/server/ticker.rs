//! The one task that carries the engine's effects out: ticks, proposes, follows the control state, closes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use zlayer_core::command::{Command, Outcome, Transition};
use zlayer_core::liveness::{CloseReason, Effect, Event};
use zlayer_core::record::{EventKind, EventRecord, Liveness, NodeId, Reason};
use zlayer_raft::{ControlLog, LeaderId, Leadership, ProposeError};

use super::connection::Connection;
use super::engine::Dated;
use super::lead::{Office, records};
use super::shared::Shared;
use crate::refusal::Refusal;

/// Time between ticks. The engine's own default, which its promises are derived from.
const TICK: Duration = Duration::from_millis(100);

/// Ticks that make up for one another before the task looks at other things. Chosen: the decisions of a fleet of
/// twice the size that the design is measured with.
const CATCH_UP_MAX: usize = 20;

/// Transitions in one command. Chosen: some 100 KiB of log.
const BATCH_MAX: usize = 1_000;

/// Events read from the control state at once. Chosen.
const EVENTS_MAX: usize = 1_000;

/// Ticks between two looks at slow things: the join name, the rate of beats. One second.
const TICKS_PER_SECOND: u64 = 10;

/// A batch whose commit was asked for.
pub(super) type Commit =
    Pin<Box<dyn Future<Output = (Vec<Transition>, Result<Outcome, ProposeError>)> + Send>>;

/// State of the task.
pub(crate) struct Ticker {
    pub(super) shared: Arc<Shared>,
    effects: UnboundedReceiver<Dated>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) office: Office,
    revisions: watch::Receiver<u64>,
    /// Newest event that was looked at.
    seen: u64,
    pub(super) waiting: VecDeque<Transition>,
    pub(super) in_flight: Option<Commit>,
    ticks: u64,
    beats_before: u64,
}

impl Ticker {
    /// Loads the engine from the control state, before anybody can connect, where this server is the only one.
    pub(crate) fn new(shared: Arc<Shared>, effects: UnboundedReceiver<Dated>) -> Self {
        let revisions = shared.log.watch();
        let seen = shared.state.with_state(zlayer_core::state::State::revision);
        let mut leadership = shared.log.leadership();
        let own = leadership.borrow_and_update().own;
        // Of several servers none leads before it has asked the others.
        let office = match own.filter(|_| shared.engine.leads()) {
            Some(own) => {
                shared.lock_leases.begin(shared.clock.now());
                shared.engine.tell_all(records(&shared));
                Office::Leads(own)
            }
            None => Office::Follows,
        };
        shared.refresh_join_open();
        Self {
            shared,
            effects,
            leadership,
            office,
            revisions,
            seen,
            waiting: VecDeque::new(),
            in_flight: None,
            ticks: 0,
            beats_before: 0,
        }
    }

    /// Runs until the server stops.
    pub(crate) async fn run(mut self) {
        let stopping = self.shared.stopping.clone();
        let mut ticks = interval(TICK);
        // The engine measures lateness itself; a burst of ticks would add nothing.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                _ = ticks.tick() => self.tick(),
                Ok(()) = self.leadership.changed() => self.look_who_leads(),
                confirmed = self.office.confirmed() => self.note_confirmed(confirmed),
                (items, result) = committed(&mut self.in_flight) => self.note_commit(&items, result),
                Ok(()) = self.revisions.changed() => self.follow(),
                Some(effect) = self.effects.recv() => self.carry_out(effect),
            }
            // What one event caused is carried out together, so that it is committed together.
            while let Ok(effect) = self.effects.try_recv() {
                self.carry_out(effect);
            }
            self.propose();
        }
    }

    pub(super) fn tick(&mut self) {
        let mut events = self.shared.take_handovers();
        events.push(Event::Tick);
        self.shared.engine.tell_all(events);
        for _ in 0..CATCH_UP_MAX {
            if !self.shared.engine.is_behind() {
                break;
            }
            self.shared.engine.tell(Event::Tick);
        }
        if matches!(self.office, Office::Follows) {
            self.look_who_leads();
        }
        self.let_locks_go();
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_SECOND) {
            let beats = self.shared.metrics.beats.get();
            self.shared.beats_per_second.store(beats - self.beats_before, Ordering::Relaxed);
            self.beats_before = beats;
            self.shared.refresh_join_open();
            if let Some(error) = self.shared.log.health().stopped {
                self.shared.fail(error);
            }
        }
        if self.shared.engine.is_broken() {
            self.shared.fail("the liveness engine panicked".into());
        }
    }

    /// Lets go of the locks whose holders did not renew them, if this server still leads as it did when it decided.
    fn let_locks_go(&self) {
        let now = self.shared.clock.now();
        let items = self.shared.state.with_state(|state| self.shared.lock_leases.due(state, now));
        let (false, Some(leader)) = (items.is_empty(), self.office.id()) else { return };
        let log = Arc::clone(&self.shared.log);
        tokio::spawn(async move {
            let count = items.len();
            let released = match log.confirm_leader().await {
                Ok(()) => log.propose_if_leader(leader, Command::ReleaseLocks { items }).await,
                Err(error) => Err(error),
            };
            match released {
                Ok(_) => tracing::info!(count, "locks were not renewed, and are free"),
                Err(error) => tracing::warn!(%error, "locks could not be let go of"),
            }
        });
    }

    /// Reads the events that the control state has got since, and tells the engine what it must know.
    fn follow(&mut self) {
        self.revisions.borrow_and_update();
        loop {
            let page =
                self.shared.state.with_state(|state| state.events_after(self.seen, EVENTS_MAX));
            let full = page.events.len() == EVENTS_MAX;
            if self.seen + 1 < page.first_kept {
                tracing::warn!(after = self.seen, "events were dropped before they were followed");
                self.look_at_all();
            }
            for event in &page.events {
                self.seen = event.revision;
                self.note_event(event);
            }
            if !full {
                break;
            }
        }
        self.shared.refresh_join_open();
        self.shared.wake.wake();
    }

    fn note_event(&mut self, event: &EventRecord) {
        let node = event.node_id;
        match event.kind {
            EventKind::Enrolled => self.shared.introduce(node),
            EventKind::Removed => self.removed(node),
            EventKind::DrainStarted => self.draining(node, true),
            EventKind::DrainStopped => self.draining(node, false),
            // Another server has recorded what its worker said here.
            EventKind::Left if !self.shared.engine.leads() => {
                self.shared.registry.each_of(node, Connection::note_left);
            }
            // The engine proposed these itself, or they concern no node.
            EventKind::Joined
            | EventKind::Suspect
            | EventKind::Unreachable
            | EventKind::Recovered
            | EventKind::Left
            | EventKind::TokenCreated
            | EventKind::TokenRevoked
            | EventKind::ExpiryHeld
            | EventKind::ServerJoined
            | EventKind::ServerRemoved => {}
        }
    }

    fn removed(&self, node: NodeId) {
        self.shared.registry.forget_node(node, Refusal::Removed);
        self.shared.engine.tell(Event::Removed { node });
    }

    fn draining(&self, node: NodeId, draining: bool) {
        self.shared.registry.each_of(node, |c| c.draining.store(draining, Ordering::Relaxed));
    }

    /// Looks at every node, because some of the events that tell of them are kept no more.
    fn look_at_all(&self) {
        let nodes = self.shared.state.with_state(|state| {
            let draining = |id| (id, state.node(id).map(|record| record.draining));
            state.allotted().map(draining).collect::<Vec<_>>()
        });
        for (node, draining) in nodes {
            match draining {
                Some(draining) => {
                    self.shared.introduce(node);
                    self.draining(node, draining);
                }
                None => self.removed(node),
            }
        }
    }

    fn carry_out(&mut self, (era, effect): Dated) {
        if !self.shared.engine.is_now(era) {
            return;
        }
        match effect {
            Effect::Propose(transition) => self.waiting.push_back(transition),
            Effect::Refresh { node } => self.refresh(node),
            Effect::CloseSession { node, session, why } => {
                let why = match why {
                    CloseReason::Removed => Refusal::Removed,
                    CloseReason::Duplicate => Refusal::Superseded,
                };
                self.shared.registry.end_session(node, session, why);
                self.shared.hosts.end_session(session, why);
            }
            Effect::DuplicateSession { node, old, new } => {
                self.shared.metrics.duplicate_sessions.add(1);
                tracing::warn!(
                    node_id = node,
                    old = old.0,
                    new = new.0,
                    "two processes use one identity; the older session is closed"
                );
            }
            Effect::Alarm(held) => {
                tracing::warn!(due = held.due, leases = held.leases, "expiry is held");
                let command = Command::HoldExpiry { due: held.due, leases: held.leases };
                let Some(leader) = self.office.id() else { return };
                let proposal = self.shared.log.propose_if_leader(leader, command);
                tokio::spawn(async move {
                    if let Err(error) = proposal.await {
                        tracing::warn!(%error, "the hold could not be recorded");
                    }
                });
            }
        }
    }

    fn refresh(&self, node: NodeId) {
        let event = self.shared.state.with_state(|state| match state.node(node) {
            Some(record) => Event::Refreshed {
                node,
                liveness: record.liveness,
                epoch: record.epoch,
                incarnation: record.incarnation,
            },
            None => Event::Removed { node },
        });
        self.shared.engine.tell(event);
    }

    /// Asks for the commit of what waits, one batch at a time: while it is written the next one gathers.
    fn propose(&mut self) {
        let Some(leader) = self.office.id() else { return };
        if self.in_flight.is_some() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(BATCH_MAX);
        let items: Vec<_> = self.waiting.drain(..count).collect();
        self.in_flight = Some(Box::pin(commit(Arc::clone(&self.shared.log), leader, items)));
    }

    fn note_commit(&mut self, items: &[Transition], result: Result<Outcome, ProposeError>) {
        self.in_flight = None;
        let epochs = match result {
            Ok(Outcome::Transitioned { epochs }) if epochs.len() == items.len() => {
                self.shared.metrics.transitions.add(items.len() as u64);
                epochs
            }
            other => {
                self.shared.metrics.transitions_failed.add(1);
                tracing::warn!(?other, "transitions were not committed");
                vec![None; items.len()]
            }
        };
        let committed = items.iter().zip(&epochs);
        for (item, epoch) in committed.clone() {
            if item.to == Liveness::Left && epoch.is_some() {
                self.shared.registry.each_of(item.node_id, Connection::note_left);
            }
        }
        self.shared.engine.tell_all(
            committed.map(|(item, epoch)| Event::Committed { node: item.node_id, epoch: *epoch }),
        );
    }
}

/// Waits for the batch in flight, for ever when there is none.
async fn committed(
    in_flight: &mut Option<Commit>,
) -> (Vec<Transition>, Result<Outcome, ProposeError>) {
    match in_flight {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}

/// Commits a batch, if this server still leads as it did when it decided. Nobody is expired before that is confirmed.
async fn commit(
    log: Arc<dyn ControlLog>,
    leader: LeaderId,
    items: Vec<Transition>,
) -> (Vec<Transition>, Result<Outcome, ProposeError>) {
    let expires = items.iter().any(|item| item.reason == Reason::LeaseExpired);
    if expires && let Err(error) = log.confirm_leader().await {
        return (items, Err(error));
    }
    let command = Command::Transition { items: items.clone() };
    let result = log.propose_if_leader(leader, command).await;
    (items, result)
}
