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
use zlayer_raft::{ControlLog, ProposeError};

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
type Commit =
    Pin<Box<dyn Future<Output = (Vec<Transition>, Result<Outcome, ProposeError>)> + Send>>;

/// State of the task.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    effects: UnboundedReceiver<Effect>,
    revisions: watch::Receiver<u64>,
    /// Newest event that was looked at.
    seen: u64,
    waiting: VecDeque<Transition>,
    in_flight: Option<Commit>,
    ticks: u64,
    beats_before: u64,
}

impl Ticker {
    /// Loads the engine from the control state, before anybody can connect.
    pub(crate) fn new(shared: Arc<Shared>, effects: UnboundedReceiver<Effect>) -> Self {
        let revisions = shared.log.watch();
        let (seen, loaded) = shared.state.with_state(|state| {
            let loaded: Vec<_> = state
                .nodes()
                .map(|record| Event::Loaded {
                    node: record.id,
                    liveness: record.liveness,
                    epoch: record.epoch,
                    incarnation: record.incarnation,
                    ttl_ms: record.ttl_ms,
                })
                .collect();
            (state.revision(), loaded)
        });
        shared.engine.tell_all(loaded);
        shared.refresh_join_open();
        Self {
            shared,
            effects,
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
            // The engine proposed these itself, or they concern no node.
            EventKind::Joined
            | EventKind::Suspect
            | EventKind::Unreachable
            | EventKind::Recovered
            | EventKind::Left
            | EventKind::TokenCreated
            | EventKind::TokenRevoked
            | EventKind::ExpiryHeld => {}
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

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Propose(transition) => self.waiting.push_back(transition),
            Effect::Refresh { node } => self.refresh(node),
            Effect::CloseSession { node, session, why } => {
                let why = match why {
                    CloseReason::Removed => Refusal::Removed,
                    CloseReason::Duplicate => Refusal::Superseded,
                };
                self.shared.registry.end_session(node, session, why);
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
                let proposal = self.shared.log.propose(command);
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
        if self.in_flight.is_some() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(BATCH_MAX);
        let items: Vec<_> = self.waiting.drain(..count).collect();
        self.in_flight = Some(Box::pin(commit(Arc::clone(&self.shared.log), items)));
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
                self.shared
                    .registry
                    .each_of(item.node_id, super::connection::Connection::note_left);
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

/// Commits a batch. Nobody is expired by a server that no longer leads: that is confirmed first.
async fn commit(
    log: Arc<dyn ControlLog>,
    items: Vec<Transition>,
) -> (Vec<Transition>, Result<Outcome, ProposeError>) {
    let expires = items.iter().any(|item| item.reason == Reason::LeaseExpired);
    if expires && let Err(error) = log.confirm_leader().await {
        return (items, Err(error));
    }
    let result = log.propose(Command::Transition { items: items.clone() }).await;
    (items, result)
}
