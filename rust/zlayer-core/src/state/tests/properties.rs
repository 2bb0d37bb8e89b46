//! Random histories: whatever is asked in whatever order, the promises hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::super::State;
use super::{HOUR, Log, Token, certificate, jti, key_hash, labels, redeem_with, transition};
use crate::command::{Command, Entry, Outcome, Transition};
use crate::record::{Labels, Liveness, NodeId, Reason};
use crate::time::UnixMs;

/// Few of each, so that commands meet.
const TOKENS: u64 = 4;
const KEYS: u64 = 12;
const NODES: u64 = 8;

fn node_id() -> impl Strategy<Value = NodeId> {
    999..1_000 + NODES
}

fn some_labels() -> impl Strategy<Value = Labels> {
    select(vec![
        labels(&[]),
        labels(&[("site", "oslo")]),
        labels(&[("disk", "ssd")]),
        labels(&[("site", "rome")]),
        labels(&[("bad key", "x")]),
    ])
}

fn liveness() -> impl Strategy<Value = (Liveness, Reason)> {
    select(vec![
        (Liveness::Ready, Reason::SessionOpened),
        (Liveness::Suspect, Reason::ConnectionLost),
        (Liveness::Suspect, Reason::Enrolled),
        (Liveness::Unreachable, Reason::LeaseExpired),
        (Liveness::Left, Reason::Leaving),
    ])
}

