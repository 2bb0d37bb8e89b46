//! Which node is Ready, Suspect, Unreachable or Left, and nothing else.
//!
//! ```text
//!                       Event, open                       Effect
//!   sessions, log ─────────────────────> Liveness ─────────────────────> log, sessions, alarm
//!        │                                  │ TTL and number of workers
//!        └──── every beat ──> BeatPath <────┘
//! ```
//!
//! Sans-I/O: time is the argument `now`, on one monotonic clock. What the control state records is proposed as a
//! conditional transition, one a node at a time; what is true may change meanwhile, and is compared again with
//! the record when the answer comes. Rules, each with a test that says it:
//!
//! * A lease lasts TTL + grace from the receipt of a beat; a promise is never shortened, by no later session either.
//! * Two signals: a lost connection makes Suspect at once, the end of the lease makes Unreachable.
//! * A due lease is looked at twice; a tick that comes late moves every deadline and drains the sockets first; after
//!   a sleep longer than the grace everybody has the reconnect window to come back.
//! * Silence of too many at once is held back and reported, once.
//! * Loaded nodes get the longest TTL that was handed out, plus grace, and a window to come back unnoticed.
//! * A node's newest session counts; what older ones say changes nothing, until the newest is gone and one of the
//!   same process still speaks.

mod beat;
mod brake;
mod error;
mod event;
mod expiry;
mod invariants;
mod ledger;
mod limits;
mod member;
mod planted;
mod record;
mod session;
#[cfg(test)]
mod tests;
mod tick;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use beat::{Ack, BeatPath, SessionLease};
pub use error::LivenessError;
pub use event::{CloseReason, Effect, Event, ExpiryHeld, SessionId};
pub use limits::{BrakeLimits, LivenessLimits};
#[cfg(feature = "planted-bugs")]
pub use planted::Bug;
pub use view::{Counts, LivenessStats, NodeView};

use crate::lease::LeaseHandle;
use crate::record::NodeId;
use crate::time::MonoMs;
use crate::ttl::AdaptiveTtlConfig;
use brake::Brake;
use ledger::Ledger;
use member::{Flight, Held, Member, Presence};
use planted::Planted;
use tick::TickWatch;

/// Leases of loaded nodes: they all come due within one spread, once.
#[derive(Debug, Clone, Copy)]
struct Promoted {
    leases: u64,
    /// The first comes due.
    from: MonoMs,
    spread_ms: u64,
}

/// Decides liveness. One owner calls it; [`BeatPath`] is what the sessions share.
pub struct Liveness {
    config: AdaptiveTtlConfig,
    limits: LivenessLimits,
    beats: Arc<BeatPath>,
    members: BTreeMap<NodeId, Member>,
    /// Leases that a beat can renew, and those of loaded nodes.
    live: Ledger,
    /// Leases of lost connections. Apart, so that the brake counts the others alone.
    lost: Ledger,
    watch: TickWatch,
    brake: Brake,
    /// Loaded nodes in the order in which they were loaded, and when their reconnect window ends.
    awaited: VecDeque<NodeId>,
    awaited_until: MonoMs,
    /// Loaded since the last tick: the longest TTL among the records.
    loading: Option<u64>,
    promoted: Option<Promoted>,
    /// To be decided again at the next tick.
    unsettled: VecDeque<NodeId>,
    /// The last tick left work over.
    backlog: bool,
    connected: u64,
    /// Leases of nodes that have not come back since they were loaded.
    awaited_leases: u64,
    in_flight: u64,
    stats: LivenessStats,
    expired: Vec<NodeId>,
    planted: Planted,
}

impl Liveness {
    /// An engine without nodes, and the hot path that goes with it.
    pub fn new(config: AdaptiveTtlConfig, limits: LivenessLimits) -> (Self, Arc<BeatPath>) {
        Self::build(config, limits, Planted::default())
    }

    /// As [`Self::new`], with a bug in it.
    #[cfg(feature = "planted-bugs")]
    pub fn with_bug(
        config: AdaptiveTtlConfig,
        limits: LivenessLimits,
        bug: Option<Bug>,
    ) -> (Self, Arc<BeatPath>) {
        Self::build(config, limits, Planted::new(bug))
    }

