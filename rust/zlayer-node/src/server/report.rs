//! The stream that answers `ReportStatus`: polls the worker's reports and yields the acks itself.
//!
//! No task and no channel of its own: it is polled by the task that drives the connection, so a beat goes from
//! the socket to the lease and back without leaving that task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tonic::{Code, Status, Streaming};
use zlayer_core::liveness::{Ack, Event, SessionId};
use zlayer_wire::v1::{StatusAck, StatusReport};

use super::engine::Lease;
use super::service::Caller;
use super::shared::{Opening, Shared};
use crate::clock::Clock;
use crate::refusal::Refusal;

/// Seconds' worth of reports that may come at once. Chosen: an unanswered beat is repeated at once.
const BURST_SECONDS: u32 = 4;

/// One session.
pub(crate) struct ReportStream {
    shared: Arc<Shared>,
    caller: Caller,
    session: SessionId,
    inbound: Streaming<StatusReport>,
    phase: Phase,
    /// Number of the newest report that another server has to answer.
    asked: Option<u64>,
}

enum Phase {
    /// The first report has not come yet.
    Fresh,
    /// Beats are counted, here or by the server that leads. The incarnation serves to open anew after an expiry.
    Open { lease: Option<Lease>, incarnation: u64 },
    /// The last report said `leaving`; this ack is sent once that is durable.
    Leaving { ack: StatusAck },
    /// Nothing more is said.
    Done,
}

impl ReportStream {
    pub(crate) fn new(
        shared: Arc<Shared>,
        caller: Caller,
        session: SessionId,
        inbound: Streaming<StatusReport>,
    ) -> Self {
        Self { shared, caller, session, inbound, phase: Phase::Fresh, asked: None }
    }

    /// Answers one report, or `None` when the answer has to wait.
    fn answer(&mut self, report: &StatusReport) -> Result<Option<StatusAck>, Refusal> {
        let connection = &self.caller.connection;
        if report.node_id != 0 && report.node_id != connection.node_id {
            return Err(Refusal::WrongNode);
        }
        if Clock::unix() >= connection.not_after {
            return Err(Refusal::CertificateExpired);
        }
        let rate = self.shared.limits.beats_per_second_per_worker;
        let burst = rate.saturating_mul(BURST_SECONDS);
        if !self.caller.ledger.reports.take(self.shared.clock.now(), rate, burst) {
            return Err(Refusal::TooFast);
        }
        let ack = match &self.phase {
            Phase::Fresh => self.open(report)?,
            Phase::Open { .. } if report.hello.is_some() => return Err(Refusal::Protocol),
            Phase::Open { lease, incarnation } => {
                let incarnation = *incarnation;
                match lease.as_ref().map(|lease| self.shared.engine.beat(lease)) {
                    Some(Ok(ack)) => Some(ack),
                    Some(Err(_)) | None => self.reopen(incarnation)?,
                }
            }
            // Nothing is read in these.
            Phase::Leaving { .. } | Phase::Done => return Ok(None),
        };
        if let Some(resources) = &report.resources {
            self.caller.ledger.resources.note(resources);
            self.shared.seats.note_resources(self.session, resources);
        }
        if ack.is_some() {
            self.shared.metrics.beats.add(1);
        }
        if report.leaving {
            // Nothing of it counts any more but that it is answered.
            let last = Ack { ttl_ms: 0, grace_ms: 0, next_beat_in_ms: 1, reconnect_spread_ms: 0 };
            let is_asked = ack.is_none();
            self.leave(self.message(report.seq, ack.unwrap_or(last)), is_asked);
            return Ok(None);
        }
        if ack.is_none() {
            self.asked = Some(report.seq);
        }
        Ok(ack.map(|ack| self.message(report.seq, ack)))
    }

    /// The answer of the server that leads, if one has come that is waited for.
    fn relayed(&mut self) -> Option<StatusAck> {
        let seq = self.asked?;
        let ack = self.shared.seats.take_answer(self.session)?;
        self.asked = None;
        Some(self.message(seq, ack))
    }

    /// The first report opens the session.
    fn open(&mut self, report: &StatusReport) -> Result<Option<Ack>, Refusal> {
        let hello = report.hello.as_ref().ok_or(Refusal::Protocol)?;
        if !hello.required_features.is_empty() {
            return Err(Refusal::Feature);
        }
        let (session, connection) = (self.session, Arc::clone(&self.caller.connection));
        self.shared.seats.open(session, hello.incarnation, &connection);
        let ack = match self.reopen(hello.incarnation) {
            Ok(ack) => ack,
            Err(why) => {
                self.shared.seats.close(session, false);
                return Err(why);
            }
        };
        connection.hold_open();
        self.shared.metrics.sessions_opened.add(1);
        Ok(ack)
    }

