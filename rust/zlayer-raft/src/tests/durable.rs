//! What was answered is there again: after a restart, a power cut at every operation, a fault at every operation.

use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::FIRST_WORKER_ID;
use zlayer_wal::sim::{Fault, Survive};

use super::{Rig, create_token, enrol, hash, propose, redeem, uses};
use crate::ControlLog;

#[tokio::test]
async fn a_restart_gives_the_same_state_in_a_new_term() {
    let rig = Rig::new();
    let mut before = None;
    for term in 1..=4 {
        let log = rig.open().unwrap();
        assert_eq!(log.health().term, term);
        if let Some(before) = before {
            assert_eq!(hash(&log), before);
        }
        assert_eq!(propose(&log, create_token(term, 5)).await, Outcome::Done);
        for key in 0..4 {
            assert_eq!(
                enrol(&log, term, term * 10 + key).await,
                FIRST_WORKER_ID + (term - 1) * 4 + key
            );
        }
        before = Some(hash(&log));
        let revision = log.state().with_state(zlayer_core::state::State::revision);
        assert_eq!(*log.watch().borrow(), revision);
    }
}

/// The commands of one life: a token, and keys that use it up, each followed by its own repeat.
fn life() -> Vec<Command> {
    let mut commands = vec![create_token(1, 3)];
    for key in 0..4 {
        commands.extend([redeem(1, key), redeem(1, key)]);
    }
    commands.push(Command::RemoveNode { node_id: FIRST_WORKER_ID + 1 });
    commands
}

/// Proposes one after another. Gives the answers up to the first error, and the state's hash before the first and
/// after each.
async fn live(rig: &Rig) -> (Vec<Outcome>, Vec<u64>) {
    let mut answers = Vec::new();
    let Ok(log) = rig.open() else { return (answers, Vec::new()) };
    let mut hashes = vec![hash(&log)];
    for command in life() {
        match log.propose(command).await {
            Ok(outcome) => answers.push(outcome),
            Err(error) => {
                // Final, and it stays the same.
                assert_eq!(log.propose(create_token(2, 1)).await, Err(error));
                assert!(log.health().stopped.is_some());
                break;
            }
        }
        hashes.push(hash(&log));
    }
    (answers, hashes)
}

/// Opens what is left: the state is that behind all that was answered, or one command further; and the life goes on
/// from there to the same end.
async fn check(rig: &Rig, answered: usize, hashes: &[u64], at: &str) {
    let log = rig.open().unwrap_or_else(|error| panic!("{at}: {error}"));
    let found = hashes.iter().position(|one| *one == hash(&log));
    let found = found.unwrap_or_else(|| panic!("{at}: a state that never was"));
    assert!(
        (answered..=answered + 1).contains(&found),
        "{at}: {answered} commands answered, {found} there"
    );
    for command in life().split_off(found) {
        propose(&log, command).await;
    }
    assert_eq!(uses(&log, 1), 3, "{at}");
    log.state().with_state(|state| {
        state.check_invariants();
        let ids: Vec<_> = state.nodes().map(|node| node.id - FIRST_WORKER_ID).collect();
        assert_eq!(ids, [0, 2], "{at}");
        assert!(state.is_removed(FIRST_WORKER_ID + 1), "{at}");
    });
}

#[tokio::test]
async fn what_was_answered_survives_a_power_cut_or_a_fault_at_every_operation() {
    let clean = Rig::new();
    let (expected, hashes) = live(&clean).await;
    assert_eq!((expected.len(), hashes.len()), (life().len(), life().len() + 1));
    for fault in [Fault::PowerCut, Fault::Io, Fault::Full, Fault::Torn] {
        for operation in 0..clean.fs.operations() {
            let rig = Rig::new();
            rig.fs.set_fault(operation, fault);
            let (answers, _) = live(&rig).await;
            assert_eq!(answers, expected[..answers.len()]);
            for survive in [Survive::Nothing, Survive::Everything, Survive::FirstHalfOfLast] {
                let disk = rig.fs.after_power_cut(survive);
                let at = format!("{fault:?} at {operation}, {survive:?}");
                check(&rig.with_disk(disk), answers.len(), &hashes, &at).await;
            }
        }
    }
}
