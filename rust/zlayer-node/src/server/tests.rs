//! What no test can bring about from outside: a log that runs ahead of its followers, and an engine that panics.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};
use zlayer_core::command::{Command, Outcome, Transition};
use zlayer_core::liveness::{Event, SessionId};
use zlayer_core::record::{CertificateRecord, Labels, Liveness, NodeId, Profile, Reason};
use zlayer_core::state::{EVENTS_KEPT, TRANSITIONS_MAX};
use zlayer_core::time::UnixMs;
use zlayer_raft::{LogOptions, SingleVoter};

use super::connection::Connection;
use super::engine::{Dated, Engine};
use super::shared::{Opening, Shared};
use super::ticker::Ticker;
use crate::clock::Clock;
use crate::options::ServerOptions;
use crate::peer::WorkerIdentity;
use crate::refusal::Refusal;
use crate::tls;
use crate::wake::Wake;

const CLUSTER: &str = "zl-test";

/// A server without a port and without anybody who follows its log.
struct Bench {
    shared: Arc<Shared>,
    _dir: TempDir,
}

impl Bench {
    /// And the effects that nobody carries out.
    fn new() -> (Self, UnboundedReceiver<Dated>) {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![tls::server_name(CLUSTER)]).unwrap();
        let pem = certificate.self_signed(&key).unwrap().pem();
        let options = serde_json::json!({
            "cluster_id": CLUSTER, "node_id": 1, "listen": "127.0.0.1:0", "join_socket": "unused",
            "control_dir": dir.path(), "certificate_pem": pem, "key_pem": key.serialize_pem(),
            "ca_pem": pem,
            "ttl": {"min_ttl_secs": 1, "max_ttl_secs": 1, "grace_secs": 1,
                    "max_heartbeats_per_second": 50, "failover_ttl_secs": 300},
        });
        let options = ServerOptions::from_json(options.to_string().as_bytes()).unwrap();
        let config = tls::server_config(CLUSTER, &pem, &options.key_pem, &pem).unwrap();
        let log = SingleVoter::open(LogOptions {
            dir: options.control_dir.clone(),
            cluster_id: CLUSTER.into(),
            node_id: 1,
            snapshot_bytes: u64::MAX,
        });
        let clock = Clock::new();
        let (engine, effects) = Engine::new(clock, options.ttl);
        let wake = Arc::new(Wake::new().unwrap());
        let shared = Shared::new(&options, clock, config, engine, Arc::new(log.unwrap()), wake);
        (Self { shared: Arc::new(shared), _dir: dir }, effects)
    }

    async fn propose(&self, command: Command) -> Outcome {
        self.shared.log.propose(command).await.unwrap()
    }

    async fn enrol(&self, number: u64) -> NodeId {
        let jti = format!("{number:032x}");
        let token = Command::CreateToken {
            jti: jti.clone(),
            name: String::new(),
            expires_ms: UnixMs(Clock::unix().0 + 3_600_000),
            role: zlayer_core::record::TokenRole::Worker,
            uses_max: 1,
            labels: Labels::new(),
            labels_allowed: Vec::new(),
        };
        assert_eq!(self.propose(token).await, Outcome::Done);
        let certificate = CertificateRecord {
            serial: "1".into(),
            key_hash: format!("{number:064x}"),
            not_after_ms: UnixMs(u64::MAX),
        };
        let (name, labels, profile) = (String::new(), Labels::new(), Profile::default());
        match self.propose(Command::Redeem { jti, name, labels, profile, certificate }).await {
            Outcome::Redeemed { node_id, .. } => node_id,
            other => panic!("{other:?}"),
        }
    }

    /// Tells the log of so many changes of one node that it keeps nothing older.
    async fn overflow_the_events(&self, node_id: NodeId) {
        let mut told = 0;
        while told < EVENTS_KEPT {
            let first = self.shared.state.with_state(|state| state.node(node_id).unwrap().epoch);
            let items = (first..).take(TRANSITIONS_MAX).map(|epoch| Transition {
                node_id,
                epoch,
                to: if epoch % 2 == 0 { Liveness::Ready } else { Liveness::Unreachable },
                reason: Reason::SessionOpened,
                incarnation: 0,
                ttl_ms: 0,
                detail: String::new(),
            });
            let items = items.collect();
            self.propose(Command::Transition { items }).await;
            told += TRANSITIONS_MAX;
        }
    }

    fn connect(&self, node_id: NodeId) -> Arc<Connection> {
        let identity = WorkerIdentity { node_id, not_after: UnixMs(u64::MAX) };
        let id = self.shared.registry.next_id();
        let connection = Arc::new(Connection::new(id, identity, ([127, 0, 0, 1], 9).into()));
        self.shared.registry.insert(&connection, 4);
        connection
    }
}

