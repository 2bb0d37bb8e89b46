//! Changing who is in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{ChangeMembers, Precondition, ReadPolicy};
use tokio::time::{Instant, sleep, timeout};
use zlayer_core::record::FIRST_WORKER_ID;

use crate::replicated::engine::Engine;
use crate::replicated::form::decode_named;
use crate::replicated::membership_error::MembershipError;
use crate::replicated::peer::Peer;
use crate::replicated::transport::Kind;
use crate::replicated::types::LeaderOf;
use crate::replicated::wire::Hello;

/// For a server to say who it is.
const HELLO_WAIT: Duration = Duration::from_secs(2);

/// Entries that a learner may lack when it becomes a voter. Chosen: less than a second of a busy log.
pub const VOTER_LAG_MAX: u64 = 64;

/// Between two looks at how far a learner is.
const LOOK: Duration = Duration::from_millis(20);

type Changed<T> = Result<T, MembershipError>;

impl Engine {
    /// Confirms that this server leads, and applies what is committed. Gives its time in office.
    async fn lead(&self) -> Changed<LeaderOf> {
        let asked = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let linearizer = asked.map_err(MembershipError::of_read)?;
        let leader = *linearizer.read_log_id().committed_leader_id();
        linearizer.await_ready(&self.raft).await.map_err(|e| MembershipError::stopped(&e))?;
        Ok(leader)
    }

    async fn look_at_members(&self) -> Changed<()> {
        let looked = self.link.roster.look(&self.raft).await;
        looked.map_err(|error| MembershipError::stopped(&error))
    }

    /// One change, by the leader that has prepared it and by no other.
    async fn change(
        &self,
        leader: LeaderOf,
        change: ChangeMembers<u64, Peer>,
        retain: bool,
    ) -> Changed<()> {
        let still = Precondition::CommittedLeaderId { committed_leader_id: leader };
        let change = self.raft.change_membership_if(change, retain, [still]);
        match timeout(self.timers.snapshot, change).await {
            // Whoever asks for the members next sees it.
            Ok(Ok(_)) => self.look_at_members().await,
            Ok(Err(error)) => Err(MembershipError::of_write(error)),
            Err(_) => Err(MembershipError::Unknown { why: "no quorum answers".into() }),
        }
    }

    async fn hello(&self, id: u64, peer: &Peer) -> Changed<Hello> {
        let nothing = |_: &mut _| Ok(());
        let read = |get: &mut crate::replicated::form::Get<'_>| decode_named(get.bytes()?);
        let asked = self.link.ask((id, peer), Kind::Hello, nothing, read, HELLO_WAIT).await;
        asked.map_err(|error| MembershipError::of_link(id, error))
    }

