//! A look at a running server.

use std::sync::atomic::Ordering;

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};

use crate::control_log::{LogHealth, PeerHealth, Role};
use crate::replicated::engine::Engine;

impl Engine {
    /// A look at all of it.
    pub(crate) fn health(&self) -> LogHealth {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let stats = self.wal.stats();
        let stopped = self.failure();
        let refused = self.link.refused();
        let known = self.link.roster.read();
        let log_index = metrics.last_log_index.unwrap_or(0);
        let others = known.members.peers.iter().filter(|(id, _)| **id != metrics.id);
        let peers = others.map(|(id, peer)| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id).copied());
            let matched = matched.flatten().map_or(0, |id| id.index);
            let acked = metrics.heartbeat.as_ref().and_then(|all| all.get(id).copied());
            let silent = acked.flatten().map(|acked| acked.elapsed().as_millis() as u64);
            let is_leader = metrics.state == ServerState::Leader;
            PeerHealth {
                id: *id,
                peer: peer.clone(),
                is_voter: known.members.voters.contains(id),
                matched,
                lag: if is_leader { log_index.saturating_sub(matched) } else { 0 },
                silent_ms: silent,
                refused: refused.get(id).cloned(),
            }
        });
        let leadership = *self.leadership.borrow();
        let (commit_p50_us, commit_p99_us) = self.pending.latency_us();
        LogHealth {
            role: match metrics.state {
                _ if stopped.is_some() => Role::Stopped,
                ServerState::Learner => Role::Learner,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader if leadership.own.is_some() => Role::Leader,
                // A leader that no quorum confirms decides nothing: it waits like the others.
                ServerState::Follower | ServerState::Leader => Role::Follower,
                ServerState::Shutdown => Role::Stopped,
            },
            stopped,
            term: metrics.current_term,
            leader: leadership.leader,
            is_retired: self.link.is_retired() || self.core.is_retired(metrics.id),
            last_index: self.core.last_index.load(Ordering::Acquire),
            log_index,
            commit_index: metrics.cluster_committed.map_or(0, |id| id.index),
            elections: self.elections.load(Ordering::Relaxed),
            peers: peers.collect(),
            appended: stats.appended,
            entries_kept: self.store.entries_kept() as u64,
            log_bytes: stats.log_bytes,
            fsync_count: stats.fsync_count,
            fsync_p50_us: stats.fsync_p50_us,
            fsync_p99_us: stats.fsync_p99_us,
            commit_p50_us,
            commit_p99_us,
            proposals_waiting: self.pending.waiting(),
            records_waiting: stats.waiting,
            snapshots: self.core.shelf.saved.load(Ordering::Relaxed),
            snapshots_failed: self.core.shelf.failed.load(Ordering::Relaxed),
        }
    }
}
