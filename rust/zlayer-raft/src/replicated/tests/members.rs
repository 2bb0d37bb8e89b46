//! Servers that come and go: new ones, removed ones, such that lost their disk.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use openraft::Precondition;
use tokio::time::{sleep, timeout};
use zlayer_wal::sim::SimFs;

use super::history::Clients;
use super::rig::{Cluster, LOOK, PATIENCE, addresses, create_token};
use crate::{ControlLog, MembershipError, Replicated};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_becomes_three_five_and_three_again_under_load() {
    let mut cluster = Cluster::empty();
    cluster.snapshot_bytes = 64 << 10;
    let mut cluster = cluster.formed(1).await;
    let token = cluster.token().await;
    let servers = Arc::new(Mutex::new([(1, cluster.server(1))].into()));
    let clients = Clients::start(&servers, token, 4);
    for pair in [[2, 3], [4, 5]] {
        clients.await_more(100).await;
        for id in pair {
            cluster.add(id).await.unwrap();
            servers.lock().unwrap().insert(id, cluster.server(id));
        }
        cluster.promote(&pair).await.unwrap();
        let members = cluster.leader().await.1.members();
        assert_eq!(members.voters, (1..=pair[1]).collect());
        assert!(!members.is_changing);
        clients.await_more(100).await;
    }
    // The leader among them, which hands over.
    for _ in 0..2 {
        let (id, leader) = cluster.leader().await;
        let removed = leader.remove(id).await;
        // It may lead no more when it would say so.
        assert!(matches!(removed, Ok(()) | Err(MembershipError::Unknown { .. })), "{removed:?}");
        servers.lock().unwrap().remove(&id);
        let rest: Vec<_> = cluster.ids().into_iter().filter(|other| *other != id).collect();
        cluster.leader_among(&rest).await;
        clients.await_more(50).await;
        drop(leader);
        cluster.kill(id);
        cluster.seats.remove(&id);
    }
    let left: BTreeSet<_> = cluster.ids().into_iter().collect();
    assert_eq!((left.len(), cluster.voters().await), (3, left));
    clients.await_more(50).await;
    cluster.converge().await;
    clients.check().await;
    // A majority of three is enough again.
    let (id, _) = cluster.leader().await;
    cluster.kill(id);
    cluster.enrol(token, 1_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_was_removed_does_not_come_back() {
    let mut cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    cluster.enrol(token, 1).await;
    let (leader_id, leader) = cluster.leader().await;
    let gone = cluster.ids().into_iter().find(|id| *id != leader_id).unwrap();
    leader.remove(gone).await.unwrap();
    assert_eq!(leader.remove(gone).await, Err(MembershipError::NotMember { id: gone }));
    // It hears of it when it asks to be elected.
    let server = cluster.server(gone);
    let told = async {
        while !server.health().is_retired {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    // With an empty disk, too, and by whoever leads.
    cluster.kill(gone);
    cluster.seats.remove(&gone);
    let refused = cluster.add(gone).await;
    assert_eq!(refused, Err(MembershipError::Retired { id: gone }));
    cluster.kill(gone);
    cluster.seats.remove(&gone);
    // A new id takes the place, and knows of it from its snapshot or its log.
    cluster.add(9).await.unwrap();
    cluster.promote(&[9]).await.unwrap();
    leader.transfer_leadership(9).await.unwrap();
    let (raft_addr, api_addr) = addresses(gone);
    let (new, leader) = cluster.leader().await;
    assert_eq!(new, 9);
    let refused = leader.add_learner(gone, raft_addr, api_addr).await;
    assert_eq!(refused, Err(MembershipError::Retired { id: gone }));
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_disk_counts_no_more() {
    let mut cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    for key in 0..10 {
        cluster.enrol(token, key).await;
    }
    let (leader_id, leader) = cluster.leader().await;
    let wiped = cluster.ids().into_iter().find(|id| *id != leader_id).unwrap();
    cluster.kill(wiped);
    cluster.seats.get_mut(&wiped).unwrap().fs = SimFs::default();
    let server = cluster.restart(wiped);
    // It gets nothing and says nothing that counts; and it is seen who it is.
    let seen = async {
        loop {
            let health = leader.health();
            let peer = health.peers.iter().find(|peer| peer.id == wiped).unwrap();
            if peer.refused.as_ref().is_some_and(|why| why.contains("has not the disk")) {
                return;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, seen).await.unwrap();
    assert_eq!(server.health().log_index, 0);
    cluster.enrol(token, 11).await;
    // The other two are the quorum: without one of them there is none.
    let third = cluster.ids().into_iter().find(|id| ![wiped, leader_id].contains(id)).unwrap();
    cluster.kill(third);
    let mut own = leader.leadership();
    timeout(PATIENCE, own.wait_for(|own| own.own.is_none())).await.unwrap().unwrap();
    assert!(leader.propose(create_token(99)).await.is_err());
    // Replaced under a new id, it is three again.
    cluster.restart(third);
    let (_, leader) = cluster.leader().await;
    leader.remove(wiped).await.unwrap();
    cluster.kill(wiped);
    cluster.seats.remove(&wiped);
    cluster.add(7).await.unwrap();
    cluster.promote(&[7]).await.unwrap();
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_left_half_done_is_finished() {
    let mut cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    for id in [4, 5] {
        cluster.add(id).await.unwrap();
    }
    let (_, leader) = cluster.leader().await;
    // The members are noted a moment after the change is done.
    let noted = async {
        while leader.members().peers.len() != 5 {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, noted).await.unwrap();
    // What a leader leaves that ends between the two steps.
    let raft = leader.engine_for_test().raft.clone();
    let held = Arc::clone(&leader.engine_for_test().changing).lock_owned().await;
    let joint = {
        let known = leader.engine_for_test().link.roster.read();
        let goal: BTreeSet<u64> = (1..=5).collect();
        let configs = vec![known.configs[0].clone(), goal];
        openraft::Membership::new(configs, known.members.peers.clone()).unwrap()
    };
    let nothing: [Precondition<_>; 0] = [];
    let blank = crate::replicated::types::Payload::Blank;
    raft.append_membership(joint, blank, nothing).await.unwrap();
    assert!(leader.members().is_changing || cluster.voters().await.len() == 5);
    drop(held);
    let done = async {
        while leader.members().is_changing || leader.members().voters.len() != 5 {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, done).await.unwrap();
    cluster.enrol(token, 1).await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_by_name() {
    let mut cluster = Cluster::of(3).await;
    cluster.token().await;
    let (leader_id, leader) = cluster.leader().await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader_id).unwrap();
    let (a, b) = addresses(8);
    let add = |server: &Replicated, id| server.add_learner(id, a.clone(), b.clone());
    let not_here = MembershipError::NotLeader { leader: leader_id };
    assert_eq!(add(&cluster.server(follower), 8).await, Err(not_here));
    for id in [0, 1_000] {
        assert_eq!(add(&leader, id).await, Err(MembershipError::NoServerId { id }));
    }
    // Nobody is there.
    let nobody = add(&leader, 8).await;
    assert!(matches!(nobody, Err(MembershipError::Unreachable { id: 8, .. })), "{nobody:?}");
    // Members are there already; the same again is no error.
    let (raft_addr, api_addr) = addresses(follower);
    leader.add_learner(follower, raft_addr.clone(), api_addr).await.unwrap();
    let moved = leader.add_learner(follower, "elsewhere:1".into(), String::new()).await;
    assert_eq!(moved, Err(MembershipError::AlreadyMember { id: follower, addr: raft_addr }));
    leader.move_member(follower, "elsewhere:1".into(), "elsewhere:2".into()).await.unwrap();
    let peers = leader.members().peers;
    assert_eq!(peers[&follower].raft_addr, "elsewhere:1");
    assert_eq!(leader.promote([8].into()).await, Err(MembershipError::NotMember { id: 8 }));
    let voter = leader.promote([follower].into()).await;
    assert_eq!(voter, Err(MembershipError::NoLearner { id: follower }));
    let to = leader.transfer_leadership(8).await;
    assert_eq!(to, Err(MembershipError::NoVoter { id: 8 }));
    let again = leader.form([(leader_id, addresses(leader_id))].into()).await;
    assert_eq!(again, Err(MembershipError::AlreadyFormed));
    // A server that has formed a cluster of its own is not taken in.
    let alone = cluster.start(8);
    alone.form([(8, addresses(8))].into()).await.unwrap();
    let elsewhere = add(&leader, 8).await;
    assert_eq!(elsewhere, Err(MembershipError::Elsewhere { id: 8, voters: [8].into() }));
    let last = async {
        loop {
            match alone.remove(8).await {
                Err(MembershipError::NoLeader) => sleep(LOOK).await,
                other => return other,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, last).await.unwrap(), Err(MembershipError::LastVoter));
}
