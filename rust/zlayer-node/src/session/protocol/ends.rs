//! How a session ends, or is interrupted: lost connections, refusals, goodbyes.

use zlayer_core::time::MonoMs;
use zlayer_wire::v1::StatusAck;

use super::candidate::Candidate;
use super::{Beat, Effect, LinkId, Primary, Protocol};
use crate::session::event::{SessionEvent, SessionState};
use crate::session::failure::{Failure, FailureKind};

impl Protocol {
    /// A dial failed or a link ended.
    pub(super) fn ended(
        &mut self,
        now: MonoMs,
        link: LinkId,
        failure: Failure,
        out: &mut Vec<Effect>,
    ) {
        if self.candidate.as_ref().is_some_and(|candidate| candidate.link() == Some(link)) {
            self.candidate_failed(now, failure, out);
            return;
        }
        let Some(primary) = self.primary.take_if(|primary| primary.link == link) else { return };
        match failure.kind {
            // The session that greets has superseded this one.
            FailureKind::Refused | FailureKind::Superseded if self.greets() => {}
            FailureKind::Removed | FailureKind::Refused | FailureKind::Superseded => {
                self.refused(now, failure, out);
            }
            // The session goes on over a new connection to the same server, and the server knows it.
            FailureKind::Aged => {
                self.next_server = primary.server;
                self.dial_soon(now);
            }
            FailureKind::Lost => {
                self.plan_return(now, &primary);
                self.announce_loss(failure.why, out);
            }
        }
    }

    /// Whoever was superseded by another process must not take the session back: two would do that in turns. One
    /// that was superseded by its own hello, given up and taken by a server all the same, has only lost a connection.
    pub(super) fn judged(&self, now: MonoMs, failure: Failure) -> Failure {
        if failure.kind == FailureKind::Superseded && now < self.gave_up_until {
            return Failure { kind: FailureKind::Lost, ..failure };
        }
        failure
    }

    /// After a lost connection.
    fn plan_return(&mut self, now: MonoMs, primary: &Primary) {
        let planned = match &self.candidate {
            Some(candidate) if candidate.link().is_some() => return,
            Some(candidate) => Some(candidate.until()),
            None => None,
        };
        // Beyond the time of the next beat the wait would eat the grace.
        let spread_ms = match primary.beat {
            Beat::Planned { at } => self.spread_ms.min(at.since(now)),
            Beat::Sent { .. } => 0,
        };
        let leaving = self.status.state == SessionState::Leaving;
        let wait_ms = if leaving { 0 } else { self.backoff.after_loss(spread_ms) };
        self.next_server();
        let until = now.plus(wait_ms);
        self.candidate = Some(Candidate::waiting(planned.map_or(until, |at| at.min(until))));
    }

    /// Final until the cluster changes its mind: everything is closed, and a dial is tried rarely.
    pub(super) fn refused(&mut self, now: MonoMs, failure: Failure, out: &mut Vec<Effect>) {
        self.close_all(now, out);
        self.announced = false;
        self.status.last_error = Some(failure.why.clone());
        let removed = failure.kind == FailureKind::Removed;
        out.push(Effect::Tell(SessionEvent::Refused { why: failure.why, removed }));
        if self.status.state == SessionState::Leaving {
            // Nobody is left to say goodbye to.
            self.status.state = SessionState::Stopped;
            return;
        }
        self.status.state = if removed { SessionState::Removed } else { SessionState::Refused };
        self.next_server();
        let wait_ms = self.backoff.after_refusal(&self.terms.timing);
        self.candidate = Some(Candidate::waiting(now.plus(wait_ms)));
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.status.state, SessionState::Refused | SessionState::Removed)
    }

    pub(super) fn leave(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        if self.is_refused() {
            return self.stop(now, out);
        }
        self.status.state = SessionState::Leaving;
        if self.primary.is_none() {
            self.dial_soon(now);
        }
    }

    pub(super) fn left(
        &mut self,
        now: MonoMs,
        ack: &StatusAck,
        sent: MonoMs,
        out: &mut Vec<Effect>,
    ) {
        self.note_ack(ack, sent);
        self.status.left = true;
        self.stop(now, out);
    }

    pub(super) fn stop(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        self.close_all(now, out);
        self.status.state = SessionState::Stopped;
    }

    pub(super) fn close_all(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        self.drop_candidate(now, out);
        if let Some(primary) = self.primary.take() {
            out.push(Effect::Close(primary.link));
        }
    }
}
