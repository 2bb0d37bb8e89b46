//! A log that is open.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle, ThreadId, current};

use crate::directory::LogDir;
use crate::error::{AppendError, WalError};
use crate::group_commit;
use crate::queue::{Completion, Queue};
use crate::recover::{From, Replay, recover};
use crate::stats::{Meters, WalStats};

/// Sizes of a log.
#[derive(Debug, Clone, Copy)]
pub struct WalLimits {
    /// Bytes of a segment; a batch that is longer gets one for itself.
    pub segment_bytes: usize,
    /// Bytes that are written ahead as zeros: a sync that changes a file's length costs a second write of the
    /// file system's own log.
    pub prepare_bytes: usize,
    /// Bytes of one record.
    pub record_bytes_max: usize,
    /// Bytes of records in one batch.
    pub batch_bytes_max: usize,
    /// Records that may wait.
    pub queue_records_max: usize,
    /// Bytes that may wait.
    pub queue_bytes_max: usize,
}

impl Default for WalLimits {
    /// Chosen for a control log: some KiB a second, a thousand records at once in a storm.
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            prepare_bytes: 1 << 20,
            record_bytes_max: 1 << 20,
            batch_bytes_max: 4 << 20,
            queue_records_max: 8_192,
            queue_bytes_max: 32 << 20,
        }
    }
}

/// An open log, and its thread.
pub struct Wal {
    queue: Arc<Queue>,
    meters: Arc<Meters>,
    record_bytes_max: usize,
    first_index: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: ThreadId,
}

impl LogDir {
    /// Opens the log: gives `replay` each record behind `after` with its index, in order, then starts the writer
    /// behind the last one. A record that `replay` refuses, saying why, ends it.
    ///
    /// # Errors
    /// [`WalError`], naming the file. The directory is given back then.
    pub fn recover(
        self,
        limits: WalLimits,
        after: u64,
        replay: &mut Replay<'_>,
    ) -> Result<Wal, WalError> {
        self.open_log(limits, From::Behind(after), replay)
    }

    /// As [`LogDir::recover`], for a log that says by its own records what it may begin with: gives `replay` every
    /// record that is there, from the oldest on.
    ///
    /// # Errors
    /// As [`LogDir::recover`].
    pub fn recover_whole(
        self,
        limits: WalLimits,
        replay: &mut Replay<'_>,
    ) -> Result<Wal, WalError> {
        self.open_log(limits, From::Oldest, replay)
    }

    fn open_log(
        self,
        limits: WalLimits,
        from: From,
        replay: &mut Replay<'_>,
    ) -> Result<Wal, WalError> {
        let Self { place, lock } = self;
        let dir = place.dir.clone();
        let meters = Arc::new(Meters::default());
        let writer = recover(place, limits, from, Arc::clone(&meters), replay)?;
        let first_index = writer.next_index();
        let queue = Arc::new(Queue::new(limits.queue_records_max, limits.queue_bytes_max));
        let thread = {
            let queue = Arc::clone(&queue);
            Builder::new()
                .name("zlayer-wal".into())
                .spawn(move || group_commit::run(writer, &queue, lock, limits.batch_bytes_max))
                .map_err(|error: io::Error| WalError::io("start a thread for", &dir, error))?
        };
        let record_bytes_max = limits.record_bytes_max.min(limits.queue_bytes_max);
        let thread_id = thread.thread().id();
        let thread = Mutex::new(Some(thread));
        Ok(Wal { queue, meters, record_bytes_max, first_index, thread, thread_id })
    }
}

impl Wal {
    /// Appends a record. `done` is called once, on the log's thread: with the record's index once it is durable,
    /// or with the error that ended the log; in the order of the appends. It must not block, nor wait for
    /// another append. Indexes count from 1, without holes. Never blocks; from any thread.
    ///
    /// # Errors
    /// [`AppendError`]: the record was not taken, and `done` is not called.
    pub fn append(
        &self,
        record: Vec<u8>,
        done: impl FnOnce(Result<u64, WalError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        let (bytes, max) = (record.len(), self.record_bytes_max);
        if bytes > max {
            return Err(AppendError::TooLarge { bytes, max });
        }
        self.queue.append(record, Completion::new(done))
    }

    /// Whether a record of so many bytes would be taken now, were nobody else to append. One that is refused for
    /// good, for its length or because the log has ended, is not waited for: yes.
    pub fn has_room(&self, bytes: usize) -> bool {
        bytes > self.record_bytes_max || self.queue.has_room(bytes)
    }

    /// Lets the log forget the records up to `upto`, once those before are done. Whole segments go, so some of
    /// them may stay. A snapshot must stand for them durably.
    pub fn purge(&self, upto: u64) {
        self.queue.purge(upto);
    }

    /// Index that the first record appended since it was opened gets.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// A look at the log.
    pub fn stats(&self) -> WalStats {
        WalStats { waiting: self.queue.waiting(), ..self.meters.read() }
    }

    /// Why it ended; `None` while it runs.
    pub fn failure(&self) -> Option<WalError> {
        self.queue.failure()
    }

    /// Writes what waits, then ends and gives the directory back. Blocks until then, unless called by a
    /// callback. Again is no error.
    pub fn stop(&self) {
        self.queue.close();
        if current().id() == self.thread_id {
            return;
        }
        // Held while it ends, so that whoever else stops it waits, too.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // Its panics are caught where it runs, and told to whoever waits.
            let _ = thread.join();
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.stop();
    }
}
