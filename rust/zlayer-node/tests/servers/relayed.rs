//! Any server serves any worker.

use std::time::Duration;

use zlayer_core::command::{Command, Outcome};
use zlayer_node::session::Resources;

use crate::fleet::{Fleet, session, until};

#[test]
fn three_servers_form_and_each_serves_a_worker_that_the_leader_knows() {
    let mut fleet = Fleet::formed(3);
    let jti = fleet.token();
    let leader = fleet.leader();
    for at in 0..3 {
        let (node, leaf) = fleet.enrol(&jti);
        // This server alone: nobody else could answer.
        let worker = fleet.worker(node, &leaf, vec![fleet.options[at].listen.clone()]);
        until("Ready everywhere", || (0..3).all(|at| fleet.state(at, node) == "Ready"));
        until("three beats", || session(&worker)["beats"].as_u64() >= Some(3));
        assert_eq!(session(&worker)["lapses"], 0);
        // The leader alone knows of beats, and all that a worker tells, wherever it is.
        worker.set_resources(Resources { cpu_millicores: 7, memory_bytes: 8, disk_bytes: 9 });
        let shown = || crate::fleet::json(&fleet.server(leader).node_json(node).unwrap());
        until("its resources", || shown()["resources"]["memory_bytes"] == 8);
        assert_eq!(shown()["connected"], true);
        assert!(shown()["address"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(worker.leave(Duration::from_secs(10)), "the goodbye is answered, at {at}");
        until("Left everywhere", || (0..3).all(|at| fleet.state(at, node) == "Left"));
        assert!(!fleet.story(leader, node).contains(&"suspect".to_owned()));
    }
}

#[test]
fn a_follower_says_that_it_is_one_and_proposes_nothing() {
    let mut fleet = Fleet::formed(3);
    let (leader, follower) = (fleet.leader(), fleet.follower());
    // It hears of an election behind the one who won it.
    until("it knows who leads", || {
        fleet.status(follower)["leader"] == fleet.options[leader].node_id
    });
    let status = fleet.status(follower);
    assert_eq!((&status["role"], &status["consistency"]), (&"follower".into(), &"stale".into()));
    assert_eq!(fleet.status(leader)["role"], "leader");
    let page = crate::fleet::json(&fleet.server(follower).tokens_json());
    assert_eq!(page["consistency"], "stale");
    let jti = fleet.token();
    let (node, leaf) = fleet.enrol(&jti);
    let worker = fleet.worker(node, &leaf, vec![fleet.options[follower].listen.clone()]);
    until("Ready", || fleet.state(follower, node) == "Ready");
    assert_eq!(fleet.metric(follower, "transitions_total"), 0, "the leader alone proposes");
    drop(worker);
    until("Suspect, although a follower noticed", || fleet.state(leader, node) == "Suspect");
    assert_eq!(fleet.metric(follower, "transitions_total"), 0);
    // A removal reaches the worker at a follower, too.
    let (node, leaf) = fleet.enrol(&jti);
    let worker = fleet.worker(node, &leaf, vec![fleet.options[follower].listen.clone()]);
    until("Ready", || fleet.state(follower, node) == "Ready");
    assert_eq!(fleet.propose(&Command::RemoveNode { node_id: node }), Outcome::Done);
    until("told", || session(&worker)["state"] == "removed");
}
