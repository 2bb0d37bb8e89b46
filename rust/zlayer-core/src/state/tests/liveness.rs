//! Liveness changes, draining, removal, and the events that tell of them.

use super::{Log, transition};
use crate::command::{Command, Outcome, Refusal, Transition};
use crate::record::{EventKind, Liveness, Reason};
use crate::time::UnixMs;

use EventKind::{Enrolled, Joined, Left, Recovered, Suspect, TokenCreated, Unreachable};
use Reason::{ConnectionLost, LeaseExpired, Leaving, NotReconnected, SessionOpened};

#[test]
fn the_events_of_a_life() {
    let (mut log, id) = Log::with_node();
    log.shift(id, Liveness::Ready, SessionOpened, 11);
    log.shift(id, Liveness::Suspect, ConnectionLost, 0);
    log.shift(id, Liveness::Ready, SessionOpened, 11);
    log.shift(id, Liveness::Suspect, ConnectionLost, 0);
    log.shift(id, Liveness::Unreachable, LeaseExpired, 0);
    log.shift(id, Liveness::Ready, SessionOpened, 11);
    // Its process was restarted.
    log.shift(id, Liveness::Suspect, ConnectionLost, 0);
    log.shift(id, Liveness::Ready, SessionOpened, 12);
    // It stopped on purpose, and came back; first as the same process.
    log.shift(id, Liveness::Left, Leaving, 0);
    log.shift(id, Liveness::Ready, SessionOpened, 12);
    let told = [
        Joined,
        Suspect,
        Recovered,
        Suspect,
        Unreachable,
        Recovered,
        Suspect,
        Joined,
        Left,
        Joined,
    ];
    assert_eq!(log.kinds(), [&[TokenCreated, Enrolled], &told[..]].concat());
    let revisions: Vec<u64> = log.events().iter().map(|event| event.revision).collect();
    assert_eq!(revisions, (1..=12).collect::<Vec<_>>());
}

#[test]
fn what_does_not_change_is_not_told() {
    let (mut log, id) = Log::with_node();
    let told = log.kinds().len();
    log.shift(id, Liveness::Suspect, Reason::Enrolled, 0);
    log.now = 2_000;
    log.shift(id, Liveness::Suspect, NotReconnected, 0);
    assert_eq!(log.kinds().len(), told);
    assert_eq!(log.state.node(id).unwrap().since_ms, UnixMs(1_000), "it did not change then");
    log.shift(id, Liveness::Ready, SessionOpened, 11);
    log.shift(id, Liveness::Ready, SessionOpened, 11);
    assert_eq!(log.kinds()[told..], [Joined]);
    // Another process of a node that is Ready is news.
    log.shift(id, Liveness::Ready, SessionOpened, 12);
    assert_eq!(log.kinds()[told..], [Joined, Joined]);
}

#[test]
fn a_first_session_is_joining_whatever_came_before() {
    let (mut log, id) = Log::with_node();
    log.shift(id, Liveness::Ready, SessionOpened, 0);
    assert_eq!(log.kinds().last(), Some(&Joined));
    let (mut log, id) = Log::with_node();
    log.shift(id, Liveness::Unreachable, LeaseExpired, 0);
    log.shift(id, Liveness::Ready, SessionOpened, 5);
    assert_eq!(log.kinds().last(), Some(&Joined));
}

#[test]
fn a_decision_on_another_state_does_nothing() {
    let (mut log, id) = Log::with_node();
    log.shift(id, Liveness::Ready, SessionOpened, 11);
    let (before, told) = (log.state.node(id).unwrap().clone(), log.kinds());
    let expire = |epoch| transition(id, epoch, Liveness::Unreachable, LeaseExpired);
    let unknown = transition(id + 1, 0, Liveness::Ready, SessionOpened);
    let items = vec![expire(0), expire(2), expire(u64::MAX), unknown];
    let outcome = log.apply(Command::Transition { items });
    assert_eq!(outcome, Outcome::Transitioned { epochs: vec![None; 4] });
    assert_eq!(log.state.node(id).unwrap(), &before);
    assert_eq!(log.kinds(), told);
}

