//! What goes wrong, and how long it may take to mend.

use super::*;

fn ack_timeout_ms() -> u64 {
    Timing::default().ack_timeout_ms
}

#[test]
fn a_beat_without_an_answer_is_repeated_over_the_next_server_well_within_the_grace() {
    let (mut bench, old, server) = Bench::connected(3, 1, TTL_MS);
    let lease_until = bench.protocol.status().lease_until.unwrap();
    bench.sleep(TTL_MS);
    bench.take_report();
    assert_eq!(bench.sleep_until_asked(60_000), Some(ack_timeout_ms()));
    let effects = bench.take();
    let why = format!("no answer to a heartbeat within {} ms", ack_timeout_ms());
    let next = (server + 1) % 3;
    let new = LinkId(old.0 + 1);
    let gone = Effect::Tell(SessionEvent::Disconnected { why });
    assert_eq!(effects, [gone, Effect::Dial(new, next)], "at once, and the old one is kept");
    bench.give(Input::Opened(new));
    assert!(bench.take_report().1.hello.is_some(), "the hello counts as the beat");
    assert_eq!(lease_until.since(bench.now), GRACE_MS - ack_timeout_ms());
    bench.ack(new, 1, 1_000);
    assert_eq!(bench.take()[0], Effect::Close(old));
    assert_eq!(bench.protocol.status().lapses, 0);
}

#[test]
fn a_late_answer_calls_the_dial_off() {
    let (mut bench, old, _) = Bench::connected(3, 1, 1_000);
    bench.sleep(1_000);
    let (_, report) = bench.take_report();
    bench.sleep(ack_timeout_ms());
    let new = LinkId(old.0 + 1);
    assert!(matches!(bench.take().last(), Some(Effect::Dial(link, _)) if *link == new));
    bench.ack(old, report.seq, 1_000);
    let effects = bench.take();
    assert!(matches!(effects[0], Effect::Tell(SessionEvent::Connected { .. })));
    assert_eq!(effects[1..], [Effect::Close(new)]);
    assert_eq!(bench.state(), SessionState::Connected);
    bench.sleep(1_000);
    assert_eq!(bench.take_report().0, old);
}

#[test]
fn an_answer_that_comes_after_the_hello_lets_the_hello_win() {
    let (mut bench, old, _) = Bench::connected(3, 1, 1_000);
    bench.sleep(1_000);
    let (_, report) = bench.take_report();
    bench.sleep(ack_timeout_ms());
    let new = LinkId(old.0 + 1);
    bench.give(Input::Opened(new));
    bench.take();
    bench.ack(old, report.seq, 1_000);
    assert!(!bench.take().contains(&Effect::Close(new)));
    bench.ack(new, 1, 1_000);
    assert!(bench.take().contains(&Effect::Close(old)));
}

#[test]
fn two_dead_servers_do_not_use_up_the_lease() {
    for seed in 0..500 {
        let (mut bench, ..) = Bench::connected(3, seed, TTL_MS);
        let lease_until = bench.protocol.status().lease_until.unwrap();
        bench.sleep(TTL_MS);
        bench.take();
        let mut dials = 0;
        // The old server is silent, and so is the first one that is dialled; each dial hangs.
        let link = loop {
            bench.sleep_until_asked(60_000).unwrap();
            let dialled = bench.take().into_iter().find_map(|effect| match effect {
                Effect::Dial(link, _) => Some(link),
                _ => None,
            });
            dials += u32::from(dialled.is_some());
            if let Some(link) = dialled.filter(|_| dials == 2) {
                break link;
            }
        };
        bench.give(Input::Opened(link));
        assert!(bench.take_report().1.hello.is_some());
        let spare = lease_until.since(bench.now);
        assert!(spare > 2_000, "seed {seed}: the hello comes {spare} ms before the lease's end");
    }
}

#[test]
fn a_lost_connection_is_followed_by_a_random_wait_within_the_spread_and_the_next_beat() {
    for (next_beat, bound) in [(9_000, 4_000), (1_500, 1_500)] {
        let mut waits = Vec::new();
        for seed in 0..400 {
            let (mut bench, link, server) = Bench::connected(3, seed, next_beat);
            bench.give(Input::Ended(link, failure(FailureKind::Lost)));
            let waited = if told(&bench.take()).is_empty() {
                panic!("nobody was told");
            } else {
                bench.sleep_until_asked(60_000).unwrap()
            };
            waits.push(waited);
            assert_eq!(bench.take_dial().1, (server + 1) % 3);
        }
        assert!(waits.iter().all(|wait| *wait <= bound), "{waits:?}");
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least < bound / 20 && *most > bound - bound / 20, "{least}..{most} of {bound}");
    }
}

