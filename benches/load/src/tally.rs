//! What the sessions of a swarm report, counted together.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use zlayer_node::session::{Observer, SessionEvent, Status};

use crate::histogram::Histogram;

/// Counts of all sessions.
#[derive(Default)]
pub(crate) struct Tally {
    connected: AtomicUsize,
    changed: Notify,
    last_error: Mutex<String>,
    suspects: AtomicU64,
    expiries: AtomicU64,
    /// The swarm ends sessions by itself from now on.
    ending: AtomicBool,
    paced: OnceLock<Paced>,
}

/// Counts of the paced phase.
struct Paced {
    started: Instant,
    ended: AtomicBool,
    /// Beats of each second.
    seconds: Vec<AtomicU32>,
    latencies: Mutex<Histogram>,
}

impl Tally {
    /// Sessions that have stood at least once.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// Waits until so many sessions have stood.
    pub(crate) async fn all_connected(&self, wanted: usize) {
        loop {
            let changed = self.changed.notified();
            if self.connected() >= wanted {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn last_error(&self) -> String {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn suspects(&self) -> u64 {
        self.suspects.load(Ordering::Relaxed)
    }

    pub(crate) fn expiries(&self) -> u64 {
        self.expiries.load(Ordering::Relaxed)
    }

    /// What sessions lose from now on is the swarm's doing.
    pub(crate) fn note_ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Beats count from now on, for at most so long.
    pub(crate) fn start_paced(&self, length: Duration) {
        // Rounded up, and one for the beats between the end and its note.
        let seconds = (0..length.as_secs() + 2).map(|_| AtomicU32::new(0)).collect();
        let (ended, latencies) = (AtomicBool::new(false), Mutex::default());
        // A second call would be another phase; there is one.
        let _ = self.paced.set(Paced { started: Instant::now(), ended, seconds, latencies });
    }

    /// Ends the count: latencies of all answered beats, and the beats of the fullest second.
    pub(crate) fn end_paced(&self) -> (Histogram, u64) {
        let Some(paced) = self.paced.get() else { return (Histogram::default(), 0) };
        paced.ended.store(true, Ordering::Relaxed);
        let peak = paced.seconds.iter().map(|count| count.load(Ordering::Relaxed)).max();
        let latencies = paced.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (latencies, peak.map_or(0, u64::from))
    }

    fn paced(&self) -> Option<&Paced> {
        self.paced.get().filter(|paced| !paced.ended.load(Ordering::Relaxed))
    }
}

/// Counts one session into the tally.
pub(crate) struct Counter {
    tally: Arc<Tally>,
    /// Held until the session stands, so that not too many dial at once.
    dialling: Option<OwnedSemaphorePermit>,
    stood: bool,
    suspected: bool,
    expired: bool,
}

impl Counter {
    pub(crate) fn new(tally: Arc<Tally>, dialling: OwnedSemaphorePermit) -> Self {
        let dialling = Some(dialling);
        Self { tally, dialling, stood: false, suspected: false, expired: false }
    }

    fn note_expiry(&mut self) {
        if !std::mem::replace(&mut self.expired, true) {
            self.tally.expiries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note_error(&self, why: &str) {
        let mut last = self.tally.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone_into(&mut last);
    }
}

impl Observer for Counter {
    fn event(&mut self, event: SessionEvent) {
        let ending = self.tally.ending.load(Ordering::Relaxed);
        match event {
            SessionEvent::Connected { .. } => {
                self.dialling = None;
                if !std::mem::replace(&mut self.stood, true) {
                    self.tally.connected.fetch_add(1, Ordering::Release);
                    self.tally.changed.notify_one();
                }
            }
            SessionEvent::Disconnected { why } => {
                self.note_error(&why);
                if !ending && !std::mem::replace(&mut self.suspected, true) {
                    self.tally.suspects.fetch_add(1, Ordering::Relaxed);
                }
            }
            SessionEvent::Refused { why, .. } => {
                self.note_error(&why);
                if !ending {
                    self.note_expiry();
                }
            }
            SessionEvent::Assignments { .. } => {}
        }
    }

    fn status(&mut self, status: &Status) {
        if status.lapses > 0 {
            self.note_expiry();
        }
        if let Some(why) = &status.last_error
            && !self.stood
        {
            self.note_error(why);
        }
    }

    fn sent(&mut self, hello: bool) {
        if let Some(paced) = self.tally.paced().filter(|_| !hello) {
            let second = paced.started.elapsed().as_secs() as usize;
            if let Some(count) = paced.seconds.get(second) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn acked(&mut self, round_trip: Duration) {
        if let Some(paced) = self.tally.paced() {
            let mut latencies = paced.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.record(round_trip);
        }
    }
}
