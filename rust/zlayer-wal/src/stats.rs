//! Numbers of a running log.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::latency::Latency;

/// A look at a log, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Records made durable.
    pub appended: u64,
    /// Records that wait for the writer.
    pub waiting: u64,
    /// Bytes of all segments on disk, without what the newest has prepared for records to come.
    pub log_bytes: u64,
    /// Syncs of record data.
    pub fsync_count: u64,
    /// Median time of one, microseconds.
    pub fsync_p50_us: u64,
    /// 99th percentile of that, microseconds.
    pub fsync_p99_us: u64,
}

/// What the writer counts.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) appended: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) fsync: Latency,
}

impl Meters {
    pub(crate) fn read(&self) -> WalStats {
        WalStats {
            waiting: 0,
            appended: self.appended.load(Ordering::Relaxed),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            fsync_count: self.fsync.count(),
            fsync_p50_us: self.fsync.quantile_us(50),
            fsync_p99_us: self.fsync.quantile_us(99),
        }
    }
}