#[test]
fn a_beat_in_flight_when_the_connection_is_lost_is_repeated_at_once() {
    let (mut bench, link, _) = Bench::connected(3, 1, 1_000);
    bench.sleep(1_000);
    bench.take();
    bench.give(Input::Ended(link, failure(FailureKind::Lost)));
    assert!(matches!(bench.take().last(), Some(Effect::Dial(..))));
}

#[test]
fn failed_dials_go_round_with_growing_waits_and_start_over_after_a_success() {
    let timing = Timing::default();
    let mut bench = Bench::new(3, 5);
    let (mut link, mut server) = bench.take_dial();
    for n in 0..12 {
        bench.give(Input::Ended(link, failure(FailureKind::Lost)));
        bench.take();
        let waited = bench.sleep_until_asked(u64::MAX).unwrap_or(0);
        assert!(
            waited <= (timing.backoff_base_ms << n).min(timing.backoff_max_ms),
            "{n}: {waited}"
        );
        let (next, to) = bench.take_dial();
        assert_eq!(to, (server + 1) % 3);
        (link, server) = (next, to);
    }
    assert_eq!(bench.protocol.status().last_error, Some(format!("s{}:1: Lost", (server + 2) % 3)));
    bench.give(Input::Opened(link));
    bench.take();
    bench.ack(link, 1, 1_000);
    bench.take();
    assert_eq!(bench.protocol.status().last_error, None);
    bench.give(Input::NewIdentity);
    let (link, _) = bench.take_dial();
    bench.give(Input::Ended(link, failure(FailureKind::Lost)));
    bench.take();
    assert!(bench.sleep_until_asked(60_000).unwrap() <= timing.backoff_base_ms);
}

#[test]
fn a_dial_that_hangs_is_given_up() {
    let mut bench = Bench::new(2, 1);
    let (link, server) = bench.take_dial();
    bench.sleep_until_asked(Timing::default().dial_timeout_ms).unwrap();
    assert_eq!(bench.take()[0], Effect::Close(link));
    // So is one whose hello is not answered.
    bench.sleep_until_asked(60_000);
    let (link, next) = bench.take_dial();
    assert_ne!(server, next);
    bench.sleep(100);
    bench.give(Input::Opened(link));
    bench.take();
    bench.sleep_until_asked(Timing::default().dial_timeout_ms - 100).unwrap();
    assert_eq!(bench.take()[0], Effect::Close(link));
    // What it says after that is about nothing.
    bench.ack(link, 1, 1_000);
    assert_eq!(bench.state(), SessionState::Connecting);
}

#[test]
fn a_removed_worker_says_so_and_tries_rarely() {
    let (mut bench, link, _) = Bench::connected(2, 1, 1_000);
    bench.give(Input::Ended(link, failure(FailureKind::Removed)));
    let refused = SessionEvent::Refused { why: "Removed".into(), removed: true };
    assert_eq!(bench.take(), [Effect::Tell(refused.clone())]);
    assert_eq!(bench.state(), SessionState::Removed);
    let slow = Timing::default().slow_retry_ms;
    for _ in 0..5 {
        let waited = bench.sleep_until_asked(u64::MAX).unwrap();
        assert!((slow / 2..=slow).contains(&waited), "{waited}");
        let (link, _) = bench.take_dial();
        // A server that is down meanwhile changes nothing.
        bench.give(Input::Ended(link, failure(FailureKind::Lost)));
        assert_eq!(bench.take(), []);
        assert_eq!(bench.state(), SessionState::Removed);
    }
    // A new enrolment does.
    bench.give(Input::NewIdentity);
    bench.connect(1_000);
    assert_eq!(bench.state(), SessionState::Connected);
}

#[test]
fn a_worker_refused_at_its_first_hello_says_so() {
    let mut bench = Bench::new(1, 1);
    let (link, _) = bench.take_dial();
    bench.give(Input::Opened(link));
    bench.take();
    bench.give(Input::Ended(link, failure(FailureKind::Refused)));
    let refused = SessionEvent::Refused { why: "Refused".into(), removed: false };
    assert_eq!(bench.take(), [Effect::Tell(refused)]);
    assert_eq!(bench.state(), SessionState::Refused);
    // The cluster may change its mind.
    bench.sleep_until_asked(u64::MAX).unwrap();
    bench.connect(1_000);
    assert_eq!(bench.state(), SessionState::Connected);
}

