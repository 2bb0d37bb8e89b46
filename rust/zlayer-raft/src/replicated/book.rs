//! What the stream of records says, kept in memory: the entries since the last purge, the vote, the marks.

use std::collections::VecDeque;
use std::ops::Range;

use openraft::LogIdOptionExt;

use crate::codec::Why;
use crate::replicated::record::{self, Head, Record};
use crate::replicated::types::{LogEntry, LogId};

/// An entry, and the record of the stream that holds it.
#[derive(Debug, Clone)]
struct Kept {
    entry: LogEntry,
    record: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Without holes. The first one follows `head.purged`, if anything was purged.
    entries: VecDeque<Kept>,
    pub(crate) head: Head,
    /// The record that the head was written in last; 0 before it was.
    head_record: u64,
    pub(crate) committed: Option<LogId>,
}

impl Book {
    /// Takes the next record of a stream that is read back. A stream whose older part was let go begins somewhere:
    /// what it says of entries that are not in it is made good by a later head ([`Book::check_whole`]).
    pub(crate) fn replay(&mut self, number: u64, bytes: &[u8]) -> Result<(), Why> {
        let (record, committed) = record::decode(bytes)?;
        match record {
            Record::Entries(entries) => {
                let first = entries.first().map_or(0, |entry| entry.log_id.index);
                let next = self.entries.back().map_or(first, |kept| kept.entry.log_id.index + 1);
                self.push(entries, next, number)?;
            }
            Record::Vote(vote) => self.head.vote = Some(vote),
            Record::Truncate(after) => {
                self.truncate_after(after.as_ref());
            }
            Record::Head(head) => {
                if let Some(purged) = &head.purged {
                    self.drop_up_to(purged.index);
                }
                self.head = head;
                self.head_record = number;
            }
        }
        // What is committed elsewhere and not here yet is not to be applied from here.
        if committed > self.committed && committed.as_ref().is_some_and(|id| self.holds(id)) {
            self.committed = committed;
        }
        Ok(())
    }

    /// Checks that the entries begin where the head says.
    pub(crate) fn check_whole(&self) -> Result<(), Why> {
        let next = self.head.purged.next_index();
        match self.entries.front() {
            Some(kept) if self.head.purged.is_some() && kept.entry.log_id.index != next => {
                let first = kept.entry.log_id.index;
                Err(format!("entries {next} to {} are missing", first - 1))
            }
            _ => Ok(()),
        }
    }

    /// Whether a head was written: a stream without one is not begun, or has lost its beginning.
    pub(crate) fn is_begun(&self) -> bool {
        self.head_record > 0
    }

    /// Entries must follow each other.
    pub(crate) fn append(&mut self, entries: Vec<LogEntry>, record: u64) -> Result<(), Why> {
        let first = entries.first().map_or(0, |entry| entry.log_id.index);
        let next = self.last_log_id().map_or(first, |last| last.index + 1);
        self.push(entries, next, record)
    }

    fn push(&mut self, entries: Vec<LogEntry>, next: u64, record: u64) -> Result<(), Why> {
        for (entry, next) in entries.into_iter().zip(next..) {
            let index = entry.log_id.index;
            if index != next {
                return Err(format!("entry {index} comes where {next} is the next"));
            }
            self.entries.push_back(Kept { entry, record });
        }
        Ok(())
    }

    /// Voids the entries behind `after`. Whether there were any.
    pub(crate) fn truncate_after(&mut self, after: Option<&LogId>) -> bool {
        let before = self.entries.len();
        let first = self.first_index();
        let kept = after.map_or(0, |after| (after.index + 1).saturating_sub(first));
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.entries.len() < before
    }

    /// Lets the entries up to `upto` go.
    pub(crate) fn purge(&mut self, upto: LogId) -> Result<(), Why> {
        self.drop_up_to(upto.index);
        self.head.purged = self.head.purged.max(Some(upto));
        self.check_whole()
    }

    fn drop_up_to(&mut self, index: u64) {
        while self.entries.front().is_some_and(|kept| kept.entry.log_id.index <= index) {
            self.entries.pop_front();
        }
    }

    pub(crate) fn note_head(&mut self, record: u64) {
        self.head_record = record;
    }

    /// The last record of the stream before which nothing is needed any more.
    pub(crate) fn dead_up_to(&self) -> u64 {
        let oldest = self.entries.front().map_or(u64::MAX, |kept| kept.record);
        oldest.min(self.head_record).saturating_sub(1)
    }

    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        self.entries.back().map(|kept| kept.entry.log_id).or(self.head.purged)
    }

    /// How far the log is known to be committed, as far as it is here.
    pub(crate) fn committed_here(&self) -> Option<LogId> {
        self.committed.filter(|id| self.holds(id))
    }

    /// Whether this very entry is here, or was purged.
    fn holds(&self, id: &LogId) -> bool {
        if self.head.purged.index() >= Some(id.index) {
            return true;
        }
        let at = id.index.checked_sub(self.first_index());
        let kept = at.and_then(|at| self.entries.get(usize::try_from(at).ok()?));
        kept.is_some_and(|kept| kept.entry.log_id == *id)
    }

    /// Index of the first entry; where there is none, that of the next one.
    pub(crate) fn first_index(&self) -> u64 {
        match self.entries.front() {
            Some(kept) => kept.entry.log_id.index,
            None => self.head.purged.next_index(),
        }
    }

    /// The entries of a range, as far as they are here.
    pub(crate) fn range(&self, range: Range<u64>) -> impl Iterator<Item = &LogEntry> {
        let first = self.first_index();
        let at = |index: u64| {
            let at = usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX);
            at.min(self.entries.len())
        };
        let (start, end) = (at(range.start), at(range.end));
        self.entries.range(start..end.max(start)).map(|kept| &kept.entry)
    }

    /// How many entries are kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
