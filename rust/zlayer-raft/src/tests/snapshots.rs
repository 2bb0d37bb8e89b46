//! Snapshots: made beside the log, purge it, and stand in for it.

use zlayer_core::command::Outcome;
use zlayer_core::record::{FIRST_WORKER_ID, Liveness, Reason};
use zlayer_wal::Fs;
use zlayer_wal::sim::{Fault, SimFs, Survive};

use super::{Rig, create_token, enrol, hash, propose, uses};
use crate::{ControlLog, SingleVoter};

fn rig() -> Rig {
    Rig { snapshot_bytes: 4 << 10, ..Rig::new() }
}

fn names(fs: &SimFs, ending: &str) -> Vec<String> {
    let mut names = fs.list("/log".as_ref()).unwrap();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}

async fn enrol_many(log: &SingleVoter, keys: std::ops::Range<u64>) {
    assert_eq!(propose(log, create_token(keys.start, 1_000)).await, Outcome::Done);
    for key in keys.clone() {
        enrol(log, keys.start, key).await;
    }
}

#[tokio::test]
async fn they_bound_the_log_and_hold_the_state() {
    let rig = rig();
    let log = rig.open().unwrap();
    enrol_many(&log, 0..400).await;
    log.shutdown();
    let health = log.health();
    assert!(health.snapshots >= 2, "{health:?}");
    assert_eq!(health.snapshots_failed, 0);
    assert_eq!(names(&rig.fs, ".snap").len(), 2);
    let segments = names(&rig.fs, ".wal");
    assert!(!segments[0].starts_with("0000000001-"), "nothing was purged: {segments:?}");
    let before = hash(&log);
    drop(log);
    let log = rig.open().unwrap();
    assert_eq!((hash(&log), uses(&log, 0), log.health().term), (before, 400, 2));
    // What comes after is not disturbed by it: the next id, the next revision, the events.
    let revision = log.state().with_state(zlayer_core::state::State::revision);
    assert_eq!(enrol(&log, 0, 1_000).await, FIRST_WORKER_ID + 400);
    let page = log.state().with_state(|state| state.events_after(revision, 10));
    assert_eq!((page.events.len(), page.events[0].revision), (1, revision + 1));
}

#[tokio::test]
async fn a_damaged_one_is_stood_in_for() {
    let rig = rig();
    let log = rig.open().unwrap();
    enrol_many(&log, 0..200).await;
    let before = hash(&log);
    drop(log);
    let newest = names(&rig.fs, ".snap").pop().unwrap();
    rig.fs.damage(&std::path::Path::new("/log").join(newest), 5_000);
    let log = rig.open().unwrap();
    assert_eq!(hash(&log), before);
}

#[tokio::test]
async fn one_that_fails_is_tried_later_and_stops_nothing() {
    // The log itself makes no file here, so that whatever is created is a snapshot.
    let mut rig = rig();
    rig.limits.segment_bytes = 8 << 20;
    let mut failed = 0;
    for operation in 0.. {
        let rig = rig.with_disk(SimFs::default());
        let log = rig.open().unwrap();
        rig.fs.set_fault(rig.fs.operations() + operation, Fault::Full);
        assert_eq!(log.propose(create_token(0, 1_000)).await.is_ok(), operation > 1);
        let mut enrolled = 0;
        for key in 0..60 {
            if log.propose(super::redeem(0, key)).await.is_ok() {
                enrolled += 1;
            }
        }
        log.shutdown();
        let health = log.health();
        failed += health.snapshots_failed;
        if health.snapshots_failed > 0 {
            assert_eq!(enrolled, 60, "a snapshot took the log along");
        }
        drop(log);
        let log = rig.with_disk(rig.fs.after_power_cut(Survive::Nothing)).open().unwrap();
        assert_eq!(uses(&log, 0), enrolled);
        if rig.fs.operations() <= operation {
            break;
        }
        if failed > 3 {
            return;
        }
    }
    panic!("no snapshot ever failed");
}

#[tokio::test]
async fn transitions_come_through_snapshot_and_replay_alike() {
    use zlayer_core::command::{Command, Transition};
    let rig = rig();
    let log = rig.open().unwrap();
    enrol_many(&log, 0..20).await;
    for epoch in 0..40 {
        let items = (0..20).map(|node| Transition {
            node_id: FIRST_WORKER_ID + node,
            epoch,
            to: if epoch % 2 == 0 { Liveness::Ready } else { Liveness::Suspect },
            reason: if epoch % 2 == 0 { Reason::SessionOpened } else { Reason::ConnectionLost },
            incarnation: u64::MAX - node,
            ttl_ms: 10_000,
            detail: "détail".into(),
        });
        let answer = propose(&log, Command::Transition { items: items.collect() }).await;
        assert_eq!(answer, Outcome::Transitioned { epochs: vec![Some(epoch + 1); 20] });
    }
    let before = hash(&log);
    drop(log);
    assert_eq!(hash(&rig.open().unwrap()), before);
}
