//! The task that looks after the engine: who leads, snapshots and purges, changes of members that were left half
//! done, proposals that nobody answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{ChangeMembers, Instant, Precondition, RaftMetrics, ServerState};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::control_log::{LeaderId, Leadership};
use crate::replicated::engine::Engine;
use crate::replicated::link::Link;
use crate::replicated::types::Types;

/// Between two looks. Chosen: a fraction of the time in which a leader may lose its quorum.
const TICK: Duration = Duration::from_millis(20);

/// Ticks between two looks at what is slow. Half a second.
const TICKS_SLOW: u64 = 25;

/// Longest that one try to finish a change of members takes.
const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Keeper {
    engine: Arc<Engine>,
    /// A message for each snapshot that was saved.
    saved: mpsc::UnboundedReceiver<()>,
    stopping: watch::Receiver<bool>,
    /// The leader that was seen last.
    seen: Option<LeaderId>,
}

impl Keeper {
    pub(crate) fn new(
        engine: Arc<Engine>,
        saved: mpsc::UnboundedReceiver<()>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { engine, saved, stopping, seen: None }
    }

    /// Runs until the engine stops.
    pub(crate) async fn run(mut self) {
        let mut server = self.engine.raft.server_metrics();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u64 = 0;
        loop {
            tokio::select! {
                _ = self.stopping.changed() => return,
                changed = server.changed() => {
                    if changed.is_err() {
                        return self.note_end();
                    }
                }
                _ = ticks.tick() => {
                    count += 1;
                    self.engine.pending.sweep(self.engine.timers.propose);
                    if count.is_multiple_of(TICKS_SLOW) {
                        self.purge().await;
                        self.finish_change();
                    }
                }
                Some(()) = self.saved.recv() => {
                    // It can only fail when the engine has ended.
                    let _ = self.engine.raft.trigger().snapshot().await;
                }
            }
            {
                let metrics = server.borrow_and_update();
                let committed = &metrics.committed_membership_config;
                self.engine.link.roster.note(&metrics.membership_config, committed);
            }
            self.note_leadership();
        }
    }

    /// openraft has ended by itself.
    fn note_end(&self) {
        let running = self.engine.raft.metrics().borrow_watched().running_state.clone();
        let why =
            running.err().map_or_else(|| "the consensus engine panicked".into(), |e| e.to_string());
        tracing::error!(why, "the control log has stopped");
        self.engine.ended.get_or_init(|| why);
        self.engine.leadership.send_replace(Leadership::default());
    }

    fn note_leadership(&mut self) {
        let now = leadership(
            &self.engine.raft.metrics().borrow_watched(),
            &self.engine.link,
            self.engine.timers.election_max,
        );
        let leader = now.leader.map(|node| LeaderId { term: now.term, node });
        if leader.is_some() && leader != self.seen {
            self.seen = leader;
            self.engine.elections.fetch_add(1, Ordering::Relaxed);
        }
        self.engine.leadership.send_if_modified(|before| {
            let is_new = *before != now;
            *before = now;
            is_new
        });
    }

    /// Lets go of the entries that two snapshots stand for.
    async fn purge(&self) {
        let Some(stored) = self.engine.core.shelf.newest() else { return };
        let (known, purged) = {
            let metrics = self.engine.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.snapshot.map(|id| id.index), metrics.purged.map(|id| id.index))
        };
        let is_known = known >= Some(stored.index);
        if is_known && stored.purge_to > 0 && purged < Some(stored.purge_to) {
            // As above.
            let _ = self.engine.raft.trigger().purge_log(stored.purge_to).await;
        }
    }

    /// Finishes a change of voters that another leader has begun, or this one before it was interrupted.
    fn finish_change(&self) {
        let known = self.engine.link.roster.read();
        let is_leader = self.engine.leadership.borrow().own.is_some();
        let Some(goal) = known.configs.last().filter(|_| known.configs.len() > 1).cloned() else {
            return;
        };
        if !is_leader || !known.is_committed {
            return;
        }
        let Ok(guard) = Arc::clone(&self.engine.changing).try_lock_owned() else { return };
        let raft = self.engine.raft.clone();
        tokio::spawn(async move {
            let _guard = guard;
            let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: known.at };
            let goal = ChangeMembers::ReplaceAllVoters(goal);
            let change = raft.change_membership_if(goal, false, [unchanged]);
            match timeout(FINISH_LIMIT, change).await {
                Ok(Ok(_)) => {
                    tracing::info!("a change of members that was left half done is finished");
                }
                Ok(Err(error)) => tracing::warn!(%error, "a change of members is not finished yet"),
                Err(_) => tracing::warn!("a change of members takes long"),
            }
        });
    }
}

/// Who leads, by what openraft says and by who was heard.
pub(crate) fn leadership(
    metrics: &RaftMetrics<Types>,
    link: &Link,
    election_max: Duration,
) -> Leadership {
    let (id, term) = (metrics.id, metrics.current_term);
    let leads = metrics.state == ServerState::Leader
        && metrics.vote.committed
        && metrics.vote.leader_id.node_id == id;
    if leads {
        let mut voters = metrics.membership_config.voter_ids();
        let is_alone = voters.next() == Some(id) && voters.next().is_none();
        let acked = metrics.last_quorum_acked;
        let is_confirmed = is_alone || acked.is_some_and(|acked| acked.elapsed() < election_max);
        let own = is_confirmed.then_some(LeaderId { term: metrics.vote.leader_id.term, node: id });
        return Leadership { term, leader: own.map(|own| own.node), own };
    }
    let leader = metrics.current_leader.filter(|leader| *leader != id);
    let leader = leader.filter(|_| link.has_heard_within(2 * election_max));
    Leadership { term, leader, own: None }
}
