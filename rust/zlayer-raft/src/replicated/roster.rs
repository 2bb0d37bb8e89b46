//! Who is in the cluster, as this server knows it now: the newest membership in its log, committed or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use openraft::Raft;
use openraft::errors::Fatal;

use crate::replicated::machine::Machine;
use crate::replicated::peer::Peer;
use crate::replicated::types::{LogId, StoredMembership, Types};

/// A membership, as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Servers that vote.
    pub voters: BTreeSet<u64>,
    /// All servers; who does not vote is a learner.
    pub peers: BTreeMap<u64, Peer>,
    /// The voters change from one set to another just now. Finished by the leader by itself.
    pub is_changing: bool,
}

impl Members {
    /// Servers that get the log and do not vote.
    pub fn learners(&self) -> impl Iterator<Item = u64> {
        self.peers.keys().copied().filter(|id| !self.voters.contains(id))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The entry that brought it; none before there was one.
    pub(crate) at: Option<LogId>,
    pub(crate) members: Members,
    /// Voters of the sets that it changes from and to; one set where it does not change.
    pub(crate) configs: Vec<BTreeSet<u64>>,
    pub(crate) is_committed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Roster(RwLock<Arc<Known>>);

impl Roster {
    pub(crate) fn read(&self) -> Arc<Known> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over what openraft says: the newest membership, and the newest committed one.
    pub(crate) fn note(&self, newest: &StoredMembership, committed: &StoredMembership) {
        let configs = newest.get_joint_config().clone();
        let known = Known {
            at: *newest.log_id(),
            members: Members {
                voters: newest.voter_ids().collect(),
                peers: newest.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
                is_changing: configs.len() > 1,
            },
            configs,
            is_committed: newest.log_id() == committed.log_id(),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    /// Looks who is in the cluster now, rather than a moment ago.
    pub(crate) async fn look(
        self: &Arc<Self>,
        raft: &Raft<Types, Machine>,
    ) -> Result<(), Fatal<Types>> {
        let roster = Arc::clone(self);
        raft.with_raft_state(move |state| {
            let members = &state.membership_state;
            roster.note(members.effective(), members.committed());
        })
        .await
    }

    /// Whether this server needs no vote but its own.
    pub(crate) fn is_sole_voter(&self, id: u64) -> bool {
        let voters = &self.read().members.voters;
        voters.len() == 1 && voters.contains(&id)
    }

    pub(crate) fn peer(&self, id: u64) -> Option<Peer> {
        self.read().members.peers.get(&id).cloned()
    }
}
