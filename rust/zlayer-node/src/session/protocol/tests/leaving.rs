//! Goodbyes and other ends.

use super::*;

fn goodbye(bench: &mut Bench) -> (LinkId, StatusReport) {
    let (link, report) = bench.take_report();
    assert!(report.leaving);
    (link, report)
}

#[test]
fn a_goodbye_is_sent_at_once_and_ends_with_its_answer() {
    let (mut bench, link, _) = Bench::connected(1, 1, 9_000);
    bench.give(Input::Leave);
    assert_eq!(bench.state(), SessionState::Leaving);
    let (_, report) = goodbye(&mut bench);
    assert!(!bench.protocol.is_over());
    bench.ack(link, report.seq, 9_000);
    assert_eq!(bench.take(), [Effect::Close(link)]);
    assert!(bench.protocol.is_over() && bench.protocol.status().left);
    assert_eq!(bench.protocol.next_wakeup(), None);
}

#[test]
fn a_goodbye_does_not_wait_for_a_beat_in_flight() {
    let (mut bench, link, _) = Bench::connected(1, 1, 1_000);
    bench.sleep(1_000);
    let (_, beat) = bench.take_report();
    bench.give(Input::Leave);
    let (_, report) = goodbye(&mut bench);
    assert_eq!(report.seq, beat.seq + 1);
    bench.ack(link, beat.seq, 1_000);
    assert!(!bench.protocol.is_over(), "the beat's answer is not the goodbye's");
    bench.ack(link, report.seq, 1_000);
    assert!(bench.protocol.status().left);
}

#[test]
fn a_worker_that_is_not_connected_dials_at_once_to_say_goodbye() {
    let (mut bench, link, _) = Bench::connected(2, 1, 9_000);
    bench.give(Input::Ended(link, failure(FailureKind::Lost)));
    bench.take();
    bench.give(Input::Leave);
    let (link, _) = bench.take_dial();
    bench.give(Input::Opened(link));
    let (_, report) = goodbye(&mut bench);
    assert!(report.hello.is_some(), "hello and goodbye in one");
    bench.ack(link, 1, 9_000);
    assert!(bench.protocol.status().left);
}

#[test]
fn a_goodbye_in_the_middle_of_a_hello_follows_it() {
    let mut bench = Bench::new(1, 1);
    let (link, _) = bench.take_dial();
    bench.give(Input::Opened(link));
    assert!(!bench.take_report().1.leaving);
    bench.give(Input::Leave);
    assert_eq!(bench.take(), []);
    bench.ack(link, 1, 9_000);
    let effects = bench.take();
    let report = effects.iter().find_map(|effect| match effect {
        Effect::Send(_, report) => Some(report.clone()),
        _ => None,
    });
    let report = report.unwrap();
    assert!(report.leaving && report.seq == 2);
    bench.ack(link, 2, 9_000);
    assert!(bench.protocol.status().left);
}

#[test]
fn an_unanswered_goodbye_is_repeated_over_another_server() {
    let (mut bench, old, server) = Bench::connected(2, 1, 9_000);
    bench.give(Input::Leave);
    goodbye(&mut bench);
    bench.sleep(Timing::default().ack_timeout_ms);
    let effects = bench.take();
    let new = LinkId(old.0 + 1);
    assert_eq!(effects.last(), Some(&Effect::Dial(new, (server + 1) % 2)));
    bench.give(Input::Opened(new));
    goodbye(&mut bench);
    bench.ack(new, 1, 9_000);
    assert!(bench.take().contains(&Effect::Close(old)));
    assert!(bench.protocol.status().left);
}

#[test]
fn a_goodbye_whose_connection_is_lost_is_repeated_at_once() {
    let (mut bench, link, _) = Bench::connected(2, 1, 9_000);
    bench.give(Input::Leave);
    goodbye(&mut bench);
    bench.give(Input::Ended(link, failure(FailureKind::Lost)));
    assert!(matches!(bench.take().last(), Some(Effect::Dial(..))));
}

#[test]
fn a_refused_worker_just_stops() {
    let (mut bench, link, _) = Bench::connected(1, 1, 9_000);
    bench.give(Input::Ended(link, failure(FailureKind::Removed)));
    bench.give(Input::Leave);
    assert!(bench.protocol.is_over() && !bench.protocol.status().left);
    // And so does one that is refused while it says goodbye.
    let (mut bench, link, _) = Bench::connected(1, 1, 9_000);
    bench.give(Input::Leave);
    bench.give(Input::Ended(link, failure(FailureKind::Refused)));
    assert!(bench.protocol.is_over() && !bench.protocol.status().left);
}

#[test]
fn stop_closes_everything_and_nothing_happens_after_it() {
    let (mut bench, old, _) = Bench::connected(1, 1, 9_000);
    bench.give(Input::NewIdentity);
    let (new, _) = bench.take_dial();
    bench.give(Input::Stop);
    assert_eq!(bench.take(), [Effect::Close(new), Effect::Close(old)]);
    assert_eq!(bench.state(), SessionState::Stopped);
    bench.give(Input::Leave);
    bench.give(Input::NewIdentity);
    bench.sleep(100_000);
    assert_eq!(bench.take(), []);
}
