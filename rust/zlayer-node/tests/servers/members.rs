//! Servers come and go while one of them leads.

use zlayer_core::command::Outcome;
use zlayer_node::{Asked, AskedError, MembershipError, ServerNode};

use crate::fleet::{Fleet, json, until};

#[test]
fn servers_are_added_promoted_and_removed_and_the_lead_is_handed_over() {
    let mut fleet = Fleet::new(3);
    let first = fleet.member(0);
    assert_eq!(fleet.ask(0, Asked::Form { members: vec![first] }), Ok(Outcome::Done));
    let leader = fleet.leader();
    assert_eq!(leader, 0);
    for at in [1, 2] {
        let member = fleet.member(at);
        assert_eq!(fleet.ask(0, Asked::Add(member)), Ok(Outcome::Done));
    }
    assert_eq!(fleet.ask(0, Asked::Promote { ids: vec![2, 3] }), Ok(Outcome::Done));
    let members = json(&fleet.server(0).members_json());
    assert_eq!(members["items"].as_array().unwrap().len(), 3);
    assert!(members["items"].as_array().unwrap().iter().all(|item| item["voter"] == true));
    let unknown = fleet.ask(1, Asked::Remove { id: 9 });
    assert_eq!(unknown, Err(AskedError::Members(MembershipError::NotMember { id: 9 })));
    assert_eq!(fleet.ask(0, Asked::Transfer { to: 2 }), Ok(Outcome::Done));
    until("the second leads", || fleet.metric(1, "raft_leads") == 1);
    assert_eq!(fleet.ask(1, Asked::Remove { id: 3 }), Ok(Outcome::Done));
    assert_eq!(fleet.ask(1, Asked::Barrier {}), Ok(Outcome::Done));
}

#[test]
fn servers_with_the_same_list_form_by_themselves() {
    let mut fleet = Fleet::new(3);
    let members: Vec<_> = (0..3).map(|at| fleet.member(at)).collect();
    for at in 0..3 {
        fleet.kill(at);
        fleet.options[at].raft.as_mut().unwrap().members.clone_from(&members);
    }
    // The one that forms is there first, and has to wait for the others.
    for at in 0..3 {
        fleet.start(at);
    }
    fleet.leader();
    fleet.token();
}

#[test]
fn a_server_alone_has_no_members_and_says_so() {
    let mut fleet = Fleet::new(1);
    fleet.kill(0);
    fleet.options[0].raft = None;
    fleet.options[0].control_dir = fleet.options[0].control_dir.with_extension("alone");
    fleet.servers[0] = Some(ServerNode::start(&fleet.options[0]).unwrap());
    assert_eq!(fleet.server(0).raft_addr(), None);
    assert_eq!(fleet.ask(0, Asked::Remove { id: 1 }), Err(AskedError::Alone));
    assert_eq!(fleet.ask(0, Asked::Barrier {}), Ok(Outcome::Done));
    assert_eq!(json(&fleet.server(0).members_json())["items"], serde_json::json!([]));
}
