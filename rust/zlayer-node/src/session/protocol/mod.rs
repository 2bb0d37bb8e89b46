//! What a session does at which time, without a clock or a socket.
//!
//! ```text
//!   dials, answers, ends ──> Protocol::handle(now, input) ──> dial, send, close, tell
//! ```
//!
//! At most two links exist. The *primary* carries the session. The *candidate* is to become it: it waits, dials and
//! greets, and takes over with the answer to its hello. There is one whenever the primary is missing, does not
//! answer, is too old, or has an outdated certificate, so that a new connection stands before the old one is closed.

mod candidate;
mod ends;
#[cfg(test)]
mod tests;

use zlayer_core::time::MonoMs;
use zlayer_wire::v1::{Resources, StatusAck, StatusReport};

use super::backoff::{Backoff, Jitter};
use super::event::{SessionEvent, SessionState, Status};
use super::failure::{Failure, FailureKind};
use super::options::Timing;
use candidate::Candidate;

/// Least time between an answer and the next beat. Chosen: holds whatever a faulty server says.
const BEAT_MIN_MS: u64 = 20;

/// Names a dial and the link that comes out of it. Unique within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A wake-up time was reached.
    Tick,
    /// A dial succeeded.
    Opened(LinkId),
    /// A dial failed, or a link ended. It is gone.
    Ended(LinkId, Failure),
    /// An answer.
    Acked(LinkId, StatusAck),
    /// The watch brought the worker to this revision.
    Assigned(LinkId, u64),
    /// The watch of a link ended, the link goes on.
    WatchEnded(LinkId, Failure),
    /// New figures for the next report.
    Resources(Resources),
    /// A new certificate; the dials from now on use it.
    NewIdentity,
    /// Say goodbye and end.
    Leave,
    /// End at once.
    Stop,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Dial the server with this index, with the newest identity.
    Dial(LinkId, usize),
    Send(LinkId, StatusReport),
    Watch(LinkId, u64),
    /// Give up a dial or a link.
    Close(LinkId),
    Tell(SessionEvent),
}

/// The link that carries the session.
#[derive(Debug)]
struct Primary {
    link: LinkId,
    server: usize,
    /// Number of the identity that it was dialled with.
    identity: u64,
    /// Of the last report.
    seq: u64,
    beat: Beat,
    /// What the server knows, or will with the report in flight.
    resources: Option<Resources>,
    /// The last report said goodbye.
    leaving: bool,
    /// When to open the watch anew.
    watch_at: Option<MonoMs>,
    watch_backoff: Backoff,
}

#[derive(Debug, Clone, Copy)]
enum Beat {
    Planned { at: MonoMs },
    Sent { at: MonoMs, overdue: bool },
}

impl Beat {
    /// The next one, when the server said, but never in a tight loop and never after the TTL. What the server says
    /// counts from its receipt of the report: an answer that came late, or was read late by a process that had been
    /// stopped, is counted from the report's sending.
    fn planned(now: MonoMs, sent: MonoMs, ack: &StatusAck, ack_timeout_ms: u64) -> Self {
        let after_ms = ack.next_beat_in_ms.min(ack.ttl_ms).max(BEAT_MIN_MS);
        let from = if now.since(sent) <= ack_timeout_ms { now } else { sent };
        Self::Planned { at: from.plus(after_ms).max(now.plus(BEAT_MIN_MS)) }
    }
}

/// What the worker says in each hello, and where it may say it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// `host:port` of each; at least one.
    pub servers: Vec<String>,
    /// Tells a restarted worker from a reconnected one.
    pub incarnation: u64,
    /// Of zlayer-native on the worker.
    pub version: String,
    /// Waits and time limits.
    pub timing: Timing,
}

/// One session's decisions.
#[derive(Debug)]
pub(crate) struct Protocol {
    terms: Terms,
    primary: Option<Primary>,
    candidate: Option<Candidate>,
    backoff: Backoff,
    jitter: Jitter,
    next_server: usize,
    /// Dials so far.
    links: u64,
    /// Sessions so far.
    sessions: u64,
    /// Number of the newest identity.
    identity: u64,
    resources: Option<Resources>,
    /// Of the last answer.
    spread_ms: u64,
    /// Until then a hello that was given up may be taken by a server, and supersede the session.
    gave_up_until: MonoMs,
    /// The owner was told that the session stands.
    announced: bool,
    status: Status,
}

