//! Damage that no crash makes: refused, by file and offset, and never cut or skipped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::life::{Known, Life};
use crate::directory::{Bug, LogDir, Owner};
use crate::error::WalError;
use crate::fs::Fs;
use crate::fs::sim::{SimFs, Survive};

/// A log of one segment with three batches, synced; and the path of the segment.
fn three_batches() -> (SimFs, PathBuf) {
    let (fs, mut known) = (SimFs::default(), Known::default());
    let mut life = Life::open(&fs, None).unwrap();
    for count in [2, 1, 1] {
        life.commit(count, &mut known).unwrap();
    }
    drop(life);
    (fs, segments(&SimFs::default(), 0).join("0000000001-00000000000000000001.wal"))
}

/// The directory, after checking that the disk has so many segments in it.
fn segments(fs: &SimFs, count: usize) -> PathBuf {
    let dir = PathBuf::from("/log");
    let names = fs.list(&dir).unwrap();
    let found = names.iter().filter(|name| Path::new(name).extension().is_some_and(|e| e == "wal"));
    assert_eq!(found.count(), count);
    dir
}

fn refusal(fs: &SimFs) -> WalError {
    Life::open(fs, None).err().expect("damage was not noticed")
}

#[test]
fn every_byte_before_the_last_batch_is_guarded() {
    let (fs, path) = three_batches();
    let bytes = fs.read(&path).unwrap();
    let magics = bytes.windows(4).enumerate().filter(|(_, four)| four == b"ZLB1");
    let starts: Vec<usize> = magics.map(|(at, _)| at).collect();
    assert_eq!(starts.len(), 3);
    for offset in 0..starts[2] {
        let fs = fs.copy();
        fs.damage(&path, offset);
        match Life::open(&fs, None) {
            Err(WalError::Corrupt { file, offset: named, .. }) => {
                assert_eq!(file, path);
                let batch = starts.iter().rfind(|start| **start <= offset).copied();
                assert_eq!(named, batch.unwrap_or(0) as u64, "damage at {offset}");
            }
            Err(WalError::Unsupported { .. } | WalError::WrongOwner { .. }) if offset < 4096 => {}
            // Padding behind a batch carries nothing.
            Ok(life) => {
                assert_eq!(life.last, 4);
                assert!(is_padding(&bytes, &starts, offset), "damage at {offset} was not noticed");
            }
            Err(error) => panic!("damage at {offset}: {error}"),
        }
    }
}

fn is_padding(bytes: &[u8], starts: &[usize], offset: usize) -> bool {
    let Some(start) = starts.iter().rfind(|start| **start <= offset) else { return false };
    let length = u32::from_le_bytes(bytes[start + 8..start + 12].try_into().unwrap());
    offset >= start + 32 + length as usize
}

#[test]
fn damage_is_told_from_a_torn_tail_also_by_a_later_segment() {
    let (fs, mut known) = (SimFs::default(), Known::default());
    let mut life = Life::open(&fs, None).unwrap();
    for _ in 0..12 {
        life.commit(1, &mut known).unwrap();
    }
    drop(life);
    let dir = segments(&fs, 2);
    let mut names = fs.list(&dir).unwrap();
    names.retain(|name| Path::new(name).extension().is_some_and(|e| e == "wal"));
    let first = dir.join(names.iter().min().unwrap());
    let bytes = fs.read(&first).unwrap();
    let last = bytes.windows(4).rposition(|four| four == b"ZLB1").unwrap();
    fs.damage(&first, last + 40);
    let WalError::Corrupt { file, offset, why } = refusal(&fs) else { panic!("another error") };
    assert_eq!((file, offset), (first, last as u64), "{why}");
    assert!(why.contains("next segment"), "{why}");
    // The check is what holds: without it the records would silently be gone.
    assert!(Life::open(&fs, Some(Bug::DamageCut)).is_err());
}

#[test]
fn without_the_look_behind_damage_would_be_cut() {
    let (fs, path) = three_batches();
    fs.damage(&path, 4096 + 40);
    assert!(matches!(refusal(&fs.copy()), WalError::Corrupt { .. }));
    assert_eq!(Life::open(&fs, Some(Bug::DamageCut)).unwrap().last, 0);
}

#[test]
fn missing_segments_are_missed() {
    let (fs, mut known) = (SimFs::default(), Known::default());
    let mut life = Life::open(&fs, None).unwrap();
    for _ in 0..30 {
        life.commit(1, &mut known).unwrap();
    }
    drop(life);
    let dir = PathBuf::from("/log");
    let mut names = fs.list(&dir).unwrap();
    names.retain(|name| Path::new(name).extension().is_some_and(|e| e == "wal"));
    names.sort();
    assert!(names.len() >= 4, "{names:?}");
    for name in &names {
        let fs = fs.copy();
        fs.remove(&dir.join(name)).unwrap();
        if name == names.last().unwrap() {
            // Nothing can tell that there was one: the one before ends as if it were the newest.
            assert!(Life::open(&fs, None).unwrap().last < 30);
        } else {
            let error = refusal(&fs);
            assert!(matches!(error, WalError::Missing { .. }), "{error}");
            assert!(error.to_string().contains("missing"), "{error}");
        }
    }
}