#[test]
fn a_watch_that_the_next_session_superseded_does_not_call_that_one_off() {
    let (mut bench, old, _) = Bench::connected(2, 1, 1_000);
    bench.sleep(1_000);
    bench.take();
    bench.sleep(ack_timeout_ms());
    let new = LinkId(old.0 + 1);
    bench.give(Input::Opened(new));
    bench.take();
    // The old connection's streams end in any order.
    bench.give(Input::WatchEnded(old, failure(FailureKind::Refused)));
    bench.give(Input::Ended(old, failure(FailureKind::Refused)));
    assert_eq!(bench.take(), []);
    bench.ack(new, 1, 1_000);
    assert_eq!(bench.state(), SessionState::Connected);
}

#[test]
fn a_watch_that_is_refused_ends_the_session() {
    let (mut bench, link, _) = Bench::connected(1, 1, 1_000);
    bench.give(Input::WatchEnded(link, failure(FailureKind::Removed)));
    assert_eq!(bench.take()[0], Effect::Close(link));
    assert_eq!(bench.state(), SessionState::Removed);
}

#[test]
fn a_report_after_the_lease_could_have_ended_is_counted() {
    let (mut bench, link, _) = Bench::connected(1, 1, 1_000);
    bench.give(Input::Ended(link, failure(FailureKind::Lost)));
    bench.take();
    // The process was frozen, for instance.
    bench.now = bench.now.plus(TTL_MS + GRACE_MS + 1);
    bench.give(Input::Tick);
    bench.connect(1_000);
    assert_eq!(bench.protocol.status().lapses, 1);
}

#[test]
fn an_answer_that_is_read_late_is_counted_from_the_sending_of_its_report() {
    let (mut bench, link, _) = Bench::connected(1, 1, 8_000);
    bench.sleep(8_000);
    bench.take_report();
    let sent = bench.now;
    // The process is stopped with the answer in its socket, and goes on 9 s later.
    bench.now = sent.plus(9_000);
    bench.ack(link, 2, TTL_MS);
    bench.take();
    // The lease ends 20 s after the sending: a whole TTL from now on would leave one second.
    assert_eq!(bench.protocol.status().next_beat, Some(sent.plus(TTL_MS)));

    // Longer than the TTL: at once, but not in a tight loop.
    bench.sleep_to(sent.plus(TTL_MS));
    bench.take();
    let sent = bench.now;
    bench.now = sent.plus(TTL_MS + 5_000);
    bench.ack(link, 3, TTL_MS);
    assert_eq!(bench.protocol.status().next_beat, Some(bench.now.plus(BEAT_MIN_MS)));
}

/// A session whose beat is not answered, and a hello that is not either and is given up.
fn given_up() -> (Bench, LinkId) {
    let (mut bench, link, _) = Bench::connected(1, 1, 1_000);
    bench.sleep(1_000);
    bench.take_report();
    bench.sleep(2_000);
    let dialled = bench
        .take()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Dial(link, _) => Some(link),
            _ => None,
        })
        .unwrap();
    bench.give(Input::Opened(dialled));
    bench.take_report();
    // The old connection comes back to life; the hello's answer never comes.
    bench.ack(link, 2, 9_000);
    bench.take();
    let until = bench.now.plus(5_000);
    while bench.protocol.greets() && bench.now < until {
        bench.sleep(50);
    }
    assert!(!bench.protocol.greets(), "it was given up");
    (bench, link)
}

#[test]
fn a_session_that_its_own_hello_superseded_comes_back_at_once() {
    let (mut bench, link) = given_up();
    bench.take();
    bench.give(Input::Ended(link, failure(FailureKind::Superseded)));
    assert_ne!(bench.state(), SessionState::Refused);
    let waited = bench.sleep_until_asked(GRACE_MS).unwrap();
    assert!(waited <= 4_000, "{waited} ms");
}

#[test]
fn one_that_another_process_superseded_does_not() {
    let (mut bench, link, _) = Bench::connected(1, 1, 9_000);
    bench.give(Input::Ended(link, failure(FailureKind::Superseded)));
    assert_eq!(bench.state(), SessionState::Refused);
    bench.take();
    assert!(bench.sleep_until_asked(29_000).is_none(), "it fights for the session");
}

#[test]
fn a_hello_that_is_given_up_is_followed_by_a_beat() {
    let (mut bench, link) = given_up();
    bench.sleep(BEAT_MIN_MS);
    let effects = bench.take();
    let beat = |effect: &Effect| matches!(effect, Effect::Send(on, _) if *on == link);
    assert!(effects.iter().any(beat), "{effects:?}");
}
