//! The log and the vote, as openraft wants them, over zlayer-wal.
//!
//! Entries are readable at once and reported as durable by the log's thread, in order; a vote and a truncation are
//! durable when their call returns; how far the log is committed rides along with whatever is written next.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use tokio::sync::oneshot;
use zlayer_wal::{Wal, WalError};

use crate::replicated::book::Book;
use crate::replicated::form::payload_len;
use crate::replicated::planted::{Bug, Planted};
use crate::replicated::record;
use crate::replicated::types::{LogEntry, LogId, Types, Vote};

/// Bytes of a record of entries. Chosen: a fraction of what the log writes at once, and more than most batches.
const RECORD_BYTES: usize = 256 << 10;

/// Time to wait for room in the log's queue. Only a flood from a peer fills it.
const ROOM_WAIT: Duration = Duration::from_millis(1);

/// What the log calls when a record is durable, or never will be.
type Done = Box<dyn FnOnce(Result<u64, WalError>) + Send>;

/// The log of one server. Clones share it, and are its readers.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    wal: Arc<Wal>,
    /// Bytes of entries in one message to a peer.
    message_bytes: usize,
    planted: Planted,
    /// The first error of the disk.
    failed: OnceLock<String>,
    state: Mutex<State>,
}

struct State {
    book: Book,
    /// Number that the next record gets.
    next_record: u64,
    /// A vote that a planted mistake holds back.
    held_back: Option<Vote>,
    /// A callback that a planted mistake holds back.
    late: Option<Flush>,
}

/// Tells openraft once, whatever becomes of the log: a leader that is never told waits for ever.
struct Flush(Option<IOFlushed<Types>>);

impl Flush {
    fn finish(&mut self, result: io::Result<()>) {
        if let Some(callback) = self.0.take() {
            callback.io_completed(result);
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.finish(Err(broken(&"the log has ended")));
    }
}

fn broken(error: &impl ToString) -> io::Error {
    io::Error::other(error.to_string())
}

impl LogStore {
    pub(crate) fn new(wal: Arc<Wal>, book: Book, message_bytes: usize, planted: Planted) -> Self {
        let next_record = wal.first_index();
        let state = Mutex::new(State { book, next_record, held_back: None, late: None });
        let failed = OnceLock::new();
        Self { shared: Arc::new(Shared { wal, message_bytes, planted, failed, state }) }
    }

    /// What the disk has failed with first.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.failed.get().cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, bug: Bug) -> bool {
        self.shared.planted.has(bug)
    }

    /// Hands a record over to be written. Waits for room, which there nearly always is; openraft writes one thing at
    /// a time, so that nobody takes the room meanwhile. Where the log has ended, `done` is dropped.
    async fn write(&self, record: Vec<u8>, done: Done) -> io::Result<()> {
        while !self.shared.wal.has_room(record.len()) {
            tokio::time::sleep(ROOM_WAIT).await;
        }
        let shared = Arc::downgrade(&self.shared);
        let noting = move |result: Result<u64, WalError>| {
            if let (Err(error), Some(shared)) = (&result, shared.upgrade()) {
                shared.failed.get_or_init(|| error.to_string());
            }
            done(result);
        };
        self.shared.wal.append(record, noting).map_err(|error| broken(&error))?;
        self.state().next_record += 1;
        Ok(())
    }

    /// Writes a record and waits until it is durable.
    async fn write_durably(&self, record: Vec<u8>) -> io::Result<()> {
        let (sender, written) = oneshot::channel();
        let done = Box::new(move |result: Result<u64, WalError>| {
            // Whoever waits below may have been dropped with its runtime.
            let _ = sender.send(result);
        });
        self.write(record, done).await?;
        match written.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(broken(&"the log's thread ended")),
        }
    }

    async fn write_and_forget(&self, record: Vec<u8>) -> io::Result<()> {
        self.write(record, Box::new(drop)).await
    }

    /// What the callback of the last record of an append does.
    fn flushed(&self, callback: IOFlushed<Types>) -> Done {
        let mut callback = Flush(Some(callback));
        if self.has(Bug::AckBeforeDurable) {
            callback.finish(Ok(()));
        }
        if self.has(Bug::AckOutOfOrder) {
            let Some(mut earlier) = self.state().late.replace(callback) else {
                return Box::new(drop);
            };
            let later = self.state().late.take();
            return Box::new(move |result| {
                if let Some(mut later) = later {
                    later.finish(result.as_ref().map(drop).map_err(broken));
                }
                earlier.finish(result.map(drop).map_err(|error| broken(&error)));
            });
        }
        let is_lost = self.has(Bug::AckLost);
        Box::new(move |result: Result<u64, WalError>| {
            if is_lost && result.is_err() {
                callback.0 = None;
            }
            callback.finish(result.map(drop).map_err(|error| broken(&error)));
        })
    }

    /// Lets go of the records that `head`, which is durable, stands for.
    fn purge_records(&self, upto: u64) -> Done {
        let wal = Arc::downgrade(&self.shared.wal);
        Box::new(move |result| {
            if let (Ok(_), Some(wal)) = (result, wal.upgrade()) {
                wal.purge(upto);
            }
        })
    }

    /// Entries that are kept in memory.
    pub(crate) fn entries_kept(&self) -> usize {
        self.state().book.len()
    }

    /// [`crate::replicated::peer::Peer::store`] of this log.
    pub(crate) fn store(&self) -> u64 {
        self.state().book.head.store
    }

    /// Writes down how far the log is committed, which nothing else would before it is closed.
    pub(crate) async fn close(&self) {
        let record = {
            let state = self.state();
            let Some(vote) = state.book.head.vote else { return };
            record::encode_vote(&vote, state.book.committed.as_ref())
        };
        if let Err(error) = self.write_durably(record).await {
            tracing::debug!(%error, "the last mark was not written");
        }
    }
}