impl Protocol {
    /// A session that dials at once. `seed` decides its waits.
    pub(crate) fn new(now: MonoMs, terms: Terms, seed: u64) -> Self {
        let mut jitter = Jitter::new(seed);
        // Workers with the same list start at different servers.
        let next_server = jitter.upto(terms.servers.len() as u64 - 1) as usize;
        let backoff = Backoff::new(Jitter::new(jitter.upto(u64::MAX)));
        Self {
            terms,
            primary: None,
            candidate: Some(Candidate::waiting(now)),
            backoff,
            jitter,
            next_server,
            links: 0,
            sessions: 0,
            identity: 0,
            resources: None,
            spread_ms: 0,
            gave_up_until: MonoMs::default(),
            announced: false,
            status: Status::default(),
        }
    }

    /// How it stands.
    pub(crate) fn status(&self) -> Status {
        let mut status = self.status.clone();
        if let Some(primary) = &self.primary {
            status.server = Some(primary.server);
            status.next_beat = match primary.beat {
                Beat::Planned { at } => Some(at),
                Beat::Sent { .. } => None,
            };
        }
        status
    }

    /// Nothing more will happen.
    pub(crate) fn is_over(&self) -> bool {
        self.status.state == SessionState::Stopped
    }

    /// When to call again with [`Input::Tick`] at the latest.
    pub(crate) fn next_wakeup(&self) -> Option<MonoMs> {
        let beat = self.primary.as_ref().and_then(|primary| match primary.beat {
            Beat::Planned { at } => Some(at),
            Beat::Sent { at, overdue: false } => Some(at.plus(self.terms.timing.ack_timeout_ms)),
            Beat::Sent { overdue: true, .. } => None,
        });
        let watch = self.primary.as_ref().and_then(|primary| primary.watch_at);
        let candidate = self.candidate.as_ref().map(Candidate::until);
        [beat, watch, candidate].into_iter().flatten().min()
    }

    /// Takes one input and says what to do about it.
    pub(crate) fn handle(&mut self, now: MonoMs, input: Input, out: &mut Vec<Effect>) {
        if self.is_over() {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Opened(link) => self.greet(now, link, out),
            Input::Ended(link, failure) => self.ended(now, link, self.judged(now, failure), out),
            Input::Acked(link, ack) => self.acked(now, link, &ack, out),
            Input::Assigned(link, revision) => self.assigned(link, revision, out),
            Input::WatchEnded(link, failure) => {
                self.watch_ended(now, link, self.judged(now, failure), out);
            }
            Input::Resources(resources) => self.resources = Some(resources),
            Input::NewIdentity => self.new_identity(now, out),
            Input::Leave => self.leave(now, out),
            Input::Stop => self.stop(now, out),
        }
        self.advance(now, out);
    }

    /// Does everything that is due.
    fn advance(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        if self.is_over() {
            return;
        }
        self.beat_if_due(now, out);
        self.watch_if_due(now, out);
        self.advance_candidate(now, out);
    }

    fn beat_if_due(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        let leaving = self.status.state == SessionState::Leaving;
        let ack_timeout_ms = self.terms.timing.ack_timeout_ms;
        let Some(primary) = &mut self.primary else { return };
        let goodbye = leaving && !primary.leaving;
        match primary.beat {
            Beat::Planned { at } if now >= at || goodbye => {}
            // A goodbye does not wait for the answer to a beat.
            Beat::Sent { overdue: false, .. } if goodbye => {}
            Beat::Sent { at, overdue: false } if now.since(at) >= ack_timeout_ms => {
                primary.beat = Beat::Sent { at, overdue: true };
                self.status.unanswered += 1;
                self.doubt(
                    now,
                    format!("no answer to a heartbeat within {ack_timeout_ms} ms"),
                    out,
                );
                return;
            }
            Beat::Planned { .. } | Beat::Sent { .. } => return,
        }
        let changed = self.resources.filter(|_| primary.resources != self.resources);
        if changed.is_some() {
            primary.resources = changed;
        }
        primary.seq += 1;
        primary.leaving = leaving;
        primary.beat = Beat::Sent { at: now, overdue: false };
        let report =
            StatusReport { seq: primary.seq, node_id: 0, hello: None, resources: changed, leaving };
        self.status.beats += 1;
        out.push(Effect::Send(primary.link, report));
    }

    /// The primary does not answer: looks for another connection while this one may still come back.
    fn doubt(&mut self, now: MonoMs, why: String, out: &mut Vec<Effect>) {
        self.announce_loss(why, out);
        self.next_server();
        self.dial_soon(now);
    }

