//! The worker by itself, with a clock that is set by hand.

use super::*;
use crate::dice::Stream;

struct Bench {
    worker: Worker,
    dice: Dice,
    now: Ms,
}

impl Bench {
    fn new(manners: Manners) -> Self {
        let worker = Worker::new(1_000, 7, 0, manners);
        Self { worker, dice: Dice::new(1, Stream::Workers), now: 1_000 }
    }

    fn give(&mut self, input: Input) -> Vec<Deed> {
        let mut deeds = Vec::new();
        self.worker.handle(self.now, input, &mut self.dice, &mut deeds);
        deeds
    }

    /// Lets time pass up to the next thing that it does.
    fn wait(&mut self) -> Vec<Deed> {
        for _ in 0..10 {
            self.now = self.now.max(self.worker.next_wakeup().unwrap_or(self.now));
            let deeds = self.give(Input::Tick);
            if !deeds.is_empty() {
                return deeds;
            }
        }
        Vec::new()
    }

    /// A session over a first link, whose next beat is due `next_ms` later.
    fn connected(next_ms: Ms, manners: Manners) -> Self {
        let mut bench = Self::new(manners);
        assert_eq!(bench.give(Input::Tick), [Deed::Dial(1)]);
        let hello = Report { seq: 1, hello: true, leaving: false };
        assert_eq!(bench.give(Input::Opened(1)), [Deed::Send(1, hello)]);
        assert_eq!(bench.give(Input::Acked(1, answer(1, next_ms))), []);
        bench
    }

    fn plain(next_ms: Ms) -> Self {
        Self::connected(next_ms, Manners::default())
    }
}

fn answer(seq: u32, next_beat_in_ms: u64) -> Answer {
    let (ttl_ms, grace_ms) = (10_000, 10_000);
    Answer { seq, ttl_ms, grace_ms, next_beat_in_ms, reconnect_spread_ms: 400, promise: 0 }
}

fn beat(seq: u32) -> Report {
    Report { seq, hello: false, leaving: false }
}

#[test]
fn it_beats_when_the_answer_said() {
    let mut bench = Bench::plain(4_000);
    assert_eq!(bench.wait(), [Deed::Send(1, beat(2))]);
    assert_eq!(bench.now, 5_000);
    bench.now += 10;
    assert_eq!(bench.give(Input::Acked(1, answer(2, 9_990))), []);
    assert_eq!(bench.wait(), [Deed::Send(1, beat(3))]);
    assert_eq!(bench.now, 15_000);
}

#[test]
fn an_unanswered_beat_is_said_over_another_link_after_two_seconds() {
    let mut bench = Bench::plain(4_000);
    bench.wait();
    assert_eq!(bench.wait(), [Deed::Dial(2)]);
    assert_eq!(bench.now, 7_000);
    bench.give(Input::Opened(2));
    // The new session stands before the old link is closed.
    assert_eq!(bench.give(Input::Acked(2, answer(1, 500))), [Deed::Close(1)]);
    assert_eq!(bench.wait(), [Deed::Send(2, beat(2))]);
    assert_eq!(bench.now, 7_500);
}

#[test]
fn an_answer_that_comes_back_in_time_ends_the_search() {
    let mut bench = Bench::plain(4_000);
    bench.wait();
    assert_eq!(bench.wait(), [Deed::Dial(2)]);
    assert_eq!(bench.give(Input::Acked(1, answer(2, 5_000))), [Deed::Close(2)]);
}

#[test]
fn a_late_answer_counts_from_the_sending_of_its_beat() {
    for (trusting, beats_at) in [(false, 15_000), (true, 23_000)] {
        let mut bench = Bench::connected(4_000, Manners { trusting, ..Manners::default() });
        bench.wait();
        bench.now = 13_000;
        bench.give(Input::Acked(1, answer(2, 10_000)));
        assert_eq!(bench.wait(), [Deed::Send(1, beat(3))]);
        assert_eq!(bench.now, beats_at);
    }
    // Not in a tight loop, either, when that is long past.
    let mut bench = Bench::plain(4_000);
    bench.wait();
    bench.now = 60_000;
    bench.give(Input::Acked(1, answer(2, 10_000)));
    bench.wait();
    assert_eq!(bench.now, 60_020);
}

