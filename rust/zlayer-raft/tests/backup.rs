//! Backups: whole or refused, and what becomes of one.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::Value;
use zlayer_core::state::State;
use zlayer_core::time::UnixMs;
use zlayer_raft::backup::{self, BackupError};
use zlayer_raft::{ControlLog, LogOptions, SingleVoter};

fn open(dir: &Path, cluster_id: &str) -> SingleVoter {
    SingleVoter::open(LogOptions {
        dir: dir.to_owned(),
        cluster_id: cluster_id.into(),
        node_id: 1,
        snapshot_bytes: 1 << 20,
    })
    .unwrap()
}

async fn put(log: &SingleVoter, key: &str) -> u64 {
    let (key, value) = (key.to_owned(), Value(key.as_bytes().to_vec()));
    match log.propose(Command::Put { key, value, if_revision: None }).await.unwrap() {
        Outcome::Written { revision } => revision,
        other => panic!("{other:?}"),
    }
}

async fn saved(dir: &Path) -> std::path::PathBuf {
    let log = open(&dir.join("old"), "zl-old");
    for key in ["a", "b", "c"] {
        put(&log, key).await;
    }
    let file = dir.join("backup");
    let header = log.state().with_state(|state| backup::save(&file, state, UnixMs(7))).unwrap();
    assert_eq!((header.cluster_id.as_str(), header.created_ms), ("zl-old", UnixMs(7)));
    file
}

#[tokio::test]
async fn what_is_restored_is_another_cluster_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved(dir.path()).await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (header, state) = backup::read(&file).unwrap();
    let new = dir.path().join("new");
    assert_eq!(backup::restore(&file, &new, "zl-new", 1).unwrap(), header);
    for opening in 0..2_u64 {
        let log = open(&new, "zl-new");
        log.state().with_state(|now| {
            assert_eq!(now.cluster_id(), "zl-new");
            assert_eq!(now.value("b").unwrap().value, state.value("b").unwrap().value);
            now.check_invariants();
        });
        let revision = put(&log, "d").await;
        assert!(revision > header.applied_index + opening, "indexes go on");
    }
    let same = backup::restore(&file, &dir.path().join("same"), "zl-old", 1).unwrap_err();
    assert!(same.to_string().contains("is of cluster zl-old itself"), "{same}");
    assert!(backup::restore(&file, &dir.path().join("id"), "zl-new", 1_000).is_err());
    let again = backup::restore(&file, &new, "zl-new", 1);
    assert!(matches!(again, Err(BackupError::NotEmpty { .. })), "{again:?}");
    open(&new, "zl-new");
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["backup", "new", "old"], "nothing half made is left");
}

#[tokio::test]
async fn a_backup_replaces_nothing_and_any_changed_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved(dir.path()).await;
    let bytes = std::fs::read(&file).unwrap();
    let error = backup::save(&file, &State::new("zl".into()), UnixMs(0)).unwrap_err();
    assert!(error.to_string().contains("backup"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = backup::read(&file).unwrap_err();
        assert!(matches!(error, BackupError::Unreadable { .. }), "{error}");
        let new = dir.path().join("new");
        assert!(backup::restore(&file, &new, "zl-new", 1).is_err());
        assert!(!new.exists());
    };
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        refused(&bad);
    }
    for length in [0, 1, 8, 12, 40, bytes.len() - 1] {
        refused(&bytes[..length]);
    }
    let mut long = bytes.clone();
    long.push(0);
    refused(&long);
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(backup::read(&file), Err(BackupError::Io { .. })));
}