    fn acked(&mut self, now: MonoMs, link: LinkId, ack: &StatusAck, out: &mut Vec<Effect>) {
        if self.acked_candidate(now, link, ack, out) {
            return;
        }
        let Some(primary) = &mut self.primary else { return };
        if primary.link != link || primary.seq != ack.seq {
            return;
        }
        let Beat::Sent { at, overdue } = primary.beat else { return };
        primary.beat = Beat::planned(now, at, ack, self.terms.timing.ack_timeout_ms);
        if primary.leaving {
            return self.left(now, ack, at, out);
        }
        self.note_ack(ack, at);
        if overdue {
            self.announce_session(out);
            // It has come back before another connection stood. One that greets goes on: the server may have
            // taken its hello already.
            if !self.wants_candidate() && !self.greets() {
                self.drop_candidate(now, out);
            }
        }
    }

    /// Whether another connection than the primary is needed.
    fn wants_candidate(&self) -> bool {
        self.primary.as_ref().is_none_or(|primary| {
            primary.identity != self.identity
                || matches!(primary.beat, Beat::Sent { overdue: true, .. })
        })
    }

    fn greets(&self) -> bool {
        self.candidate.as_ref().is_some_and(Candidate::greets)
    }

    /// Keeps what an answer says. The lease is counted from the sending of the report, so the server's ends later.
    fn note_ack(&mut self, ack: &StatusAck, sent: MonoMs) {
        if self.status.lease_until.is_some_and(|until| sent > until) {
            self.status.lapses += 1;
        }
        self.status.acks += 1;
        self.status.ttl_ms = ack.ttl_ms;
        self.status.draining = ack.draining;
        self.status.lease_until = Some(sent.plus(ack.ttl_ms.saturating_add(ack.grace_ms)));
        self.spread_ms = ack.reconnect_spread_ms;
    }

    fn assigned(&mut self, link: LinkId, revision: u64, out: &mut Vec<Effect>) {
        let Some(primary) = self.primary.as_mut().filter(|primary| primary.link == link) else {
            return;
        };
        primary.watch_backoff.reset();
        self.status.revision = revision;
        out.push(Effect::Tell(SessionEvent::Assignments { revision }));
    }

    fn watch_ended(&mut self, now: MonoMs, link: LinkId, failure: Failure, out: &mut Vec<Effect>) {
        let greets = self.greets();
        let Some(primary) = self.primary.as_mut().filter(|primary| primary.link == link) else {
            return;
        };
        match failure.kind {
            // The session that greets has superseded this one.
            FailureKind::Refused | FailureKind::Superseded if greets => {}
            FailureKind::Removed | FailureKind::Refused | FailureKind::Superseded => {
                self.refused(now, failure, out);
            }
            // The report stream ends with the same status, or the connection with it.
            FailureKind::Aged => {}
            FailureKind::Lost => {
                let wait_ms = primary.watch_backoff.after_failure(&self.terms.timing, u64::MAX);
                primary.watch_at = Some(now.plus(wait_ms));
            }
        }
    }

    fn watch_if_due(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        let Some(primary) = &mut self.primary else { return };
        if primary.watch_at.take_if(|at| now >= *at).is_some() {
            out.push(Effect::Watch(primary.link, self.status.revision));
        }
    }

    fn new_identity(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        self.identity += 1;
        if self.is_refused() {
            self.status.state = SessionState::Connecting;
        }
        self.drop_candidate(now, out);
        if let Some(primary) = &self.primary {
            self.next_server = primary.server;
        }
        self.dial_soon(now);
    }

    fn announce_session(&mut self, out: &mut Vec<Effect>) {
        let Some(primary) = &self.primary else { return };
        if !std::mem::replace(&mut self.announced, true) {
            let server = self.terms.servers[primary.server].clone();
            out.push(Effect::Tell(SessionEvent::Connected { server }));
        }
        if self.status.state != SessionState::Leaving {
            self.status.state = SessionState::Connected;
        }
    }

    fn announce_loss(&mut self, why: String, out: &mut Vec<Effect>) {
        self.status.last_error = Some(why.clone());
        if std::mem::replace(&mut self.announced, false) {
            out.push(Effect::Tell(SessionEvent::Disconnected { why }));
        }
        if self.status.state == SessionState::Connected {
            self.status.state = SessionState::Connecting;
        }
    }

    fn next_server(&mut self) {
        self.next_server = (self.next_server + 1) % self.terms.servers.len();
    }
}