    /// Gets a lease for this session: its first, or the next one after an expiry. `None`: another server has to
    /// answer, and is asked.
    fn reopen(&mut self, incarnation: u64) -> Result<Option<Ack>, Refusal> {
        let node_id = self.caller.connection.node_id;
        match self.shared.open_session(node_id, self.session, incarnation) {
            Ok((lease, ack)) => {
                self.phase = Phase::Open { lease: Some(lease), incarnation };
                self.shared.seats.greeted(self.session);
                Ok(Some(ack))
            }
            Err(Opening::NotLeading) => {
                self.phase = Phase::Open { lease: None, incarnation };
                self.shared.seats.ask(self.session);
                // It may have begun to lead just now, and may not have seen that this one waits.
                if self.shared.engine.leads() { self.reopen(incarnation) } else { Ok(None) }
            }
            Err(Opening::Refused(why)) => Err(why),
        }
    }

    fn leave(&mut self, ack: StatusAck, is_asked: bool) {
        if matches!(self.phase, Phase::Open { .. }) {
            self.caller.connection.let_go();
        }
        self.phase = Phase::Leaving { ack };
        self.caller.connection.begin_leaving();
        self.shared.seats.leave(self.session);
        if !is_asked {
            let node = self.caller.connection.node_id;
            self.shared.engine.tell(Event::Leaving { node, session: self.session });
        }
    }

    fn message(&self, seq: u64, ack: Ack) -> StatusAck {
        StatusAck {
            seq,
            ttl_ms: ack.ttl_ms,
            grace_ms: ack.grace_ms,
            next_beat_in_ms: ack.next_beat_in_ms,
            reconnect_spread_ms: ack.reconnect_spread_ms,
            draining: self.caller.connection.draining.load(Ordering::Relaxed),
        }
    }

    /// Ends the session from this side. The other streams of the connection end with the same status.
    fn refuse(&mut self, why: Refusal) -> Status {
        self.shared.metrics.sessions_refused.add(why.name());
        tracing::info!(
            node_id = self.caller.connection.node_id,
            address = %self.caller.connection.address,
            why = why.name(),
            "session ended"
        );
        self.finish(why == Refusal::Aged);
        self.caller.connection.end(why);
        why.status()
    }

    /// Gives up the session; true when it was open.
    fn finish(&mut self, hand_over: bool) {
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        let node = self.caller.connection.node_id;
        if matches!(phase, Phase::Open { .. } | Phase::Leaving { .. }) {
            self.shared.seats.close(self.session, hand_over);
        }
        match phase {
            Phase::Open { .. } => {
                self.caller.connection.let_go();
                self.shared.metrics.sessions_closed.add(1);
                self.shared.session_ended(node, self.session, hand_over);
            }
            Phase::Leaving { .. } => {
                self.shared.metrics.sessions_closed.add(1);
                self.shared.session_ended(node, self.session, false);
            }
            Phase::Fresh => {}
            Phase::Done => return,
        }
        self.caller.connection.release_session();
    }
}

/// The status that a worker gets for a message that could not be read.
fn outcome_of(status: Status) -> Status {
    match status.code() {
        // tonic's code for a message beyond the limit.
        Code::OutOfRange => Status::resource_exhausted("the report is larger than the limit"),
        Code::Internal => Status::invalid_argument("the report can't be decoded"),
        _ => status,
    }
}

impl Stream for ReportStream {
    type Item = Result<StatusAck, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // Whoever ends the connection, or makes a leaving durable, wakes the task that polls this.
            if let Phase::Done = this.phase {
                return Poll::Ready(None);
            }
            if let Some(why) = this.caller.connection.ending() {
                return Poll::Ready(Some(Err(this.refuse(why))));
            }
            if let Phase::Leaving { ack } = this.phase {
                if !this.caller.connection.has_left() {
                    return Poll::Pending;
                }
                this.shared.metrics.acks.add(1);
                this.finish(false);
                return Poll::Ready(Some(Ok(ack)));
            }
            if let Some(ack) = this.relayed() {
                this.shared.metrics.acks.add(1);
                return Poll::Ready(Some(Ok(ack)));
            }
            match ready!(Pin::new(&mut this.inbound).poll_next(cx)) {
                None => this.finish(false),
                Some(Err(status)) => {
                    this.finish(false);
                    return Poll::Ready(Some(Err(outcome_of(status))));
                }
                Some(Ok(report)) => match this.answer(&report) {
                    Ok(Some(ack)) => {
                        this.shared.metrics.acks.add(1);
                        return Poll::Ready(Some(Ok(ack)));
                    }
                    Ok(None) => {}
                    Err(why) => return Poll::Ready(Some(Err(this.refuse(why)))),
                },
            }
        }
    }
}

impl Drop for ReportStream {
    fn drop(&mut self) {
        self.finish(false);
    }
}
