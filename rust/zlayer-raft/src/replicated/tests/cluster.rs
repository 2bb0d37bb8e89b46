//! Several servers while all is well, and while some are down, cut off, or slow.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use zlayer_wal::sim::Survive;

use super::history::{Clients, Servers};
use super::rig::{Cluster, LOOK, PATIENCE, create_token, is_refused, redeem};
use crate::replicated::switchboard::Wire;
use crate::{ControlLog, ProposeError};

fn servers(cluster: &Cluster) -> Servers {
    let all = cluster.running().map(|(id, server)| (id, Arc::clone(server))).collect();
    Arc::new(Mutex::new(all))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_and_five_servers_agree() {
    for count in [3, 5] {
        let cluster = Cluster::of(count).await;
        let token = cluster.token().await;
        for key in 0..50 {
            cluster.enrol(token, key).await;
        }
        cluster.converge().await;
        let (id, leader) = cluster.leader().await;
        let health = leader.health();
        assert_eq!((health.leader, &health.stopped), (Some(id), &None));
        assert_eq!(health.peers.len() as u64, count - 1);
        assert!(health.commit_index >= 51 && health.elections >= 1, "{health:?}");
        for (other, server) in cluster.running().filter(|(other, _)| *other != id) {
            let leadership = *server.leadership().borrow();
            assert_eq!((leadership.leader, leadership.own), (Some(id), None), "server {other}");
            let refused = server.propose(create_token(9)).await;
            assert_eq!(refused, Err(ProposeError::NotLeader { leader: id }));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_loses_nothing() {
    let mut cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    let servers = servers(&cluster);
    let clients = Clients::start(&servers, token, 8);
    for round in 0..4 {
        clients.await_more(100).await;
        let (id, leader) = cluster.leader().await;
        servers.lock().unwrap().remove(&id);
        drop(leader);
        if round % 2 == 0 {
            cluster.kill(id);
        } else {
            cluster.cut_power(id, Survive::Coin(round));
        }
        clients.await_more(100).await;
        let server = cluster.restart(id);
        servers.lock().unwrap().insert(id, server);
    }
    clients.await_more(50).await;
    cluster.converge().await;
    clients.check().await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_commits_nothing_and_reads_nothing_stale() {
    for minority in [1, 2] {
        let cluster = Cluster::of(2 * minority + 1).await;
        let token = cluster.token().await;
        let servers = servers(&cluster);
        let clients = Clients::start(&servers, token, 4);
        clients.await_more(50).await;
        let (old, leader) = cluster.leader().await;
        // The leader, and as many others as make no majority.
        let mut island = vec![old];
        island
            .extend(cluster.ids().into_iter().filter(|id| *id != old).take(minority as usize - 1));
        cluster.board.isolate(&island, &cluster.ids());
        let rest: Vec<_> = cluster.ids().into_iter().filter(|id| !island.contains(id)).collect();
        let lost = leader.propose(create_token(1_000));
        // It says so by itself, and soon.
        let mut own = leader.leadership();
        timeout(PATIENCE, own.wait_for(|own| own.own.is_none())).await.unwrap().unwrap();
        let (new, _) = cluster.leader_among(&rest).await;
        assert_ne!(new, old);
        let answer = leader.propose(create_token(1_001)).await.unwrap_err();
        assert!(is_refused(&answer), "{answer:?}");
        assert!(leader.confirm_leader().await.is_err());
        assert!(leader.read_barrier().await.is_err());
        clients.await_more(100).await;
        cluster.board.heal();
        // What was on its way may have been voided by then, and can't have been acknowledged.
        let answer = timeout(PATIENCE, lost).await.unwrap();
        assert!(matches!(answer, Err(ProposeError::Unknown { .. })), "{answer:?}");
        cluster.converge().await;
        clients.check().await;
    }
}

/// Cuts one way between a server and all others.
fn cut_one_way(cluster: &Cluster, id: u64, outward: bool) {
    let cut = Wire { is_cut: true, ..Wire::default() };
    for other in cluster.ids().into_iter().filter(|other| *other != id) {
        let (from, to) = if outward { (id, other) } else { (other, id) };
        cluster.board.set(from, to, cut);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_only_hears_or_only_is_heard_is_replaced() {
    for outward in [true, false] {
        let cluster = Cluster::of(3).await;
        let token = cluster.token().await;
        let servers = servers(&cluster);
        let clients = Clients::start(&servers, token, 4);
        clients.await_more(50).await;
        let (old, leader) = cluster.leader().await;
        cut_one_way(&cluster, old, outward);
        let rest: Vec<_> = cluster.ids().into_iter().filter(|id| *id != old).collect();
        cluster.leader_among(&rest).await;
        clients.await_more(100).await;
        assert!(leader.leadership().borrow().own.is_none());
        let terms: BTreeSet<_> = rest.iter().map(|id| cluster.server(*id).health().term).collect();
        // One that can't be heard does not drive the others from term to term.
        sleep(4 * cluster.timers.election_max).await;
        let later: BTreeSet<_> = rest.iter().map(|id| cluster.server(*id).health().term).collect();
        assert_eq!(terms.last(), later.last(), "an election without need");
        cluster.board.heal();
        cluster.converge().await;
        clients.check().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_do_not_see_each_other_follow_a_third() {
    let cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    let (leader, _) = cluster.leader().await;
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let cut = Wire { is_cut: true, ..Wire::default() };
    // First two followers, which changes nothing; then the leader and one of them.
    for (a, b) in [(others[0], others[1]), (leader, others[0])] {
        cluster.board.heal();
        cluster.board.set(a, b, cut);
        cluster.board.set(b, a, cut);
        for key in 0..20 {
            cluster.enrol(token, b * 100 + key).await;
        }
        sleep(3 * cluster.timers.election_max).await;
        let before = cluster.leader().await.1.health().term;
        sleep(6 * cluster.timers.election_max).await;
        assert_eq!(cluster.leader().await.1.health().term, before, "the leadership wanders");
    }
    cluster.board.heal();
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_lost_or_late_cost_time_and_nothing_else() {
    let cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    let servers = servers(&cluster);
    let clients = Clients::start(&servers, token, 8);
    let wire = Wire { delay: Duration::from_millis(3), loss: 0.05, is_cut: false };
    for a in cluster.ids() {
        for b in cluster.ids() {
            cluster.board.set(a, b, wire);
        }
    }
    clients.await_more(300).await;
    cluster.board.heal();
    cluster.converge().await;
    clients.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lags_gets_a_snapshot() {
    let mut cluster = Cluster::empty();
    cluster.snapshot_bytes = 8 << 10;
    cluster.limits.piece_bytes = 1_000;
    let mut cluster = cluster.formed(3).await;
    let token = cluster.token().await;
    let (leader, _) = cluster.leader().await;
    let late = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(late);
    let mut key = 0;
    let purged = |cluster: &Cluster| {
        let (_, server) = cluster.running().find(|(id, _)| *id != late).unwrap();
        let segments = server.health().entries_kept;
        let health = server.health();
        health.snapshots >= 3 && segments < health.log_index
    };
    while !purged(&cluster) {
        cluster.enrol(token, key).await;
        key += 1;
    }
    let server = cluster.restart(late);
    cluster.converge().await;
    let health = server.health();
    assert!(health.snapshots >= 1, "it came without a snapshot: {health:?}");
    assert!(cluster.board.calls(crate::Kind::Snapshot) > 10, "it came in one piece");
    // It is durable, and goes on from there: also when it is the only one that has it.
    cluster.cut_power(late, Survive::Nothing);
    cluster.restart(late);
    cluster.enrol(token, key).await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_once_are_killed_and_come_back() {
    let mut cluster = Cluster::empty();
    cluster.snapshot_bytes = 16 << 10;
    let mut cluster = cluster.formed(3).await;
    let token = cluster.token().await;
    let mut hash = None;
    for round in 0..4 {
        for key in 0..40 {
            cluster.enrol(token, round * 100 + key).await;
        }
        let before = cluster.converge().await;
        assert_ne!(hash, Some(before));
        for id in cluster.ids() {
            match round {
                0 => cluster.kill(id),
                1 => cluster.cut_power(id, Survive::Nothing),
                2 => cluster.cut_power(id, Survive::Coin(id)),
                // In order.
                _ => {
                    cluster.server(id).shutdown();
                    cluster.kill(id);
                }
            }
        }
        for id in cluster.ids() {
            cluster.restart(id);
        }
        assert_eq!(cluster.converge().await, before);
        hash = Some(before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_may_be_behind_and_a_barrier_is_not() {
    let cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    let (leader, _) = cluster.leader().await;
    let late = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let follower = cluster.server(late);
    cluster.converge().await;
    // Entries are late, and what is asked is not.
    let count = |server: &crate::Replicated| {
        server.state().with_state(zlayer_core::state::State::node_count)
    };
    let before = count(&follower);
    cluster.board.set(leader, late, Wire { delay: Duration::from_millis(150), ..Wire::default() });
    cluster.enrol(token, 1).await;
    assert_eq!(count(&follower), before, "it was not behind");
    follower.read_barrier().await.unwrap();
    assert_eq!(count(&follower), before + 1);
    // Cut off, it says nothing rather than something stale.
    let rest: Vec<_> = cluster.ids().into_iter().filter(|id| *id != late).collect();
    cluster.board.isolate(&[late], &cluster.ids());
    let mut known = follower.leadership();
    timeout(PATIENCE, known.wait_for(|known| known.leader.is_none())).await.unwrap().unwrap();
    cluster.write(&redeem(token, 2)).await;
    assert!(timeout(PATIENCE, follower.read_barrier()).await.unwrap().is_err());
    cluster.leader_among(&rest).await;
    cluster.board.heal();
    cluster.converge().await;
    follower.read_barrier().await.unwrap();
    assert_eq!(count(&follower), before + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over() {
    let cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    let servers = servers(&cluster);
    let clients = Clients::start(&servers, token, 4);
    for _ in 0..3 {
        clients.await_more(50).await;
        let (from, leader) = cluster.leader().await;
        let to = cluster.ids().into_iter().find(|id| *id != from).unwrap();
        let own = leader.leadership().borrow().own.unwrap();
        let began = Instant::now();
        leader.transfer_leadership(to).await.unwrap();
        let mut new = cluster.server(to).leadership();
        timeout(PATIENCE, new.wait_for(|new| new.own.is_some())).await.unwrap().unwrap();
        assert!(began.elapsed() < PATIENCE);
        // What was decided in office is void out of it.
        let late = leader.propose_if_leader(own, create_token(1_000)).await.unwrap_err();
        assert!(is_refused(&late), "{late:?}");
        let newest = new.borrow().own.unwrap();
        let refused = cluster.server(to).propose_if_leader(own, create_token(1_001)).await;
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: to }));
        cluster.server(to).propose_if_leader(newest, create_token(1_002 + to)).await.unwrap();
        sleep(LOOK).await;
    }
    clients.check().await;
}
