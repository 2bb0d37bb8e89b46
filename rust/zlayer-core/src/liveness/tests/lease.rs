//! When a lease ends, and what a beat is told.

use super::*;
use crate::lease::LeaseError;

#[test]
fn a_silent_worker_expires_no_earlier_than_its_window_and_within_one_second_after() {
    for offset in 0..10 {
        let (mut server, leases) = Server::with_workers(1);
        // At every phase against the ticks.
        server.pass(3_000);
        server.now = server.now.plus(offset * 11);
        server.beat(&leases[0]);
        let received = server.now.0;
        server.pass(60_000);
        let (at, reason) = server.when(1_000, State::Unreachable).unwrap();
        assert!((received + 20_000..=received + 21_000).contains(&at), "after {}", at - received);
        assert_eq!(reason, Reason::LeaseExpired);
        assert_eq!(server.engine.counts().leases, 0);
    }
}

#[test]
fn a_worker_that_beats_is_never_touched() {
    let (mut server, leases) = Server::with_workers(3);
    server.pass_beating(600_000, &leases);
    assert_eq!(server.log, []);
}

#[test]
fn a_single_lost_beat_never_expires_a_lease() {
    let (mut server, leases) = Server::with_workers(1);
    let ack = server.beat(&leases[0]);
    // The beat at the end of the TTL is lost; its repetition comes after an ack time-out of 3 s.
    server.pass(ack.ttl_ms + 3_000);
    server.beat(&leases[0]);
    server.pass(ack.ttl_ms);
    assert_eq!(server.log, []);
}

#[test]
fn a_beat_between_the_two_looks_saves_the_lease() {
    let (mut server, leases) = Server::with_workers(1);
    let ended = server.engine.view(1_000).unwrap().deadline.unwrap();
    server.pass(ended.plus(200).since(server.now));
    server.beat(&leases[0]);
    server.pass(10_000);
    assert_eq!(server.log, []);
}

#[test]
fn a_promise_is_never_shortened_when_the_ttl_falls() {
    let mut server = Server::with(
        AdaptiveTtlConfig { max_heartbeats_per_second: 1, ..AdaptiveTtlConfig::default() },
        LivenessLimits::default(),
    );
    let leases: Vec<_> = (1_000..1_040)
        .map(|node| {
            server.enrol(node);
            server.open(node).0
        })
        .collect();
    let promised = server.beat(&leases[0]);
    assert_eq!(promised.ttl_ms, 40_000);
    let until = server.now.plus(50_000);
    for lease in &leases[1..] {
        server.handle(Event::Leaving { node: lease.node(), session: lease.session() });
    }
    // The new TTL is told, but that answer may be lost.
    assert_eq!(server.beat(&leases[0]).ttl_ms, 10_000);
    assert_eq!(server.engine.view(1_000).unwrap().deadline, Some(until));
    server.pass(60_000);
    assert!(server.when(1_000, State::Unreachable).unwrap().0 >= until.0);
}

#[test]
fn a_new_session_does_not_shorten_what_an_older_one_was_promised() {
    for loses_connection in [false, true] {
        let mut server = Server::with(
            AdaptiveTtlConfig { max_heartbeats_per_second: 1, ..AdaptiveTtlConfig::default() },
            LivenessLimits::default(),
        );
        let leases: Vec<_> = (1_000..1_040)
            .map(|node| {
                server.enrol(node);
                server.open(node).0
            })
            .collect();
        let until = server.now.plus(server.beat(&leases[0]).ttl_ms + 10_000);
        for lease in &leases[1..] {
            server.handle(Event::Leaving { node: lease.node(), session: lease.session() });
        }
        server.pass(1_000);
        if loses_connection {
            server.disconnect(&leases[0]);
        }
        // The worker never hears of the TTL that this session brings, and goes by the one that it knows.
        let (lease, ack) = server.open(1_000);
        assert_eq!(ack.ttl_ms, 10_000);
        assert_eq!(server.engine.view(1_000).unwrap().deadline, Some(until));
        // Once that has passed, nothing of it is left.
        server.pass(35_000);
        server.beat(&lease);
        let deadline = server.engine.view(1_000).unwrap().deadline;
        assert_eq!(deadline, Some(server.now.plus(20_000)));
    }
}

