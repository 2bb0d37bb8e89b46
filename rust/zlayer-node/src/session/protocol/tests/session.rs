//! A session that goes well: hello, beats at the server's pace, what each report carries, new identities, age.

use super::*;

#[test]
fn greets_first_and_is_told_when_the_session_stands() {
    let mut bench = Bench::new(1, 1);
    assert_eq!(bench.state(), SessionState::Connecting);
    let (link, server) = bench.take_dial();
    bench.give(Input::Opened(link));
    let (_, report) = bench.take_report();
    let hello = report.hello.unwrap();
    assert_eq!((report.seq, hello.incarnation, hello.version.as_str()), (1, 7, "1.2.3"));
    bench.ack(link, 1, 500);
    let connected = SessionEvent::Connected { server: "s0:1".into() };
    assert_eq!(bench.take(), [Effect::Tell(connected), Effect::Watch(link, 0)]);
    let status = bench.protocol.status();
    assert_eq!(status.state, SessionState::Connected);
    assert_eq!((status.server, status.ttl_ms), (Some(server), TTL_MS));
    assert_eq!(status.next_beat, Some(bench.now.plus(500)));
    assert_eq!(status.lease_until, Some(bench.now.plus(TTL_MS + GRACE_MS)));
}

#[test]
fn beats_when_the_server_says_and_not_before() {
    let (mut bench, link, _) = Bench::connected(1, 1, 3_000);
    for (n, pause) in [3_000, 700, 9_999, 20].into_iter().enumerate() {
        bench.sleep(pause - 1);
        assert_eq!(bench.take(), []);
        bench.sleep(1);
        let (_, report) = bench.take_report();
        assert_eq!((report.seq, report.hello), (n as u64 + 2, None));
        let next = [700, 9_999, 20, 1_000][n];
        bench.ack(link, report.seq, next);
    }
    assert_eq!((bench.protocol.status().beats, bench.protocol.status().acks), (5, 5));
}

#[test]
fn a_faulty_pace_is_kept_within_bounds() {
    let (mut bench, link, _) = Bench::connected(1, 1, 0);
    bench.sleep(BEAT_MIN_MS - 1);
    assert_eq!(bench.take(), []);
    bench.sleep(1);
    let (_, report) = bench.take_report();
    bench.ack(link, report.seq, u64::MAX);
    assert_eq!(bench.sleep_until_asked(TTL_MS), Some(TTL_MS), "not after the TTL");
}

#[test]
fn an_answer_to_another_report_is_no_answer() {
    let (mut bench, link, _) = Bench::connected(2, 1, 1_000);
    bench.sleep(1_000);
    let (_, report) = bench.take_report();
    bench.ack(link, report.seq - 1, 1_000);
    bench.ack(LinkId(99), report.seq, 1_000);
    bench.sleep(Timing::default().ack_timeout_ms);
    assert_eq!(bench.state(), SessionState::Connecting);
    assert_eq!(bench.protocol.status().unanswered, 1);
}

#[test]
fn resources_travel_when_they_changed_and_with_each_hello() {
    let used = |cpu_millicores| Resources { cpu_millicores, ..Resources::default() };
    let (mut bench, link, _) = Bench::connected(1, 1, 1_000);
    bench.give(Input::Resources(used(1)));
    assert_eq!(bench.take(), [], "no report of its own");
    let mut sent = Vec::new();
    for n in 0..4 {
        if n == 2 {
            bench.give(Input::Resources(used(2)));
        }
        bench.sleep(1_000);
        let (_, report) = bench.take_report();
        sent.push(report.resources);
        bench.ack(link, report.seq, 1_000);
    }
    assert_eq!(sent, [Some(used(1)), None, Some(used(2)), None]);
    bench.give(Input::Ended(link, failure(FailureKind::Lost)));
    bench.take();
    bench.sleep_until_asked(5_000).unwrap();
    let (link, _) = bench.take_dial();
    bench.give(Input::Opened(link));
    assert_eq!(bench.take_report().1.resources, Some(used(2)), "the new server knows nothing");
}

