//! The sessions on this server's connections, and what has to be told of them to the server that leads.
//!
//! Touched when a session opens or ends; by a beat only where another server leads, or with figures in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use zlayer_core::liveness::{Ack, SessionId};
use zlayer_core::record::NodeId;
use zlayer_wire::raft::{GoneSession, OpenSession, SessionNews, SessionResources};
use zlayer_wire::v1::Resources;

use super::connection::Connection;

/// Sessions in one message. Chosen: some 30 KiB.
const BATCH_MAX: usize = 1_000;

/// One session.
struct Seat {
    node: NodeId,
    incarnation: u64,
    connection: Arc<Connection>,
    /// The leader was told of it.
    told: bool,
    standing: Standing,
    answer: Option<Ack>,
    resources: Option<Resources>,
}

/// What became of a session so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    /// A leader has answered it once.
    pub(crate) greeted: bool,
    /// A report waits for the leader's answer.
    pub(crate) waits: bool,
    /// It said goodbye.
    pub(crate) leaving: bool,
}

/// A session, as a new leader has to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sitting {
    pub(crate) session: SessionId,
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) standing: Standing,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Seats {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Default)]
struct Inner {
    seats: HashMap<SessionId, Seat>,
    /// A leader listens. Otherwise nothing is gathered: whoever listens next is told of everything.
    is_relaying: bool,
    news: SessionNews,
}

impl Inner {
    fn tell(&mut self, session: SessionId) {
        if !self.is_relaying {
            return;
        }
        let Some(seat) = self.seats.get_mut(&session) else { return };
        if !std::mem::replace(&mut seat.told, true) {
            self.news.opened.push(opened(session, seat));
            if !seat.standing.greeted || !seat.standing.waits {
                return;
            }
        }
        self.news.beats.push(session.0);
    }
}

fn opened(session: SessionId, seat: &Seat) -> OpenSession {
    OpenSession {
        session: session.0,
        node_id: seat.node,
        incarnation: seat.incarnation,
        goes_on: seat.standing.greeted,
        address: seat.connection.address.to_string(),
    }
}

fn reported(session: SessionId, resources: &Resources) -> SessionResources {
    SessionResources {
        session: session.0,
        cpu_millicores: resources.cpu_millicores,
        memory_bytes: resources.memory_bytes,
        disk_bytes: resources.disk_bytes,
    }
}

impl Seats {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins.
    pub(crate) fn open(&self, session: SessionId, incarnation: u64, connection: &Arc<Connection>) {
        let seat = Seat {
            node: connection.node_id,
            incarnation,
            connection: Arc::clone(connection),
            told: false,
            standing: Standing::default(),
            answer: None,
            resources: None,
        };
        self.inner().seats.insert(session, seat);
    }

    /// This server has answered it by itself.
    pub(crate) fn greeted(&self, session: SessionId) {
        if let Some(seat) = self.inner().seats.get_mut(&session) {
            seat.standing.greeted = true;
            seat.standing.waits = false;
            seat.answer = None;
        }
    }

    /// A report came that another server has to answer.
    pub(crate) fn ask(&self, session: SessionId) {
        let mut inner = self.inner();
        let Some(seat) = inner.seats.get_mut(&session) else { return };
        // One that waits is answered by the same answer.
        if !std::mem::replace(&mut seat.standing.waits, true) {
            seat.answer = None;
            inner.tell(session);
            drop(inner);
            self.news.notify_one();
        }
    }

    /// The session said goodbye, and another server has to record it.
    pub(crate) fn leave(&self, session: SessionId) {
        let mut inner = self.inner();
        let Some(seat) = inner.seats.get_mut(&session) else { return };
        seat.standing.leaving = true;
        if inner.is_relaying {
            inner.news.leaving.push(session.0);
            drop(inner);
            self.news.notify_one();
        }
    }

    /// The session's worker has reported what it uses. Told to whoever leads; kept for the next one.
    pub(crate) fn note_resources(&self, session: SessionId, resources: &Resources) {
        let mut inner = self.inner();
        let Some(seat) = inner.seats.get_mut(&session) else { return };
        seat.resources = Some(*resources);
        if inner.is_relaying {
            inner.news.resources.push(reported(session, resources));
            drop(inner);
            self.news.notify_one();
        }
    }

    /// The session is over.
    pub(crate) fn close(&self, session: SessionId, returns: bool) {
        let mut inner = self.inner();
        let Some(seat) = inner.seats.remove(&session) else { return };
        if inner.is_relaying && seat.told {
            inner.news.gone.push(GoneSession { session: session.0, returns });
            drop(inner);
            self.news.notify_one();
        }
    }

    /// The leader's answer, for the session's stream to take. One that nobody waits for is dropped.
    pub(crate) fn acked(&self, session: SessionId, ack: Ack) {
        let mut inner = self.inner();
        let Some(seat) = inner.seats.get_mut(&session) else { return };
        seat.standing.greeted = true;
        if std::mem::take(&mut seat.standing.waits) {
            seat.answer = Some(ack);
            seat.connection.wake();
        }
    }

    /// Takes the answer that came.
    pub(crate) fn take_answer(&self, session: SessionId) -> Option<Ack> {
        self.inner().seats.get_mut(&session)?.answer.take()
    }

    /// The connection of a session.
    pub(crate) fn connection(&self, session: SessionId) -> Option<Arc<Connection>> {
        self.inner().seats.get(&session).map(|seat| Arc::clone(&seat.connection))
    }

