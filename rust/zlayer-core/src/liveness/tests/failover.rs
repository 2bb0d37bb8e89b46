//! A server starts, or begins to lead, with records and without connections.

use super::super::BrakeLimits;
use super::*;

/// A server that has loaded `nodes` Ready nodes that were handed `ttl_ms`, and ticked once.
fn loaded(nodes: u64, ttl_ms: u64) -> Server {
    let mut server = Server::new();
    for node in 1_000..1_000 + nodes {
        server.load(node, State::Ready, ttl_ms);
    }
    server.handle(Event::Tick);
    server
}

fn deadline(server: &Server, node: NodeId) -> u64 {
    server.engine.view(node).unwrap().deadline.unwrap().since(server.now)
}

#[test]
fn a_loaded_node_gets_the_failover_window_or_its_ttl_and_grace_if_that_is_longer() {
    assert_eq!(deadline(&loaded(1, 10_000), 1_000), 300_000);
    assert_eq!(deadline(&loaded(1, 400_000), 1_000), 410_000);
}

#[test]
fn the_longest_ttl_of_any_record_counts_for_every_loaded_node() {
    // 1,000 opened in a small fleet, and was told the long TTL later, by a beat that no record shows.
    let mut server = Server::new();
    server.load(1_000, State::Ready, 10_000);
    server.load(1_001, State::Left, 400_000);
    server.handle(Event::Tick);
    assert_eq!(deadline(&server, 1_000), 410_000);
}

#[test]
fn the_deadlines_of_loaded_nodes_are_spread() {
    let server = loaded(10_000, 200_000);
    let deadlines: Vec<_> = (1_000..11_000).map(|node| deadline(&server, node)).collect();
    assert!(deadlines.is_sorted());
    assert_eq!(deadlines[0], 300_000);
    // 10,000 at 500 a second.
    assert!((319_900..=320_000).contains(&deadlines[9_999]), "{}", deadlines[9_999]);
}

#[test]
fn nodes_that_were_gone_stay_as_recorded_and_hold_no_lease() {
    let mut server = Server::new();
    server.load(1_000, State::Unreachable, 10_000);
    server.load(1_001, State::Left, 10_000);
    server.pass(700_000);
    assert_eq!(server.log, []);
    assert_eq!(server.engine.counts().leases, 0);
}

#[test]
fn a_loaded_node_that_comes_back_in_time_was_never_away() {
    let mut server = loaded(20, 10_000);
    server.pass(29_000);
    let leases: Vec<_> = (1_000..1_020).map(|node| server.open(node).0).collect();
    server.pass_beating(600_000, &leases);
    assert_eq!(server.log, [], "no line in the log for a failover that went well");
}

#[test]
fn a_loaded_node_that_comes_back_as_another_process_is_recorded() {
    let mut server = loaded(1, 10_000);
    server.open_process(1_000, 2);
    assert_eq!(server.log.len(), 1);
    assert_eq!(server.log[0].2, State::Ready);
    assert_eq!(server.other, [], "the process before it is no living duplicate");
}

#[test]
fn a_loaded_node_that_does_not_come_back_is_suspect_and_then_unreachable() {
    let mut server = loaded(1, 10_000);
    let start = server.now.0;
    server.pass(400_000);
    let (at, reason) = server.when(1_000, State::Suspect).unwrap();
    assert!((30_000..=30_200).contains(&(at - start)), "{}", at - start);
    assert_eq!(reason, Reason::NotReconnected);
    let (at, reason) = server.when(1_000, State::Unreachable).unwrap();
    assert!((300_000..=301_000).contains(&(at - start)), "{}", at - start);
    assert_eq!(reason, Reason::LeaseExpired);
    assert_eq!(server.log.len(), 2);
}

#[test]
fn the_reconnect_window_of_a_large_fleet_covers_the_spread() {
    let mut server = loaded(20_000, 400_000);
    let start = server.now.0;
    // 40 s of spread, and half of it for the last ones to dial.
    server.pass(59_900);
    assert_eq!(server.log, []);
    server.pass(10_000);
    assert_eq!(server.log.len(), 20_000);
    assert!(server.log.iter().all(|&(at, _, _, _)| at - start >= 60_000));
}

#[test]
fn a_fresh_session_after_a_failover_has_an_ordinary_lease() {
    let mut server = loaded(1, 10_000);
    server.open(1_000);
    assert_eq!(deadline(&server, 1_000), 20_000);
}

