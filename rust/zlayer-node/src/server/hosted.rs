//! The sessions that a follower serves for this server, while it leads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tonic::{Status, Streaming};
use zlayer_core::liveness::{Ack, Event, SessionId};
use zlayer_core::record::NodeId;
use zlayer_wire::raft::{EndedSession, OpenSession, SessionAck, SessionAnswers, SessionNews};
use zlayer_wire::v1::Resources;

use super::engine::{Lease, OpenError};
use super::shared::{Opening, Shared};
use crate::peers::Streamed;
use crate::refusal::Refusal;

type Answers = UnboundedSender<Result<SessionAnswers, Status>>;

/// Where a session is that a follower serves.
struct Host {
    /// The follower's number of it.
    theirs: u64,
    /// Where the worker's connection comes from, by what the follower says.
    address: Option<SocketAddr>,
    answers: Answers,
}

/// The sessions that followers serve, by this server's numbers: to end them, and to show them.
#[derive(Default)]
pub(crate) struct Hosts(Mutex<HashMap<SessionId, Host>>);

impl Hosts {
    fn hosts(&self) -> MutexGuard<'_, HashMap<SessionId, Host>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session, if a follower has it.
    pub(crate) fn end_session(&self, session: SessionId, why: Refusal) {
        let host = self.hosts().remove(&session);
        if let Some(Host { theirs, answers, .. }) = host {
            // The follower may be gone, and the session with it.
            let _ = answers
                .send(Ok(SessionAnswers { acks: Vec::new(), ended: vec![ended(theirs, why)] }));
        }
    }

    /// Where a session's worker is.
    pub(crate) fn address(&self, session: SessionId) -> Option<SocketAddr> {
        self.hosts().get(&session)?.address
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.hosts().len()
    }
}

struct Hosted {
    node: NodeId,
    session: SessionId,
    incarnation: u64,
    /// None before its first report in this time in office.
    lease: Option<Lease>,
}

/// One follower's sessions.
struct Guests {
    shared: Arc<Shared>,
    answers: Answers,
    sessions: HashMap<u64, Hosted>,
}

fn not_leading() -> Status {
    Status::failed_precondition("this server does not lead")
}

/// Serves a follower's stream, on a task of its own.
///
/// # Errors
/// `FAILED_PRECONDITION` where this server does not lead.
pub(crate) fn host(
    shared: Arc<Shared>,
    mut news: Streaming<SessionNews>,
) -> Result<Streamed<SessionAnswers>, Status> {
    let mut eras = shared.engine.eras();
    if eras.borrow_and_update().is_none() {
        return Err(not_leading());
    }
    // Not bounded by itself, but by the sessions: each has at most one report that waits.
    let (answers, answered) = unbounded_channel();
    let stopping = shared.stopping.clone();
    // Says that it listens; the other end is there.
    let _ = answers.send(Ok(SessionAnswers::default()));
    let mut guests = Guests { shared, answers, sessions: HashMap::new() };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                _ = eras.changed() => break,
                () = stopping.cancelled() => break,
                heard = news.message() => match heard {
                    Ok(Some(news)) => if guests.hear(news).is_err() { break },
                    Ok(None) | Err(_) => return,
                },
            }
        }
        let _ = guests.answers.send(Err(not_leading()));
    });
    let answered =
        stream::unfold(answered, async |mut answered| Some((answered.recv().await?, answered)));
    Ok(Box::pin(answered))
}

impl Guests {
    /// # Errors
    /// This server leads no more.
    fn hear(&mut self, news: SessionNews) -> Result<(), ()> {
        let mut said = SessionAnswers::default();
        for opened in news.opened {
            self.open(&opened, &mut said)?;
        }
        for theirs in news.beats {
            self.beat(theirs, &mut said)?;
        }
        for theirs in news.leaving {
            if let Some(Hosted { node, session, .. }) = self.sessions.get(&theirs) {
                self.shared.engine.tell(Event::Leaving { node: *node, session: *session });
            }
        }
        for gone in news.gone {
            if let Some(hosted) = self.sessions.remove(&gone.session) {
                self.end(&hosted, gone.returns);
            }
        }
        for reported in news.resources {
            if let Some(Hosted { node, .. }) = self.sessions.get(&reported.session) {
                let resources = Resources {
                    cpu_millicores: reported.cpu_millicores,
                    memory_bytes: reported.memory_bytes,
                    disk_bytes: reported.disk_bytes,
                };
                self.shared.registry.note_resources(*node, &resources);
            }
        }
        if said != SessionAnswers::default() {
            // A follower that is gone is noticed at the next message.
            let _ = self.answers.send(Ok(said));
        }
        Ok(())
    }