#[test]
fn the_ttl_follows_the_nodes_that_hold_a_lease() {
    let mut server = Server::new();
    let mut leases = Vec::new();
    for node in 1_000..2_000 {
        server.enrol(node);
        leases.push(server.open(node));
    }
    assert_eq!(leases[499].1.ttl_ms, 10_000);
    assert_eq!(leases[999].1.ttl_ms, 20_000);
    assert_eq!(server.beat(&leases[0].0).ttl_ms, 20_000);
    // Suspect still counts, Left and Unreachable do not.
    server.disconnect(&leases[0].0);
    assert_eq!(server.engine.counts().ttl_ms, 20_000);
    server.pass(40_000);
    assert_eq!(
        server.when(1_000, State::Unreachable).map(|(_, why)| why),
        Some(Reason::LeaseExpired)
    );
    server.engine.check_invariants();
    assert!(server.engine.counts().leases <= 999);
}

#[test]
fn the_next_beat_is_after_now_and_never_later_than_the_ttl() {
    let (mut server, leases) = Server::with_workers(700);
    for round in 0..20 {
        for lease in &leases {
            let ack = server.beat(lease);
            assert!((1..=ack.ttl_ms).contains(&ack.next_beat_in_ms), "round {round}: {ack:?}");
            assert_eq!(ack.grace_ms, 10_000);
        }
        server.pass(700);
    }
}

#[test]
fn a_beat_on_an_ended_lease_is_stale_and_the_same_session_reopens_as_recovered() {
    let (mut server, leases) = Server::with_workers(1);
    server.pass(30_000);
    assert!(server.when(1_000, State::Unreachable).is_some());
    assert!(!server.engine.view(1_000).unwrap().connected);

    let stale = server.beats.beat(&leases[0], server.now);
    assert_eq!(stale.unwrap_err(), LeaseError::Stale(leases[0].handle()));
    let (lease, _) = server.open_session(1_000, leases[0].session(), 1).unwrap();
    assert_eq!(server.when(1_000, State::Ready).unwrap().1, Reason::SessionOpened);
    server.pass_beating(60_000, &[lease]);
    assert_eq!(server.log.len(), 2);
}

#[test]
fn a_beat_right_before_the_expiry_and_one_right_after_have_one_verdict_each() {
    for late_ms in [0, 100, 200, 300, 400, 500, 600, 1_000] {
        let (mut server, leases) = Server::with_workers(1);
        let ended = server.engine.view(1_000).unwrap().deadline.unwrap();
        server.pass(ended.plus(late_ms).since(server.now));
        let saved = server.beats.beat(&leases[0], server.now).is_ok();
        server.pass(5_000);
        assert_eq!(saved, server.when(1_000, State::Unreachable).is_none(), "{late_ms} ms late");
    }
}

#[test]
fn over_the_limit_is_a_named_error_and_changes_nothing() {
    let limits = LivenessLimits { leases_max: 2, ..LivenessLimits::default() };
    let mut server = Server::with(AdaptiveTtlConfig::default(), limits);
    for node in 1_000..1_003 {
        server.enrol(node);
    }
    let first = server.open(1_000).0;
    server.open(1_001);
    let full = server.open_session(1_002, SessionId(9), 1).unwrap_err();
    assert_eq!(full, LeaseError::Full { capacity: 2 }.into());
    assert_eq!(server.engine.counts().leases, 2);
    // A node that holds a lease can always replace its session.
    let second = server.open(1_000).0;
    assert!(server.beats.beat(&first, server.now).is_err());
    server.beat(&second);
    // Room again.
    server.handle(Event::Leaving { node: 1_000, session: second.session() });
    assert!(server.open_session(1_002, SessionId(10), 1).is_ok());
}

#[test]
fn the_reconnect_spread_is_the_time_that_all_need_at_the_rate_and_at_most_the_ttl() {
    let limits = LivenessLimits::default();
    assert_eq!(limits.reconnect_spread_ms(0, 10_000), 0);
    assert_eq!(limits.reconnect_spread_ms(20, 10_000), 40);
    assert_eq!(limits.reconnect_spread_ms(10_000, 200_000), 20_000);
    assert_eq!(limits.reconnect_spread_ms(10_000, 10_000), 10_000);
    let none = LivenessLimits { reconnects_per_second: 0, ..limits };
    assert_eq!(none.reconnect_spread_ms(10_000, 10_000), 10_000);
    let (server, leases) = Server::with_workers(20);
    assert_eq!(server.beat(&leases[0]).reconnect_spread_ms, 40);
}

#[test]
fn a_node_costs_little_memory() {
    // 100,000 nodes: 11 MB here, 4 MB of marks, 2 MB in the lease table.
    let member = size_of::<super::super::member::Member>();
    assert!(member <= 112, "{member} bytes");
    assert!(size_of::<super::super::beat::BeatMarks>() <= 24);
}
