//! Tests of the whole log: at every operation of a simulated disk, and on a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod damage;
mod life;
mod matrix;

use crate::directory::Owner;
use crate::wal::WalLimits;

fn owner() -> Owner {
    Owner { cluster_id: "zl-test".into(), node_id: 1 }
}

/// Segments of a few batches, so that a short run has many.
const SMALL: WalLimits = WalLimits {
    segment_bytes: 4096 + 1024,
    prepare_bytes: 512,
    record_bytes_max: 1 << 16,
    batch_bytes_max: 1 << 16,
    queue_records_max: 64,
    queue_bytes_max: 1 << 20,
};

/// The record at an index: its length and bytes vary, and follow from the index.
fn record(index: u64) -> Vec<u8> {
    let length = (index * 37 % 191) as usize;
    let mut record = format!("record {index}:").into_bytes();
    record.extend((0..length).map(|at| (at as u64 * index) as u8));
    record
}