    fn build(
        config: AdaptiveTtlConfig,
        limits: LivenessLimits,
        planted: Planted,
    ) -> (Self, Arc<BeatPath>) {
        let live = Ledger::new(limits.leases_max);
        let beats = Arc::new(BeatPath::new(live.slots(), config, limits, planted));
        let engine = Self {
            config,
            limits,
            beats: Arc::clone(&beats),
            members: BTreeMap::new(),
            live,
            lost: Ledger::new(limits.leases_max),
            watch: TickWatch::default(),
            brake: Brake::new(),
            awaited: VecDeque::new(),
            awaited_until: MonoMs::default(),
            loading: None,
            promoted: None,
            unsettled: VecDeque::new(),
            backlog: false,
            connected: 0,
            awaited_leases: 0,
            in_flight: 0,
            stats: LivenessStats::default(),
            expired: Vec::new(),
            planted,
        };
        (engine, beats)
    }

    /// Applies one event at time `now` and appends what must be done to `out`: one effect, or for `Tick` at most
    /// [`LivenessLimits::decisions_max`] and an alarm; then [`Self::next_wakeup`] is at once.
    ///
    /// Events about unknown nodes, ended sessions and proposals that nobody made change nothing.
    pub fn handle(&mut self, now: MonoMs, event: Event, out: &mut Vec<Effect>) {
        self.observe(now);
        match event {
            Event::Loaded { node, liveness, epoch, incarnation, ttl_ms } => {
                self.load(now, node, Member::new(liveness, epoch, incarnation), ttl_ms);
            }
            Event::Enrolled { node, liveness, epoch } => {
                self.members.entry(node).or_insert_with(|| Member::new(liveness, epoch, 0));
            }
            Event::Disconnected { node, session } => self.disconnect(now, node, session, out),
            Event::Leaving { node, session } => self.leave(now, node, session, out),
            Event::Removed { node } => self.remove(node, out),
            Event::Committed { node, epoch } => self.commit(now, node, epoch, out),
            Event::Refreshed { node, liveness, epoch, incarnation } => {
                self.refresh(node, liveness, epoch, incarnation);
            }
            Event::Tick => self.tick(now, out),
        }
    }

    /// When `Tick` is due; `None` before the first event. Late ticks are noticed, early ones are harmless.
    pub fn next_wakeup(&self) -> Option<MonoMs> {
        if self.backlog { self.watch.last() } else { self.watch.next(&self.limits) }
    }

    /// Sums over all nodes.
    pub fn counts(&self) -> Counts {
        Counts {
            nodes: self.members.len() as u64,
            leases: self.leases(),
            connected: self.connected,
            in_flight: self.in_flight,
            ttl_ms: self.beats.ttl_ms(),
            expiry_held: self.brake.is_held(),
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> LivenessStats {
        LivenessStats { tick_lag_ms_max: self.watch.lag_ms_max, ..self.stats }
    }

    /// One node; `None`: not a member.
    pub fn view(&self, node: NodeId) -> Option<NodeView> {
        let member = self.members.get(&node)?;
        let marks = member.marks.as_ref();
        Some(NodeView {
            deadline: match member.held {
                Held::Nothing => None,
                Held::Live(handle) => self.live.deadline(handle),
                Held::Lost(handle) => self.lost.deadline(handle),
            },
            next_beat: marks.filter(|_| member.is_connected()).and_then(|marks| marks.next_beat()),
            last_beat: marks.map(|marks| marks.beat_at()),
            ttl_ms: marks.map_or(0, |marks| marks.ttl_ms()),
            session: Some(member.session).filter(|&session| session != SessionId::default()),
            connected: member.is_connected(),
        })
    }

    fn leases(&self) -> u64 {
        self.live.len() + self.lost.len()
    }

    fn set_presence(&mut self, node: NodeId, presence: Presence) {
        let Some(member) = self.members.get_mut(&node) else { return };
        self.connected -= u64::from(member.is_connected());
        self.awaited_leases -= u64::from(member.is_awaited());
        member.presence = presence;
        self.connected += u64::from(member.is_connected());
        self.awaited_leases += u64::from(member.is_awaited());
    }

    fn set_flight(&mut self, node: NodeId, flight: Flight) {
        let Some(member) = self.members.get_mut(&node) else { return };
        self.in_flight -= u64::from(member.flight != Flight::Idle);
        member.flight = flight;
        self.in_flight += u64::from(member.flight != Flight::Idle);
    }

    /// The TTL follows the leases.
    fn publish(&self) {
        self.beats.set_workers(self.leases());
    }

    /// Ends the node's lease and gives its slot back, unless it is `keep`.
    fn drop_lease(&mut self, node: NodeId, keep: Option<LeaseHandle>) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if let Some(marks) = &member.marks {
            self.beats.release(marks);
        }
        match std::mem::replace(&mut member.held, Held::Nothing) {
            Held::Live(handle) if Some(handle) != keep => {
                self.live.revoke(handle);
            }
            Held::Lost(handle) => {
                self.lost.revoke(handle);
            }
            Held::Nothing | Held::Live(_) => {}
        }
    }
}
