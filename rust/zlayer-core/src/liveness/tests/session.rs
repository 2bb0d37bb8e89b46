//! Sessions come, are replaced, break and say goodbye.

use super::super::{CloseReason, LivenessError};
use super::*;
use crate::lease::LeaseError;

#[test]
fn a_lost_connection_is_suspect_at_once_and_unreachable_when_the_lease_ends() {
    let (mut server, leases) = Server::with_workers(20);
    server.pass(1_000);
    server.disconnect(&leases[0]);
    assert_eq!(
        server.when(1_000, State::Suspect),
        Some((server.now.0, Reason::ConnectionLost)),
        "in the same call"
    );
    assert_eq!(server.engine.counts().connected, 19);
    let deadline = server.engine.view(1_000).unwrap().deadline.unwrap();
    server.pass_beating(30_000, &leases[1..]);
    let (at, reason) = server.when(1_000, State::Unreachable).unwrap();
    assert!((deadline.0..=deadline.0 + 1_000).contains(&at));
    assert_eq!(reason, Reason::LeaseExpired);
    assert_eq!(server.log.len(), 2);
}

#[test]
fn a_disconnect_of_an_old_session_changes_nothing() {
    let (mut server, leases) = Server::with_workers(1);
    server.pass(2_000);
    let (newer, _) = server.open(1_000);
    server.disconnect(&leases[0]);
    server.pass_beating(60_000, &[newer]);
    assert_eq!(server.log, []);
    assert!(server.engine.view(1_000).unwrap().connected);
}

#[test]
fn an_old_session_renews_nothing_and_cannot_reopen() {
    let (mut server, leases) = Server::with_workers(1);
    let (newer, _) = server.open(1_000);
    let stale = server.beats.beat(&leases[0], server.now);
    assert_eq!(stale.unwrap_err(), LeaseError::Stale(leases[0].handle()));
    let refused = server.open_session(1_000, leases[0].session(), 1).unwrap_err();
    assert_eq!(
        refused,
        LivenessError::Superseded {
            node: 1_000,
            session: leases[0].session(),
            newest: newer.session()
        }
    );
    server.beat(&newer);
}

#[test]
fn an_older_session_of_the_same_process_goes_on_once_the_newer_one_is_gone() {
    // The worker gave its second hello up while the server was slow to read it, and stays with the first.
    let (mut server, leases) = Server::with_workers(1);
    let (newer, _) = server.open(1_000);
    server.disconnect(&newer);
    assert!(server.when(1_000, State::Suspect).is_some());
    let session = leases[0].session();
    assert!(server.beats.beat(&leases[0], server.now).is_err());
    let (lease, _) = server.open_session(1_000, session, 1).unwrap();
    assert_eq!(server.log.last().unwrap().2, State::Ready);
    let steps = server.log.len();
    // It is the one that counts now: what is said of the other changes nothing, and its own end does.
    server.disconnect(&newer);
    server.pass_beating(60_000, std::slice::from_ref(&lease));
    assert_eq!(server.log.len(), steps);
    server.disconnect(&lease);
    assert_eq!(server.log.last().unwrap().2, State::Suspect);
    assert!(server.open_session(1_000, session, 1).is_err());
}

#[test]
fn no_older_session_goes_on_after_another_process_or_a_goodbye() {
    let (mut server, leases) = Server::with_workers(2);
    let (twin, _) = server.open_process(1_000, 2);
    server.disconnect(&twin);
    let (newer, _) = server.open(1_001);
    server.handle(Event::Leaving { node: 1_001, session: newer.session() });
    server.disconnect(&newer);
    for (node, lease) in (1_000..).zip(&leases) {
        let refused = server.open_session(node, lease.session(), 1).unwrap_err();
        assert!(matches!(refused, LivenessError::Superseded { .. }), "{refused}");
    }
}

#[test]
fn a_session_after_suspect_unreachable_or_left_is_ready_again() {
    for state in [State::Suspect, State::Unreachable, State::Left] {
        let (mut server, leases) = Server::with_workers(1);
        let (node, session) = (1_000, leases[0].session());
        match state {
            State::Left => server.handle(Event::Leaving { node, session }),
            _ => server.disconnect(&leases[0]),
        }
        if state == State::Unreachable {
            server.pass(30_000);
        }
        assert_eq!(server.log.last().unwrap().2, state);
        server.pass(500);
        let (lease, _) = server.open(1_000);
        assert_eq!(server.when(1_000, State::Ready).unwrap().1, Reason::SessionOpened);
        let steps = server.log.len();
        server.pass_beating(60_000, &[lease]);
        assert_eq!(server.log.len(), steps, "{state:?}");
    }
}

