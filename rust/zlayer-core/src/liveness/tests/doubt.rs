//! Nobody is declared dead on doubtful evidence.

use super::super::ExpiryHeld;
use super::*;

#[test]
fn a_server_that_slept_for_a_minute_expires_nobody_whose_beat_waits_in_the_socket() {
    let (mut server, leases) = Server::with_workers(100);
    server.pass_beating(30_000, &leases);
    server.sleep(60_000);
    server.handle(Event::Tick);
    // Draining the sockets takes a while.
    server.pass(200);
    for lease in &leases {
        server.beat(lease);
    }
    server.pass_beating(60_000, &leases);
    assert_eq!(server.log, []);
    assert_eq!(server.engine.stats().shift_ms_total, 60_000);
}

#[test]
fn a_late_tick_moves_every_deadline_by_the_whole_gap() {
    let (mut server, leases) = Server::with_workers(2);
    server.pass(1_000);
    server.disconnect(&leases[1]);
    let before: Vec<_> =
        [1_000, 1_001].map(|node| server.engine.view(node).unwrap().deadline.unwrap()).to_vec();
    server.sleep(5_000);
    server.handle(Event::Tick);
    for (node, before) in (1_000..).zip(before) {
        assert_eq!(server.engine.view(node).unwrap().deadline, Some(before.plus(5_000)));
    }
}

#[test]
fn a_tick_that_is_late_within_the_limit_moves_nothing() {
    let (mut server, _leases) = Server::with_workers(1);
    server.pass(1_000);
    let before = server.engine.view(1_000).unwrap().deadline;
    server.sleep(600);
    server.handle(Event::Tick);
    assert_eq!(server.engine.view(1_000).unwrap().deadline, before);
    assert_eq!(server.engine.stats().tick_lag_ms_max, 500);
}

#[test]
fn a_gap_is_noticed_by_whatever_comes_first() {
    let events = [
        Event::Tick,
        Event::Disconnected { node: 1_001, session: SessionId(2) },
        Event::Enrolled { node: 5_000, liveness: State::Unreachable, epoch: 0 },
    ];
    for event in events {
        let (mut server, _leases) = Server::with_workers(2);
        server.pass(1_000);
        let before = server.engine.view(1_000).unwrap().deadline.unwrap();
        server.sleep(9_000);
        server.handle(event);
        server.handle(Event::Tick);
        assert_eq!(server.engine.view(1_000).unwrap().deadline, Some(before.plus(9_000)));
    }
    let (mut server, _leases) = Server::with_workers(2);
    server.pass(1_000);
    let before = server.engine.view(1_000).unwrap().deadline.unwrap();
    server.sleep(9_000);
    server.open(1_001);
    assert_eq!(server.engine.view(1_000).unwrap().deadline, Some(before.plus(9_000)));
}

#[test]
fn after_a_sleep_longer_than_the_grace_a_broken_connection_has_time_to_come_back() {
    let (mut server, leases) = Server::with_workers(2);
    server.pass_beating(1_000, &leases);
    // Both are due to beat when the server falls asleep, and one connection breaks in that time.
    server.pass(9_000);
    server.sleep(10_001);
    server.handle(Event::Tick);
    let awake = server.now;
    server.disconnect(&leases[1]);
    for node in [1_000, 1_001] {
        let deadline = server.engine.view(node).unwrap().deadline;
        assert_eq!(deadline, Some(awake.plus(30_000)), "node {node}");
    }
    // A worker's longest wait after failed dials is 15 s, and a dial may take 5 s.
    server.pass(20_000);
    server.open(1_001);
    assert_eq!(server.when(1_001, State::Unreachable), None);
    // Whoever stays away is not waited for longer.
    server.pass(11_000);
    let at = server.when(1_000, State::Unreachable).unwrap().0;
    assert!((awake.0 + 30_000..=awake.0 + 31_000).contains(&at), "{}", at - awake.0);
}

#[test]
fn a_sleep_within_the_grace_adds_itself_and_no_more() {
    let (mut server, _leases) = Server::with_workers(1);
    let deadline = server.engine.view(1_000).unwrap().deadline.unwrap();
    server.sleep(10_000);
    server.handle(Event::Tick);
    assert_eq!(server.engine.view(1_000).unwrap().deadline, Some(deadline.plus(10_000)));
}

#[test]
fn after_a_late_tick_nothing_expires_until_the_sockets_are_drained() {
    let (mut server, leases) = Server::with_workers(1);
    let deadline = server.engine.view(1_000).unwrap().deadline.unwrap();
    server.pass(deadline.since(server.now));
    // Due, looked at once, and now the server is stopped for a moment.
    server.sleep(700);
    server.handle(Event::Tick);
    assert_eq!(server.log, []);
    server.pass(200);
    server.beat(&leases[0]);
    server.pass(5_000);
    assert_eq!(server.log, []);
}

