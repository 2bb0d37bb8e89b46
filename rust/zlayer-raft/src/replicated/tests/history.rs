//! Clients that write and read all the time, and the check of what they saw: by index, since every write answers
//! with the place in the order that it got.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use zlayer_core::command::Outcome;
use zlayer_core::record::FIRST_WORKER_ID;

use super::rig::{LOOK, jti, redeem};
use crate::{ControlLog, ProposeError, Replicated};

/// Between two writes of one client: a token admits no more than some thousands.
const PACE: std::time::Duration = std::time::Duration::from_millis(4);

/// Servers that can be asked. A test takes some away and puts others in their place.
pub(super) type Servers = Arc<Mutex<BTreeMap<u64, Arc<Replicated>>>>;

/// What somebody did, from when to when, and what it saw: a write its place, a read how many there were.
#[derive(Debug, Clone, Copy)]
struct Op {
    began: Instant,
    ended: Instant,
    seen: u64,
}

#[derive(Default)]
struct Seen {
    writes: BTreeMap<u64, Op>,
    reads: Vec<Op>,
    unknown: u64,
}

/// See the module.
pub(super) struct Clients {
    servers: Servers,
    token: u64,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

async fn write(servers: &Servers, token: u64, key: u64, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let began = Instant::now();
    loop {
        let leader = {
            let servers = servers.lock().unwrap();
            let leads = |server: &&Arc<Replicated>| server.leadership().borrow().own.is_some();
            servers.values().find(leads).cloned()
        };
        let answer = match leader {
            Some(leader) => leader.propose(redeem(token, key)).await,
            None => Err(ProposeError::NoLeader),
        };
        match answer {
            Ok(Outcome::Redeemed { node_id, .. }) => {
                let place = node_id - FIRST_WORKER_ID;
                let op = Op { began, ended: Instant::now(), seen: place };
                assert!(seen.lock().unwrap().writes.insert(key, op).is_none());
                return;
            }
            Ok(other) => panic!("{other:?}"),
            // It comes once, however often it is asked for.
            Err(ProposeError::Unknown { .. } | ProposeError::Stopped { .. }) => {
                seen.lock().unwrap().unknown += 1;
            }
            Err(_) => {}
        }
        if stop.load(Ordering::Acquire) {
            return;
        }
        sleep(LOOK).await;
    }
}

/// Reads how many there are, at any server.
async fn read(servers: &Servers, token: u64, at: usize, seen: &Mutex<Seen>) {
    let server = {
        let servers = servers.lock().unwrap();
        if servers.is_empty() {
            return;
        }
        servers.values().nth(at % servers.len()).cloned()
    };
    let Some(server) = server else { return };
    let began = Instant::now();
    if server.read_barrier().await.is_ok() {
        let count = server.state().with_state(|state| {
            state.token(&jti(token)).map_or(0, |token| token.uses.len() as u64)
        });
        seen.lock().unwrap().reads.push(Op { began, ended: Instant::now(), seen: count });
    }
}

impl Clients {
    /// Starts so many that write and two that read.
    pub(super) fn start(servers: &Servers, token: u64, writers: u64) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for _ in 0..writers {
            let (servers, seen, stop) = (Arc::clone(servers), Arc::clone(&seen), Arc::clone(&stop));
            let next = Arc::clone(&next);
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let key = next.fetch_add(1, Ordering::Relaxed);
                    write(&servers, token, key, &stop, &seen).await;
                    sleep(PACE).await;
                }
            }));
        }
        for reader in 0..2 {
            let (servers, seen, stop) = (Arc::clone(servers), Arc::clone(&seen), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let mut at = reader;
                while !stop.load(Ordering::Acquire) {
                    read(&servers, token, at, &seen).await;
                    at += 1;
                    sleep(LOOK).await;
                }
            }));
        }
        Self { servers: Arc::clone(servers), token, seen, stop, tasks }
    }

    pub(super) fn written(&self) -> usize {
        self.seen.lock().unwrap().writes.len()
    }

    /// Waits for so many more writes.
    pub(super) async fn await_more(&self, more: usize) {
        let goal = self.written() + more;
        let deadline = tokio::time::Instant::now() + super::rig::PATIENCE;
        while self.written() < goal {
            assert!(tokio::time::Instant::now() < deadline, "writes do not flow");
            sleep(LOOK).await;
        }
    }

    /// Ends them and checks what they saw, and that it is all there, on every server that is up.
    pub(super) async fn check(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.unwrap();
        }
        let servers: Vec<_> = self.servers.lock().unwrap().values().cloned().collect();
        for server in &servers {
            // What was acknowledged last may still be on its way to some of them.
            let caught_up = async {
                while server.read_barrier().await.is_err() {
                    sleep(LOOK).await;
                }
            };
            tokio::time::timeout(super::rig::PATIENCE, caught_up).await.unwrap();
        }
        let seen = self.seen.lock().unwrap();
        linearizable(&seen);
        for server in &servers {
            server.state().with_state(|state| {
                let uses = &state.token(&jti(self.token)).unwrap().uses;
                for (key, op) in &seen.writes {
                    let place = uses.get(&format!("{key:064x}")).map(|id| id - FIRST_WORKER_ID);
                    assert_eq!(place, Some(op.seen), "an acknowledged write of key {key} is lost");
                }
            });
        }
        seen.unknown
    }
}

/// A write has one place, and whoever begins after another has ended comes behind it.
fn linearizable(seen: &Seen) {
    let mut places: Vec<_> = seen.writes.values().map(|op| op.seen).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), seen.writes.len(), "a place was given twice");
    // What the newest ended one has seen, by the time of its end: nobody who begins later may see less.
    let mut ends: Vec<(Instant, u64)> =
        seen.writes.values().map(|op| (op.ended, op.seen + 1)).collect();
    ends.extend(seen.reads.iter().map(|op| (op.ended, op.seen)));
    ends.sort_unstable();
    let mut floor = 0;
    let floors: Vec<(Instant, u64)> = ends
        .into_iter()
        .map(|(end, least)| {
            floor = floor.max(least);
            (end, floor)
        })
        .collect();
    let floor_at = |time: Instant| {
        let at = floors.partition_point(|(end, _)| *end < time);
        at.checked_sub(1).map_or(0, |at| floors[at].1)
    };
    for (key, op) in &seen.writes {
        let floor = floor_at(op.began);
        assert!(op.seen >= floor, "write of {key} got place {}, behind {floor} were seen", op.seen);
    }
    for op in &seen.reads {
        let floor = floor_at(op.began);
        assert!(op.seen >= floor, "a read saw {} where {floor} were seen before", op.seen);
    }
}
