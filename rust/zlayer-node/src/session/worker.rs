//! A session on a thread of its own, for a process whose main work is something else.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Builder;
use zlayer_core::time::MonoMs;
use zlayer_wire::v1::Resources;

use super::control::Control;
use super::driver::{Observer, Prepared, run};
use super::event::{SessionEvent, SessionState, Status};
use super::identity::{Trust, check_worker};
use super::options::SessionOptions;
use crate::clock::Clock;
use crate::error::NodeError;
use crate::wake::Wake;

/// Events that wait to be drained; beyond it the oldest are dropped. Chosen: hours of a flapping connection.
const EVENTS_MAX: usize = 1_024;

/// Time that a name look-up may hold up the thread's end. Chosen.
const LOOKUP_GRACE: Duration = Duration::from_millis(100);

/// A worker's session: its timer, its connections and its heartbeats. Dropping it stops it.
pub struct WorkerSession {
    control: Control,
    shared: Arc<Shared>,
    cluster_id: String,
    node_id: u64,
    /// Servers in the order of the options.
    servers: Vec<String>,
    /// The process that the thread lives in.
    process: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the session's thread and its owner share.
struct Shared {
    clock: Clock,
    wake: Wake,
    inner: Mutex<Inner>,
    ended: Condvar,
}

#[derive(Default)]
struct Inner {
    status: Status,
    events: VecDeque<SessionEvent>,
    events_dropped: u64,
    /// The thread is done with the session; true if the goodbye was answered.
    ended: Option<bool>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`WorkerSession::state_json`].
#[derive(Serialize)]
struct StateView<'a> {
    state: SessionState,
    server: Option<&'a str>,
    ttl_ms: u64,
    next_beat_in_ms: Option<u64>,
    lease_remaining_ms: Option<u64>,
    beats: u64,
    acks: u64,
    reconnects: u64,
    unanswered: u64,
    lapses: u64,
    draining: bool,
    revision: u64,
    events_dropped: u64,
    last_error: Option<&'a str>,
}

impl WorkerSession {
    /// Starts the thread and returns; it dials until it is stopped.
    ///
    /// # Errors
    /// [`NodeError`] when an option or a certificate can't be used. Nothing runs then.
    pub fn start(options: SessionOptions) -> Result<Self, NodeError> {
        let prepared = Prepared::new(&options)?;
        let servers = prepared.terms.servers.clone();
        let start = |error| NodeError::io("start the session's thread", error);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("zlayer-lookup")
            .build()
            .map_err(start)?;
        let control = Control::default();
        let shared = Arc::new(Shared {
            clock: Clock::new(),
            wake: Wake::new()?,
            inner: Mutex::default(),
            ended: Condvar::new(),
        });
        let session =
            run(prepared, shared.clock, control.clone(), Report { shared: Arc::clone(&shared) });
        let ending = Ending(Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("zlayer-session".into())
            .spawn(move || {
                let left = runtime.block_on(session);
                ending.0.lock().ended = Some(left);
                drop(ending);
                runtime.shutdown_timeout(LOOKUP_GRACE);
            })
            .map_err(start)?;
        let SessionOptions { cluster_id, node_id, .. } = options;
        let (process, thread) = (std::process::id(), Mutex::new(Some(thread)));
        Ok(Self { control, shared, cluster_id, node_id, servers, process, thread })
    }

    /// Replaces the use that the next report carries.
    pub fn set_resources(&self, resources: Resources) {
        self.control.set_resources(resources);
    }

    /// Opens a connection with a new certificate, then closes the old one: no gap. Returns once the certificate is
    /// read; [`SessionState`] and the events tell the rest.
    ///
    /// # Errors
    /// [`NodeError::Identity`] when the certificate, key or CA can't be used; the old ones go on.
    pub fn set_identity(
        &self,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> Result<(), NodeError> {
        check_worker(&self.cluster_id, self.node_id, certificate_pem)?;
        let trust = Trust::of_servers(&self.cluster_id, ca_pem)?;
        let identity = trust.client(certificate_pem, key_pem)?;
        self.control.set_identity(trust, identity);
        Ok(())
    }

    /// How the session stands, as one JSON object.
    pub fn state_json(&self) -> Vec<u8> {
        let inner = self.shared.lock();
        let now = self.shared.clock.now();
        let left_ms = |at: Option<MonoMs>| at.map(|at| at.since(now));
        let status = &inner.status;
        let view = StateView {
            state: if inner.ended.is_some() { SessionState::Stopped } else { status.state },
            server: status.server.map(|index| self.servers[index].as_str()),
            ttl_ms: status.ttl_ms,
            next_beat_in_ms: left_ms(status.next_beat),
            lease_remaining_ms: left_ms(status.lease_until),
            beats: status.beats,
            acks: status.acks,
            reconnects: status.reconnects,
            unanswered: status.unanswered,
            lapses: status.lapses,
            draining: status.draining,
            revision: status.revision,
            events_dropped: inner.events_dropped,
            last_error: status.last_error.as_deref(),
        };
        // A struct of numbers and texts always serialises.
        serde_json::to_vec(&view).unwrap_or_default()
    }

    /// A descriptor that is readable while events wait. Lives as long as `self`.
    pub fn wake_fd(&self) -> RawFd {
        self.shared.wake.fd()
    }

    /// Takes at most `max` events, and makes the descriptor unreadable unless more wait.
    pub fn drain(&self, max: usize) -> Vec<SessionEvent> {
        self.shared.wake.clear();
        let mut inner = self.shared.lock();
        let count = inner.events.len().min(max);
        let taken = inner.events.drain(..count).collect();
        if !inner.events.is_empty() {
            self.shared.wake.wake();
        }
        taken
    }

    /// Says goodbye and waits for the answer, then ends; true if it came within `timeout`.
    pub fn leave(&self, timeout: Duration) -> bool {
        self.control.leave();
        let inner = self.shared.lock();
        let (inner, _) = self
            .shared
            .ended
            .wait_timeout_while(inner, timeout, |inner| inner.ended.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let left = inner.ended;
        drop(inner);
        self.stop();
        left == Some(true)
    }

    /// Ends the session without a word to the server, and waits for its thread.
    pub fn stop(&self) {
        self.control.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was printed by it and has nothing more to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for WorkerSession {
    fn drop(&mut self) {
        // A fork copies the handle but not the thread: to wait for it there would be for ever.
        if std::process::id() == self.process {
            self.stop();
        }
    }
}

/// Writes down what the session reports.
struct Report {
    shared: Arc<Shared>,
}

impl Observer for Report {
    fn event(&mut self, event: SessionEvent) {
        let mut inner = self.shared.lock();
        if inner.events.len() == EVENTS_MAX {
            inner.events.pop_front();
            inner.events_dropped += 1;
        }
        inner.events.push_back(event);
        drop(inner);
        self.shared.wake.wake();
    }

    fn status(&mut self, status: &Status) {
        self.shared.lock().status.clone_from(status);
    }
}

/// Marks the session as ended, also when its thread panics, so that nobody waits for it.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().ended.get_or_insert(false);
        self.0.ended.notify_all();
        self.0.wake.wake();
    }
}