#[test]
fn worst_jitter_below_the_limit_neither_shifts_nor_breaks_the_promise() {
    let (mut server, _leases) = Server::with_workers(1);
    let deadline = server.engine.view(1_000).unwrap().deadline.unwrap();
    while server.log.is_empty() {
        server.now = server.now.plus(600);
        server.handle(Event::Tick);
    }
    let at = server.when(1_000, State::Unreachable).unwrap().0;
    assert!((deadline.0..=deadline.0 + 1_200).contains(&at), "{}", at - deadline.0);
    assert_eq!(server.engine.stats().shifts, 0);
}

/// All but `silent` workers beat for `ms`.
fn silence(server: &mut Server, leases: &[SessionLease], silent: usize, ms: u64) {
    server.pass_beating(ms, &leases[silent..]);
}

#[test]
fn more_than_a_share_of_silent_workers_is_held_and_reported_once() {
    let (mut server, leases) = Server::with_workers(100);
    // 100 leases, TTL 10 s: 50 have their turn in 5 s, 30 % are 15.
    silence(&mut server, &leases, 16, 60_000);
    assert_eq!(server.log, []);
    assert_eq!(server.alarms(), 1);
    let Some(&Effect::Alarm(ExpiryHeld { due, leases: all, until })) = server.other.first() else {
        panic!("{:?}", server.other)
    };
    assert_eq!((due, all), (16, 100));
    assert!(server.engine.counts().expiry_held);
    // It opens by itself.
    silence(&mut server, &leases, 16, 30_000);
    assert_eq!(server.log.len(), 16);
    assert!(server.log.iter().all(|&(at, _, _, _)| (until.0..=until.0 + 1_000).contains(&at)));
    assert_eq!(server.alarms(), 1);
    assert!(!server.engine.counts().expiry_held);
}

#[test]
fn silent_workers_up_to_the_share_expire_at_once() {
    let (mut server, leases) = Server::with_workers(100);
    silence(&mut server, &leases, 15, 25_000);
    assert_eq!(server.log.len(), 15);
    assert_eq!(server.alarms(), 0);
}

#[test]
fn up_to_ten_silent_workers_expire_at_once_however_small_the_fleet() {
    let (mut server, leases) = Server::with_workers(10);
    silence(&mut server, &leases, 10, 25_000);
    assert_eq!(server.log.len(), 10);
    assert_eq!(server.alarms(), 0);
}

#[test]
fn while_the_brake_holds_a_beat_saves_the_lease() {
    let (mut server, leases) = Server::with_workers(100);
    silence(&mut server, &leases, 100, 40_000);
    assert_eq!(server.alarms(), 1);
    assert_eq!(server.log, []);
    server.pass_beating(120_000, &leases);
    assert_eq!(server.log, []);
    assert!(!server.engine.counts().expiry_held);
}

#[test]
fn nodes_whose_connection_was_lost_do_not_count_for_the_brake_and_expire_while_it_holds() {
    let (mut server, leases) = Server::with_workers(100);
    for lease in &leases[..60] {
        server.disconnect(lease);
    }
    server.pass_beating(25_000, &leases[60..]);
    assert_eq!(server.alarms(), 0);
    let unreachable = |server: &Server| {
        server.log.iter().filter(|&&(_, _, to, _)| to == State::Unreachable).count()
    };
    assert_eq!(unreachable(&server), 60);

    let (mut server, leases) = Server::with_workers(100);
    for lease in &leases[..10] {
        server.disconnect(lease);
    }
    silence(&mut server, &leases, 40, 40_000);
    assert_eq!(server.alarms(), 1);
    assert_eq!(unreachable(&server), 10);
}

#[test]
fn a_large_fleet_with_a_long_ttl_is_judged_by_whose_turn_it_is() {
    // 5,000 workers at 50 a second: TTL 100 s. Without the turns, 30 % of all would be 1,500.
    let (mut server, leases) = Server::with_workers(5_000);
    let mut due: Vec<_> = leases.iter().map(|lease| (server.now.0, lease)).collect();
    for _ in 0..200 {
        for (at, lease) in &mut due {
            if server.now.0 >= *at {
                *at = server.now.0 + server.beat(lease).next_beat_in_ms;
            }
        }
        server.pass(1_000);
    }
    assert_eq!(server.log, []);
    // Now nobody is heard any more. The first lease ends 10 s later, the brake holds for 60 s.
    server.pass(65_000);
    assert_eq!(server.alarms(), 1);
    assert!(server.log.len() <= 75, "{} expired before the brake", server.log.len());
}
