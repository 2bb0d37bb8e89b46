//! The one that writes: batches into the newest segment, a new segment when it is full. No thread of its own.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::batch::{self, Link};
use crate::directory::{Bug, Place};
use crate::error::WalError;
use crate::fs::{File, write_all};
use crate::head::HEAD_LEN;
use crate::segment::Segment;
use crate::stats::Meters;
use crate::wal::WalLimits;

/// The segment that is written to.
pub(crate) struct Tail {
    pub(crate) segment: Segment,
    pub(crate) file: Box<dyn File>,
    /// Where the next batch goes.
    pub(crate) end: usize,
    /// Length of the file: zeros from `end` on, written ahead, so that most syncs change no length.
    pub(crate) prepared: usize,
}

/// A segment that is full, and its bytes.
pub(crate) type Sealed = (Segment, u64);

/// Writes and forgets. After the first error it only repeats that error: what a failed write or sync left
/// behind is unknown, and asking the system again would be answered with a lie.
pub(crate) struct Writer {
    place: Place,
    limits: WalLimits,
    meters: Arc<Meters>,
    sealed: VecDeque<Sealed>,
    tail: Tail,
    link: Link,
    buffer: Vec<u8>,
    failed: Option<WalError>,
}

/// Makes a segment durably, with its head.
pub(crate) fn create(place: &Place, segment: Segment, before: u32) -> Result<Tail, WalError> {
    let path = segment.path(place);
    let head = segment.head(before, &place.owner);
    place.publish(&path, &[&head])?;
    if !place.has(Bug::SegmentNameNotSynced) {
        place.sync_names()?;
    }
    let file = place.fs.open(&path).map_err(|error| WalError::io("open", &path, error))?;
    Ok(Tail { segment, file, end: HEAD_LEN, prepared: HEAD_LEN })
}

impl Writer {
    pub(crate) fn new(
        place: Place,
        limits: WalLimits,
        meters: Arc<Meters>,
        sealed: VecDeque<Sealed>,
        tail: Tail,
        link: Link,
    ) -> Self {
        let buffer = Vec::new();
        let writer = Self { place, limits, meters, sealed, tail, link, buffer, failed: None };
        writer.measure();
        writer
    }

    /// Index of the next record.
    pub(crate) fn next_index(&self) -> u64 {
        self.link.index
    }

    /// Writes these records as one batch and syncs it. Gives the index of the first.
    pub(crate) fn commit<'a>(
        &mut self,
        records: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<u64, WalError> {
        self.once(|writer| writer.try_commit(records))
    }

    /// Removes full segments whose records are all at or below `upto`.
    pub(crate) fn purge(&mut self, upto: u64) -> Result<(), WalError> {
        self.once(|writer| writer.try_purge(upto))
    }

    fn once<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = work(self);
        self.failed = result.as_ref().err().cloned();
        self.measure();
        result
    }

    fn try_commit<'a>(
        &mut self,
        records: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<u64, WalError> {
        let payload: usize = records.clone().map(|record| record.len() + 4).sum();
        let length = batch::padded_len(payload);
        // A batch longer than a segment gets one for itself.
        if self.tail.end > HEAD_LEN && self.tail.end + length > self.limits.segment_bytes {
            self.roll()?;
        }
        let first = self.link.index;
        self.buffer.clear();
        let after = batch::encode(&mut self.buffer, self.tail.segment.number, self.link, records);
        let end = self.tail.end + length;
        if end > self.tail.prepared {
            // Zeros ahead go into the same write, and their cost is met once for all that fits there.
            self.buffer.resize(length + self.limits.prepare_bytes, 0);
            self.tail.prepared = end + self.limits.prepare_bytes;
        }
        let path = self.path();
        write_all(self.tail.file.as_mut(), &self.buffer, self.tail.end as u64)
            .map_err(|error| WalError::io("write", &path, error))?;
        self.sync().map_err(|error| WalError::io("sync", &path, error))?;
        self.tail.end = end;
        self.link = after;
        self.meters.appended.fetch_add(after.index - first, Ordering::Relaxed);
        Ok(first)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        if self.place.has(Bug::AckBeforeSync) {
            return Ok(());
        }
        let started = Instant::now();
        let result = self.tail.file.sync_data();
        self.meters.fsync.add(started.elapsed());
        if result.is_err() && self.place.has(Bug::SyncTriedAgain) {
            return self.tail.file.sync_data();
        }
        result
    }

    /// Begins a new segment. All of the old one is durable already: every batch is synced before the next.
    fn roll(&mut self) -> Result<(), WalError> {
        let full = self.tail.segment;
        let segment = Segment { number: full.number + 1, first_index: self.link.index };
        let tail = create(&self.place, segment, self.link.crc)?;
        self.sealed.push_back((full, self.tail.end as u64));
        self.tail = tail;
        Ok(())
    }

    fn try_purge(&mut self, upto: u64) -> Result<(), WalError> {
        let mut removed = false;
        while let Some((segment, _)) = self.sealed.front() {
            let next = self.sealed.get(1).map_or(self.tail.segment, |(next, _)| *next);
            if next.first_index > upto.saturating_add(1) {
                break;
            }
            self.place.remove(&segment.path(&self.place))?;
            self.sealed.pop_front();
            removed = true;
        }
        if removed { self.place.sync_names() } else { Ok(()) }
    }

    fn path(&self) -> PathBuf {
        self.tail.segment.path(&self.place)
    }

    fn measure(&self) {
        let sealed: u64 = self.sealed.iter().map(|(_, bytes)| bytes).sum();
        self.meters.log_bytes.store(sealed + self.tail.end as u64, Ordering::Relaxed);
    }
}