#[test]
fn a_reconnect_counts_as_a_beat_and_is_paced_over_the_ttl() {
    let mut server = loaded(1_000, 20_000);
    let mut seconds = [0_u32; 21];
    for node in 1_000..2_000 {
        let (_, ack) = server.open(node);
        assert_eq!(ack.ttl_ms, 20_000);
        seconds[(ack.next_beat_in_ms / 1_000) as usize] += 1;
    }
    assert!(seconds.iter().all(|&beats| beats <= 52), "{seconds:?}");
}

#[test]
fn a_server_that_sleeps_while_it_waits_for_reconnects_waits_longer() {
    let mut server = loaded(1, 10_000);
    server.pass(20_000);
    server.sleep(60_000);
    server.pass(9_000);
    assert_eq!(server.log, []);
    server.pass(3_000);
    assert!(server.when(1_000, State::Suspect).is_some());
}

#[test]
fn many_loaded_nodes_that_stay_away_are_held_by_the_brake_once() {
    let mut server = loaded(1_000, 20_000);
    let leases: Vec<_> = (1_600..2_000).map(|node| server.open(node).0).collect();
    server.pass_beating(350_000, &leases);
    assert_eq!(server.alarms(), 1);
    let unreachable = |server: &Server| {
        server.log.iter().filter(|&&(_, _, to, _)| to == State::Unreachable).count()
    };
    assert_eq!(unreachable(&server), 0);
    server.pass_beating(60_000, &leases);
    assert_eq!(unreachable(&server), 600);
    assert_eq!(server.alarms(), 1);
}

#[test]
fn a_few_loaded_nodes_that_stay_away_are_believed() {
    let mut server = loaded(1_000, 20_000);
    let leases: Vec<_> = (1_200..2_000).map(|node| server.open(node).0).collect();
    server.pass_beating(310_000, &leases);
    assert_eq!(server.alarms(), 0);
    assert_eq!(server.engine.counts().leases, 800);
}

#[test]
fn a_record_that_is_told_twice_is_loaded_once() {
    let mut server = loaded(1, 10_000);
    server.load(1_000, State::Left, 10_000);
    assert_eq!(server.engine.counts().leases, 1);
}

#[test]
fn loading_more_than_fits_keeps_the_rest_as_recorded() {
    let limits = LivenessLimits {
        leases_max: 3,
        brake: BrakeLimits::default(),
        ..LivenessLimits::default()
    };
    let mut server = Server::with(AdaptiveTtlConfig::default(), limits);
    for node in 1_000..1_005 {
        server.load(node, State::Ready, 10_000);
    }
    server.handle(Event::Tick);
    assert_eq!(server.engine.counts().leases, 3);
    assert_eq!(server.engine.counts().nodes, 5);
}

#[test]
fn a_session_that_goes_on_by_another_server_keeps_the_loaded_lease_until_its_next_report() {
    let mut server = loaded(1, 10_000);
    let mut out = Vec::new();
    let session = SessionId(5);
    server.engine.announce(server.now, 1_000, session, 1, &mut out).unwrap();
    server.perform(out);
    assert_eq!(deadline(&server, 1_000), 300_000, "its worker was told nothing");
    server.pass(120_000);
    assert_eq!(server.log, [], "it is there, and was never away");
    assert!(server.engine.view(1_000).unwrap().connected);
    let (_, ack) = server.open_session(1_000, session, 1).unwrap();
    assert_eq!((ack.ttl_ms, deadline(&server, 1_000)), (10_000, 20_000), "a beat like any");
    server.pass(21_000);
    assert_eq!(server.when(1_000, State::Unreachable).unwrap().1, Reason::LeaseExpired);
}

#[test]
fn an_announced_session_whose_connection_breaks_is_suspect_at_once() {
    let mut server = loaded(1, 10_000);
    let mut out = Vec::new();
    server.engine.announce(server.now, 1_000, SessionId(5), 1, &mut out).unwrap();
    server.perform(out);
    server.handle(Event::Disconnected { node: 1_000, session: SessionId(5) });
    assert_eq!(server.when(1_000, State::Suspect).unwrap().1, Reason::ConnectionLost);
    assert_eq!(deadline(&server, 1_000), 300_000);
}
