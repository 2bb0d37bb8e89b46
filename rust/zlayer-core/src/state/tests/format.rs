//! The written form of commands and answers: logs on disk and Python rely on every name in it.

use serde_json::{Value, json};

use super::{Token, certificate, jti, key_hash, labels, transition};
use crate::command::{Command, Entry, HeldLock, Outcome, Refusal, Transition};
use crate::record::{Labels, Liveness, Profile, Reason, Value as Bytes};
use crate::time::UnixMs;

/// Checks that `value` is written as `form`, and read back from it.
fn is_written_as<T>(value: &T, form: &Value)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(&serde_json::to_value(value).unwrap(), form);
    assert_eq!(&serde_json::from_value::<T>(form.clone()).unwrap(), value);
}

#[test]
fn commands_about_tokens_and_identity() {
    let token = Token {
        labels: labels(&[("site", "oslo")]),
        allowed: vec!["disk".into()],
        ..Token::new(1, 9)
    };
    is_written_as(
        &token.create(),
        &json!({"type": "create_token", "jti": jti(1), "name": "", "expires_ms": 9, "role": "worker", "uses_max": 1,
                "labels": {"site": "oslo"}, "labels_allowed": ["disk"]}),
    );
    is_written_as(
        &Command::RevokeToken { jti: jti(1) },
        &json!({"type": "revoke_token", "jti": jti(1)}),
    );
    let held = json!({"serial": "7", "key_hash": key_hash(5), "not_after_ms": 8});
    let profile = Profile { os: "linux".into(), cpu_cores: 4, ..Profile::default() };
    is_written_as(
        &Command::Redeem {
            jti: jti(1),
            name: "gpu-7".into(),
            labels: labels(&[("disk", "ssd")]),
            profile,
            certificate: certificate(5, 7, 8),
        },
        &json!({"type": "redeem", "jti": jti(1), "name": "gpu-7", "labels": {"disk": "ssd"},
                "profile": {"os": "linux", "arch": "", "version": "", "cpu_cores": 4,
                            "memory_bytes": 0, "disk_bytes": 0},
                "certificate": held}),
    );
    is_written_as(
        &Command::RenewCertificate {
            node_id: 1_000,
            old_key_hash: key_hash(4),
            certificate: certificate(5, 7, 8),
        },
        &json!({"type": "renew_certificate", "node_id": 1_000, "old_key_hash": key_hash(4),
                "certificate": held}),
    );
}

#[test]
fn commands_about_servers_values_and_locks() {
    let held = json!({"serial": "7", "key_hash": key_hash(5), "not_after_ms": 8});
    is_written_as(
        &Command::RedeemServer {
            jti: jti(1),
            id: 0,
            name: "s".into(),
            raft_addr: "a:1".into(),
            api_addr: "a:2".into(),
            certificate: certificate(5, 7, 8),
        },
        &json!({"type": "redeem_server", "jti": jti(1), "id": 0, "name": "s", "raft_addr": "a:1",
                "api_addr": "a:2", "certificate": held}),
    );
    is_written_as(
        &Command::Put { key: "k".into(), value: Bytes(vec![0, 255]), if_revision: Some(3) },
        &json!({"type": "put", "key": "k", "value": "AP8=", "if_revision": 3}),
    );
    is_written_as(
        &Command::AcquireLock {
            name: "n".into(),
            holder: jti(1),
            owner: "me".into(),
            ttl_ms: 9_000,
        },
        &json!({"type": "acquire_lock", "name": "n", "holder": jti(1), "owner": "me",
                "ttl_ms": 9_000}),
    );
    is_written_as(
        &Command::ReleaseLocks { items: vec![HeldLock { name: "n".into(), fence: 4 }] },
        &json!({"type": "release_locks", "items": [{"name": "n", "fence": 4}]}),
    );
    is_written_as(&Outcome::Written { revision: 4 }, &json!({"type": "written", "revision": 4}));
    is_written_as(&Outcome::Locked { fence: 4 }, &json!({"type": "locked", "fence": 4}));
}

