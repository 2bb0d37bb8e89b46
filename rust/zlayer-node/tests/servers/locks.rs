//! Locks that are held through any server.

use std::time::{Duration, Instant};

use zlayer_core::command::{HeldLock, Outcome, Refusal};
use zlayer_node::{Answered, AskedError, Wanted};

use crate::fleet::{Fleet, until};

const TTL_MS: u64 = 2_000;

fn wanted(name: &str, holder: u64, wait_ms: Option<u64>) -> Wanted {
    Wanted {
        name: name.into(),
        holder: format!("{holder:032x}"),
        owner: format!("holder {holder}"),
        ttl_ms: TTL_MS,
        wait_ms,
    }
}

/// Asks for a lock; the tickets of its two answers.
fn hold(fleet: &mut Fleet, at: usize, wanted: Wanted) -> (u64, u64) {
    let tickets = (fleet.number(), fleet.number());
    fleet.server(at).hold(tickets.0, tickets.1, wanted);
    tickets
}

fn fence(fleet: &Fleet, at: usize, ticket: u64) -> u64 {
    match fleet.answered(at, ticket) {
        Ok(Answered::Outcome(Outcome::Locked { fence })) => fence,
        other => panic!("{other:?}"),
    }
}

/// Why a lock ended; none where it was let go of.
fn ended(fleet: &Fleet, at: usize, ticket: u64) -> Option<String> {
    match fleet.answered(at, ticket) {
        Ok(Answered::Document(why)) => why["lost"].as_str().map(str::to_owned),
        other => panic!("{other:?}"),
    }
}

fn release(fleet: &mut Fleet, at: usize, name: &str, fence: u64) -> Result<Answered, AskedError> {
    let ticket = fleet.number();
    fleet.server(at).release(ticket, HeldLock { name: name.into(), fence });
    fleet.answered(at, ticket)
}

#[test]
fn one_holds_it_at_a_time_through_whichever_servers() {
    let mut fleet = Fleet::formed(3);
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let (first, first_ends) = hold(&mut fleet, follower, wanted("a", 1, Some(0)));
    let first = fence(&fleet, follower, first);
    let (refused, never) = hold(&mut fleet, leader, wanted("a", 2, Some(300)));
    let refusal = fleet.answered(leader, refused);
    let Ok(Answered::Outcome(Outcome::Refused { refusal: Refusal::LockHeld { owner, .. } })) =
        refusal
    else {
        panic!("{refusal:?}")
    };
    assert_eq!(owner, "holder 1");
    assert_eq!(ended(&fleet, leader, never), None);
    // Longer than its time: it is renewed without anybody doing anything.
    let (second, second_ends) = hold(&mut fleet, leader, wanted("a", 3, None));
    std::thread::sleep(Duration::from_millis(2 * TTL_MS));
    assert!(release(&mut fleet, follower, "a", first).is_ok());
    assert_eq!(ended(&fleet, follower, first_ends), None);
    let second = fence(&fleet, leader, second);
    assert!(second > first);
    assert!(release(&mut fleet, leader, "a", second).is_ok());
    assert_eq!(ended(&fleet, leader, second_ends), None);
}

#[test]
fn a_holder_that_dies_is_followed_and_not_before_its_time() {
    let mut fleet = Fleet::formed(3);
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let (first, _) = hold(&mut fleet, follower, wanted("a", 1, Some(0)));
    let first = fence(&fleet, follower, first);
    let (second, _) = hold(&mut fleet, leader, wanted("a", 2, None));
    let killed = Instant::now();
    fleet.kill(follower);
    let second = fence(&fleet, leader, second);
    assert!(second > first);
    // Its last renewal came at most a third of its time before.
    assert!(killed.elapsed() >= Duration::from_millis(TTL_MS * 2 / 3 - 100), "too early");
}

#[test]
fn a_leader_that_dies_takes_no_lock_from_anybody() {
    let mut fleet = Fleet::formed(3);
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let (first, first_ends) = hold(&mut fleet, follower, wanted("a", 1, Some(0)));
    let first = fence(&fleet, follower, first);
    fleet.kill(leader);
    fleet.leader();
    // Well beyond its time, under the next leader.
    std::thread::sleep(Duration::from_millis(2 * TTL_MS));
    assert!(!fleet.has_answer(follower, first_ends), "it was lost");
    // Without a quorum it is lost, by its holder's own clock.
    let other = fleet.up().find(|at| *at != follower).unwrap();
    let cut_off = Instant::now();
    fleet.kill(other);
    let why = ended(&fleet, follower, first_ends).unwrap();
    assert!(why.contains("could not be renewed in time"), "{why}");
    assert!(cut_off.elapsed() < Duration::from_millis(TTL_MS), "and in time");
    fleet.start(other);
    fleet.start(leader);
    let (second, _) = hold(&mut fleet, leader, wanted("a", 2, None));
    assert!(fence(&fleet, leader, second) > first);
}

#[test]
fn a_lock_that_is_taken_away_is_noticed() {
    let mut fleet = Fleet::formed(1);
    let (ticket, ends) = hold(&mut fleet, 0, wanted("a", 1, Some(0)));
    let lock = HeldLock { name: "a".into(), fence: fence(&fleet, 0, ticket) };
    let command = zlayer_core::command::Command::ReleaseLocks { items: vec![lock] };
    assert_eq!(fleet.propose(&command), Outcome::Released { count: 1 });
    assert_eq!(ended(&fleet, 0, ends).as_deref(), Some("the cluster let go of it"));
    until("nobody has it", || fleet.locks(0).is_empty());
}
