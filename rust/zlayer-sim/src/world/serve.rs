//! The server's connections: handshakes, reports, ends.

use zlayer_core::liveness::{Ack, Event, LivenessError, SessionId};

use super::{Down, Happening, Up, Wire, World};
use crate::Ms;
use crate::fact::{Blow, Fact};
use crate::flaw::Flaw;
use crate::line::{Phase, Served};
use crate::server::Life;
use crate::worker::{Answer, Ending, Report};

/// What a handshake costs a processor (`LivenessLimits::reconnects_per_second`), and packets it takes.
const HANDSHAKE_MS: Ms = 1;
const ROUND_TRIPS: u64 = 2;
/// Handshakes at once, connections of one node, and their age (`zlayer-node`, `ServerLimits`).
const HANDSHAKES_MAX: u32 = 64;
const LINES_PER_NODE_MAX: usize = 4;
const AGE_MS: Ms = 3_600_000;
/// How long a worker may take that was asked to connect anew (`zlayer-node`, shared).
const HANDOVER_MS: Ms = 3_000;

impl World {
    /// Something is due at the server.
    pub(super) fn at_server(&mut self, what: Happening) {
        match (self.server.life, what) {
            (Life::Paused { .. }, _) => self.server.inbox.push(what),
            (Life::Down { host }, Happening::AtServer { wire, up: Up::Dial }) => {
                if host {
                    self.refuse_dial(wire);
                } else {
                    self.let_die(wire);
                }
            }
            (Life::Up, Happening::Tick { boot }) if boot == self.server.boots => self.tick(),
            (Life::Up, Happening::Durable { boot }) if boot == self.server.boots => self.durable(),
            (Life::Up, Happening::AtServer { wire, up }) => self.receive(wire, up),
            (Life::Up, Happening::Accepted { wire }) => self.accepted(wire),
            (Life::Up, Happening::GivenUp { wire }) => self.end_at_server(wire, false),
            (Life::Up, Happening::Old { wire, session }) => self.grow_old(wire, session),
            // Of a process that is gone.
            _ => {}
        }
        self.propose_waiting();
    }

    fn receive(&mut self, wire: Wire, up: Up) {
        let now = self.now;
        let Some(line) = self.line(wire) else { return };
        if line.read_at > now {
            // After what the server has still to read since it slept.
            let at = line.read_at;
            self.agenda.push(at, Happening::AtServer { wire, up });
            return;
        }
        match up {
            Up::Dial => self.shake_hands(wire),
            Up::Report(report) => self.report(wire, report),
            Up::Fin => self.end_at_server(wire, false),
        }
    }

    fn refuse_dial(&mut self, wire: Wire) {
        self.send_down(wire, Down::End(Ending::Lost));
    }

    fn shake_hands(&mut self, wire: Wire) {
        if self.server.handshakes >= HANDSHAKES_MAX {
            let node = self.host(wire.worker).node;
            self.tell(Fact::Struck { node, blow: Blow::Light });
            return self.refuse_dial(wire);
        }
        let Some(line) = self.line(wire) else { return };
        line.handshaking = true;
        self.server.handshakes += 1;
        self.server.busy_until = self.server.busy_until.max(self.now) + HANDSHAKE_MS;
        let mut at = self.server.busy_until;
        for _ in 0..ROUND_TRIPS {
            at += self.latency_ms() + self.latency_ms();
        }
        self.agenda.push(at, Happening::Accepted { wire });
    }

    fn accepted(&mut self, wire: Wire) {
        // Else it was begun by a process that is gone.
        let Some(line) = self.line(wire).filter(|line| line.handshaking) else { return };
        line.handshaking = false;
        self.server.handshakes -= 1;
        let Some(line) = self.line(wire) else { return };
        // A handshake needs both ends, and a network between them.
        if !line.worker_open || line.dying {
            return self.sweep(wire.worker);
        }
        // As a rule a stream is opened together with its first report.
        let early = self.dice.server.once_in(8).then(|| self.server.next_session());
        if let Some(line) = self.line(wire) {
            line.served = Some(Served { session: early, phase: Phase::Fresh, slot: None });
        }
        self.end_surplus(wire);
        self.send_down(wire, Down::Opened);
    }

    /// One connection too many of a node ends its oldest.
    fn end_surplus(&mut self, newest: Wire) {
        let node = self.host(newest.worker).node;
        let mut served = Vec::new();
        for &worker in self.hosts_of(node) {
            let lines = self.hosts[worker as usize].lines.iter();
            served
                .extend(lines.filter(|line| line.served.is_some()).map(|line| (worker, line.link)));
        }
        if served.len() > LINES_PER_NODE_MAX {
            let (worker, link) = served[0];
            self.end_by_server(Wire { worker, link }, Ending::Refused);
        }
    }

    fn report(&mut self, wire: Wire, report: Report) {
        let Some(served) = self.line(wire).and_then(|line| line.served.as_mut()) else { return };
        let session = served.session;
        let answer = match &served.phase {
            Phase::Fresh => {
                let session = session.unwrap_or_else(|| self.server.next_session());
                let incarnation = self.host(wire.worker).session.incarnation;
                self.open(wire, session, incarnation)
            }
            Phase::Open { .. } => self.beat(wire),
            Phase::Leaving { .. } => return,
        };
        let ack = match answer {
            Ok(ack) => ack,
            Err(why) => return self.end_by_server(wire, why),
        };
        let awake = self.invariants.times().awake();
        let answer = Answer {
            seq: report.seq,
            ttl_ms: ack.ttl_ms,
            grace_ms: ack.grace_ms,
            next_beat_in_ms: ack.next_beat_in_ms,
            reconnect_spread_ms: ack.reconnect_spread_ms,
            promise: awake + ack.ttl_ms + ack.grace_ms,
        };
        if report.leaving {
            return self.leave(wire, answer);
        }
        self.send_down(wire, Down::Answer(answer));
    }

