//! Servers by token: once for each key, ids for good, roles kept apart.

use super::{HOUR, Log, Token, certificate, first_certificate, jti, redeem};
use crate::command::{Command, Outcome, Refusal};
use crate::record::{EventKind, NodeId, TokenRole};

fn server_token(log: &mut Log, number: u64, uses_max: u32) {
    let mut token = Token { uses_max, ..Token::new(number, log.now + HOUR) }.create();
    if let Command::CreateToken { role, .. } = &mut token {
        *role = TokenRole::Server;
    }
    assert_eq!(log.apply(token), Outcome::Done);
}

fn join(token: u64, key: u64, id: NodeId) -> Command {
    Command::RedeemServer {
        jti: jti(token),
        id,
        name: String::new(),
        raft_addr: format!("10.0.0.{key}:3671"),
        api_addr: format!("10.0.0.{key}:3669"),
        certificate: first_certificate(key),
    }
}

fn joined(log: &mut Log, command: Command) -> (NodeId, bool) {
    match log.apply(command) {
        Outcome::Redeemed { node_id, first, .. } => (node_id, first),
        other => panic!("{other:?}"),
    }
}

fn note(id: NodeId) -> Command {
    Command::NoteServer { id, raft_addr: "a:1".into(), api_addr: String::new() }
}

#[test]
fn each_key_gets_an_id_once_and_ids_are_for_good() {
    let mut log = Log::new();
    server_token(&mut log, 1, 3);
    assert_eq!(log.apply(note(1)), Outcome::Done);
    assert_eq!(joined(&mut log, join(1, 5, 0)), (2, true));
    assert_eq!(joined(&mut log, join(1, 5, 0)), (2, false), "a retry");
    assert_eq!(joined(&mut log, join(1, 6, 7)), (7, true));
    assert_eq!(log.refused(join(1, 8, 7)), Refusal::ServerIdTaken { id: 7 });
    assert_eq!(log.apply(Command::RemoveServer { id: 7 }), Outcome::Done);
    assert_eq!(log.apply(Command::RemoveServer { id: 7 }), Outcome::Done, "again");
    assert_eq!(log.refused(join(1, 8, 7)), Refusal::ServerIdTaken { id: 7 });
    assert_eq!(log.refused(join(1, 6, 0)), Refusal::ServerRemoved { id: 7 });
    assert_eq!(log.refused(note(7)), Refusal::ServerRemoved { id: 7 });
    assert_eq!(joined(&mut log, join(1, 8, 0)), (8, true), "above all that were given");
    let used_up = Refusal::TokenUsedUp { jti: jti(1), uses_max: 3 };
    assert_eq!(log.refused(join(1, 9, 0)), used_up);
    assert_eq!(log.refused(Command::RemoveServer { id: 9 }), Refusal::ServerNotFound { id: 9 });
    let kinds: Vec<_> = log.kinds().into_iter().skip(1).collect();
    let (came, went) = (EventKind::ServerJoined, EventKind::ServerRemoved);
    assert_eq!(kinds, [came, came, came, went, came]);
}

#[test]
fn a_token_is_for_one_role() {
    let mut log = Log::new();
    server_token(&mut log, 1, 9);
    log.token(2, 9);
    assert_eq!(log.refused(redeem(1, 1)), Refusal::TokenInvalid);
    assert_eq!(log.refused(join(2, 1, 0)), Refusal::TokenInvalid);
    // And a key for one machine.
    log.enrol(2, 3);
    assert_eq!(log.refused(join(1, 3, 0)), Refusal::KeyInUse);
    joined(&mut log, join(1, 4, 0));
    assert_eq!(log.refused(redeem(2, 4)), Refusal::KeyInUse);
    let id = log.state.servers().next().unwrap().id;
    log.apply(Command::RemoveServer { id });
    assert_eq!(log.refused(redeem(2, 4)), Refusal::KeyInUse, "its certificate is still valid");
    log.now += 30 * HOUR;
    log.token(3, 1);
    log.enrol(3, 4);
}

#[test]
fn addresses_follow_and_what_is_none_is_refused() {
    let mut log = Log::new();
    server_token(&mut log, 1, 9);
    joined(&mut log, join(1, 5, 0));
    let mut moved = join(1, 5, 0);
    if let Command::RedeemServer { raft_addr, certificate: held, .. } = &mut moved {
        *raft_addr = "b:1".into();
        *held = certificate(5, 99, 30 * HOUR);
    }
    joined(&mut log, moved);
    let server = log.state.server(1).unwrap();
    assert_eq!((server.raft_addr.as_str(), server.api_addr.as_str()), ("b:1", "10.0.0.5:3669"));
    assert_eq!(server.certificate.as_ref().unwrap().serial, "63");
    log.apply(note(1));
    assert_eq!(log.state.server(1).unwrap().raft_addr, "a:1");
    for (field, bad) in [("raft_addr", ""), ("raft_addr", "a b"), ("api_addr", "\u{7f}")] {
        let mut command = join(1, 6, 0);
        if let Command::RedeemServer { raft_addr, api_addr, .. } = &mut command {
            *(if field == "raft_addr" { raft_addr } else { api_addr }) = bad.into();
        }
        assert!(
            matches!(log.refused(command), Refusal::Invalid { field: named, .. } if named == field)
        );
    }
    assert!(matches!(log.refused(join(1, 6, 1_000)), Refusal::Invalid { .. }));
    assert!(matches!(log.refused(note(0)), Refusal::Invalid { .. }));
}
