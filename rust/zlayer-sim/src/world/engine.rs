//! The engine in its server: told what happens, obeyed in what it asks for. As `zlayer-node/src/server/ticker.rs`.

use std::collections::VecDeque;

use zlayer_core::command::Command;
use zlayer_core::liveness::{Effect, Event, ExpiryHeld, Liveness, SessionId};
use zlayer_core::record::{Liveness as State, NodeId};

use super::{Happening, Process, Wire, World};
use crate::Ms;
use crate::fact::Fact;
use crate::flaw::Flaw;
use crate::journal::Asked;
use crate::line::Line;
use crate::worker::Ending;

/// Between two ticks, and how late one is as a rule.
const TICK_MS: Ms = 100;
const TICK_LATE_MS: Ms = 3;
/// One tick of so many is late by up to so much more, as on a loaded machine. Below what counts as a sleep.
const LATE_TICK: (u64, Ms) = (500, 400);
/// Ticks in a row while the engine is behind (`zlayer-node`, ticker).
const CATCH_UP_MAX: u32 = 20;
/// The mistake of a server that ticks too rarely.
const SLOW_TICK_MS: Ms = 1_500;

impl World {
    /// A new server process: reads the log, loads the records, ticks.
    pub(super) fn boot(&mut self) {
        if let Err(error) = self.journal.recover() {
            return self.break_promise("replay", None, error);
        }
        let rules = self.rules();
        let clock = self.dice.server.below(1 << 40);
        self.server.boot(self.now, clock, rules.config, rules.limits, self.settings.flaw);
        self.sum.boots += 1;
        self.tell(Fact::Booted);
        let records: Vec<_> = self
            .journal
            .state()
            .nodes()
            .map(|n| (n.id, n.liveness, n.epoch, n.incarnation, n.ttl_ms))
            .collect();
        for (node, liveness, epoch, incarnation, ttl_ms) in records {
            self.tell(Fact::Loaded { node, liveness, ttl_ms });
            self.tell_engine([Event::Loaded { node, liveness, epoch, incarnation, ttl_ms }]);
        }
        self.plan_tick();
    }

    fn plan_tick(&mut self) {
        let dice = &mut self.dice.server;
        let mut after_ms = TICK_MS + dice.between(0, TICK_LATE_MS);
        let steady = self.plan.gaps.is_empty();
        let late_ms =
            if steady || !dice.once_in(LATE_TICK.0) { 0 } else { dice.below(LATE_TICK.1) };
        after_ms += late_ms;
        if self.settings.flaw == Some(Flaw::SlowTicks) {
            after_ms = SLOW_TICK_MS;
        }
        if late_ms > 0 {
            self.tell(Fact::TickLate { ms: late_ms });
        }
        let boot = self.server.boots;
        self.agenda.push(self.now + after_ms, Happening::Tick { boot });
    }

    pub(super) fn tick(&mut self) {
        while let Some(&(at, node, session)) = self.server.handovers.front()
            && at <= self.now
        {
            self.server.handovers.pop_front();
            self.closed(node, session);
        }
        let mut decisions = self.tell_engine([Event::Tick]);
        for _ in 0..CATCH_UP_MAX {
            let clock = self.server.clock(self.now);
            let wakeup = self.server.engine().and_then(Liveness::next_wakeup);
            if wakeup.is_none_or(|at| at > clock) {
                break;
            }
            decisions += self.tell_engine([Event::Tick]);
        }
        self.tell(Fact::Ticked { decisions });
        let sleeps = self.server.engine().map_or(0, |engine| engine.stats().shifts);
        self.sum.sleeps = self.sum.sleeps.max(sleeps);
        self.plan_tick();
    }

    /// Tells the engine what happened, in order, at one time. Gives the number of effects.
    pub(super) fn tell_engine(&mut self, events: impl IntoIterator<Item = Event>) -> u64 {
        let clock = self.server.clock(self.now);
        let mut out = Vec::new();
        let Some(engine) = self.server.engine_mut() else { return 0 };
        for event in events {
            engine.handle(clock, event, &mut out);
        }
        let count = out.len() as u64;
        self.perform(out);
        count
    }

    /// Carries out what the engine asks for.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Propose(transition) => {
                    let (node, to, reason) = (transition.node_id, transition.to, transition.reason);
                    self.count(node, to);
                    self.tell(Fact::Proposed { node, to, reason });
                    let forgets = self.settings.flaw == Some(Flaw::ProposalForgotten);
                    if !(forgets && self.dice.server.once_in(20)) {
                        self.server.waiting.push_back(transition);
                    }
                }
                Effect::Refresh { node } => {
                    let event = self.read_record(node);
                    let clock = self.server.clock(self.now);
                    let mut out = Vec::new();
                    if let Some(engine) = self.server.engine_mut() {
                        engine.handle(clock, event, &mut out);
                    }
                    effects.extend(out);
                }
                Effect::CloseSession { node, session, .. } => self.end_session(node, session),
                // Loud in a log; nothing is done.
                Effect::DuplicateSession { .. } => {}
                Effect::Alarm(held) => self.raise(held),
            }
        }
    }

    fn read_record(&self, node: NodeId) -> Event {
        match self.journal.state().node(node) {
            Some(record) => Event::Refreshed {
                node,
                liveness: record.liveness,
                epoch: record.epoch,
                incarnation: record.incarnation,
            },
            None => Event::Removed { node },
        }
    }

    fn raise(&mut self, held: ExpiryHeld) {
        self.sum.alarms += 1;
        let ExpiryHeld { due, leases, until } = held;
        let until = self.server.world_time(until);
        self.tell(Fact::Alarm { due, until });
        self.propose(Command::HoldExpiry { due, leases }, Asked::Other);
    }

    fn end_session(&mut self, node: NodeId, session: SessionId) {
        for worker in self.hosts_of(node).to_vec() {
            let carries = |line: &&Line| {
                line.served.as_ref().is_some_and(|served| served.session == Some(session))
            };
            let carrying = self.host(worker).lines.iter().filter(carries);
            let carrying: Vec<_> = carrying.map(|line| line.link).collect();
            for link in carrying {
                self.end_by_server(Wire { worker, link }, Ending::Refused);
            }
        }
    }

    fn count(&mut self, node: NodeId, to: State) {
        match to {
            State::Suspect => self.sum.suspects += 1,
            State::Unreachable => {
                self.sum.unreachable += 1;
                let hosts = self.hosts_of(node).iter().map(|&worker| &self.hosts[worker as usize]);
                let runs = hosts.clone().any(|host| host.process == Process::Running);
                self.sum.cut_off += u64::from(runs);
            }
            State::Ready | State::Left => {}
        }
    }
}
