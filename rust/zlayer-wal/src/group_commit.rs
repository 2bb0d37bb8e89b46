//! The writer's thread: takes all that waits, commits it at once, calls back in order.
//!
//! There is no lingering: while one batch is synced the next one gathers, so the slower the disk the larger the
//! batches.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::WalError;
use crate::fs::Lock;
use crate::queue::{Completion, Job, Queue};
use crate::writer::Writer;

/// Runs until the queue is closed or the first error. Holds the directory's lock: for good after an error, since
/// this process can't trust what it would read back.
pub(crate) fn run(writer: Writer, queue: &Queue, lock: Box<dyn Lock>, batch_bytes_max: usize) {
    let worked = catch_unwind(AssertUnwindSafe(|| work(writer, queue, batch_bytes_max)));
    let error = match worked {
        Ok(Ok(())) => return queue.end(WalError::ShutDown),
        Ok(Err(error)) => error,
        Err(panic) => WalError::Panicked(said(panic.as_ref())),
    };
    std::mem::forget(lock);
    queue.end(error);
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn work(mut writer: Writer, queue: &Queue, batch_bytes_max: usize) -> Result<(), WalError> {
    while let Some(mut jobs) = queue.take() {
        while let Some(job) = jobs.pop_front() {
            let result = match job {
                Job::Purge { upto } => writer.purge(upto),
                Job::Append { record, done } => {
                    let batch = gather(record, done, &mut jobs, batch_bytes_max);
                    commit(&mut writer, batch)
                }
            };
            if let Err(error) = result {
                // In order: what was taken, then what came since.
                for job in jobs {
                    if let Job::Append { done, .. } = job {
                        done.finish(Err(error.clone()));
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

type Batch = (Vec<Vec<u8>>, Vec<Completion>);

/// As many of the next records as one batch may hold.
fn gather(record: Vec<u8>, done: Completion, jobs: &mut VecDeque<Job>, bytes_max: usize) -> Batch {
    let mut bytes = record.len();
    let (mut records, mut completions) = (vec![record], vec![done]);
    while let Some(Job::Append { record, .. }) = jobs.front() {
        bytes += record.len();
        if bytes > bytes_max {
            break;
        }
        if let Some(Job::Append { record, done }) = jobs.pop_front() {
            records.push(record);
            completions.push(done);
        }
    }
    (records, completions)
}

fn commit(writer: &mut Writer, (records, completions): Batch) -> Result<(), WalError> {
    let result = writer.commit(records.iter().map(Vec::as_slice));
    for (completion, offset) in completions.into_iter().zip(0..) {
        completion.finish(result.clone().map(|first| first + offset));
    }
    result.map(|_| ())
}
