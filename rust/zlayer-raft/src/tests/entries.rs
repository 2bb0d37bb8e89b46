//! Proposing and applying while all is well.

use std::sync::Arc;

use zlayer_core::command::{Outcome, Refusal};
use zlayer_core::record::FIRST_WORKER_ID;

use super::{Rig, create_token, enrol, hash, jti, propose, redeem, uses};
use crate::{ControlLog, ProposeError};

#[tokio::test]
async fn a_command_is_applied_when_its_answer_comes() {
    let log = Rig::new().open().unwrap();
    let mut revisions = log.watch();
    assert_eq!(*revisions.borrow_and_update(), 0);
    assert_eq!(propose(&log, create_token(1, 2)).await, Outcome::Done);
    assert!(log.state().with_state(|state| state.token(&jti(1)).is_some()));
    assert!(revisions.has_changed().unwrap());
    assert_eq!(*revisions.borrow_and_update(), 1);
    assert_eq!(enrol(&log, 1, 7).await, FIRST_WORKER_ID);
    assert_eq!(uses(&log, 1), 1);
    assert_eq!(log.confirm_leader().await, Ok(()));
    let health = log.health();
    // The record that begins the term is the first.
    assert_eq!((health.stopped, health.term, health.last_index, health.appended), (None, 1, 3, 3));
    assert!(health.log_bytes > 0 && health.fsync_count >= 1, "no sync was counted");
}

#[tokio::test]
async fn a_refusal_says_why_and_wakes_nobody() {
    let log = Rig::new().open().unwrap();
    propose(&log, create_token(1, 1)).await;
    enrol(&log, 1, 7).await;
    let mut revisions = log.watch();
    revisions.borrow_and_update();
    let refused = propose(&log, redeem(1, 8)).await;
    assert!(
        matches!(&refused, Outcome::Refused { refusal: Refusal::TokenUsedUp { .. } }),
        "{refused:?}"
    );
    assert!(!revisions.has_changed().unwrap());
}

#[tokio::test]
async fn proposals_of_many_tasks_are_counted_exactly() {
    let log = Arc::new(Rig::new().open().unwrap());
    propose(&log, create_token(1, 100)).await;
    let tasks: Vec<_> = (0..300)
        .map(|key| {
            let log = Arc::clone(&log);
            // Each key comes twice, as a client does that lost its answer.
            tokio::spawn(async move { propose(&log, redeem(1, key / 2)).await })
        })
        .collect();
    let (mut first, mut ids) = (0, std::collections::BTreeSet::new());
    for task in tasks {
        match task.await.unwrap() {
            Outcome::Redeemed { first: is_first, node_id, .. } => {
                first += usize::from(is_first);
                ids.insert(node_id);
            }
            Outcome::Refused { refusal: Refusal::TokenUsedUp { .. } } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((first, ids.len(), uses(&log, 1)), (100, 100, 100));
}

#[tokio::test]
async fn a_clock_that_goes_back_revives_no_token() {
    let rig = Rig::new();
    let log = rig.open().unwrap();
    propose(&log, create_token(1, 9)).await;
    rig.set_clock(3_600_000);
    let refused = Outcome::Refused { refusal: Refusal::TokenInvalid };
    assert_eq!(propose(&log, redeem(1, 1)).await, refused);
    rig.set_clock(5);
    assert_eq!(propose(&log, redeem(1, 1)).await, refused);
    let before = hash(&log);
    drop(log);
    let log = rig.open().unwrap();
    assert_eq!(hash(&log), before);
    assert_eq!(propose(&log, redeem(1, 1)).await, refused);
}

#[tokio::test]
async fn a_command_that_is_too_long_is_refused_and_nothing_else_is() {
    let log = Rig::new().open().unwrap();
    let mut command = create_token(1, 1);
    if let zlayer_core::command::Command::CreateToken { name, .. } = &mut command {
        *name = "x".repeat(2 << 20);
    }
    match propose(&log, command).await {
        Outcome::Refused { refusal: Refusal::Invalid { field, .. } } => {
            assert_eq!(field, "command");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(propose(&log, create_token(1, 1)).await, Outcome::Done);
}

#[tokio::test]
async fn too_many_at_once_are_turned_away_and_leave_no_trace() {
    let mut rig = Rig::new();
    rig.limits.queue_records_max = 4;
    let log = rig.open().unwrap();
    propose(&log, create_token(1, 1_000)).await;
    // A reader that stays stalls the log's thread, so that what is proposed must wait.
    let state = log.state();
    let waiting: Vec<_> =
        state.with_state(|_| (0..64).map(|key| log.propose(redeem(1, key))).collect());
    let mut admitted = 0;
    let mut overloaded = 0;
    for proposal in waiting {
        match proposal.await {
            Ok(Outcome::Redeemed { first: true, .. }) => admitted += 1,
            Err(ProposeError::Overloaded) => overloaded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted + overloaded, 64);
    assert!(overloaded > 0, "the queue has no limit");
    assert_eq!(uses(&log, 1), admitted);
}
