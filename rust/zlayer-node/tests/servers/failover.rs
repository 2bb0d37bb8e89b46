//! A server dies: no worker that lives is taken for dead.

use std::time::{Duration, Instant};

use zlayer_core::command::Outcome;
use zlayer_node::session::WorkerSession;

use crate::fleet::{Fleet, PATIENCE, session, until};

const WORKERS_EACH: usize = 20;

struct Crew {
    workers: Vec<(u64, usize, WorkerSession)>,
}

impl Crew {
    /// So many workers on each server, and any server may be their next.
    fn start(fleet: &mut Fleet) -> Self {
        let jti = fleet.token();
        let mut workers = Vec::new();
        let mut leaves = Vec::new();
        for n in 0..3 * WORKERS_EACH {
            let (node, leaf) = fleet.enrol(&jti);
            leaves.push((node, leaf, n % 3));
        }
        for (node, leaf, _) in leaves {
            let worker = fleet.worker(node, &leaf, fleet.addresses_from(0));
            workers.push((node, worker));
        }
        until("all are served", || {
            workers.iter().all(|(_, worker)| session(worker)["state"] == "connected")
        });
        // Where each is: it chose by itself.
        let listens: Vec<_> = fleet.options.iter().map(|options| options.listen.clone()).collect();
        let placed = workers.into_iter().map(|(node, worker)| {
            let server = session(&worker)["server"].as_str().unwrap().to_owned();
            let at = listens.iter().position(|listen| *listen == server).unwrap();
            (node, at, worker)
        });
        let crew = Self { workers: placed.collect() };
        for at in 0..3 {
            assert!(crew.workers.iter().any(|(_, on, _)| *on == at), "each server has workers");
        }
        let leader = fleet.leader();
        until("all are Ready", || {
            crew.workers.iter().all(|(node, ..)| fleet.state(leader, *node) == "Ready")
        });
        crew
    }

    fn wait_connected(&self) {
        until("all are served", || {
            self.workers.iter().all(|(_, _, worker)| session(worker)["state"] == "connected")
        });
    }
}

#[test]
fn a_leader_dies_and_no_worker_of_another_server_is_even_suspect() {
    let mut fleet = Fleet::formed(3);
    let crew = Crew::start(&mut fleet);
    let dead = fleet.leader();
    let acks = |crew: &Crew| -> Vec<u64> {
        crew.workers.iter().map(|(_, _, w)| session(w)["acks"].as_u64().unwrap()).collect()
    };
    let before = acks(&crew);
    fleet.kill(dead);
    let died = Instant::now();
    fleet.token();
    assert!(died.elapsed() < PATIENCE / 2, "writes flow again");
    // Each is answered by the new leader, at least twice.
    until("every worker is answered anew", || {
        crew.workers
            .iter()
            .zip(&before)
            .all(|((_, _, worker), before)| session(worker)["acks"].as_u64().unwrap() >= before + 3)
    });
    crew.wait_connected();
    let leader = fleet.leader();
    for (node, at, worker) in &crew.workers {
        let story = fleet.story(leader, *node);
        assert!(!story.contains(&"unreachable".to_owned()), "{node}: {story:?}");
        if *at != dead {
            assert!(!story.contains(&"suspect".to_owned()), "{node} of {at}: {story:?}");
        }
        assert_eq!(session(worker)["lapses"], 0, "{node}");
        until("Ready", || fleet.state(leader, *node) == "Ready");
    }
    // The old leader comes back as a follower, and serves.
    fleet.start(dead);
    until("caught up", || {
        fleet.status(dead)["consistency"] == "stale" && {
            let (mine, theirs) = (fleet.server(dead).revision(), fleet.server(leader).revision());
            mine == theirs
        }
    });
    let (node, _, _) = crew.workers[0];
    assert_eq!(fleet.state(dead, node), "Ready");
}