/// Asks until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let asking = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(Duration::from_secs(30), asking).await.is_ok(), "{what}");
}

#[tokio::test]
async fn a_node_that_enrolled_a_moment_ago_is_served() {
    let (bench, _effects) = Bench::new();
    let (node, removed) = (bench.enrol(1).await, bench.enrol(2).await);
    bench.propose(Command::RemoveNode { node_id: removed }).await;
    // Nobody has told the engine of any of them.
    let open = |node| bench.shared.open_session(node, SessionId(1), 7).map(|(_, ack)| ack.ttl_ms);
    assert_eq!(open(node), Ok(1_000));
    assert_eq!(open(removed), Err(Opening::Refused(Refusal::Removed)));
    assert_eq!(open(removed + 1), Err(Opening::Refused(Refusal::Unknown)));
    assert_eq!(bench.shared.engine.counts().nodes, 1);
}

#[tokio::test]
async fn events_that_were_dropped_before_they_were_followed_are_made_up_for() {
    let (bench, effects) = Bench::new();
    let (gone, stays) = (bench.enrol(1).await, bench.enrol(2).await);
    let shared = Arc::clone(&bench.shared);
    let (of_gone, of_stays) = (bench.connect(gone), bench.connect(stays));
    for (node, connection) in [(gone, &of_gone), (stays, &of_stays)] {
        shared.open_session(node, SessionId(connection.id), 7).unwrap();
    }
    let ticker = Ticker::new(Arc::clone(&shared), effects);
    bench.propose(Command::RemoveNode { node_id: gone }).await;
    bench.propose(Command::SetDraining { node_id: stays, draining: true }).await;
    let came = bench.enrol(3).await;
    bench.overflow_the_events(stays).await;
    let ticking = tokio::spawn(ticker.run());
    until("the connection of the removed node ends", || of_gone.ending() == Some(Refusal::Removed))
        .await;
    until("the new node is known", || shared.engine.view(came).is_some()).await;
    assert!(shared.engine.view(gone).is_none());
    assert!(of_stays.draining.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(of_stays.ending(), None);
    shared.stopping.cancel();
    ticking.await.unwrap();
}

/// One call of the engine decides about a thousand nodes at most.
#[tokio::test]
async fn a_tick_goes_on_until_all_that_is_due_is_decided() {
    const NODES: u64 = 3_000;
    let (bench, effects) = Bench::new();
    let shared = Arc::clone(&bench.shared);
    let mut ticker = Ticker::new(Arc::clone(&shared), effects);
    for node in 1_000..1_000 + NODES {
        let (liveness, epoch) = (Liveness::Suspect, 0);
        shared.engine.tell(Event::Enrolled { node, liveness, epoch });
        shared.open_session(node, SessionId(node), 7).unwrap();
        // A lost connection: no brake holds its end.
        shared.session_ended(node, SessionId(node), false);
    }
    let (mut before, mut most) = (0, 0);
    while before < NODES {
        ticker.tick();
        let expired = shared.engine.stats().expiries;
        most = most.max(expired - before);
        before = expired;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(most > 1_000, "{most} in one tick");
}

#[tokio::test]
async fn an_engine_that_panicked_stops_the_server_by_name() {
    let (bench, effects) = Bench::new();
    let shared = Arc::clone(&bench.shared);
    let ticking = tokio::spawn(Ticker::new(Arc::clone(&shared), effects).run());
    assert_eq!(shared.failure(), None);
    shared.engine.break_it();
    until("the server stops", || shared.failure().is_some()).await;
    assert_eq!(shared.failure().as_deref(), Some("the liveness engine panicked"));
    ticking.await.unwrap();
}