#[test]
fn items_are_applied_in_order() {
    let (mut log, id) = Log::with_node();
    let other = log.enrol(1, 2);
    let items = vec![
        Transition {
            incarnation: 7,
            ttl_ms: 10_000,
            ..transition(id, 0, Liveness::Ready, SessionOpened)
        },
        transition(id, 0, Liveness::Suspect, ConnectionLost),
        transition(id, 1, Liveness::Suspect, ConnectionLost),
        transition(other, 0, Liveness::Ready, SessionOpened),
    ];
    let outcome = log.apply(Command::Transition { items });
    assert_eq!(outcome, Outcome::Transitioned { epochs: vec![Some(1), None, Some(2), Some(1)] });
    let node = log.state.node(id).unwrap();
    assert_eq!((node.liveness, node.reason, node.epoch), (Liveness::Suspect, ConnectionLost, 2));
    // Zero keeps what is recorded.
    assert_eq!((node.incarnation, node.ttl_ms), (7, 10_000));
}

#[test]
fn an_event_carries_time_name_reason_and_a_bounded_detail() {
    let (mut log, id) = Log::with_node();
    log.now = 5_000;
    let detail = "é".repeat(1_000);
    let item = Transition { detail, ..transition(id, 0, Liveness::Unreachable, LeaseExpired) };
    log.apply(Command::Transition { items: vec![item] });
    let event = log.events().pop().unwrap();
    assert_eq!((event.at_ms, event.kind, event.node_id), (UnixMs(5_000), Unreachable, id));
    assert_eq!((event.node_name.as_str(), event.reason), ("worker-1000", Some(LeaseExpired)));
    assert_eq!(event.detail, "é".repeat(128));
    // A stamp that goes back does not take the event along.
    log.now = 10;
    log.shift(id, Liveness::Ready, SessionOpened, 1);
    assert_eq!(log.events().pop().unwrap().at_ms, UnixMs(5_000));
    assert_eq!(log.state.stamp(), UnixMs(5_000));
}

#[test]
fn draining_is_switched_once() {
    let (mut log, id) = Log::with_node();
    let drain = |draining| Command::SetDraining { node_id: id, draining };
    for draining in [false, true, true, false, false] {
        assert_eq!(log.apply(drain(draining)), Outcome::Done);
        assert_eq!(log.state.node(id).unwrap().draining, draining);
    }
    assert_eq!(log.kinds()[2..], [EventKind::DrainStarted, EventKind::DrainStopped]);
    let unknown = Command::SetDraining { node_id: 9, draining: true };
    assert_eq!(log.refused(unknown), Refusal::NodeNotFound { node_id: 9 });
}

#[test]
fn removal_is_told_with_the_name_and_happens_once() {
    let (mut log, id) = Log::with_node();
    let remove = || Command::RemoveNode { node_id: id };
    assert_eq!(log.apply(remove()), Outcome::Done);
    let event = log.events().pop().unwrap();
    assert_eq!((event.kind, event.node_name.as_str()), (EventKind::Removed, "worker-1000"));
    assert_eq!(log.refused(remove()), Refusal::NodeNotFound { node_id: id });
    assert_eq!(log.state.node_count(), 0);
    let items = vec![transition(id, 0, Liveness::Ready, SessionOpened)];
    let outcome = log.apply(Command::Transition { items });
    assert_eq!(outcome, Outcome::Transitioned { epochs: vec![None] });
}

#[test]
fn a_held_expiry_is_told() {
    let mut log = Log::new();
    assert_eq!(log.apply(Command::HoldExpiry { due: 40, leases: 100 }), Outcome::Done);
    let event = log.events().pop().unwrap();
    assert_eq!((event.kind, event.node_id), (EventKind::ExpiryHeld, 0));
    assert!(event.detail.contains("40 of 100"), "{}", event.detail);
}
