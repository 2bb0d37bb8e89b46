//! What is proposed while an earlier proposal is under way, refused or lost.

use super::*;

fn to(server: &Server) -> Vec<State> {
    server.log.iter().map(|&(_, _, to, _)| to).collect()
}

#[test]
fn while_a_transition_is_in_flight_the_next_decision_waits_for_its_commit() {
    let (mut server, leases) = Server::with_workers(1);
    server.commits = false;
    server.disconnect(&leases[0]);
    assert_eq!(to(&server), [State::Suspect]);
    let (lease, _) = server.open(1_000);
    server.disconnect(&lease);
    let (lease, _) = server.open(1_000);
    server.beat(&lease);
    assert_eq!(to(&server), [State::Suspect]);
    assert_eq!(server.engine.counts().in_flight, 1);
    server.commit(1_000);
    assert_eq!(to(&server), [State::Suspect, State::Ready]);
    server.commit(1_000);
    assert_eq!(to(&server), [State::Suspect, State::Ready]);
    assert_eq!(server.engine.counts().in_flight, 0);
}

#[test]
fn a_disconnect_while_ready_is_in_flight_is_decided_after_the_commit() {
    let mut server = Server::new();
    server.enrol(1_000);
    server.commits = false;
    let (lease, _) = server.open(1_000);
    server.disconnect(&lease);
    assert_eq!(to(&server), [State::Ready]);
    server.commit(1_000);
    assert_eq!(to(&server), [State::Ready, State::Suspect]);
}

#[test]
fn what_came_true_again_before_the_commit_is_not_proposed() {
    let (mut server, leases) = Server::with_workers(1);
    server.commits = false;
    server.disconnect(&leases[0]);
    server.pass(40_000);
    // Unreachable by now; the commit of Suspect takes that long.
    let (lease, _) = server.open(1_000);
    server.disconnect(&lease);
    server.commit(1_000);
    assert_eq!(to(&server), [State::Suspect], "Suspect is what is true");
}

#[test]
fn a_refused_condition_is_answered_by_reading_the_record_and_deciding_at_the_next_tick() {
    let (mut server, leases) = Server::with_workers(1);
    server.commits = false;
    server.disconnect(&leases[0]);
    server.handle(Event::Committed { node: 1_000, epoch: None });
    assert_eq!(server.other, [Effect::Refresh { node: 1_000 }]);
    server.pass(1_000);
    assert_eq!(server.log.len(), 1, "nothing is proposed on an epoch that is known to be wrong");

    server.epochs.insert(1_000, 40);
    let refreshed =
        Event::Refreshed { node: 1_000, liveness: State::Ready, epoch: 40, incarnation: 1 };
    server.handle(refreshed);
    assert_eq!(server.log.len(), 1, "not before the tick");
    server.pass(100);
    assert_eq!(to(&server), [State::Suspect, State::Suspect]);
    server.commit(1_000);
    assert_eq!(server.engine.counts().in_flight, 0);
}

#[test]
fn a_proposal_that_was_committed_although_nobody_heard_of_it_is_not_repeated() {
    let (mut server, leases) = Server::with_workers(1);
    server.commits = false;
    server.disconnect(&leases[0]);
    server.handle(Event::Committed { node: 1_000, epoch: None });
    server.epochs.insert(1_000, 2);
    let refreshed =
        Event::Refreshed { node: 1_000, liveness: State::Suspect, epoch: 2, incarnation: 1 };
    server.handle(refreshed);
    server.pass(1_000);
    assert_eq!(server.log.len(), 1);
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let (mut server, _leases) = Server::with_workers(1);
    server.handle(Event::Committed { node: 1_000, epoch: Some(77) });
    server.handle(Event::Committed { node: 1_000, epoch: None });
    server.handle(Event::Committed { node: 5, epoch: Some(1) });
    server.handle(Event::Disconnected { node: 5, session: SessionId(1) });
    server.handle(Event::Leaving { node: 5, session: SessionId(1) });
    server.handle(Event::Removed { node: 5 });
    server.handle(Event::Enrolled { node: 1_000, liveness: State::Unreachable, epoch: 9 });
    server.pass(1_000);
    assert_eq!(server.log, []);
    assert_eq!(server.other, []);
}

#[test]
fn a_node_removed_while_its_transition_is_in_flight_is_forgotten() {
    let (mut server, leases) = Server::with_workers(1);
    server.commits = false;
    server.disconnect(&leases[0]);
    server.handle(Event::Removed { node: 1_000 });
    server.handle(Event::Committed { node: 1_000, epoch: None });
    server.pass(60_000);
    assert_eq!(server.log.len(), 1);
    assert_eq!(server.other, []);
}

#[test]
fn an_enrolled_node_without_a_session_holds_no_lease_and_is_left_as_recorded() {
    let mut server = Server::new();
    server.enrol(1_000);
    server.pass(60_000);
    assert_eq!(server.log, []);
    assert_eq!(server.engine.counts().leases, 0);
}

#[test]
fn ready_carries_the_process_and_the_ttl_that_it_was_handed() {
    let mut server = Server::new();
    server.enrol(1_000);
    let mut out = Vec::new();
    server.engine.open(server.now, 1_000, SessionId(1), 42, &mut out).unwrap();
    let Some(Effect::Propose(transition)) = out.first() else { panic!("{out:?}") };
    assert_eq!((transition.incarnation, transition.ttl_ms), (42, 10_000));
}

#[test]
fn a_tick_decides_about_a_bounded_number_of_nodes_and_asks_to_be_called_again_at_once() {
    let limits = LivenessLimits { decisions_max: 7, ..LivenessLimits::default() };
    let mut server = Server::with(AdaptiveTtlConfig::default(), limits);
    let leases: Vec<_> = (1_000..1_050)
        .map(|node| {
            server.enrol(node);
            server.open(node).0
        })
        .collect();
    for lease in &leases {
        server.disconnect(lease);
    }
    server.log.clear();
    server.pass(20_000);
    while server.log.is_empty() {
        server.pass(100);
    }
    assert_eq!(server.log.len(), 7);
    let mut wakeups = 1;
    while server.engine.next_wakeup() == Some(server.now) {
        let before = server.log.len();
        server.handle(Event::Tick);
        assert!(server.log.len() - before <= 7);
        wakeups += 1;
    }
    assert_eq!((server.log.len(), wakeups), (50, 8));
    assert_eq!(server.engine.next_wakeup(), Some(server.now.plus(100)));
}

#[test]
fn events_and_effects_replay_from_json() {
    let event = Event::Loaded {
        node: 1_000,
        liveness: State::Ready,
        epoch: 3,
        incarnation: u64::MAX,
        ttl_ms: 10_000,
    };
    let json = serde_json::to_string(&event).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    let effect = Effect::DuplicateSession { node: 1, old: SessionId(2), new: SessionId(3) };
    let json = serde_json::to_string(&effect).unwrap();
    assert_eq!(json, r#"{"duplicate_session":{"node":1,"old":2,"new":3}}"#);
    assert_eq!(serde_json::from_str::<Effect>(&json).unwrap(), effect);
}
