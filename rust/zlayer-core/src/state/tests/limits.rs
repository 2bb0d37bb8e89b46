//! Everything has a limit, and over it is a refusal by name.

use super::super::{
    EVENTS_KEPT, KEYS_MAX, LABELS_MAX, NODES_MAX, State, TOKEN_KEPT_AFTER_MS, TOKENS_MAX,
    TRANSITIONS_MAX, keys,
};
use super::{
    HOUR, Log, Token, first_certificate, jti, key_hash, redeem, redeem_with, renew, transition,
};
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
fn a_use_is_counted_in_place() {
    let mut log = Log::new();
    log.token(1, 9);
    let address = |log: &Log| std::ptr::from_ref(log.state.token(&jti(1)).unwrap());
    let before = address(&log);
    for key in 0..9 {
        log.enrol(1, key);
    }
    assert_eq!(address(&log), before, "each use copied all uses before it");
}

#[test]
fn keys_have_a_limit() {
    let (mut log, id) = Log::with_node();
    // Keys of nodes that were removed, all still valid. As many entries would take minutes.
    for number in log.state.keys.len()..KEYS_MAX {
        let mut key = [0xee; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        log.state.keys.release(key, 999, UnixMs(24 * HOUR));
    }
    let full = Refusal::LimitReached { what: "keys".into(), limit: KEYS_MAX as u64 };
    let refused = Outcome::Refused { refusal: full };
    assert_eq!(fast(&mut log, redeem(1, 2)), refused);
    assert_eq!(fast(&mut log, renew(id, 1, 2)), refused);
    // A key that the node has already needs no room.
    assert_eq!(fast(&mut log, renew(id, 1, 1)), Outcome::Done);
    log.state.check_invariants();
    log.now = 24 * HOUR;
    assert_eq!(fast(&mut log, renew(id, 1, 2)), Outcome::Done);
    assert!(log.state.keys.is_held(&keys::parse(&key_hash(2)).unwrap(), id));
}

#[test]
fn forced_and_chosen_labels_have_one_limit_together() {
    let keys = |from: usize, to: usize| (from..to).map(|key| format!("k{key}"));
    let pairs =
        |keys: &mut dyn Iterator<Item = String>| keys.map(|key| (key, "v".into())).collect();
    let mut log = Log::new();
    let token = Token {
        uses_max: 9,
        labels: pairs(&mut keys(0, LABELS_MAX - 1)),
        allowed: keys(100, 100 + LABELS_MAX).collect(),
        ..Token::new(1, log.now + HOUR)
    };
    assert_eq!(log.apply(token.create()), Outcome::Done);
    let ask = |count: usize, key| {
        redeem_with(1, pairs(&mut keys(100, 100 + count)), first_certificate(key))
    };
    let refusal = log.refused(ask(2, 1));
    assert!(matches!(refusal, Refusal::Invalid { field, .. } if field == "labels"));
    assert!(matches!(log.apply(ask(1, 1)), Outcome::Redeemed { first: true, .. }));
    let token = |labels, allowed| Token { labels, allowed, ..Token::new(2, 1_000 + HOUR) };
    let many = log.refused(token(pairs(&mut keys(0, LABELS_MAX + 1)), Vec::new()).create());
    assert!(matches!(many, Refusal::Invalid { field, .. } if field == "labels"));
    let many = keys(0, LABELS_MAX + 1).collect();
    let many = log.refused(token(super::Labels::new(), many).create());
    assert!(matches!(many, Refusal::Invalid { field, .. } if field == "labels_allowed"));
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
