//! One life of a log: opened, written to, snapshotted, purged, as a process would, until the disk fails.

use std::sync::Arc;

use super::{SMALL, owner, record};
use crate::directory::{Bug, LogDir};
use crate::error::WalError;
use crate::fs::sim::SimFs;
use crate::recover::{From, recover};
use crate::snapshot::Snapshots;
use crate::stats::Meters;
use crate::writer::Writer;

/// What is known of a log over its lives: the indexes of the records that were acknowledged or read back,
/// and of those that were ever submitted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) promised: u64,
    pub(super) submitted: u64,
}

/// A log that was opened, as its owner sees it.
pub(super) struct Life {
    writer: Writer,
    snapshots: Snapshots,
    /// Held as long as the process lives.
    _dir: Box<dyn crate::fs::Lock>,
    pub(super) last: u64,
}

/// The state that a snapshot stands for: here, the index is all there is to know.
fn body(index: u64) -> Vec<u8> {
    format!("all up to {index}").into_bytes()
}

impl Life {
    /// Opens the log and checks what is read back: every record in its place, whole.
    ///
    /// # Errors
    /// That of the log.
    pub(super) fn open(fs: &SimFs, bug: Option<Bug>) -> Result<Self, WalError> {
        let mut dir = LogDir::open(Arc::new(fs.clone()), "/log".into(), owner())?;
        dir.place.planted = bug;
        let snapshots = dir.snapshots();
        let mut last = 0;
        if let Some(snapshot) = snapshots.newest()? {
            assert_eq!(snapshot.body, body(snapshot.index), "a snapshot of something else");
            last = snapshot.index;
        }
        let after = last;
        let meters = Arc::new(Meters::default());
        let writer =
            recover(dir.place, SMALL, From::Behind(after), meters, &mut |index, bytes| {
                assert_eq!(index, last + 1, "a hole, or a record twice");
                assert_eq!(bytes, record(index), "record {index} is not what was submitted");
                last = index;
                Ok(())
            })?;
        Ok(Self { writer, snapshots, _dir: dir.lock, last })
    }

    /// Commits the next `count` records at once.
    ///
    /// # Errors
    /// That of the log.
    pub(super) fn commit(&mut self, count: u64, known: &mut Known) -> Result<(), WalError> {
        let records: Vec<_> = (self.last + 1..=self.last + count).map(record).collect();
        known.submitted = known.submitted.max(self.last + count);
        let first = self.writer.commit(records.iter().map(Vec::as_slice))?;
        assert_eq!(first, self.last + 1, "the log counts otherwise");
        self.last += count;
        known.promised = self.last;
        Ok(())
    }

    /// Snapshots all there is and purges what that allows. A snapshot that fails is no end.
    ///
    /// # Errors
    /// That of the log.
    pub(super) fn snapshot(&mut self) -> Result<(), WalError> {
        match self.snapshots.save(self.last, &body(self.last)) {
            Ok(saved) => self.writer.purge(saved.purge_to),
            Err(_) => Ok(()),
        }
    }

    /// The work that every point of the matrix interrupts: batches of several sizes over several segments, three
    /// snapshots, two purges.
    ///
    /// # Errors
    /// That of the log, which is final: it is asked once more, and must refuse.
    pub(super) fn work(&mut self, known: &mut Known) -> Result<(), WalError> {
        let worked = self.all_of_it(known);
        if worked.is_err() {
            let promised = known.promised;
            assert!(self.commit(1, &mut known.clone()).is_err(), "an error was not final");
            assert_eq!(known.promised, promised);
        }
        worked
    }

    fn all_of_it(&mut self, known: &mut Known) -> Result<(), WalError> {
        for _ in 0..3 {
            for count in [1, 3, 1, 7, 2] {
                self.commit(count, known)?;
            }
            self.snapshot()?;
        }
        self.commit(4, known)?;
        self.commit(1, known)
    }
}
