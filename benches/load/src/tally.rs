//! What the sessions of a swarm report, counted together.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use zlayer_node::session::{Observer, SessionEvent, Status};

use crate::histogram::Histogram;
use crate::report::Reconnects;

/// Counts of all sessions.
#[derive(Default)]
pub(crate) struct Tally {
    connected: AtomicUsize,
    changed: Notify,
    last_error: Mutex<String>,
    suspects: AtomicU64,
    expiries: AtomicU64,
    /// Sessions that are lost now.
    missing: AtomicU64,
    outages: Mutex<Histogram>,
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
    /// Hellos of each second; they are no beats.
    hellos: Vec<AtomicU32>,
    latencies: Mutex<Histogram>,
}

impl Paced {
    /// Counts into the current second.
    fn count(&self, of: &[AtomicU32]) {
        if let Some(count) = of.get(self.started.elapsed().as_secs() as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Of the fullest second.
fn peak(of: &[AtomicU32]) -> u64 {
    of.iter().map(|count| count.load(Ordering::Relaxed)).max().map_or(0, u64::from)
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

    /// What came back, and how long it took.
    pub(crate) fn reconnects(&self) -> Reconnects {
        let outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        Reconnects {
            count: outages.total(),
            missing: self.missing.load(Ordering::Relaxed),
            p50_ms: outages.quantile_ms(0.5),
            p99_ms: outages.quantile_ms(0.99),
            max_ms: outages.quantile_ms(1.0),
            peak_hellos_per_second: self.paced.get().map(|paced| peak(&paced.hellos)),
        }
    }

    /// What sessions lose from now on is the swarm's doing.
    pub(crate) fn note_ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Beats count from now on, for at most so long.
    pub(crate) fn start_paced(&self, length: Duration) {
        // Rounded up, and one for the beats between the end and its note.
        let zeros = || (0..length.as_secs() + 2).map(|_| AtomicU32::new(0)).collect();
        let (seconds, hellos) = (zeros(), zeros());
        let (ended, latencies) = (AtomicBool::new(false), Mutex::default());
        // A second call would be another phase; there is one.
        let started = Instant::now();
        let _ = self.paced.set(Paced { started, ended, seconds, hellos, latencies });
    }

    /// Ends the count: latencies of all answered beats, and the beats of the fullest second.
    pub(crate) fn end_paced(&self) -> (Histogram, u64) {
        let Some(paced) = self.paced.get() else { return (Histogram::default(), 0) };
        paced.ended.store(true, Ordering::Relaxed);
        let latencies = paced.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (latencies, peak(&paced.seconds))
    }

    fn note_outage(&self, lasted: Duration) {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).record(lasted);
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
    /// Since when the session is lost.
    lost: Option<Instant>,
}

impl Counter {
    pub(crate) fn new(tally: Arc<Tally>, dialling: OwnedSemaphorePermit) -> Self {
        let dialling = Some(dialling);
        Self { tally, dialling, stood: false, suspected: false, expired: false, lost: None }
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
                if let Some(lost) = self.lost.take() {
                    self.tally.missing.fetch_sub(1, Ordering::Relaxed);
                    self.tally.note_outage(lost.elapsed());
                }
            }
            SessionEvent::Disconnected { why } => {
                self.note_error(&why);
                if ending {
                    return;
                }
                if self.lost.replace(Instant::now()).is_none() {
                    self.tally.missing.fetch_add(1, Ordering::Relaxed);
                }
                if !std::mem::replace(&mut self.suspected, true) {
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
        if let Some(paced) = self.tally.paced() {
            paced.count(if hello { &paced.hellos } else { &paced.seconds });
        }
    }

    fn acked(&mut self, round_trip: Duration) {
        if let Some(paced) = self.tally.paced() {
            let mut latencies = paced.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.record(round_trip);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use tokio::sync::Semaphore;

    use super::*;

    fn counter(tally: &Arc<Tally>) -> Counter {
        Counter::new(Arc::clone(tally), Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap())
    }

    fn connected() -> SessionEvent {
        SessionEvent::Connected { server: "a:1".into() }
    }

    fn disconnected() -> SessionEvent {
        SessionEvent::Disconnected { why: "gone".into() }
    }

    #[test]
    fn what_is_lost_is_missing_until_it_stands_again() {
        let tally = Arc::new(Tally::default());
        let (mut first, mut second) = (counter(&tally), counter(&tally));
        first.event(connected());
        second.event(connected());
        assert_eq!((tally.connected(), tally.reconnects().count), (2, 0));

        first.event(disconnected());
        second.event(disconnected());
        first.event(connected());
        let seen = tally.reconnects();
        assert_eq!((seen.count, seen.missing, tally.connected()), (1, 1, 2));
        assert!(seen.max_ms.is_some());

        second.event(connected());
        tally.note_ending();
        first.event(disconnected());
        let seen = tally.reconnects();
        assert_eq!((seen.count, seen.missing), (2, 0), "what the swarm ends is not lost");
    }

    #[test]
    fn a_hello_is_no_beat() {
        let tally = Arc::new(Tally::default());
        let mut counter = counter(&tally);
        counter.sent(true);
        tally.start_paced(Duration::from_secs(60));
        counter.sent(false);
        counter.sent(true);
        counter.sent(true);
        assert_eq!(tally.reconnects().peak_hellos_per_second, Some(2));
        assert_eq!(tally.end_paced().1, 1);
    }
}