#[test]
fn a_log_without_what_its_snapshot_needs_is_refused() {
    let (fs, mut known) = (SimFs::default(), Known::default());
    let mut life = Life::open(&fs, None).unwrap();
    life.work(&mut known).unwrap();
    life.snapshot().unwrap();
    drop(life);
    let dir = PathBuf::from("/log");
    let names = fs.list(&dir).unwrap();
    let is = |ending: &str, name: &str| Path::new(name).extension().is_some_and(|e| e == ending);

    let without_log = fs.copy();
    for name in names.iter().filter(|name| is("wal", name)) {
        without_log.remove(&dir.join(name)).unwrap();
    }
    assert!(matches!(refusal(&without_log), WalError::Missing { .. }));

    let without_snapshots = fs.copy();
    for name in names.iter().filter(|name| is("snap", name)) {
        without_snapshots.remove(&dir.join(name)).unwrap();
    }
    assert!(matches!(refusal(&without_snapshots), WalError::Missing { .. }));
}

#[test]
fn the_older_snapshot_stands_in_for_a_damaged_one() {
    let (fs, mut known) = (SimFs::default(), Known::default());
    let mut life = Life::open(&fs, None).unwrap();
    life.work(&mut known).unwrap();
    drop(life);
    let dir = PathBuf::from("/log");
    let mut names = fs.list(&dir).unwrap();
    names.retain(|name| Path::new(name).extension().is_some_and(|e| e == "snap"));
    names.sort();
    assert_eq!(names.len(), 2);
    for offset in [0, 50, 4090, 4096, 4100, 4108] {
        let fs = fs.copy();
        fs.damage(&dir.join(&names[1]), offset);
        if offset == 50 {
            // Within the cluster id and its checksum: the checksum speaks first.
            assert_eq!(Life::open(&fs, None).unwrap().last, known.promised);
            continue;
        }
        assert_eq!(Life::open(&fs, None).unwrap().last, known.promised, "damage at {offset}");
    }
    for name in &names {
        fs.damage(&dir.join(name), 4096);
    }
    assert!(matches!(refusal(&fs), WalError::Corrupt { .. }));
}

#[test]
fn another_owner_is_refused_by_name() {
    let (fs, path) = three_batches();
    let others = [
        Owner { cluster_id: "zl-other".into(), node_id: 1 },
        Owner { cluster_id: "zl-test".into(), node_id: 2 },
    ];
    for other in others {
        let dir = LogDir::open(Arc::new(fs.copy()), "/log".into(), other.clone()).unwrap();
        let opened = dir.recover(super::SMALL, 0, &mut |_, _| Ok(()));
        let Err(WalError::WrongOwner { file, expected, found }) = opened else { panic!("opened") };
        assert_eq!((file, expected), (path.clone(), other.to_string()));
        assert_eq!(found, "node 1 of cluster zl-test");
    }
}

#[test]
fn what_was_cut_stays_cut() {
    // Ten records, torn at the third batch, then others in their place: never the old ones again.
    let (fs, mut known) = (SimFs::default(), Known::default());
    let mut life = Life::open(&fs, None).unwrap();
    life.commit(2, &mut known).unwrap();
    let before = fs.operations();
    // The write of the next batch is the first operation, its sync the second.
    fs.set_fault(before + 1, crate::fs::sim::Fault::PowerCut);
    assert!(life.commit(8, &mut known).is_err());
    let fs = fs.after_power_cut(Survive::FirstHalfOfLast);
    let mut life = Life::open(&fs, None).unwrap();
    assert_eq!(life.last, 2);
    life.commit(1, &mut known).unwrap();
    drop(life);
    assert_eq!(Life::open(&fs.after_power_cut(Survive::Nothing), None).unwrap().last, 3);
}

#[test]
fn a_block_of_an_older_batch_in_place_of_a_newer_one_is_no_record() {
    // Equal lengths, as a disk needs them that wrote a block to the wrong place.
    let fs = SimFs::default();
    let mut life = Life::open(&fs, None).unwrap();
    let mut known = Known::default();
    for count in [1, 1, 1] {
        life.commit(count, &mut known).unwrap();
    }
    drop(life);
    let path = PathBuf::from("/log/0000000001-00000000000000000001.wal");
    let bytes = fs.read(&path).unwrap();
    let starts: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"ZLB1")
        .map(|(at, _)| at)
        .collect();
    let first = bytes[starts[0]..starts[1]].to_vec();
    let mut file = fs.open(&path).unwrap();
    crate::fs::write_all(file.as_mut(), &first, starts[1] as u64).unwrap();
    file.sync_data().unwrap();
    drop(file);
    // The checksum of the old block is right, and only the chain tells that it is not the next.
    assert!(matches!(refusal(&fs.copy()), WalError::Corrupt { .. }));
    let unchained =
        std::panic::catch_unwind(|| Life::open(&fs, Some(Bug::ChainNotChecked)).map(drop));
    assert!(unchained.is_err(), "record 1 was not read twice");
}
