//! A network in memory, for tests: between any two servers it can be cut, one way or both, made slow, or lossy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::transport::{
    Answers, Kind, Requests, Target, Transport, TransportError, TransportFuture,
};
use crate::Replicated;

/// How it is from one server to another.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Wire {
    /// Nothing gets through, and nobody is told.
    pub is_cut: bool,
    /// What everything takes.
    pub delay: Duration,
    /// Share of the messages that are lost, 0 to 1. A stream breaks at the first.
    pub loss: f64,
}

#[derive(Default)]
struct Board {
    servers: BTreeMap<u64, Weak<Replicated>>,
    wires: BTreeMap<(u64, u64), Wire>,
    /// Of the coin that loses messages.
    seed: u64,
    calls: BTreeMap<Kind, u64>,
}

/// See the module.
pub struct Switchboard {
    board: Mutex<Board>,
    changed: watch::Sender<u64>,
}

impl Default for Switchboard {
    fn default() -> Self {
        Self { board: Mutex::default(), changed: watch::channel(0).0 }
    }
}

impl Switchboard {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way out of one server.
    pub fn plug(self: &Arc<Self>, from: u64) -> Arc<dyn Transport> {
        Arc::new(Plug { board: Arc::clone(self), from })
    }

    /// Lets a server be reached; in place of the one that had its id.
    pub fn connect(&self, id: u64, server: &Arc<Replicated>) {
        self.board().servers.insert(id, Arc::downgrade(server));
    }

    /// Lets nobody reach it: connections are refused.
    pub fn disconnect(&self, id: u64) {
        self.board().servers.remove(&id);
    }

    /// Sets how it is from one server to another.
    pub fn set(&self, from: u64, to: u64, wire: Wire) {
        self.board().wires.insert((from, to), wire);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Cuts these servers off from all others, both ways.
    pub fn isolate(&self, island: &[u64], all: &[u64]) {
        for a in all {
            for b in all {
                if a != b && island.contains(a) != island.contains(b) {
                    self.set(*a, *b, Wire { is_cut: true, ..Wire::default() });
                }
            }
        }
    }

    /// Mends everything.
    pub fn heal(&self) {
        self.board().wires.clear();
        self.changed.send_modify(|count| *count += 1);
    }

    fn wire(&self, from: u64, to: u64) -> Wire {
        self.board().wires.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Calls of a kind that were begun.
    pub fn calls(&self, kind: Kind) -> u64 {
        self.board().calls.get(&kind).copied().unwrap_or_default()
    }

    fn server(&self, id: u64) -> Result<Arc<Replicated>, TransportError> {
        let server = self.board().servers.get(&id).and_then(Weak::upgrade);
        server.ok_or_else(|| TransportError::Unreachable(format!("nobody listens at {id}")))
    }

    /// A step of `SplitMix64` (Steele, Lea, Flood 2014), as a number from 0 to 1.
    fn toss(&self) -> f64 {
        let mut board = self.board();
        board.seed = board.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = board.seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) as f64 / u64::MAX as f64
    }

    /// Lets one message pass, when and if it may.
    async fn pass(&self, from: u64, to: u64) -> Result<(), TransportError> {
        let mut changed = self.changed.subscribe();
        loop {
            let wire = self.wire(from, to);
            if !wire.is_cut {
                if !wire.delay.is_zero() {
                    sleep(wire.delay).await;
                }
                if wire.loss > 0.0 && self.toss() < wire.loss {
                    return Err(TransportError::Broken("a message was lost".into()));
                }
                return Ok(());
            }
            if changed.changed().await.is_err() {
                return Err(TransportError::Broken("the board is gone".into()));
            }
        }
    }
}

struct Plug {
    board: Arc<Switchboard>,
    from: u64,
}

impl Transport for Plug {
    fn call(
        &self,
        target: &Target,
        kind: Kind,
        request: Bytes,
        deadline: Duration,
    ) -> TransportFuture {
        let (board, from, to) = (Arc::clone(&self.board), self.from, target.id);
        *board.board().calls.entry(kind).or_default() += 1;
        Box::pin(async move {
            let ask = async {
                board.pass(from, to).await?;
                // Not held while it answers: it may be ended meanwhile.
                let answer = board.server(to)?.handle(from, request);
                let answer = answer.await;
                board.pass(to, from).await?;
                Ok(answer)
            };
            timeout(deadline, ask).await.unwrap_or(Err(TransportError::TimedOut))
        })
    }

    fn appends(&self, target: &Target, requests: Requests) -> Answers {
        let (board, from, to) = (Arc::clone(&self.board), self.from, target.id);
        let server = match board.server(to) {
            Ok(server) => server,
            Err(error) => return Box::pin(stream::once(async { Err(error) })),
        };
        let (broke, broken) = watch::channel(None);
        let there = Arc::clone(&board);
        let arriving = stream::unfold(Some((requests, broke)), move |state| {
            let board = Arc::clone(&there);
            async move {
                let (mut requests, broke) = state?;
                let request = requests.next().await?;
                match board.pass(from, to).await {
                    Ok(()) => Some((request, Some((requests, broke)))),
                    Err(error) => {
                        broke.send_replace(Some(error));
                        None
                    }
                }
            }
        });
        let answers = server.handle_appends(from, Box::pin(arriving));
        drop(server);
        Box::pin(stream::unfold(Some((answers, broken)), move |state| {
            let board = Arc::clone(&board);
            async move {
                let (mut answers, broken) = state?;
                let Some(answer) = answers.next().await else {
                    let error = broken.borrow().clone()?;
                    return Some((Err(error), None));
                };
                match board.pass(to, from).await {
                    Ok(()) => Some((Ok(answer), Some((answers, broken)))),
                    Err(error) => Some((Err(error), None)),
                }
            }
        }))
    }
}
