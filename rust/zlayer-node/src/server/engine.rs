//! The liveness engine as threads share it: core decides, this hands it the time and passes its effects on.
//!
//! The lock is taken when a session opens or ends, at each tick and by the API. A beat goes past it, through
//! [`BeatPath`]. Only a server that leads has an engine that decides: each time in office begins with a new one,
//! and what was handed out in an earlier one is of no use any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use zlayer_core::lease::LeaseError;
use zlayer_core::liveness::{
    Ack, BeatPath, Counts, Effect, Event, Liveness, LivenessError, LivenessLimits, LivenessStats,
    NodeView, SessionId, SessionLease,
};
use zlayer_core::record::NodeId;
use zlayer_core::ttl::AdaptiveTtlConfig;

use crate::clock::Clock;

/// A time in office, by number.
pub(crate) type Era = u64;

/// The hot path of one time in office.
struct Office {
    era: Era,
    beats: Arc<BeatPath>,
}

/// What a session beats with. Of no use in another time in office.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    era: Era,
    lease: SessionLease,
}

/// Why a session is not opened here.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Another server decides, or none.
    NotLeading,
    /// It must not be served.
    Refused(LivenessError),
}

/// An effect, and the time in office that it is of.
pub(crate) type Dated = (Era, Effect);

/// The engine of one server.
pub(crate) struct Engine {
    clock: Clock,
    ttl: AdaptiveTtlConfig,
    liveness: Mutex<Liveness>,
    office: ArcSwap<Office>,
    leads: AtomicBool,
    /// The time in office, for those who wait for its end; `None` while another server decides.
    eras: watch::Sender<Option<Era>>,
    /// Not bounded by itself, but by the nodes: core has at most one proposal a node in flight.
    effects: UnboundedSender<Dated>,
}

impl Engine {
    /// An engine that decides, and the effects that somebody must carry out.
    pub(crate) fn new(clock: Clock, ttl: AdaptiveTtlConfig) -> (Self, UnboundedReceiver<Dated>) {
        let (liveness, beats) = Liveness::new(ttl, LivenessLimits::default());
        let (effects, carried_out) = unbounded_channel();
        let engine = Self {
            clock,
            ttl,
            liveness: Mutex::new(liveness),
            office: ArcSwap::from_pointee(Office { era: 1, beats }),
            leads: AtomicBool::new(true),
            eras: watch::channel(Some(1)).0,
            effects,
        };
        (engine, carried_out)
    }

    fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether core panicked, on any thread. Nothing that it decides is to be trusted then.
    pub(crate) fn is_broken(&self) -> bool {
        self.liveness.is_poisoned()
    }

    /// Whether this server decides.
    pub(crate) fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// The time in office, as it changes.
    pub(crate) fn eras(&self) -> watch::Receiver<Option<Era>> {
        self.eras.subscribe()
    }

    /// Decides nothing any more, and forgets all that it knew: another server may decide otherwise.
    pub(crate) fn freeze(&self) {
        let mut liveness = self.liveness();
        self.leads.store(false, Ordering::Release);
        self.begin(&mut liveness);
        self.eras.send_replace(None);
    }

    /// Begins a time in office with these records.
    pub(crate) fn lead(&self, records: impl IntoIterator<Item = Event>) {
        let mut out = Vec::new();
        let era = {
            let mut liveness = self.liveness();
            let era = self.begin(&mut liveness);
            let now = self.clock.now();
            for record in records {
                liveness.handle(now, record, &mut out);
            }
            self.leads.store(true, Ordering::Release);
            self.eras.send_replace(Some(era));
            era
        };
        self.pass_on(era, out);
    }

    /// A new engine in place of the old one.
    fn begin(&self, liveness: &mut Liveness) -> Era {
        let (new, beats) = Liveness::new(self.ttl, LivenessLimits::default());
        *liveness = new;
        let era = self.office.load().era + 1;
        self.office.store(Arc::new(Office { era, beats }));
        era
    }

