//! Proposals that wait for their answer: counted, limited, and given up when it takes too long.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zlayer_core::command::Outcome;
use zlayer_wal::Latency;

use crate::error::ProposeError;

type Answer = Result<Outcome, ProposeError>;

/// See the module.
pub(crate) struct Pending {
    slots: Mutex<VecDeque<Arc<Slot>>>,
    counts: Arc<Counts>,
    records_max: u64,
    bytes_max: u64,
}

#[derive(Default)]
struct Counts {
    records: AtomicU64,
    bytes: AtomicU64,
    latency: Latency,
}

/// One proposal.
pub(crate) struct Slot {
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    counts: Arc<Counts>,
    began: Instant,
    bytes: u64,
}

impl Slot {
    /// Answers, once.
    pub(crate) fn finish(&self, answer: Answer) {
        let sender = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(sender) = sender else { return };
        self.counts.records.fetch_sub(1, Ordering::AcqRel);
        self.counts.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if answer.is_ok() {
            self.counts.latency.add(self.began.elapsed());
        }
        // Whoever proposed may have gone; the command is committed all the same.
        let _ = sender.send(answer);
    }

    fn is_finished(&self) -> bool {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Pending {
    pub(crate) fn new(records_max: u64, bytes_max: u64) -> Self {
        Self { slots: Mutex::default(), counts: Arc::default(), records_max, bytes_max }
    }

    /// Takes a proposal of so many bytes in, if there is room.
    pub(crate) fn begin(
        &self,
        bytes: u64,
    ) -> Result<(Arc<Slot>, oneshot::Receiver<Answer>), ProposeError> {
        let counts = &self.counts;
        let records = counts.records.fetch_add(1, Ordering::AcqRel);
        let waiting = counts.bytes.fetch_add(bytes, Ordering::AcqRel);
        if records >= self.records_max || waiting + bytes > self.bytes_max {
            counts.records.fetch_sub(1, Ordering::AcqRel);
            counts.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(ProposeError::Overloaded);
        }
        let (sender, receiver) = oneshot::channel();
        let slot = Arc::new(Slot {
            answer: Mutex::new(Some(sender)),
            counts: Arc::clone(counts),
            began: Instant::now(),
            bytes,
        });
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push_back(Arc::clone(&slot));
        Ok((slot, receiver))
    }

    /// Forgets the finished ones and gives up those that wait longer than `limit`.
    pub(crate) fn sweep(&self, limit: Duration) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = slots.front() {
            if !first.is_finished() {
                if first.began.elapsed() < limit {
                    break;
                }
                let why = format!("no answer within {} s", limit.as_secs_f32());
                first.finish(Err(ProposeError::Unknown { why }));
            }
            slots.pop_front();
        }
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.counts.records.load(Ordering::Acquire)
    }

    /// Median and 99th percentile of the time to an answer, microseconds.
    pub(crate) fn latency_us(&self) -> (u64, u64) {
        let latency = &self.counts.latency;
        (latency.quantile_us(50), latency.quantile_us(99))
    }
}