    fn open(&mut self, opened: &OpenSession, said: &mut SessionAnswers) -> Result<(), ()> {
        let OpenSession { session: theirs, node_id: node, incarnation, goes_on, .. } = *opened;
        let session = SessionId(self.shared.registry.next_id());
        let mut hosted = Hosted { node, session, incarnation, lease: None };
        if goes_on {
            match self.shared.announce_session(node, session, incarnation) {
                Ok(()) => {}
                Err(Opening::NotLeading) => return Err(()),
                Err(Opening::Refused(why)) => {
                    said.ended.push(ended(theirs, why));
                    return Ok(());
                }
            }
        } else if !self.renew(theirs, &mut hosted, said)? {
            return Ok(());
        } else {
            self.shared.metrics.sessions_opened.add(1);
        }
        let (address, answers) = (opened.address.parse().ok(), self.answers.clone());
        self.shared.hosts.hosts().insert(session, Host { theirs, address, answers });
        if let Some(before) = self.sessions.insert(theirs, hosted) {
            self.end(&before, true);
        }
        Ok(())
    }

    fn beat(&mut self, theirs: u64, said: &mut SessionAnswers) -> Result<(), ()> {
        let Some(mut hosted) = self.sessions.remove(&theirs) else { return Ok(()) };
        let beaten = hosted.lease.as_ref().map(|lease| self.shared.engine.beat(lease));
        let goes_on = match beaten {
            Some(Ok(ack)) => {
                said.acks.push(acked(theirs, ack));
                true
            }
            _ => self.renew(theirs, &mut hosted, said)?,
        };
        if goes_on {
            self.shared.metrics.beats.add(1);
            self.sessions.insert(theirs, hosted);
        } else {
            self.shared.hosts.hosts().remove(&hosted.session);
        }
        Ok(())
    }

    /// A lease for a session: its first, or the next one after an expiry. False: it is refused.
    fn renew(
        &self,
        theirs: u64,
        hosted: &mut Hosted,
        said: &mut SessionAnswers,
    ) -> Result<bool, ()> {
        let Hosted { node, session, incarnation, .. } = *hosted;
        match self.shared.open_session(node, session, incarnation) {
            Ok((lease, ack)) => {
                hosted.lease = Some(lease);
                said.acks.push(acked(theirs, ack));
                Ok(true)
            }
            Err(Opening::NotLeading) => Err(()),
            Err(Opening::Refused(why)) => {
                said.ended.push(ended(theirs, why));
                Ok(false)
            }
        }
    }

    fn end(&self, hosted: &Hosted, returns: bool) {
        self.shared.hosts.hosts().remove(&hosted.session);
        self.shared.session_ended(hosted.node, hosted.session, returns);
    }
}

impl Drop for Guests {
    /// The follower is gone, or only the stream: its workers have the time that a new connection takes.
    fn drop(&mut self) {
        for hosted in self.sessions.values() {
            self.end(hosted, true);
        }
    }
}

/// What leaves this server for a session's worker.
fn acked(theirs: u64, ack: Ack) -> SessionAck {
    SessionAck {
        session: theirs,
        ttl_ms: ack.ttl_ms,
        grace_ms: ack.grace_ms,
        next_beat_in_ms: ack.next_beat_in_ms,
        reconnect_spread_ms: ack.reconnect_spread_ms,
    }
}

fn ended(theirs: u64, why: Refusal) -> EndedSession {
    EndedSession { session: theirs, reason: why.name().into() }
}

impl From<OpenError> for Opening {
    fn from(error: OpenError) -> Self {
        use zlayer_core::liveness::LivenessError;
        match error {
            OpenError::NotLeading => Self::NotLeading,
            OpenError::Refused(error) => Self::Refused(match error {
                LivenessError::UnknownNode { .. } => Refusal::Removed,
                LivenessError::Superseded { .. } | LivenessError::SessionEnded { .. } => {
                    Refusal::Superseded
                }
                LivenessError::Lease(_) => Refusal::Full,
            }),
        }
    }
}
