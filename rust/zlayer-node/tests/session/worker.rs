//! A session under test, and how to wait for what it says.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zlayer_node::session::{SessionEvent, SessionOptions, Timing, WorkerSession};

use crate::pki::{CLUSTER, Ca, Leaf};
use crate::server::PATIENCE;

pub(crate) const NODE: u64 = 1000;

/// Waits that suit a test.
pub(crate) fn timing() -> Timing {
    Timing {
        ack_timeout_ms: 300,
        dial_timeout_ms: 2_000,
        backoff_base_ms: 20,
        backoff_max_ms: 100,
        slow_retry_ms: 200,
        ..Timing::default()
    }
}

pub(crate) fn options(servers: &[String], ca: &Ca, leaf: &Leaf) -> SessionOptions {
    SessionOptions {
        cluster_id: CLUSTER.into(),
        servers: servers.to_vec(),
        node_id: NODE,
        certificate_pem: leaf.cert.clone(),
        key_pem: leaf.key.clone(),
        ca_pem: ca.pem.clone(),
        incarnation: 42,
        version: "0.1.0".into(),
        timing: timing(),
    }
}

pub(crate) struct Worker {
    pub(crate) session: WorkerSession,
    seen: Vec<SessionEvent>,
}

impl Worker {
    pub(crate) fn start(servers: &[String], ca: &Ca, leaf: &Leaf) -> Self {
        Self::with(options(servers, ca, leaf))
    }

    pub(crate) fn with(options: SessionOptions) -> Self {
        Self { session: WorkerSession::start(options).unwrap(), seen: Vec::new() }
    }

    /// Waits for the first event that fits and is not older than the last one that was waited for.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        fits: impl Fn(&SessionEvent) -> bool,
    ) -> SessionEvent {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.iter().position(&fits) {
                return self.seen.drain(..=at).next_back().unwrap();
            }
            assert!(Instant::now() < until, "{what}: {:?}, {}", self.seen, self.state());
            self.readable(until.saturating_duration_since(Instant::now()));
            self.seen.extend(self.session.drain(2));
        }
    }

    pub(crate) fn wait_connected(&mut self) {
        self.wait("connected", |event| matches!(event, SessionEvent::Connected { .. }));
    }

    /// Everything that was said and not waited for.
    pub(crate) fn rest(&mut self) -> Vec<SessionEvent> {
        self.seen.extend(self.session.drain(usize::MAX));
        std::mem::take(&mut self.seen)
    }

    /// Whether the descriptor is or becomes readable.
    pub(crate) fn readable(&self, patience: Duration) -> bool {
        // SAFETY: the session outlives this call and owns the descriptor.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(self.session.wake_fd()) };
        let timeout = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }

    pub(crate) fn state(&self) -> serde_json::Value {
        serde_json::from_slice(&self.session.state_json()).unwrap()
    }

    /// Waits until the state satisfies `fits`. A look, not an event, so it is asked again.
    pub(crate) fn wait_state(&self, what: &str, fits: impl Fn(&serde_json::Value) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !fits(&self.state()) {
            assert!(Instant::now() < until, "{what}: {}", self.state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