#[test]
fn a_leader_that_stops_in_order_costs_no_election_timeout() {
    const HEARTBEAT_MS: u64 = 2_000;
    // A follower notices that its leader is gone after four heartbeats' time without one, and not before.
    let noticed = Duration::from_millis(4 * HEARTBEAT_MS);
    let mut fleet = Fleet::formed_beating(3, HEARTBEAT_MS);
    let crew = Crew::start(&mut fleet);
    let jti = fleet.token();
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let redeem = |key: u64| crate::forwarding::redeem(&jti, key);
    let mut tickets: Vec<_> =
        (0..50).map(|key| fleet.submit(follower, redeem(10_000 + key))).collect();
    let began = Instant::now();
    assert!(fleet.server(leader).hand_over(PATIENCE));
    tickets.extend((50..100).map(|key| fleet.submit(follower, redeem(10_000 + key))));
    fleet.kill(leader);
    tickets.extend((100..150).map(|key| fleet.submit(follower, redeem(10_000 + key))));
    let answers = fleet.answers(follower, &tickets);
    let took = began.elapsed();
    assert!(took < noticed, "{took:?}");
    let all_new = |answer| matches!(answer, Ok(Outcome::Redeemed { .. }));
    assert!(answers.into_iter().all(all_new), "each command is done");
    crew.wait_connected();
    let leader = fleet.leader();
    for (node, at, worker) in &crew.workers {
        until("Ready", || fleet.state(leader, *node) == "Ready");
        let story = fleet.story(leader, *node);
        assert!(!story.contains(&"unreachable".to_owned()), "{node}: {story:?}");
        assert!(!story.contains(&"suspect".to_owned()), "{node} of {at}: {story:?}");
        assert_eq!(session(worker)["lapses"], 0, "{node}");
    }
}

#[test]
fn a_follower_dies_and_its_workers_go_elsewhere() {
    let mut fleet = Fleet::formed(3);
    let crew = Crew::start(&mut fleet);
    let dead = fleet.follower();
    fleet.kill(dead);
    crew.wait_connected();
    let leader = fleet.leader();
    until("Ready", || crew.workers.iter().all(|(node, ..)| fleet.state(leader, *node) == "Ready"));
    for (node, at, _) in &crew.workers {
        let story = fleet.story(leader, *node);
        assert!(!story.contains(&"unreachable".to_owned()), "{node}: {story:?}");
        assert!(*at == dead || !story.contains(&"suspect".to_owned()), "{node}: {story:?}");
    }
    assert_eq!(fleet.ask(leader, zlayer_node::Asked::Barrier {}), Ok(Outcome::Done));
}

/// One server of three, with a worker, and the others gone; and then back.
fn alone(fleet: &mut Fleet, alone: usize) {
    let jti = fleet.token();
    let ((node, leaf), (lost, its)) = (fleet.enrol(&jti), fleet.enrol(&jti));
    let here = vec![fleet.options[alone].listen.clone()];
    let worker = fleet.worker(node, &leaf, here.clone());
    let other = fleet.worker(lost, &its, here);
    until("Ready", || fleet.state(alone, node) == "Ready" && fleet.state(alone, lost) == "Ready");
    // By whoever leads, and noted there a moment after it is committed.
    let before = 2 * fleet.metric(alone, "raft_leads");
    until("noted", || fleet.metric(alone, "transitions_total") == before);
    let others: Vec<_> = fleet.up().filter(|at| *at != alone).collect();
    for at in &others {
        fleet.kill(*at);
    }
    until("it leads no more", || fleet.metric(alone, "raft_leads") == 0);
    drop(other);
    // 3 s and 3 s of grace, by this worker's own clock: it has heard nothing.
    until("its lease has ended", || session(&worker)["lease_remaining_ms"].as_u64() == Some(0));
    assert_eq!(fleet.state(alone, node), "Ready", "nobody decides here");
    assert_eq!(fleet.state(alone, lost), "Ready", "nor of one that is gone");
    assert_eq!(fleet.metric(alone, "transitions_total"), before);
    for at in others {
        fleet.start(at);
    }
    until("served again", || session(&worker)["state"] == "connected");
    let leader = fleet.leader();
    until("Ready", || fleet.state(leader, node) == "Ready");
    assert!(!fleet.story(leader, node).contains(&"unreachable".to_owned()));
    worker.stop();
}

#[test]
fn a_follower_without_a_quorum_tells_nobody_anything_and_expires_nobody() {
    let mut fleet = Fleet::formed(3);
    let follower = fleet.follower();
    alone(&mut fleet, follower);
}

#[test]
fn a_leader_without_a_quorum_tells_nobody_anything_and_expires_nobody() {
    let mut fleet = Fleet::formed(3);
    let leader = fleet.leader();
    alone(&mut fleet, leader);
}
