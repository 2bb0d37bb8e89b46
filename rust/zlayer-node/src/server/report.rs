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
use zlayer_core::liveness::{Ack, Event, SessionId, SessionLease};
use zlayer_wire::v1::{StatusAck, StatusReport};

use super::service::Caller;
use super::shared::Shared;
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
}

enum Phase {
    /// The first report has not come yet.
    Fresh,
    /// Beats are counted. The incarnation serves to open anew after an expiry.
    Open { lease: SessionLease, incarnation: u64 },
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
        Self { shared, caller, session, inbound, phase: Phase::Fresh }
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
            Phase::Open { lease, incarnation } => match self.shared.engine.beat(lease) {
                Ok(ack) => ack,
                Err(_stale) => self.reopen(*incarnation)?,
            },
            // Nothing is read in these.
            Phase::Leaving { .. } | Phase::Done => return Ok(None),
        };
        self.shared.metrics.beats.add(1);
        if let Some(resources) = &report.resources {
            self.caller.ledger.resources.note(resources);
        }
        let ack = self.message(report.seq, ack);
        if report.leaving {
            self.leave(ack);
            return Ok(None);
        }
        Ok(Some(ack))
    }

    /// The first report opens the session.
    fn open(&mut self, report: &StatusReport) -> Result<Ack, Refusal> {
        let hello = report.hello.as_ref().ok_or(Refusal::Protocol)?;
        if !hello.required_features.is_empty() {
            return Err(Refusal::Feature);
        }
        let ack = self.reopen(hello.incarnation)?;
        self.caller.connection.hold_open();
        self.shared.metrics.sessions_opened.add(1);
        Ok(ack)
    }

    /// Gets a lease for this session: its first, or the next one after an expiry.
    fn reopen(&mut self, incarnation: u64) -> Result<Ack, Refusal> {
        let node_id = self.caller.connection.node_id;
        let (lease, ack) = self.shared.open_session(node_id, self.session, incarnation)?;
        self.phase = Phase::Open { lease, incarnation };
        Ok(ack)
    }

    fn leave(&mut self, ack: StatusAck) {
        if matches!(self.phase, Phase::Open { .. }) {
            self.caller.connection.let_go();
        }
        self.phase = Phase::Leaving { ack };
        self.caller.connection.begin_leaving();
        let node = self.caller.connection.node_id;
        self.shared.engine.tell(Event::Leaving { node, session: self.session });
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
