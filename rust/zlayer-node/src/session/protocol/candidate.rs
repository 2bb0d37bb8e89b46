//! The link that is to carry the session: waits, dials, greets, takes over.

use zlayer_core::time::MonoMs;
use zlayer_wire::v1::{Hello, Resources, StatusAck, StatusReport};

use super::{BEAT_MIN_MS, Beat, Effect, LinkId, Primary, Protocol};
use crate::session::backoff::{Backoff, Jitter};
use crate::session::event::SessionState;
use crate::session::failure::{Failure, FailureKind};

/// Time that a dial gets at the least, however near the lease's end is. Chosen: a handshake over a slow line.
const DIAL_MIN_MS: u64 = 1_000;

/// How long a hello that was given up may still be taken by a server, and the session that it superseded not know of
/// it. Chosen: the longest TTL by default, and more.
const GAVE_UP_MS: u64 = 660_000;

/// Where it stands. `until` ends the stage.
#[derive(Debug)]
pub(super) enum Candidate {
    Waiting { until: MonoMs },
    Dialling { link: LinkId, server: usize, identity: u64, until: MonoMs },
    Greeting(Greeting),
}

/// The hello is sent.
#[derive(Debug)]
pub(super) struct Greeting {
    link: LinkId,
    server: usize,
    identity: u64,
    until: MonoMs,
    sent: MonoMs,
    resources: Option<Resources>,
    leaving: bool,
}

impl Candidate {
    pub(super) fn waiting(until: MonoMs) -> Self {
        Self::Waiting { until }
    }

    pub(super) fn until(&self) -> MonoMs {
        match self {
            Self::Waiting { until } | Self::Dialling { until, .. } => *until,
            Self::Greeting(greeting) => greeting.until,
        }
    }

    pub(super) fn link(&self) -> Option<LinkId> {
        match self {
            Self::Waiting { .. } => None,
            Self::Dialling { link, .. } => Some(*link),
            Self::Greeting(greeting) => Some(greeting.link),
        }
    }

    fn server(&self) -> Option<usize> {
        match self {
            Self::Waiting { .. } => None,
            Self::Dialling { server, .. } => Some(*server),
            Self::Greeting(greeting) => Some(greeting.server),
        }
    }

    pub(super) fn greets(&self) -> bool {
        matches!(self, Self::Greeting(_))
    }
}

impl Protocol {
    /// Dials now, unless a dial is under way.
    pub(super) fn dial_soon(&mut self, now: MonoMs) {
        if self.candidate.as_ref().is_none_or(|candidate| candidate.link().is_none()) {
            self.candidate = Some(Candidate::waiting(now));
        }
    }

    pub(super) fn drop_candidate(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        out.extend(self.give_up(now).and_then(|candidate| candidate.link()).map(Effect::Close));
    }

    /// Forgets the candidate, but not that its hello may be on its way. A server that has taken it believes the
    /// session lost when the connection ends: a beat says otherwise at once.
    fn give_up(&mut self, now: MonoMs) -> Option<Candidate> {
        let candidate = self.candidate.take()?;
        if candidate.greets() {
            self.gave_up_until = now.plus(GAVE_UP_MS);
            if let Some(Primary { beat: Beat::Planned { at }, .. }) = &mut self.primary {
                *at = now.plus(BEAT_MIN_MS).min(*at);
            }
        }
        Some(candidate)
    }

    pub(super) fn advance_candidate(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        // A stage may end the very moment it begins: a wait of nothing.
        while let Some(candidate) = self.candidate.as_ref().filter(|stage| stage.until() <= now) {
            match candidate.link() {
                None => self.start_dial(now, out),
                Some(link) => {
                    out.push(Effect::Close(link));
                    self.candidate_failed(now, Failure::lost("no answer to a dial in time"), out);
                }
            }
        }
    }

    fn start_dial(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        self.links += 1;
        let link = LinkId(self.links);
        let (server, identity) = (self.next_server, self.identity);
        let until = now.plus(self.dial_timeout_ms(now));
        self.candidate = Some(Candidate::Dialling { link, server, identity, until });
        out.push(Effect::Dial(link, server));
    }

