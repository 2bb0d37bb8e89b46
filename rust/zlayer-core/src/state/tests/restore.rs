//! A backup, as another cluster's beginning; and that a snapshot holds all there is.

use super::super::State;
use super::{Log, first_certificate, jti, redeem};
use crate::command::{Command, Outcome, Refusal};
use crate::record::{Labels, Liveness, Reason, Value};

/// One of everything.
fn full() -> Log {
    let mut log = Log::new();
    log.token(1, 9);
    let id = log.enrol(1, 1);
    log.shift(id, Liveness::Ready, Reason::SessionOpened, 7);
    let gone = log.enrol(1, 2);
    log.shift(gone, Liveness::Left, Reason::Leaving, 0);
    let (raft_addr, api_addr) = ("a:1".to_owned(), "a:2".to_owned());
    log.apply(Command::NoteServer { id: 1, raft_addr, api_addr });
    log.apply(Command::JoinPeer { id: 1, name: "one".into(), labels: Labels::new() });
    log.apply(Command::JoinPeer { id: 2, name: "two".into(), labels: Labels::new() });
    log.apply(Command::RemoveNode { node_id: 2 });
    log.apply(Command::Put { key: "k".into(), value: Value(vec![0, 255]), if_revision: None });
    let holder = jti(5);
    log.apply(Command::AcquireLock { name: "l".into(), holder, owner: "me".into(), ttl_ms: 9_000 });
    log
}

#[test]
fn a_snapshot_holds_all_of_it() {
    let log = full();
    let json = serde_json::to_string(&log.state).unwrap();
    let read: State = serde_json::from_str(&json).unwrap();
    read.check_invariants();
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
    assert_eq!(read.hash(), log.state.hash());
    assert!(read.is_removed(2));
    assert_eq!(read.lock("l").unwrap().owner, "me");
    assert_eq!(read.value("k").unwrap().value, Value(vec![0, 255]));
}

#[test]
fn another_cluster_knows_what_was_and_trusts_nothing_of_it() {
    let before = full();
    let hash = before.state.hash();
    let mut log = Log { state: before.state.restored("zl-new".into()), ..before };
    log.state.check_invariants();
    assert_eq!(log.state.cluster_id(), "zl-new");
    assert_ne!(log.state.hash(), hash);
    let node = log.state.node(1_000).unwrap();
    assert_eq!((node.liveness, node.reason), (Liveness::Unreachable, Reason::NotReconnected));
    assert_eq!(log.state.node(1_001).unwrap().liveness, Liveness::Left);
    assert_eq!((log.state.tokens().count(), log.state.locks().count()), (0, 0));
    assert_eq!((log.state.servers().count(), log.state.nodes().count()), (0, 2));
    assert_eq!(log.state.value("k").unwrap().value, Value(vec![0, 255]));
    // Ids go on, keys stay whose they were, and old tokens admit nobody.
    assert_eq!(log.refused(redeem(1, 3)), Refusal::TokenInvalid);
    log.token(2, 9);
    assert_eq!(log.refused(redeem(2, 1)), Refusal::KeyInUse);
    assert_eq!(log.enrol(2, 3), 1_002);
    let renewed = Command::RenewCertificate {
        node_id: 1_000,
        old_key_hash: first_certificate(1).key_hash,
        certificate: first_certificate(1),
    };
    assert_eq!(log.apply(renewed), Outcome::Done, "its proof is checked against the CA, not here");
    assert_eq!(
        log.apply(Command::JoinPeer { id: 2, name: "two".into(), labels: Labels::new() }),
        Outcome::Done
    );
}
