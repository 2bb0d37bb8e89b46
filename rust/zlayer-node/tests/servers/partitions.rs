//! Servers that can't reach each other, while their workers reach all of them.

use zlayer_core::command::Outcome;
use zlayer_node::Asked;
use zlayer_node::session::WorkerSession;

use crate::fleet::{Fleet, session, until};
use crate::proxy::Proxy;

/// Three servers, each behind a way that can be cut; by position.
fn formed() -> (Fleet, Vec<Proxy>) {
    let mut fleet = Fleet::new(3);
    let proxies: Vec<_> =
        (0..3).map(|at| Proxy::new(fleet.server(at).raft_addr().unwrap())).collect();
    let members = (0..3).map(|at| {
        let mut member = fleet.member(at);
        member.raft_addr = proxies[at].address.to_string();
        member
    });
    let members = members.collect();
    assert_eq!(fleet.ask(0, Asked::Form { members }), Ok(Outcome::Done));
    fleet.leader();
    (fleet, proxies)
}

/// A worker that begins at this server, and may go on to any.
fn worker(fleet: &mut Fleet, at: usize) -> (u64, WorkerSession) {
    let jti = fleet.token();
    let (node, leaf) = fleet.enrol(&jti);
    loop {
        let worker = fleet.worker(node, &leaf, fleet.addresses_from(at));
        until("served", || session(&worker)["state"] == "connected");
        if session(&worker)["server"] == fleet.options[at].listen {
            return (node, worker);
        }
    }
}

#[test]
fn workers_of_a_server_that_the_leader_cannot_reach_go_to_another() {
    let (mut fleet, proxies) = formed();
    let cut_off = fleet.follower();
    let (node, worker) = worker(&mut fleet, cut_off);
    let term = fleet.status(fleet.leader())["term"].clone();
    proxies[cut_off].cut(true);
    until("elsewhere", || {
        let state = session(&worker);
        state["state"] == "connected" && state["server"] != fleet.options[cut_off].listen
    });
    let leader = fleet.leader();
    assert_ne!(leader, cut_off);
    until("Ready", || fleet.state(leader, node) == "Ready");
    assert!(!fleet.story(leader, node).contains(&"unreachable".to_owned()));
    assert_eq!(session(&worker)["lapses"], 0);
    assert_eq!(fleet.metric(cut_off, "transitions_total"), 0);
    proxies[cut_off].cut(false);
    until("it follows again", || fleet.status(cut_off)["leader"].is_u64());
    assert_eq!(fleet.status(leader)["term"], term, "nobody was deposed by it");
}

#[test]
fn when_no_server_reaches_another_nobody_decides_and_then_all_goes_on() {
    let (mut fleet, proxies) = formed();
    let old = fleet.leader();
    let (node, worker) = worker(&mut fleet, old);
    until("Ready everywhere", || fleet.up().all(|at| fleet.state(at, node) == "Ready"));
    let before = fleet.story(old, node);
    for proxy in &proxies {
        proxy.cut(true);
    }
    until("nobody leads", || fleet.up().all(|at| fleet.metric(at, "raft_leads") == 0));
    until("its lease has ended", || session(&worker)["lease_remaining_ms"].as_u64() == Some(0));
    for at in fleet.up() {
        assert_eq!(fleet.story(at, node), before, "nothing was decided at {at}");
    }
    for proxy in &proxies {
        proxy.cut(false);
    }
    until("served again", || session(&worker)["state"] == "connected");
    let leader = fleet.leader();
    until("Ready", || fleet.state(leader, node) == "Ready");
    assert!(!fleet.story(leader, node).contains(&"unreachable".to_owned()));
    fleet.token();
}