    /// A third of what is left of the lease, within bounds: a dead server must not use up the time for the others.
    fn dial_timeout_ms(&self, now: MonoMs) -> u64 {
        let longest = self.terms.timing.dial_timeout_ms;
        match self.lease_left_ms(now) {
            Some(left) => (left / 3).clamp(DIAL_MIN_MS.min(longest), longest),
            None => longest,
        }
    }

    /// Of a lease that still runs.
    fn lease_left_ms(&self, now: MonoMs) -> Option<u64> {
        self.status.lease_until.map(|until| until.since(now)).filter(|left| *left > 0)
    }

    pub(super) fn greet(&mut self, now: MonoMs, opened: LinkId, out: &mut Vec<Effect>) {
        let Some(Candidate::Dialling { link, server, identity, until }) = self.candidate else {
            return;
        };
        if link != opened {
            return;
        }
        let leaving = self.status.state == SessionState::Leaving;
        let (sent, resources) = (now, self.resources);
        self.candidate = Some(Candidate::Greeting(Greeting {
            link,
            server,
            identity,
            until,
            sent,
            resources,
            leaving,
        }));
        let hello = Hello {
            incarnation: self.terms.incarnation,
            version: self.terms.version.clone(),
            required_features: Vec::new(),
        };
        let report = StatusReport { seq: 1, node_id: 0, hello: Some(hello), resources, leaving };
        self.status.beats += 1;
        out.push(Effect::Send(link, report));
    }

    /// Takes the answer to a hello; false when it is no such answer.
    pub(super) fn acked_candidate(
        &mut self,
        now: MonoMs,
        link: LinkId,
        ack: &StatusAck,
        out: &mut Vec<Effect>,
    ) -> bool {
        let greeting = match self.candidate.take() {
            Some(Candidate::Greeting(greeting)) if greeting.link == link && ack.seq == 1 => {
                greeting
            }
            other => {
                self.candidate = other;
                return false;
            }
        };
        let old = self.primary.replace(Primary {
            link,
            server: greeting.server,
            identity: greeting.identity,
            seq: 1,
            beat: Beat::planned(now, greeting.sent, ack, self.terms.timing.ack_timeout_ms),
            resources: greeting.resources,
            leaving: greeting.leaving,
            watch_at: Some(now),
            watch_backoff: Backoff::new(Jitter::new(self.jitter.upto(u64::MAX))),
        });
        if let Some(old) = old {
            out.push(Effect::Close(old.link));
        }
        if greeting.leaving {
            self.left(now, ack, greeting.sent, out);
            return true;
        }
        self.note_ack(ack, greeting.sent);
        if self.sessions > 0 {
            self.status.reconnects += 1;
        }
        self.sessions += 1;
        self.backoff.reset();
        self.status.last_error = None;
        self.announce_session(out);
        if greeting.identity != self.identity {
            self.dial_soon(now);
        }
        true
    }

    /// The candidate's dial or hello came to nothing. Its link is gone, or is being closed.
    pub(super) fn candidate_failed(
        &mut self,
        now: MonoMs,
        failure: Failure,
        out: &mut Vec<Effect>,
    ) {
        let gone = if failure.said { self.candidate.take() } else { self.give_up(now) };
        let server = gone.and_then(|candidate| candidate.server());
        let refused = matches!(
            failure.kind,
            FailureKind::Removed | FailureKind::Refused | FailureKind::Superseded
        );
        if refused && !self.announced {
            return self.refused(now, failure, out);
        }
        let why = match server {
            Some(server) => format!("{}: {}", self.terms.servers[server], failure.why),
            None => failure.why,
        };
        if self.primary.is_none() {
            self.announce_loss(why, out);
        } else {
            self.status.last_error = Some(why);
        }
        if !self.wants_candidate() {
            return;
        }
        self.next_server();
        let wait_ms = if refused || self.is_refused() {
            self.backoff.after_refusal(&self.terms.timing)
        } else {
            // The waits must not use up the lease either.
            let cap_ms = self.lease_left_ms(now).map_or(u64::MAX, |left| left / 4);
            self.backoff.after_failure(&self.terms.timing, cap_ms)
        };
        self.candidate = Some(Candidate::waiting(now.plus(wait_ms)));
    }
}
