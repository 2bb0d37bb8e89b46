//! Wakes another event loop through a file descriptor, such as Python's asyncio loop.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::NodeError;

/// An eventfd that is readable while something waits to be drained.
///
/// `wake` writes once until `clear` is called, so any number of wake-ups costs one system call.
#[derive(Debug)]
pub struct Wake {
    fd: OwnedFd,
    raised: AtomicBool,
}

impl Wake {
    /// Makes the descriptor: non-blocking, closed on exec.
    ///
    /// # Errors
    /// [`NodeError::Io`] when the process has no descriptor left.
    pub fn new() -> Result<Self, NodeError> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| NodeError::io("make an eventfd", error.into()))?;
        Ok(Self { fd, raised: AtomicBool::new(false) })
    }

    /// The descriptor. It lives as long as `self`; only poll it, [`Wake::clear`] reads it.
    pub fn fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }

    /// Makes the descriptor readable. Any thread, never blocks.
    pub fn wake(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            // Only a counter at its maximum can fail here, and then the descriptor is readable already.
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable. Call it before looking at what waits, so that nothing is missed.
    pub fn clear(&self) {
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&self.fd, &mut count);
        self.raised.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn readable(wake: &Wake) -> bool {
        let mut fds = [PollFd::new(&wake.fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn is_readable_from_wake_to_clear() {
        let wake = Wake::new().unwrap();
        assert!(!readable(&wake));
        wake.wake();
        wake.wake();
        assert!(readable(&wake));
        wake.clear();
        assert!(!readable(&wake));
        wake.wake();
        assert!(readable(&wake));
    }
}