    /// Forms a cluster of these servers, which must all be up and new. For one that is in a log already: refused.
    pub(crate) async fn form(&self, addresses: BTreeMap<u64, (String, String)>) -> Changed<()> {
        let _changing = self.changing.lock().await;
        if !addresses.contains_key(&self.link.id) {
            return Err(MembershipError::NotMember { id: self.link.id });
        }
        let mut peers = BTreeMap::new();
        for (id, (raft_addr, api_addr)) in addresses {
            check_id(id)?;
            let mut peer = Peer { raft_addr, api_addr, store: self.link.store };
            if id != self.link.id {
                peer.store = 0;
                let hello = self.hello(id, &peer).await?;
                if hello.last.is_some() {
                    return Err(MembershipError::Elsewhere { id, voters: hello.voters });
                }
                peer.store = hello.store;
            }
            peers.insert(id, peer);
        }
        self.raft.initialize(peers).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => MembershipError::AlreadyFormed,
            RaftError::APIError(InitializeError::NotInMembers(error)) => {
                MembershipError::NotMember { id: error.node_id }
            }
            RaftError::Fatal(error) => MembershipError::stopped(&error),
        })
    }

    /// Takes a new server in, as a learner.
    pub(crate) async fn add_learner(
        &self,
        id: u64,
        raft_addr: String,
        api_addr: String,
    ) -> Changed<()> {
        let _changing = self.changing.lock().await;
        check_id(id)?;
        let leader = self.lead().await?;
        if self.core.is_retired(id) {
            return Err(MembershipError::Retired { id });
        }
        self.look_at_members().await?;
        if let Some(member) = self.link.roster.peer(id) {
            let is_same = member.raft_addr == raft_addr && member.api_addr == api_addr;
            let addr = member.raft_addr;
            return if is_same { Ok(()) } else { Err(MembershipError::AlreadyMember { id, addr }) };
        }
        let mut peer = Peer { raft_addr, api_addr, store: 0 };
        let hello = self.hello(id, &peer).await?;
        if hello.last.is_some() {
            return Err(MembershipError::Elsewhere { id, voters: hello.voters });
        }
        peer.store = hello.store;
        self.change(leader, ChangeMembers::AddNodes([(id, peer)].into()), true).await
    }

    /// Lets learners vote, once they have caught up.
    pub(crate) async fn promote(&self, ids: BTreeSet<u64>) -> Changed<()> {
        let _changing = self.changing.lock().await;
        let leader = self.lead().await?;
        self.look_at_members().await?;
        let members = self.link.roster.read().members.clone();
        for id in &ids {
            if !members.peers.contains_key(id) {
                return Err(MembershipError::NotMember { id: *id });
            }
            if members.voters.contains(id) {
                return Err(MembershipError::NoLearner { id: *id });
            }
            self.await_caught_up(*id).await?;
        }
        self.change(leader, ChangeMembers::AddVoterIds(ids), true).await
    }

    async fn await_caught_up(&self, id: u64) -> Changed<()> {
        let deadline = Instant::now() + self.timers.snapshot;
        loop {
            let lag = {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                let Some(replication) = &metrics.replication else {
                    return Err(MembershipError::elsewhere(metrics.current_leader));
                };
                let matched = replication.get(&id).copied().flatten().map(|id| id.index + 1);
                let last = metrics.last_log_index.map_or(0, |index| index + 1);
                last.saturating_sub(matched.unwrap_or(0))
            };
            if lag <= VOTER_LAG_MAX {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(MembershipError::Behind { id, lag });
            }
            sleep(LOOK).await;
        }
    }

    /// Removes a server, voter or learner, for good.
    pub(crate) async fn remove(&self, id: u64) -> Changed<()> {
        let _changing = self.changing.lock().await;
        let leader = self.lead().await?;
        self.look_at_members().await?;
        let members = self.link.roster.read().members.clone();
        if !members.peers.contains_key(&id) {
            return Err(MembershipError::NotMember { id });
        }
        if !members.voters.contains(&id) {
            return self.change(leader, ChangeMembers::RemoveNodes([id].into()), true).await;
        }
        if members.voters.len() == 1 {
            return Err(MembershipError::LastVoter);
        }
        self.change(leader, ChangeMembers::RemoveVoters([id].into()), false).await
    }

    /// Notes that a member is somewhere else now.
    pub(crate) async fn move_to(
        &self,
        id: u64,
        raft_addr: String,
        api_addr: String,
    ) -> Changed<()> {
        let _changing = self.changing.lock().await;
        let leader = self.lead().await?;
        let Some(member) = self.link.roster.peer(id) else {
            return Err(MembershipError::NotMember { id });
        };
        let peer = Peer { raft_addr, api_addr, store: member.store };
        self.change(leader, ChangeMembers::SetNodes([(id, peer)].into()), true).await
    }

    /// Hands the leadership over to a voter that has nearly the whole log.
    pub(crate) async fn transfer(&self, to: u64) -> Changed<()> {
        let _changing = self.changing.lock().await;
        self.lead().await?;
        self.look_at_members().await?;
        let members = self.link.roster.read().members.clone();
        if !members.voters.contains(&to) {
            return Err(MembershipError::NoVoter { id: to });
        }
        if to == self.link.id {
            return Ok(());
        }
        self.await_caught_up(to).await?;
        let asked = self.raft.trigger().transfer_leader(to).await;
        asked.map_err(|error| MembershipError::stopped(&error))?;
        let deadline = Instant::now() + 4 * self.timers.election_max;
        loop {
            if self.raft.metrics().borrow_watched().current_leader == Some(to) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!("server {to} does not lead yet");
                return Err(MembershipError::Unknown { why });
            }
            sleep(LOOK).await;
        }
    }
}

fn check_id(id: u64) -> Changed<()> {
    if (1..FIRST_WORKER_ID).contains(&id) {
        Ok(())
    } else {
        Err(MembershipError::NoServerId { id })
    }
}
