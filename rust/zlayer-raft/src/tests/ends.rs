//! How a log ends: by an error, which is final and named, or because it was asked to.

use zlayer_core::command::Outcome;
use zlayer_wal::sim::Fault;

use super::{Rig, create_token, enrol, propose, redeem, stopped, uses};
use crate::{ControlLog, OpenError, WalError};

#[tokio::test]
async fn a_failed_sync_stops_it_by_name_and_for_good() {
    let rig = Rig::new();
    let log = rig.open().unwrap();
    propose(&log, create_token(1, 1)).await;
    // The next batch is a write and a sync.
    rig.fs.set_fault(rig.fs.operations() + 1, Fault::Io);
    let error = stopped(log.propose(redeem(1, 1)).await);
    assert!(error.starts_with("sync /log/0000000001-"), "{error}");
    assert_eq!(stopped(log.propose(redeem(1, 1)).await), error);
    assert!(log.confirm_leader().await.is_err());
    assert_eq!(log.health().stopped.as_ref(), Some(&error));
    // Readers go on with what was applied.
    assert_eq!(uses(&log, 1), 0);
    drop(log);
    // This process can't trust what it would read back.
    assert!(matches!(rig.open(), Err(OpenError::Log(WalError::Locked { .. }))));
    let log = rig.with_disk(rig.fs.after_kill()).open().unwrap();
    enrol(&log, 1, 1).await;
}

#[tokio::test]
async fn all_that_waits_when_it_fails_is_told() {
    let rig = Rig::new();
    let log = rig.open().unwrap();
    propose(&log, create_token(1, 100)).await;
    rig.fs.set_fault(rig.fs.operations() + 4, Fault::Full);
    let proposals: Vec<_> = (0..50).map(|key| log.propose(redeem(1, key))).collect();
    let mut answered = 0;
    let mut failed = 0;
    for proposal in proposals {
        match proposal.await {
            Ok(Outcome::Redeemed { .. }) => {
                assert_eq!(failed, 0, "an answer behind an error");
                answered += 1;
            }
            other => {
                stopped(other);
                failed += 1;
            }
        }
    }
    // However the fifty fell into batches, at most two of these came through before the fault.
    assert_eq!(answered + failed, 50);
    assert_eq!(uses(&log, 1), answered);
}

#[tokio::test]
async fn shutdown_finishes_what_was_proposed() {
    let rig = Rig::new();
    let log = rig.open().unwrap();
    propose(&log, create_token(1, 100)).await;
    let proposals: Vec<_> = (0..50).map(|key| log.propose(redeem(1, key))).collect();
    log.shutdown();
    log.shutdown();
    for proposal in proposals {
        assert!(matches!(proposal.await, Ok(Outcome::Redeemed { first: true, .. })));
    }
    let error = stopped(log.propose(redeem(1, 51)).await);
    assert!(error.contains("shut down"), "{error}");
    // The directory is free at once, while the old handle still lives.
    let again = rig.open().unwrap();
    assert_eq!(uses(&again, 1), 50);
}

#[test]
fn two_at_once_are_refused_by_name() {
    let rig = Rig::new();
    let _log = rig.open().unwrap();
    let Err(error) = rig.open() else { panic!("opened twice") };
    let text = error.to_string();
    assert!(text.contains("/log is in use by process"), "{text}");
}

#[tokio::test]
async fn a_panic_while_applying_is_an_end_by_name() {
    let rig = Rig::new();
    let log = rig.open().unwrap();
    propose(&log, create_token(1, 1)).await;
    // An entry out of order is a bug of the log that apply would panic on.
    let newest = log.health().last_index;
    log.state().apply_for_test(newest + 100);
    let error = stopped(log.propose(redeem(1, 1)).await);
    assert!(!error.is_empty());
    let stopped = log.health().stopped.unwrap();
    assert!(stopped.contains("panicked"), "{stopped}");
    assert!(log.confirm_leader().await.is_err());
}