    /// All sessions, for this server's own engine.
    pub(crate) fn all(&self) -> Vec<Sitting> {
        let inner = self.inner();
        let sitting = |(session, seat): (&SessionId, &Seat)| Sitting {
            session: *session,
            node: seat.node,
            incarnation: seat.incarnation,
            standing: seat.standing,
        };
        let mut all: Vec<_> = inner.seats.iter().map(sitting).collect();
        // The order in which they were opened says which of two of one node is the newer.
        all.sort_unstable_by_key(|sitting| sitting.session);
        all
    }

    /// A leader listens: all that it has to know, and from now on what is new.
    pub(crate) fn begin_relay(&self) -> Vec<SessionNews> {
        let mut inner = self.inner();
        inner.is_relaying = true;
        inner.news = SessionNews::default();
        let mut sessions: Vec<_> = inner.seats.keys().copied().collect();
        sessions.sort_unstable();
        let mut batches = Vec::new();
        for part in sessions.chunks(BATCH_MAX) {
            let mut news = SessionNews::default();
            for session in part {
                let Some(seat) = inner.seats.get_mut(session) else { continue };
                seat.told = true;
                news.opened.push(opened(*session, seat));
                if seat.standing.greeted && seat.standing.waits {
                    news.beats.push(session.0);
                }
                if seat.standing.leaving {
                    news.leaving.push(session.0);
                }
                news.resources.extend(seat.resources.map(|known| reported(*session, &known)));
            }
            batches.push(news);
        }
        batches
    }

    /// Nobody listens any more.
    pub(crate) fn end_relay(&self) {
        let mut inner = self.inner();
        inner.is_relaying = false;
        inner.news = SessionNews::default();
        inner.seats.values_mut().for_each(|seat| seat.told = false);
    }

    /// Whether a leader listens.
    pub(crate) fn is_relaying(&self) -> bool {
        self.inner().is_relaying
    }

    /// Resolves when there may be something to tell.
    pub(crate) async fn wait(&self) {
        self.news.notified().await;
    }

    /// What is to be told; `None`: nothing.
    pub(crate) fn take_news(&self) -> Option<SessionNews> {
        let news = std::mem::take(&mut self.inner().news);
        (news != SessionNews::default()).then_some(news)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use zlayer_core::time::UnixMs;

    use super::*;
    use crate::peer::WorkerIdentity;

    const ACK: Ack = Ack { ttl_ms: 7, grace_ms: 1, next_beat_in_ms: 5, reconnect_spread_ms: 0 };
    const SESSION: SessionId = SessionId(3);

    fn seats() -> Seats {
        let identity = WorkerIdentity { node_id: 1000, not_after: UnixMs(u64::MAX) };
        let connection = Connection::new(1, identity, ([127, 0, 0, 1], 9).into());
        let seats = Seats::default();
        seats.open(SESSION, 42, &Arc::new(connection));
        seats
    }

    fn told(news: &[SessionNews]) -> Vec<(u64, bool)> {
        let opened = news.iter().flat_map(|news| &news.opened);
        opened.map(|opened| (opened.session, opened.goes_on)).collect()
    }

    #[test]
    fn a_hello_waits_for_a_leader_and_is_announced_to_the_next_one() {
        let seats = seats();
        seats.ask(SESSION);
        assert_eq!(seats.take_news(), None, "nobody listens");
        let news = seats.begin_relay();
        assert_eq!(told(&news), [(3, false)]);
        assert_eq!(news[0].beats, [0; 0], "the answer to its opening is the answer");
        assert_eq!(seats.take_answer(SESSION), None);
        seats.acked(SESSION, ACK);
        assert_eq!(seats.take_answer(SESSION), Some(ACK));
        assert_eq!(seats.take_answer(SESSION), None, "once");
        seats.end_relay();
        assert_eq!(told(&seats.begin_relay()), [(3, true)]);
    }

    #[test]
    fn a_report_that_waits_is_told_once_to_each_leader() {
        let seats = seats();
        seats.greeted(SESSION);
        seats.begin_relay();
        seats.ask(SESSION);
        seats.ask(SESSION);
        assert_eq!(seats.take_news().unwrap().beats, [3]);
        seats.end_relay();
        let news = seats.begin_relay();
        assert_eq!((told(&news), &news[0].beats), (vec![(3, true)], &vec![3]));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_dropped() {
        let seats = seats();
        seats.begin_relay();
        seats.acked(SESSION, ACK);
        seats.ask(SESSION);
        assert_eq!(seats.take_answer(SESSION), None, "it answered no report of now");
        // This server began to lead, and has answered by itself.
        seats.acked(SESSION, ACK);
        seats.greeted(SESSION);
        seats.ask(SESSION);
        assert_eq!(seats.take_answer(SESSION), None);
    }

    #[test]
    fn an_end_is_told_to_whoever_was_told_of_the_beginning() {
        let seats = seats();
        seats.begin_relay();
        seats.leave(SESSION);
        assert_eq!(seats.take_news().unwrap().leaving, [3]);
        seats.close(SESSION, true);
        let gone = GoneSession { session: 3, returns: true };
        assert_eq!(seats.take_news().unwrap().gone, [gone]);
        assert!(seats.begin_relay().is_empty() && seats.all().is_empty());
    }
}