fn item() -> impl Strategy<Value = Transition> {
    (node_id(), 0..4_u64, liveness(), 0..3_u64, select(vec![0, 10_000_u64])).prop_map(
        |(id, epoch, (to, reason), incarnation, ttl_ms)| Transition {
            incarnation,
            ttl_ms,
            ..transition(id, epoch, to, reason)
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let create = (0..TOKENS, 0..4_u32, 1..30_u64, some_labels()).prop_map(
        |(number, uses_max, hours, labels)| {
            let allowed = vec!["disk".to_owned()];
            Token { uses_max, labels, allowed, ..Token::new(number, hours * HOUR) }.create()
        },
    );
    let redeem =
        (0..TOKENS, 0..KEYS, some_labels(), 1..40_u64).prop_map(|(token, key, labels, hours)| {
            redeem_with(token, labels, certificate(key, key + 100 * hours, hours * HOUR))
        });
    let renew = (node_id(), 0..KEYS, 0..KEYS, 1..40_u64).prop_map(|(id, old, new, hours)| {
        let certificate = certificate(new, new, hours * HOUR);
        Command::RenewCertificate { node_id: id, old_key_hash: key_hash(old), certificate }
    });
    prop_oneof![
        2 => create,
        1 => (0..TOKENS).prop_map(|number| Command::RevokeToken { jti: jti(number) }),
        8 => redeem,
        4 => renew,
        4 => prop::collection::vec(item(), 0..6).prop_map(|items| Command::Transition { items }),
        1 => (node_id(), any::<bool>())
            .prop_map(|(node_id, draining)| Command::SetDraining { node_id, draining }),
        1 => node_id().prop_map(|node_id| Command::RemoveNode { node_id }),
        1 => (any::<u64>(), any::<u64>())
            .prop_map(|(due, leases)| Command::HoldExpiry { due, leases }),
    ]
}

/// Commands with stamps that mostly go on, sometimes back.
fn history() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (command(), -2 * HOUR as i64..3 * HOUR as i64);
    prop::collection::vec(entry, 1..120).prop_map(|steps| {
        let mut now: i64 = 0;
        let stamped = steps.into_iter().map(|(command, step)| {
            now = (now + step / 8).max(0);
            Entry { stamp_ms: UnixMs(now as u64), command }
        });
        stamped.collect()
    })
}

/// What is known of the outcomes so far, kept apart from the state and by other means.
#[derive(Default)]
struct Witness {
    /// Of each token made: the keys that it admitted, its limit, whether it ended.
    admitted: BTreeMap<String, (BTreeMap<String, NodeId>, u32)>,
    ids: BTreeSet<NodeId>,
    removed: BTreeSet<NodeId>,
    epochs: BTreeMap<NodeId, u64>,
}

impl Witness {
    fn note(&mut self, command: &Command, outcome: &Outcome) {
        match (command, outcome) {
            (Command::CreateToken { jti, uses_max, .. }, Outcome::Done) => {
                let before = self.admitted.insert(jti.clone(), (BTreeMap::new(), *uses_max));
                assert!(before.is_none(), "a token was made twice");
            }
            (
                Command::Redeem { jti, certificate, .. },
                Outcome::Redeemed { node_id, first, .. },
            ) => {
                let (uses, uses_max) = self.admitted.get_mut(jti).expect("no such token");
                let before = uses.insert(certificate.key_hash.clone(), *node_id);
                assert_eq!(before.is_none(), *first);
                assert!(before.is_none_or(|before| before == *node_id), "another id");
                assert!(uses.len() <= *uses_max as usize, "one use too many");
                assert_eq!(self.ids.insert(*node_id), *first, "an id was given twice");
                assert!(!self.removed.contains(node_id), "a removed node came back");
            }
            (Command::RemoveNode { node_id }, Outcome::Done) => {
                assert!(self.removed.insert(*node_id), "removed twice");
            }
            (Command::Transition { items }, Outcome::Transitioned { epochs }) => {
                for (item, epoch) in items.iter().zip(epochs) {
                    let known = self.epochs.entry(item.node_id).or_default();
                    assert!(
                        epoch.is_none_or(|epoch| epoch == item.epoch + 1 && epoch == *known + 1)
                    );
                    *known = epoch.unwrap_or(*known);
                }
            }
            _ => {}
        }
    }

    fn check(&self, state: &State) {
        for id in &self.ids {
            assert_eq!(state.is_removed(*id), self.removed.contains(id));
            assert_eq!(state.node(*id).is_none(), self.removed.contains(id));
        }
        for (jti, (uses, _)) in &self.admitted {
            assert_eq!(&state.token(jti).unwrap().uses, uses);
        }
        assert_eq!(state.node_count(), self.ids.len() - self.removed.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_over_any_history(history in history()) {
        let mut log = Log::new();
        let mut witness = Witness::default();
        let mut revision = 0;
        for (entry, index) in history.iter().zip(1..) {
            let stamp = log.state.stamp();
            let outcome = log.state.apply(index, entry);
            log.state.check_invariants();
            witness.note(&entry.command, &outcome);
            witness.check(&log.state);
            prop_assert!(log.state.stamp() >= stamp.max(entry.stamp_ms));
            prop_assert!(log.state.revision() >= revision);
            if matches!(outcome, Outcome::Refused { .. }) {
                prop_assert_eq!(log.state.revision(), revision, "a refusal was told");
            }
            revision = log.state.revision();
        }
    }

    #[test]
    fn equal_histories_give_equal_states(history in history(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(history.len());
        let mut whole = State::new("zl-test".into());
        let mut halves = State::new("zl-test".into());
        for (entry, index) in history.iter().zip(1..) {
            if index as usize == cut + 1 {
                // Through a snapshot.
                let image = serde_json::to_vec(&halves).unwrap();
                halves = serde_json::from_slice(&image).unwrap();
            }
            // Through the form that the log has.
            let line = serde_json::to_vec(entry).unwrap();
            let again: Entry = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(&again, entry);
            prop_assert_eq!(whole.apply(index, entry), halves.apply(index, &again));
            prop_assert_eq!(whole.hash(), halves.hash());
        }
        halves.check_invariants();
        let (whole, halves) = (serde_json::to_value(&whole), serde_json::to_value(&halves));
        prop_assert_eq!(whole.unwrap(), halves.unwrap());
    }

    #[test]
    fn different_histories_have_different_hashes(history in history(), at in any::<prop::sample::Index>()) {
        let run = |history: &[Entry]| {
            let mut state = State::new("zl-test".into());
            for (entry, index) in history.iter().zip(1..) {
                state.apply(index, entry);
            }
            state.hash()
        };
        let mut other = history.clone();
        let at = at.index(history.len());
        other[at].command = Command::HoldExpiry { due: 1, leases: u64::MAX };
        if other != history {
            prop_assert_ne!(run(&history), run(&other));
        }
        prop_assert_ne!(run(&history), run(&history[1..]));
    }
}