#[test]
fn a_second_process_with_the_same_identity_closes_the_first_loudly() {
    let (mut server, leases) = Server::with_workers(1);
    let (newer, _) = server.open_process(1_000, 2);
    let (node, old, new) = (1_000, leases[0].session(), newer.session());
    assert_eq!(
        server.other,
        [
            Effect::DuplicateSession { node, old, new },
            Effect::CloseSession { node, session: old, why: CloseReason::Duplicate },
        ]
    );
    // The new process is recorded; the end of the old one's connection is nothing.
    assert_eq!(server.log.len(), 1);
    server.disconnect(&leases[0]);
    server.pass_beating(60_000, &[newer]);
    assert_eq!(server.log.len(), 1);
}

#[test]
fn a_second_session_of_the_same_process_just_replaces() {
    let (mut server, leases) = Server::with_workers(1);
    server.open(1_000);
    assert_eq!(server.other, []);
    assert_eq!(server.log, []);
    assert_eq!(server.engine.stats().sessions_replaced, 1);
    assert!(server.beats.beat(&leases[0], server.now).is_err());
}

#[test]
fn leaving_is_at_once_ends_the_lease_and_the_disconnect_after_it_is_nothing() {
    let (mut server, leases) = Server::with_workers(2);
    let (node, session) = (1_000, leases[0].session());
    server.handle(Event::Leaving { node, session });
    assert_eq!(server.when(node, State::Left), Some((server.now.0, Reason::Leaving)));
    assert_eq!(server.engine.counts().leases, 1);
    server.disconnect(&leases[0]);
    server.pass_beating(60_000, &leases[1..]);
    assert_eq!(server.log.len(), 1);
}

#[test]
fn a_session_that_has_left_or_lost_its_connection_cannot_reopen() {
    let (mut server, leases) = Server::with_workers(2);
    let (node, session) = (1_000, leases[0].session());
    server.handle(Event::Leaving { node, session });
    assert!(server.beats.beat(&leases[0], server.now).is_err());
    let refused = server.open_session(node, session, 1).unwrap_err();
    assert_eq!(refused, LivenessError::SessionEnded { node, session });

    server.disconnect(&leases[1]);
    let (node, session) = (1_001, leases[1].session());
    let refused = server.open_session(node, session, 1).unwrap_err();
    assert_eq!(refused, LivenessError::SessionEnded { node, session });
}

#[test]
fn leaving_by_an_old_session_changes_nothing() {
    let (mut server, leases) = Server::with_workers(1);
    server.open(1_000);
    server.handle(Event::Leaving { node: 1_000, session: leases[0].session() });
    assert_eq!(server.log, []);
    assert_eq!(server.engine.counts().connected, 1);
}

#[test]
fn a_disconnect_after_the_lease_has_ended_changes_nothing_but_ends_the_session() {
    let (mut server, leases) = Server::with_workers(1);
    server.pass(30_000);
    assert_eq!(server.log.len(), 1);
    server.disconnect(&leases[0]);
    assert_eq!(server.log.len(), 1);
    assert!(server.open_session(1_000, leases[0].session(), 1).is_err());
}

#[test]
fn a_node_that_is_removed_while_connected_has_its_session_closed() {
    let (mut server, leases) = Server::with_workers(1);
    let (node, session) = (1_000, leases[0].session());
    server.handle(Event::Removed { node });
    assert_eq!(server.other, [Effect::CloseSession { node, session, why: CloseReason::Removed }]);
    assert!(server.beats.beat(&leases[0], server.now).is_err());
    let refused = server.open_session(node, SessionId(99), 1).unwrap_err();
    assert_eq!(refused, LivenessError::UnknownNode { node });
    assert_eq!(server.engine.counts(), Server::new().engine.counts());
    assert_eq!(server.engine.view(node), None);
    server.disconnect(&leases[0]);
    server.pass(60_000);
    assert_eq!(server.log, []);
}

#[test]
fn a_node_whose_lease_has_ended_with_an_open_session_is_closed_when_removed() {
    let (mut server, leases) = Server::with_workers(1);
    server.pass(30_000);
    server.handle(Event::Removed { node: 1_000 });
    let session = leases[0].session();
    assert_eq!(
        server.other,
        [Effect::CloseSession { node: 1_000, session, why: CloseReason::Removed }]
    );
}

#[test]
fn a_view_tells_what_the_session_was_told() {
    let (mut server, leases) = Server::with_workers(1);
    server.pass(1_000);
    let ack = server.beat(&leases[0]);
    let view = server.engine.view(1_000).unwrap();
    assert_eq!(view.deadline, Some(server.now.plus(ack.ttl_ms + ack.grace_ms)));
    assert_eq!(view.next_beat, Some(server.now.plus(ack.next_beat_in_ms)));
    assert_eq!(view.last_beat, Some(server.now));
    assert_eq!((view.ttl_ms, view.connected), (10_000, true));
    assert_eq!(view.session, Some(leases[0].session()));
    server.disconnect(&leases[0]);
    let view = server.engine.view(1_000).unwrap();
    assert_eq!((view.next_beat, view.connected), (None, false));
}
