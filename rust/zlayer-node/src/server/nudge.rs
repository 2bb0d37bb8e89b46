//! A waker for futures that are polled inside another task, which tells "again, now" from "wake the task".
//!
//! A beat passes from the connection to its stream and back. If each hand-over woke the task through the
//! runtime, it would be scheduled three times a beat; with this the task just goes round once more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

const IDLE: u8 = 0;
const POLLING: u8 = 1;
const DIRTY: u8 = 2;

/// Shared by the task and the wakers of everything inside it.
#[derive(Debug, Default)]
pub(crate) struct Nudge {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Nudge {
    /// Starts a round: from now on a wake-up from inside is remembered only.
    pub(crate) fn begin(&self, task: &Waker) {
        self.task.register(task);
        // Swapped, not stored: whatever was done before a wake-up that is taken back here is seen from here on.
        self.state.swap(POLLING, Ordering::AcqRel);
    }

    /// Ends a round. True: nothing was woken meanwhile, the task may sleep. False: another round has begun.
    pub(crate) fn rest(&self) -> bool {
        let rests =
            self.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !rests {
            self.state.swap(POLLING, Ordering::AcqRel);
        }
        rests
    }
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(DIRTY, Ordering::AcqRel) == IDLE {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_task_is_woken_only_from_rest() {
        let woken = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&woken));
        let nudge = Arc::new(Nudge::default());
        let inner = Waker::from(Arc::clone(&nudge));
        nudge.begin(&task);
        inner.wake_by_ref();
        assert!(!nudge.rest(), "woken from inside: one more round");
        assert!(nudge.rest());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        inner.wake_by_ref();
        inner.wake_by_ref();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "woken from outside: once");
    }
}