#[test]
fn after_a_lost_connection_it_waits_within_the_spread_and_not_past_its_beat() {
    let mut longest = 0;
    for seed in 0..200 {
        let mut bench = Bench::plain(300);
        bench.dice = Dice::new(seed, Stream::Workers);
        bench.give(Input::Ended(1, Ending::Lost));
        assert_eq!(bench.wait(), [Deed::Dial(2)]);
        longest = longest.max(bench.now - 1_000);
    }
    assert!((250..=300).contains(&longest), "{longest}");
}

#[test]
fn failed_dials_are_further_and_further_apart_but_leave_the_lease_some_tries() {
    let mut bench = Bench::plain(9_000);
    bench.give(Input::Ended(1, Ending::Lost));
    let mut dials = 0;
    while bench.now < 300_000 {
        let [Deed::Dial(link)] = bench.wait()[..] else { panic!("it dials") };
        dials += u32::from(bench.now < 21_000);
        let before = bench.now;
        bench.give(Input::Ended(link, Ending::Lost));
        let wait_ms = bench.worker.next_wakeup().map_or(0, |at| at - before);
        assert!(wait_ms <= BACKOFF_MAX_MS, "{wait_ms}");
    }
    assert!(dials >= 5, "{dials} dials before the lease ends");
}

#[test]
fn a_refusal_is_retried_slowly() {
    let mut bench = Bench::plain(4_000);
    assert_eq!(bench.give(Input::Ended(1, Ending::Refused)), []);
    let [Deed::Dial(_)] = bench.wait()[..] else { panic!("it dials") };
    assert!((30_000..=60_000).contains(&(bench.now - 1_000)), "{}", bench.now);
}

#[test]
fn a_refusal_that_its_own_hello_has_brought_about_is_not_believed() {
    for (obedient, waits) in [(false, 0..=400), (true, 30_000..=60_000)] {
        let mut bench = Bench::connected(4_000, Manners { obedient, ..Manners::default() });
        bench.wait();
        assert_eq!(bench.wait(), [Deed::Dial(2)]);
        bench.give(Input::Opened(2));
        // Nobody answers the second hello in time, and the first link comes back.
        bench.give(Input::Acked(1, answer(2, 9_000)));
        assert_eq!(bench.wait(), [Deed::Close(2)]);
        let before = bench.now;
        bench.give(Input::Ended(1, Ending::Refused));
        let [Deed::Dial(3)] = bench.wait()[..] else { panic!("it dials") };
        assert!(waits.contains(&(bench.now - before)), "{}", bench.now - before);
    }
}

#[test]
fn a_new_certificate_is_used_on_a_second_link_while_the_first_one_stands() {
    let mut bench = Bench::plain(9_000);
    assert_eq!(bench.give(Input::NewIdentity), [Deed::Dial(2)]);
    bench.give(Input::Opened(2));
    assert_eq!(bench.give(Input::Acked(2, answer(1, 500))), [Deed::Close(1)]);
    assert_eq!(bench.wait(), [Deed::Send(2, beat(2))]);
}

#[test]
fn a_goodbye_is_said_at_once_and_its_answer_ends_the_session() {
    let mut bench = Bench::plain(9_000);
    let goodbye = Report { seq: 2, hello: false, leaving: true };
    assert_eq!(bench.give(Input::Leave), [Deed::Send(1, goodbye)]);
    assert_eq!(bench.give(Input::Acked(1, answer(2, 0))), [Deed::Close(1)]);
    assert!(bench.worker.is_over());
    assert_eq!(bench.give(Input::Tick), []);
}