    /// The first report of a session, or the first one after its lease has ended.
    fn open(&mut self, wire: Wire, session: SessionId, incarnation: u64) -> Result<Ack, Ending> {
        let node = self.host(wire.worker).node;
        let clock = self.server.clock(self.now);
        let mut out = Vec::new();
        let Some(engine) = self.server.engine_mut() else { return Err(Ending::Lost) };
        let opened = engine.open(clock, node, session, incarnation, &mut out);
        let (lease, ack) = opened.map_err(|error| match error {
            LivenessError::Lease(_) => Ending::Lost,
            LivenessError::UnknownNode { .. }
            | LivenessError::Superseded { .. }
            | LivenessError::SessionEnded { .. } => Ending::Refused,
        })?;
        let now = self.now;
        if let Some(served) = self.line(wire).and_then(|line| line.served.as_mut()) {
            let is_new = matches!(served.phase, Phase::Fresh);
            *served = Served {
                session: Some(session),
                phase: Phase::Open { lease, incarnation },
                slot: Some(now + ack.next_beat_in_ms),
            };
            if is_new {
                let age_ms = self.dice.server.between(AGE_MS / 10 * 9, AGE_MS / 10 * 11);
                self.agenda.push(now + age_ms, Happening::Old { wire, session });
            }
        }
        self.sum.sessions += 1;
        self.tell(Fact::Opened { node, session: session.0, ack });
        self.perform(out);
        Ok(ack)
    }

    fn beat(&mut self, wire: Wire) -> Result<Ack, Ending> {
        let now = self.now;
        let clock = self.server.clock(now);
        let node = self.host(wire.worker).node;
        let Some(beats) = self.server.beats() else { return Err(Ending::Lost) };
        let Some(served) = self.line(wire).and_then(|line| line.served.as_mut()) else {
            return Err(Ending::Lost);
        };
        let Phase::Open { lease, incarnation } = &served.phase else { return Err(Ending::Lost) };
        let (session, incarnation) = (lease.session(), *incarnation);
        let Ok(ack) = beats.beat(lease, clock) else {
            // Its lease has ended: as a first report.
            return self.open(wire, session, incarnation);
        };
        let slot = served.slot.replace(now + ack.next_beat_in_ms);
        self.sum.beats += 1;
        self.tell(Fact::Beat { node, session: session.0, slot, ack });
        Ok(ack)
    }

    fn leave(&mut self, wire: Wire, answer: Answer) {
        let node = self.host(wire.worker).node;
        let Some(served) = self.line(wire).and_then(|line| line.served.as_mut()) else { return };
        let Some(session) = served.session else { return };
        served.phase = Phase::Leaving { answer };
        self.tell(Fact::Leaving { node, session: session.0 });
        self.tell_engine([Event::Leaving { node, session }]);
    }

    /// A goodbye is durable: it is answered, and the connection is done.
    pub(super) fn goodbye_is_durable(&mut self, node: u64) {
        for worker in self.hosts_of(node).to_vec() {
            let links: Vec<_> = self.host(worker).lines.iter().map(|line| line.link).collect();
            for link in links {
                let wire = Wire { worker, link };
                let served = self.line(wire).and_then(|line| line.served.as_ref());
                if let Some(Served { phase: Phase::Leaving { answer }, .. }) = served {
                    let answer = *answer;
                    self.send_down(wire, Down::Answer(answer));
                    self.end_at_server(wire, false);
                }
            }
        }
    }

    /// The server ends a session, and says why.
    pub(super) fn end_by_server(&mut self, wire: Wire, why: Ending) {
        self.send_down(wire, Down::End(why));
        self.end_at_server(wire, why == Ending::Aged);
    }

    fn grow_old(&mut self, wire: Wire, session: SessionId) {
        let served = self.line(wire).and_then(|line| line.served.as_ref());
        if served.is_some_and(|served| {
            served.session == Some(session) && matches!(served.phase, Phase::Open { .. })
        }) {
            self.end_by_server(wire, Ending::Aged);
        }
    }

    /// The server's end is gone: its session ends at once, or when it had time to come back.
    pub(super) fn end_at_server(&mut self, wire: Wire, hand_over: bool) {
        let node = self.host(wire.worker).node;
        let Some(served) = self.line(wire).and_then(|line| line.served.take()) else { return };
        self.sweep(wire.worker);
        let (Some(session), Phase::Open { .. } | Phase::Leaving { .. }) =
            (served.session, served.phase)
        else {
            return;
        };
        if hand_over {
            self.server.handovers.push_back((self.now + HANDOVER_MS, node, session));
        } else {
            self.closed(node, session);
        }
    }

    /// Tells the engine that a session is gone.
    pub(super) fn closed(&mut self, node: u64, session: SessionId) {
        self.tell(Fact::Closed { node, session: session.0 });
        let untold = self.settings.flaw == Some(Flaw::CloseUntold);
        if !(untold && self.dice.server.once_in(5)) {
            self.tell_engine([Event::Disconnected { node, session }]);
        }
    }
}
