//! Snapshots: the whole state, and nothing that is no state.

use serde_json::{Value, json};

use super::super::State;
use super::{HOUR, Log, Token, redeem, renew};
use crate::command::Command;
use crate::record::{Liveness, Reason};

/// A state that has something of everything.
fn full() -> Log {
    let (mut log, id) = Log::with_node();
    log.apply(Command::RevokeToken { jti: super::jti(1) });
    log.apply(Token { uses_max: 5, ..Token::new(2, 2 * HOUR) }.create());
    let second = log.enrol(2, 2);
    let third = log.enrol(2, 3);
    for key in 10..16 {
        log.apply(renew(second, if key == 10 { 2 } else { key - 1 }, key));
    }
    log.shift(id, Liveness::Ready, Reason::SessionOpened, u64::MAX);
    log.apply(Command::SetDraining { node_id: id, draining: true });
    log.apply(Command::RemoveNode { node_id: third });
    log
}

fn image(log: &Log) -> Value {
    serde_json::to_value(&log.state).unwrap()
}

#[test]
fn a_state_comes_back_as_it_was() {
    let mut log = full();
    let mut copy: State =
        serde_json::from_str(&serde_json::to_string(&log.state).unwrap()).unwrap();
    copy.check_invariants();
    assert_eq!(serde_json::to_value(&copy).unwrap(), image(&log));
    assert_eq!(copy.hash(), log.state.hash());
    assert_eq!((copy.cluster_id(), copy.applied_index()), ("zl-test", log.index));
    // And goes on as the other does, also with what the snapshot only implies.
    for command in [redeem(2, 3), redeem(2, 2), redeem(2, 4), renew(1_001, 15, 2)] {
        let entry = crate::command::Entry { stamp_ms: crate::time::UnixMs(log.now), command };
        log.index += 1;
        assert_eq!(copy.apply(log.index, &entry), log.state.apply(log.index, &entry));
        assert_eq!(copy.hash(), log.state.hash());
    }
    copy.check_invariants();
}

#[test]
fn what_is_no_state_is_refused() {
    let good = image(&full());
    let refused = |change: &dyn Fn(&mut Value), why: &str| {
        let mut image = good.clone();
        change(&mut image);
        let error = serde_json::from_value::<State>(image).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&|image| image["next_node_id"] = json!(1_001), "never allotted");
    refused(
        &|image| {
            let mut twin = image["nodes"][0].clone();
            twin["certificates"] = json!([]);
            image["nodes"].as_array_mut().unwrap().push(twin);
        },
        "listed twice",
    );
    refused(
        &|image| {
            let twin = image["tokens"][0].clone();
            image["tokens"].as_array_mut().unwrap().push(twin);
        },
        "token 00000000000000000000000000000001",
    );
    refused(
        &|image| {
            let key = image["nodes"][0]["certificates"][0].clone();
            image["nodes"][1]["certificates"][0] = key;
        },
        "another owner",
    );
    refused(
        &|image| {
            let key = image["nodes"][0]["certificates"][0]["key_hash"].clone();
            image["keys_remembered"][0]["key_hash"] = key;
        },
        "another owner",
    );
    refused(&|image| image["nodes"][0]["certificates"][0]["key_hash"] = json!("x"), "no key");
    refused(&|image| image["last_revision"] = json!(3), "events");
    refused(&|image| image["last_revision"] = json!(u64::MAX), "events");
    refused(&|image| image["events"][1]["revision"] = json!(9), "events");
    refused(&|image| image["cluster_id"] = Value::Null, "null");
}

#[test]
fn a_clone_is_independent() {
    let mut log = full();
    let copy = log.state.clone();
    let before = image(&log);
    log.apply(Command::RemoveNode { node_id: 1_000 });
    assert_eq!(serde_json::to_value(&copy).unwrap(), before);
}