    /// Tells what happened, now. Of no effect while another server decides.
    pub(crate) fn tell(&self, event: Event) {
        self.tell_all([event]);
    }

    /// Tells what happened, in order, at one time. Of no effect while another server decides.
    pub(crate) fn tell_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut out = Vec::new();
        let era = {
            let mut liveness = self.liveness();
            if !self.leads() {
                return;
            }
            let now = self.clock.now();
            for event in events {
                liveness.handle(now, event, &mut out);
            }
            self.office.load().era
        };
        self.pass_on(era, out);
    }

    /// Whether the last tick left work over: the next one is due at once.
    pub(crate) fn is_behind(&self) -> bool {
        let liveness = self.liveness();
        liveness.next_wakeup().is_some_and(|at| at <= self.clock.now())
    }

    /// Opens a session, or renews the lease of an open one that had expired.
    ///
    /// # Errors
    /// Why the session is not opened.
    pub(crate) fn open(
        &self,
        node: NodeId,
        session: SessionId,
        incarnation: u64,
    ) -> Result<(Lease, Ack), OpenError> {
        self.with_liveness(|liveness, era, out| {
            liveness
                .open(self.clock.now(), node, session, incarnation, out)
                .map(|(lease, ack)| (Lease { era, lease }, ack))
        })
    }

    /// Notes a session that goes on from an earlier leader's time.
    ///
    /// # Errors
    /// Why the session must end.
    pub(crate) fn announce(
        &self,
        node: NodeId,
        session: SessionId,
        incarnation: u64,
    ) -> Result<(), OpenError> {
        self.with_liveness(|liveness, _, out| {
            liveness.announce(self.clock.now(), node, session, incarnation, out)
        })
    }

    fn with_liveness<T>(
        &self,
        decide: impl FnOnce(&mut Liveness, Era, &mut Vec<Effect>) -> Result<T, LivenessError>,
    ) -> Result<T, OpenError> {
        let mut out = Vec::new();
        let (era, decided) = {
            let mut liveness = self.liveness();
            if !self.leads() {
                return Err(OpenError::NotLeading);
            }
            let era = self.office.load().era;
            (era, decide(&mut liveness, era, &mut out))
        };
        self.pass_on(era, out);
        decided.map_err(OpenError::Refused)
    }

    /// One beat. Takes no lock of this type.
    ///
    /// # Errors
    /// [`LeaseError::Stale`]: call [`Engine::open`] again.
    pub(crate) fn beat(&self, lease: &Lease) -> Result<Ack, LeaseError> {
        let office = self.office.load();
        if office.era != lease.era {
            return Err(LeaseError::Stale(lease.lease.handle()));
        }
        office.beats.beat(&lease.lease, self.clock.now())
    }

    /// Panics on another thread with the engine in its hands.
    #[cfg(test)]
    pub(crate) fn break_it(&self) {
        std::thread::scope(|scope| {
            let broken = scope.spawn(|| {
                let _held = self.liveness();
                panic!("on purpose");
            });
            assert!(broken.join().is_err());
        });
    }

    fn pass_on(&self, era: Era, effects: Vec<Effect>) {
        for effect in effects {
            // Nobody carries effects out once the server stops, and then none may be.
            let _ = self.effects.send((era, effect));
        }
    }

    /// Whether an effect is of the present time in office.
    pub(crate) fn is_now(&self, era: Era) -> bool {
        self.leads() && self.office.load().era == era
    }

    /// What the engine knows of a node.
    pub(crate) fn view(&self, node: NodeId) -> Option<NodeView> {
        self.liveness().view(node)
    }

    /// Sums over all nodes.
    pub(crate) fn counts(&self) -> Counts {
        self.liveness().counts()
    }

    /// Counters since start, or since this server leads.
    pub(crate) fn stats(&self) -> LivenessStats {
        self.liveness().stats()
    }
}