#[test]
fn commands_about_nodes() {
    let item = Transition {
        incarnation: u64::MAX,
        ttl_ms: 10_000,
        detail: "x".into(),
        ..transition(1_000, 3, Liveness::Unreachable, Reason::LeaseExpired)
    };
    let command = Command::Transition { items: vec![item] };
    is_written_as(
        &Entry { stamp_ms: UnixMs(6), command },
        &json!({"stamp_ms": 6, "command": {"type": "transition", "items": [
            {"node_id": 1_000, "epoch": 3, "to": "Unreachable", "reason": "lease_expired",
             "incarnation": u64::MAX, "ttl_ms": 10_000, "detail": "x"}]}}),
    );
    is_written_as(
        &Command::SetDraining { node_id: 1_000, draining: true },
        &json!({"type": "set_draining", "node_id": 1_000, "draining": true}),
    );
    is_written_as(
        &Command::RemoveNode { node_id: 1_000 },
        &json!({"type": "remove_node", "node_id": 1_000}),
    );
    is_written_as(
        &Command::HoldExpiry { due: 4, leases: 10 },
        &json!({"type": "hold_expiry", "due": 4, "leases": 10}),
    );
}

#[test]
fn what_may_be_left_out_of_a_command() {
    let read = |form| serde_json::from_value::<Command>(form).unwrap();
    let token = json!({"type": "create_token", "jti": jti(1), "expires_ms": 9, "uses_max": 1});
    assert_eq!(read(token), Token::new(1, 9).create());
    let held = json!({"serial": "7", "key_hash": key_hash(5), "not_after_ms": 8});
    let redeem = super::redeem_with(1, Labels::new(), certificate(5, 7, 8));
    assert_eq!(read(json!({"type": "redeem", "jti": jti(1), "certificate": held})), redeem);
    let item = json!({"node_id": 1, "epoch": 0, "to": "Left", "reason": "leaving"});
    let items = vec![transition(1, 0, Liveness::Left, Reason::Leaving)];
    assert_eq!(read(json!({"type": "transition", "items": [item]})), Command::Transition { items });
}

#[test]
fn what_is_no_command_is_refused() {
    for form in [
        json!({"type": "remove_node"}),
        json!({"type": "remove_node", "node_id": 1, "force": true}),
        json!({"type": "remove_node", "node_id": -1}),
        json!({"type": "remove_node", "node_id": "1"}),
        json!({"type": "reset"}),
        json!({"node_id": 1}),
        json!([]),
    ] {
        assert!(serde_json::from_value::<Command>(form.clone()).is_err(), "{form}");
    }
}

#[test]
fn answers() {
    is_written_as(&Outcome::Done, &json!({"type": "done"}));
    is_written_as(
        &Outcome::Redeemed {
            node_id: 1_000,
            name: "a".into(),
            labels: labels(&[("b", "c")]),
            first: true,
        },
        &json!({"type": "redeemed", "node_id": 1_000, "name": "a", "labels": {"b": "c"},
                "first": true}),
    );
    is_written_as(
        &Outcome::Transitioned { epochs: vec![Some(2), None] },
        &json!({"type": "transitioned", "epochs": [2, null]}),
    );
    let (jti, key, why) = ("t".to_owned(), "k".to_owned(), "w".to_owned());
    let refusals = [
        (Refusal::TokenInvalid, json!({"code": "token_invalid"})),
        (
            Refusal::TokenUsedUp { jti: jti.clone(), uses_max: 2 },
            json!({"code": "token_used_up", "jti": "t", "uses_max": 2}),
        ),
        (Refusal::TokenExists { jti: jti.clone() }, json!({"code": "token_exists", "jti": "t"})),
        (Refusal::TokenNotFound { jti }, json!({"code": "token_not_found", "jti": "t"})),
        (
            Refusal::LabelNotPermitted { key: key.clone(), why: why.clone() },
            json!({"code": "label_not_permitted", "key": "k", "why": "w"}),
        ),
        (
            Refusal::Invalid { field: key.clone(), why },
            json!({"code": "invalid", "field": "k", "why": "w"}),
        ),
        (Refusal::KeyInUse, json!({"code": "key_in_use"})),
        (Refusal::NodeNotFound { node_id: 1 }, json!({"code": "node_not_found", "node_id": 1})),
        (Refusal::KeyUnknown { node_id: 1 }, json!({"code": "key_unknown", "node_id": 1})),
        (
            Refusal::LimitReached { what: key, limit: 3 },
            json!({"code": "limit_reached", "what": "k", "limit": 3}),
        ),
    ];
    for (refusal, form) in refusals {
        let form = json!({"type": "refused", "refusal": form});
        is_written_as(&Outcome::Refused { refusal }, &form);
    }
}
