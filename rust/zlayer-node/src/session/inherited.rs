//! Sockets that a forked child has a copy of, and must close.
//!
//! A connection ends when its last descriptor is closed. A process that forks (as `multiprocessing` does) gives its
//! child a copy of a session's socket; killed itself, it would leave the server with a connection that is alive and
//! silent. The child's only duty is to close what is listed here.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// Sockets that can be listed. Chosen: a process has one session, and two sockets while it changes over; a swarm of
/// thousands does not fork.
const SLOTS: usize = 64;
const FREE: i32 = -1;

/// Without a lock: another thread could hold it at the fork, and for ever in the child.
static SOCKETS: [AtomicI32; SLOTS] = [const { AtomicI32::new(FREE) }; SLOTS];

/// The sockets of this process's sessions. For a forked child, before anything else runs in it.
pub fn inherited_sockets() -> Vec<RawFd> {
    let sockets = SOCKETS.iter().map(|slot| slot.swap(FREE, Ordering::AcqRel));
    sockets.filter(|&socket| socket != FREE).collect()
}

/// Lists a socket. Has to be dropped before the socket is closed: its number may be another file's then.
pub(crate) struct Listed(Option<&'static AtomicI32>);

impl Listed {
    pub(crate) fn new(socket: RawFd) -> Self {
        let take = |slot: &&AtomicI32| {
            slot.compare_exchange(FREE, socket, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        Self(SOCKETS.iter().find(take))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(FREE, Ordering::Release);
        }
    }
}
