//! What waits for the writer: bounded, and taken all at once.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{AppendError, WalError};

type Callback = Box<dyn FnOnce(Result<u64, WalError>) + Send>;

/// A callback that is called exactly once, whatever becomes of the writer.
pub(crate) struct Completion(Option<Callback>);

impl Completion {
    pub(crate) fn new(callback: impl FnOnce(Result<u64, WalError>) + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }

    pub(crate) fn finish(mut self, result: Result<u64, WalError>) {
        if let Some(callback) = self.0.take() {
            callback(result);
        }
    }

    /// The record was not taken.
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            // Only while the writer unwinds; a second panic would end the process.
            let lost = Err(WalError::Panicked("before this record was done".into()));
            let _ = catch_unwind(AssertUnwindSafe(|| callback(lost)));
        }
    }
}

/// Something for the writer to do.
pub(crate) enum Job {
    Append { record: Vec<u8>, done: Completion },
    Purge { upto: u64 },
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    records: usize,
    bytes: usize,
    closing: bool,
    ended: Option<WalError>,
}

/// The way to the writer, from any thread.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    records_max: usize,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), arrived: Condvar::new(), records_max, bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing below can panic while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn append(&self, record: Vec<u8>, done: Completion) -> Result<(), AppendError> {
        let mut waiting = self.lock();
        if waiting.closing || waiting.ended.is_some() {
            let error = waiting.ended.clone().unwrap_or(WalError::ShutDown);
            done.disarm();
            return Err(AppendError::Stopped(error));
        }
        if !self.is_room(&waiting, record.len()) {
            done.disarm();
            return Err(AppendError::Overloaded { records: waiting.records });
        }
        waiting.records += 1;
        waiting.bytes += record.len();
        waiting.jobs.push_back(Job::Append { record, done });
        if waiting.jobs.len() == 1 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn is_room(&self, waiting: &Waiting, bytes: usize) -> bool {
        waiting.records < self.records_max && waiting.bytes + bytes <= self.bytes_max
    }

    /// Whether there is no use in waiting for room: it is there, or the log has ended.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.lock();
        waiting.closing || waiting.ended.is_some() || self.is_room(&waiting, bytes)
    }

    /// Without a limit of its own: whoever snapshots purges once each time.
    pub(crate) fn purge(&self, upto: u64) {
        let mut waiting = self.lock();
        if !waiting.closing && waiting.ended.is_none() {
            waiting.jobs.push_back(Job::Purge { upto });
            self.arrived.notify_one();
        }
    }

    /// Takes all that waits, once anything does. `None` when it was closed and all is taken.
    pub(crate) fn take(&self) -> Option<VecDeque<Job>> {
        let mut waiting = self.lock();
        loop {
            if !waiting.jobs.is_empty() {
                (waiting.records, waiting.bytes) = (0, 0);
                return Some(std::mem::take(&mut waiting.jobs));
            }
            if waiting.closing {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes nothing more. What waits is still done.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// Ends for good: whatever waits, and whatever comes, gets `error`. The first error stays.
    pub(crate) fn end(&self, error: WalError) {
        let (jobs, error) = {
            let mut waiting = self.lock();
            let error = waiting.ended.get_or_insert(error).clone();
            (std::mem::take(&mut waiting.jobs), error)
        };
        for job in jobs {
            if let Job::Append { done, .. } = job {
                done.finish(Err(error.clone()));
            }
        }
    }

    /// Records that wait for the writer.
    pub(crate) fn waiting(&self) -> u64 {
        self.lock().records as u64
    }

    pub(crate) fn failure(&self) -> Option<WalError> {
        self.lock().ended.clone()
    }
}
