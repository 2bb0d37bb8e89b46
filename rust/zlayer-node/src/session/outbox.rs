//! One report on its way to the wire. A session never has more to say than its newest report, so this holds one,
//! where a channel would hold a block of them for each of ten thousand sessions.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

/// The sending end. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct Outbox<T>(Arc<Mutex<Slot<T>>>);

/// The receiving end: a request stream.
#[derive(Debug)]
pub(crate) struct OutboxStream<T>(Arc<Mutex<Slot<T>>>);

#[derive(Debug)]
struct Slot<T> {
    message: Option<T>,
    closed: bool,
    waker: Option<Waker>,
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes both ends.
pub(crate) fn outbox<T>() -> (Outbox<T>, OutboxStream<T>) {
    let slot = Arc::new(Mutex::new(Slot { message: None, closed: false, waker: None }));
    (Outbox(Arc::clone(&slot)), OutboxStream(slot))
}

impl<T> Outbox<T> {
    /// Puts a message in. One that still waits is replaced: a newer report says all that it said, so the caller
    /// builds each report to be complete.
    pub(crate) fn put(&self, message: T) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.message = Some(message);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Outbox<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.closed = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Stream for OutboxStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.0);
        if let Some(message) = slot.message.take() {
            return Poll::Ready(Some(message));
        }
        if slot.closed {
            return Poll::Ready(None);
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn delivers_wakes_and_ends() {
        let woken = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let cx = &mut Context::from_waker(&waker);
        let (outbox, mut stream) = outbox::<u32>();
        assert_eq!(Pin::new(&mut stream).poll_next(cx), Poll::Pending);
        outbox.put(1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(Pin::new(&mut stream).poll_next(cx), Poll::Ready(Some(1)));
        outbox.put(2);
        outbox.put(3);
        assert_eq!(Pin::new(&mut stream).poll_next(cx), Poll::Ready(Some(3)));
        assert_eq!(Pin::new(&mut stream).poll_next(cx), Poll::Pending);
        outbox.put(4);
        drop(outbox);
        assert_eq!(Pin::new(&mut stream).poll_next(cx), Poll::Ready(Some(4)), "nothing is lost");
        assert_eq!(Pin::new(&mut stream).poll_next(cx), Poll::Ready(None));
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    }
}
