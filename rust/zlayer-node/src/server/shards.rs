//! The threads that serve connections: one single-threaded runtime each, and a connection stays on its thread.
//!
//! A work-stealing runtime wakes a second thread for nearly every beat, to look whether there is something to
//! steal. A beat is some microseconds of work: there is not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads. Dropping them ends every one; whatever still runs on them is dropped.
pub(crate) struct Shards {
    shards: Vec<Shard>,
    end: CancellationToken,
}

struct Shard {
    handle: Handle,
    /// Sockets that it serves.
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// Counts a socket on its thread.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shards {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        // Made first: when a later thread can't be started, dropping it ends the earlier ones.
        let mut started = Self { shards: Vec::with_capacity(count), end: CancellationToken::new() };
        for index in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let until = started.end.clone();
            let thread = std::thread::Builder::new()
                .name(format!("zlayer-io-{index}"))
                .spawn(move || runtime.block_on(until.cancelled()))?;
            started.shards.push(Shard { handle, load: Arc::default(), thread });
        }
        Ok(started)
    }

    /// Runs a socket's future on the thread that has the fewest.
    pub(crate) fn spawn(&self, serve: impl Future<Output = ()> + Send + 'static) {
        let least = self.shards.iter().min_by_key(|shard| shard.load.load(Ordering::Relaxed));
        let Some(shard) = least else { return };
        shard.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(Arc::clone(&shard.load));
        shard.handle.spawn(async move {
            let _load = load;
            serve.await;
        });
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.end.cancel();
        for shard in self.shards.drain(..) {
            // A panic there has been reported by the runtime.
            let _ = shard.thread.join();
        }
    }
}
