//! A server that does not lead serves its workers for the one that does: their reports go there in batches, the
//! answers come back. While nobody leads, reports wait: no worker is told what nobody may promise.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, timeout};
use tonic::Status;
use zlayer_core::liveness::{Ack, SessionId};
use zlayer_raft::{ControlLog, Replicated, Target};
use zlayer_wire::raft::{SessionAnswers, SessionNews};

use super::shared::Shared;
use crate::peers::PeerTransport;
use crate::refusal::Refusal;

/// What is gathered before it is told. Chosen: a worker notices nothing of it, and a fleet's beats share a message.
const GATHER: Duration = Duration::from_millis(50);

/// Between two tries to reach the leader. Chosen: well below what a worker waits for an answer.
const RETRY: Duration = Duration::from_millis(30);

/// For the leader to say that it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(3);

/// Time without a leader after which the workers are sent on to other servers. Chosen: several elections.
const OUTAGE_MAX: Duration = Duration::from_secs(4);

/// Between two looks at that.
const OUTAGE_LOOK: Duration = Duration::from_millis(100);

/// What the task needs.
pub(crate) struct Relay {
    pub(crate) shared: Arc<Shared>,
    pub(crate) replicated: Arc<Replicated>,
    pub(crate) transport: Arc<PeerTransport>,
}

impl Relay {
    /// Runs until the server stops.
    pub(crate) async fn run(self) {
        let stopping = self.shared.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.follow_leaders() => {}
            () = watch_outage(&self.shared) => {}
        }
        self.shared.seats.end_relay();
    }

    async fn follow_leaders(&self) {
        let mut leadership = self.replicated.leadership();
        loop {
            let leader = leadership.borrow_and_update().leader;
            let other = leader.filter(|leader| *leader != self.shared.node_id);
            let Some(target) = other.and_then(|id| self.target(id)) else {
                // The sender lives as long as the log; a new membership may come without a new leader.
                let _ = timeout(OUTAGE_LOOK, leadership.changed()).await;
                continue;
            };
            let moved = async {
                // Ends only by another leader.
                while leadership.changed().await.is_ok() {
                    if leadership.borrow_and_update().leader != leader {
                        return;
                    }
                }
            };
            tokio::select! {
                ended = self.serve_for(&target) => {
                    if let Err(status) = ended {
                        tracing::debug!(%target, %status, "the sessions' stream to the leader");
                    }
                }
                () = moved => {}
            }
            self.shared.seats.end_relay();
            sleep(RETRY).await;
        }
    }

    fn target(&self, id: u64) -> Option<Target> {
        let members = self.replicated.members();
        members.peers.get(&id).map(|peer| Target { id, addr: peer.raft_addr.clone() })
    }

    /// Tells the leader of all sessions, and passes on until one of both ends it.
    async fn serve_for(&self, target: &Target) -> Result<(), Status> {
        let unreachable =
            |error: zlayer_raft::TransportError| Status::unavailable(error.to_string());
        let mut client = self.transport.sessions(target).await.map_err(unreachable)?;
        // Not bounded by itself, but by the sessions: each has at most one report that waits.
        let (telling, told) = mpsc::unbounded_channel::<SessionNews>();
        let told = stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
        let listening = async {
            let mut answers = client.sessions(told).await?.into_inner();
            // The first message says that it leads.
            answers.message().await.map(|first| first.map(|_| answers))
        };
        let Ok(listening) = timeout(LISTEN_LIMIT, listening).await else {
            return Err(Status::deadline_exceeded("the leader does not listen"));
        };
        let Some(mut answers) = listening? else { return Ok(()) };
        let seats = &self.shared.seats;
        for news in seats.begin_relay() {
            // The other end is looked at below.
            let _ = telling.send(news);
        }
        let tell = async {
            loop {
                seats.wait().await;
                sleep(GATHER).await;
                if let Some(news) = seats.take_news()
                    && telling.send(news).is_err()
                {
                    return;
                }
            }
        };
        let hear = async {
            while let Some(answers) = answers.message().await? {
                self.pass_on(answers);
            }
            Ok(())
        };
        tokio::select! {
            () = tell => Ok(()),
            heard = hear => heard,
        }
    }

    fn pass_on(&self, answers: SessionAnswers) {
        for ack in answers.acks {
            let session = SessionId(ack.session);
            self.shared.seats.acked(
                session,
                Ack {
                    ttl_ms: ack.ttl_ms,
                    grace_ms: ack.grace_ms,
                    next_beat_in_ms: ack.next_beat_in_ms,
                    reconnect_spread_ms: ack.reconnect_spread_ms,
                },
            );
        }
        for ended in answers.ended {
            let why = Refusal::named(&ended.reason).unwrap_or(Refusal::Stopping);
            if let Some(connection) = self.shared.seats.connection(SessionId(ended.session)) {
                connection.end(why);
            }
        }
    }
}

/// Sends the workers on when there is no leader for long: another server may have one.
async fn watch_outage(shared: &Shared) {
    let mut looks = interval(OUTAGE_LOOK);
    let mut since = Instant::now();
    loop {
        looks.tick().await;
        if shared.engine.leads() || shared.seats.is_relaying() {
            since = Instant::now();
            shared.note_outage(false);
        } else if since.elapsed() > OUTAGE_MAX && shared.note_outage(true) {
            tracing::warn!("no leader for long; the workers are asked to try other servers");
            shared.registry.end_all(Refusal::Stopping);
        }
    }
}
