//! The liveness engine as threads share it: core decides, this hands it the time and passes its effects on.
//!
//! The lock is taken when a session opens or ends, at each tick and by the API. A beat goes past it, through
//! [`BeatPath`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zlayer_core::lease::LeaseError;
use zlayer_core::liveness::{
    Ack, BeatPath, Counts, Effect, Event, Liveness, LivenessError, LivenessLimits, LivenessStats,
    NodeView, SessionId, SessionLease,
};
use zlayer_core::record::NodeId;
use zlayer_core::ttl::AdaptiveTtlConfig;

use crate::clock::Clock;

/// The engine of one server.
pub(crate) struct Engine {
    clock: Clock,
    liveness: Mutex<Liveness>,
    beats: Arc<BeatPath>,
    /// Not bounded by itself, but by the nodes: core has at most one proposal a node in flight.
    effects: UnboundedSender<Effect>,
}

impl Engine {
    /// The engine, and the effects that somebody must carry out.
    pub(crate) fn new(clock: Clock, ttl: AdaptiveTtlConfig) -> (Self, UnboundedReceiver<Effect>) {
        let (liveness, beats) = Liveness::new(ttl, LivenessLimits::default());
        let (effects, carried_out) = unbounded_channel();
        (Self { clock, liveness: Mutex::new(liveness), beats, effects }, carried_out)
    }

    fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether core panicked, on any thread. Nothing that it decides is to be trusted then.
    pub(crate) fn is_broken(&self) -> bool {
        self.liveness.is_poisoned()
    }

    /// Tells what happened, now.
    pub(crate) fn tell(&self, event: Event) {
        self.tell_all([event]);
    }

    /// Tells what happened, in order, at one time.
    pub(crate) fn tell_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut out = Vec::new();
        {
            let mut liveness = self.liveness();
            let now = self.clock.now();
            for event in events {
                liveness.handle(now, event, &mut out);
            }
        }
        self.pass_on(out);
    }

    /// Whether the last tick left work over: the next one is due at once.
    pub(crate) fn is_behind(&self) -> bool {
        let liveness = self.liveness();
        liveness.next_wakeup().is_some_and(|at| at <= self.clock.now())
    }

    /// Opens a session, or renews the lease of an open one that had expired.
    ///
    /// # Errors
    /// Why the session must not be served.
    pub(crate) fn open(
        &self,
        node: NodeId,
        session: SessionId,
        incarnation: u64,
    ) -> Result<(SessionLease, Ack), LivenessError> {
        let mut out = Vec::new();
        let opened = {
            let mut liveness = self.liveness();
            liveness.open(self.clock.now(), node, session, incarnation, &mut out)
        };
        self.pass_on(out);
        opened
    }

    /// One beat. Takes no lock of this type.
    ///
    /// # Errors
    /// [`LeaseError::Stale`]: call [`Engine::open`] again.
    pub(crate) fn beat(&self, lease: &SessionLease) -> Result<Ack, LeaseError> {
        self.beats.beat(lease, self.clock.now())
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

    fn pass_on(&self, effects: Vec<Effect>) {
        for effect in effects {
            // Nobody carries effects out once the server stops, and then none may be.
            let _ = self.effects.send(effect);
        }
    }

    /// What the engine knows of a node.
    pub(crate) fn view(&self, node: NodeId) -> Option<NodeView> {
        self.liveness().view(node)
    }

    /// Sums over all nodes.
    pub(crate) fn counts(&self) -> Counts {
        self.liveness().counts()
    }

    /// Counters since start.
    pub(crate) fn stats(&self) -> LivenessStats {
        self.liveness().stats()
    }
}