#[test]
fn a_new_identity_gets_its_connection_before_the_old_one_goes() {
    let (mut bench, old, server) = Bench::connected(3, 1, 1_000);
    bench.give(Input::NewIdentity);
    let (new, to) = bench.take_dial();
    assert_eq!(to, server);
    // The old one goes on meanwhile.
    bench.sleep(1_000);
    let (link, report) = bench.take_report();
    assert_eq!(link, old);
    bench.ack(old, report.seq, 1_000);
    bench.give(Input::Opened(new));
    assert_eq!(bench.take_report().0, new);
    bench.ack(new, 1, 1_000);
    assert_eq!(bench.take(), [Effect::Close(old), Effect::Watch(new, 0)], "and nobody is told");
    assert_eq!(bench.protocol.status().reconnects, 1);
}

#[test]
fn the_old_session_may_end_while_the_new_one_is_greeting() {
    let (mut bench, old, _) = Bench::connected(1, 1, 1_000);
    bench.give(Input::NewIdentity);
    let (new, _) = bench.take_dial();
    bench.give(Input::Opened(new));
    bench.take();
    // "Another session of this node took over": this process's own.
    bench.give(Input::Ended(old, failure(FailureKind::Refused)));
    bench.ack(new, 1, 1_000);
    assert_eq!(bench.take(), [Effect::Watch(new, 0)]);
    assert_eq!(bench.state(), SessionState::Connected);
}

#[test]
fn an_identity_that_changes_twice_ends_up_with_the_newest() {
    let (mut bench, _, _) = Bench::connected(1, 1, 5_000);
    bench.give(Input::NewIdentity);
    let (first, _) = bench.take_dial();
    bench.give(Input::Opened(first));
    bench.take();
    bench.give(Input::NewIdentity);
    let effects = bench.take();
    let second = LinkId(first.0 + 1);
    assert_eq!(effects, [Effect::Close(first), Effect::Dial(second, 0)]);
}

#[test]
fn a_refused_new_identity_leaves_the_session_alone() {
    let (mut bench, old, _) = Bench::connected(1, 1, 9_000);
    bench.give(Input::NewIdentity);
    let (new, _) = bench.take_dial();
    bench.give(Input::Ended(new, failure(FailureKind::Refused)));
    assert_eq!(bench.take(), []);
    assert_eq!(bench.state(), SessionState::Connected);
    assert_eq!(bench.protocol.status().last_error.as_deref(), Some("s0:1: Refused"));
    bench.sleep(9_000);
    assert_eq!(bench.take_report().0, old);
    // Without it, the slow retry would be too slow.
    bench.give(Input::Ended(old, failure(FailureKind::Lost)));
    assert!(matches!(bench.take().last(), Some(Effect::Dial(..))));
}

#[test]
fn an_aged_connection_is_replaced_at_once_on_the_same_server_and_nobody_is_told() {
    let (mut bench, old, server) = Bench::connected(3, 1, 1_000);
    bench.give(Input::Ended(old, failure(FailureKind::Aged)));
    let (new, to) = bench.take_dial();
    assert_eq!(to, server);
    bench.give(Input::Opened(new));
    bench.take();
    bench.ack(new, 1, 1_000);
    assert_eq!(bench.take(), [Effect::Watch(new, 0)]);
}

#[test]
fn the_watch_is_resumed_from_the_last_revision() {
    let (mut bench, link, _) = Bench::connected(1, 1, 9_000);
    bench.give(Input::Assigned(link, 42));
    assert_eq!(told(&bench.take()), [&SessionEvent::Assignments { revision: 42 }]);
    bench.give(Input::WatchEnded(link, failure(FailureKind::Lost)));
    assert!(bench.sleep_until_asked(Timing::default().backoff_base_ms).is_some());
    assert_eq!(bench.take(), [Effect::Watch(link, 42)]);
    // And over a new connection.
    bench.give(Input::Ended(link, failure(FailureKind::Lost)));
    bench.take();
    bench.sleep_until_asked(5_000).unwrap();
    let (new, _) = bench.connect(1_000);
    assert!(bench.take().contains(&Effect::Watch(new, 42)));
}
