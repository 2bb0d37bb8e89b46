//! Everything has a limit, and over it is a refusal by name.

use super::super::{
    EVENTS_KEPT, NODES_MAX, State, TOKEN_KEPT_AFTER_MS, TOKENS_MAX, TRANSITIONS_MAX,
};
use super::{HOUR, Log, Token, jti, key_hash, redeem, transition};
use crate::command::{Command, Entry, Outcome, Refusal};
use crate::record::{Liveness, Reason};
use crate::time::UnixMs;

/// Applies without looking at the whole state each time.
fn fast(log: &mut Log, command: Command) -> Outcome {
    log.index += 1;
    log.state.apply(log.index, &Entry { stamp_ms: UnixMs(log.now), command })
}

#[test]
fn the_newest_events_are_kept() {
    let (mut log, id) = Log::with_node();
    let told = EVENTS_KEPT as u64 + 500;
    for switch in 2..told {
        let draining = switch % 2 == 0;
        fast(&mut log, Command::SetDraining { node_id: id, draining });
    }
    log.state.check_invariants();
    let page = log.state.events_after(0, 10);
    assert_eq!((page.first_kept, page.last_revision), (501, told));
    assert_eq!(page.events[0].revision, 501);
    assert_eq!(page.events.len(), 10);
    let page = log.state.events_after(told - 3, usize::MAX);
    assert_eq!(
        page.events.iter().map(|event| event.revision).collect::<Vec<_>>(),
        [told - 2, told - 1, told]
    );
    for beyond in [told, told + 1, u64::MAX] {
        assert!(log.state.events_after(beyond, 10).events.is_empty());
    }
}

#[test]
fn an_empty_event_log_has_a_page() {
    let page = State::new("zl".into()).events_after(0, 10);
    assert_eq!((page.events.len(), page.first_kept, page.last_revision), (0, 1, 0));
}

#[test]
fn old_tokens_make_room_when_it_is_needed_and_not_before() {
    let mut log = Log::new();
    let create = |number, log: &Log| Token::new(number, log.now + HOUR).create();
    for number in 0..TOKENS_MAX as u64 {
        let command = create(number, &log);
        assert_eq!(fast(&mut log, command), Outcome::Done);
    }
    log.state.check_invariants();
    let full = Refusal::LimitReached { what: "tokens".into(), limit: TOKENS_MAX as u64 };
    let command = create(77_777, &log);
    assert_eq!(log.refused(command), full);
    // Expired is not old: people may still want to look at it.
    log.now += HOUR + TOKEN_KEPT_AFTER_MS - 1;
    let command = create(77_777, &log);
    assert_eq!(log.refused(command), full);
    log.now += 1;
    let command = create(77_777, &log);
    assert_eq!(log.apply(command), Outcome::Done);
    assert_eq!(log.state.tokens().map(|token| &token.jti).collect::<Vec<_>>(), [&jti(77_777)]);
}

#[test]
fn few_tokens_are_kept_however_old() {
    let mut log = Log::new();
    log.token(1, 1);
    log.now += 1_000 * HOUR;
    log.token(2, 1);
    assert_eq!(log.state.tokens().count(), 2);
}

#[test]
fn a_dropped_token_leaves_its_nodes_and_their_keys() {
    let (mut log, id) = Log::with_node();
    log.now += HOUR + TOKEN_KEPT_AFTER_MS;
    for number in 2..TOKENS_MAX as u64 {
        let command = Token::new(number, log.now + HOUR).create();
        fast(&mut log, command);
    }
    log.state.check_invariants();
    assert!(log.state.token(&jti(1)).is_none());
    assert!(log.state.node(id).is_some());
    assert_eq!(log.refused(redeem(2, 1)), Refusal::KeyInUse);
}

#[test]
fn nodes_have_a_limit() {
    let mut log = Log::new();
    log.token(1, NODES_MAX as u32);
    log.token(2, 1);
    for key in 0..NODES_MAX as u64 {
        assert!(matches!(fast(&mut log, redeem(1, key)), Outcome::Redeemed { .. }));
    }
    log.state.check_invariants();
    let refused = fast(&mut log, redeem(2, NODES_MAX as u64));
    let refusal = Refusal::LimitReached { what: "nodes".into(), limit: NODES_MAX as u64 };
    assert_eq!(refused, Outcome::Refused { refusal });
    assert_eq!(log.state.token(&jti(2)).unwrap().uses.len(), 0, "the use was counted");
    assert!(matches!(fast(&mut log, redeem(1, 5)), Outcome::Redeemed { first: false, .. }));
    fast(&mut log, Command::RemoveNode { node_id: 1_500 });
    match fast(&mut log, redeem(2, NODES_MAX as u64)) {
        Outcome::Redeemed { node_id, .. } => assert_eq!(node_id, 1_000 + NODES_MAX as u64),
        other => panic!("{other:?}"),
    }
    // A copy shares the records; what is changed later is not changed in it.
    let copy = log.state.clone();
    fast(&mut log, Command::SetDraining { node_id: 1_000, draining: true });
    assert!(!copy.node(1_000).unwrap().draining);
    assert_eq!(copy.nodes_after(1_499).next().unwrap().id, 1_501);
    assert_eq!(copy.node_count(), NODES_MAX);
}

#[test]
fn one_command_changes_so_many_nodes_at_most() {
    let (mut log, id) = Log::with_node();
    let item = transition(id, 9, Liveness::Ready, Reason::SessionOpened);
    let items = vec![item.clone(); TRANSITIONS_MAX];
    assert!(matches!(log.apply(Command::Transition { items }), Outcome::Transitioned { .. }));
    let items = vec![item; TRANSITIONS_MAX + 1];
    let refusal = log.refused(Command::Transition { items });
    assert!(matches!(refusal, Refusal::Invalid { field, .. } if field == "items"));
}

#[test]
fn remembered_keys_are_forgotten_little_by_little_and_free_at_once() {
    let mut log = Log::new();
    log.token(1, 1_000);
    for key in 0..500 {
        let id = match fast(&mut log, redeem(1, key)) {
            Outcome::Redeemed { node_id, .. } => node_id,
            other => panic!("{other:?}"),
        };
        fast(&mut log, Command::RemoveNode { node_id: id });
    }
    let remembered = |log: &Log| {
        let image = serde_json::to_value(&log.state).unwrap();
        image["keys_remembered"].as_array().unwrap().len()
    };
    assert_eq!(remembered(&log), 500);
    log.now = 24 * HOUR;
    log.token(2, 1_000);
    let left = remembered(&log);
    assert!((1..500).contains(&left), "{left}: one entry forgot all, or none");
    // The last ones are not forgotten yet, and yet free.
    assert_eq!(log.enrol(2, 499), 1_500);
    assert!(log.state.token(&jti(2)).unwrap().uses.contains_key(&key_hash(499)));
    for _ in 0..10 {
        log.apply(Command::HoldExpiry { due: 1, leases: 1 });
    }
    assert_eq!(remembered(&log), 0);
}