/// The half-open form of a range.
fn half_open(range: &impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<LogEntry>, io::Error> {
        Ok(self.state().book.range(half_open(&range)).cloned().collect())
    }

    /// As many entries as fit a message, and one in any case.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let state = self.state();
        let first = state.book.first_index();
        if start < end && start < first {
            return Err(broken(&format!("entry {start} was purged; the log begins at {first}")));
        }
        let max = self.shared.message_bytes;
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in state.book.range(start..end) {
            bytes += payload_len(entry) + crate::replicated::form::ENTRY_HEAD;
            let has_one = !entries.is_empty() || self.has(Bug::LongEntryNotRead);
            if bytes > max && has_one {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.state().book.head.vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.state();
        Ok(LogState {
            last_purged_log_id: state.book.head.purged,
            last_log_id: state.book.last_log_id(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let record = record::encode_vote(vote, self.state().book.committed.as_ref());
        if self.has(Bug::VoteBehindEntries) {
            let mut state = self.state();
            state.held_back = Some(*vote);
            state.book.head.vote = Some(*vote);
            return Ok(());
        }
        if self.has(Bug::VoteNotAwaited) {
            self.write_and_forget(record).await?;
        } else {
            self.write_durably(record).await?;
        }
        self.state().book.head.vote = Some(*vote);
        Ok(())
    }

    /// Costs nothing: the next record carries it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut state = self.state();
        state.book.committed = state.book.committed.max(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let state = self.state();
        if self.has(Bug::CommittedBelieved) {
            return Ok(state.book.committed);
        }
        Ok(state.book.committed_here())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + Send,
        I::IntoIter: Send,
    {
        let done = self.flushed(callback);
        let entries: Vec<_> = entries.into_iter().collect();
        let mut records = {
            let mut state = self.state();
            let committed = state.book.committed;
            let records = record::encode_entries(&entries, committed.as_ref(), RECORD_BYTES)
                .map_err(|why| broken(&why))?;
            // The first of them is what a purge may not pass.
            let record = state.next_record;
            state.book.append(entries, record).map_err(|why| broken(&why))?;
            records
        };
        let Some(last) = records.pop() else {
            done(Ok(0));
            return Ok(());
        };
        for record in records {
            self.write(record, Box::new(drop)).await?;
        }
        self.write(last, done).await?;
        let held_back = self.state().held_back.take();
        if let Some(vote) = held_back {
            self.write_and_forget(record::encode_vote(&vote, None)).await?;
        }
        Ok(())
    }

    async fn truncate_after(&mut self, after: Option<LogId>) -> Result<(), io::Error> {
        let record = {
            let mut state = self.state();
            if !state.book.truncate_after(after.as_ref()) {
                return Ok(());
            }
            record::encode_truncate(after.as_ref(), state.book.committed.as_ref())
        };
        if self.has(Bug::TruncateNotWritten) {
            return Ok(());
        }
        if self.has(Bug::TruncateNotAwaited) {
            return self.write_and_forget(record).await;
        }
        self.write_durably(record).await
    }

    /// Returns at once. The records go when what they leave is durable in a newer one.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let (record, dead) = {
            let mut state = self.state();
            state.book.purge(upto).map_err(|why| broken(&why))?;
            let mut head = state.book.head;
            if self.has(Bug::HeadWithoutVote) {
                head.vote = None;
            }
            let number = state.next_record;
            state.book.note_head(number);
            let record = record::encode_head(&head, state.book.committed.as_ref());
            (record, state.book.dead_up_to())
        };
        if self.has(Bug::PurgeNotWritten) {
            self.shared.wal.purge(dead);
            return Ok(());
        }
        if self.has(Bug::PurgeBeforeHead) {
            self.shared.wal.purge(dead);
            return self.write_and_forget(record).await;
        }
        self.write(record, self.purge_records(dead)).await
    }
}
