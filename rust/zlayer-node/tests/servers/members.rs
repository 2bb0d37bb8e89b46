//! Servers come and go while one of them leads.

use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::{CertificateRecord, Labels, TokenRole};
use zlayer_core::time::UnixMs;
use zlayer_node::clock::Clock;
use zlayer_node::{Asked, AskedError, MemberOptions, MembershipError, ServerNode};

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
    let handed = fleet.ask_document(0, Asked::Transfer { to: Some(2) });
    assert_eq!(handed, Ok(serde_json::json!({"leader": 2})));
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

/// Records a server in the control state, as its enrolment does.
fn enrol_server(fleet: &mut Fleet, at: usize) {
    let member = fleet.member(at);
    enrol_member(fleet, member);
}

fn enrol_member(fleet: &mut Fleet, member: MemberOptions) {
    let number = 1_000 + member.id;
    let jti = format!("{number:032x}");
    let token = Command::CreateToken {
        jti: jti.clone(),
        name: String::new(),
        expires_ms: UnixMs(Clock::unix().0 + 3_600_000),
        role: TokenRole::Server,
        uses_max: 1,
        labels: Labels::new(),
        labels_allowed: Vec::new(),
    };
    assert_eq!(fleet.propose(&token), Outcome::Done);
    let redeem = Command::RedeemServer {
        jti,
        id: member.id,
        name: String::new(),
        raft_addr: member.raft_addr,
        api_addr: "127.0.0.1:1".into(),
        certificate: CertificateRecord {
            serial: "1".into(),
            key_hash: format!("{number:064x}"),
            not_after_ms: UnixMs(Clock::unix().0 + 3_600_000),
        },
    };
    assert!(matches!(fleet.propose(&redeem), Outcome::Redeemed { .. }));
}

fn voters(fleet: &Fleet, at: usize) -> Vec<u64> {
    let members = json(&fleet.server(at).members_json());
    let items = members["items"].as_array().unwrap();
    let voting = items.iter().filter(|item| item["voter"] == true);
    voting.map(|item| item["id"].as_u64().unwrap()).collect()
}

#[test]
fn who_enrolled_votes_by_itself_and_who_was_removed_stays_out() {
    let mut fleet = Fleet::new(5);
    let first = fleet.member(0);
    assert_eq!(fleet.ask(0, Asked::Form { members: vec![first] }), Ok(Outcome::Done));
    fleet.leader();
    for at in [1, 2] {
        enrol_server(&mut fleet, at);
    }
    until("three vote", || voters(&fleet, 0) == [1, 2, 3]);
    // The leader dies, and the next one goes on where it was.
    enrol_server(&mut fleet, 3);
    fleet.kill(0);
    until("four vote, one of them is down", || voters(&fleet, 1) == [1, 2, 3, 4]);
    fleet.start(0);
    let leader = fleet.leader();
    let elsewhere = fleet.follower();
    assert_eq!(fleet.ask(elsewhere, Asked::Remove { id: 4 }), Ok(Outcome::Done));
    enrol_server(&mut fleet, 4);
    until("another one votes, and it does not", || voters(&fleet, leader) == [1, 2, 3, 5]);
    let again = fleet.member(3);
    let retired = Err(AskedError::Members(MembershipError::Retired { id: 4 }));
    assert_eq!(fleet.ask(leader, Asked::Add(again)), retired);
}

#[test]
fn a_server_that_enrolled_and_never_came_holds_nobody_up() {
    let mut fleet = Fleet::new(3);
    let (first, absent) = (fleet.member(0), fleet.member(1));
    assert_eq!(fleet.ask(0, Asked::Form { members: vec![first] }), Ok(Outcome::Done));
    fleet.leader();
    fleet.kill(1);
    enrol_member(&mut fleet, absent.clone());
    enrol_server(&mut fleet, 2);
    until("the other one votes", || voters(&fleet, 0) == [1, 3]);
    let seen = fleet.ask_document(0, Asked::Members {}).unwrap();
    let roles: Vec<_> = seen["items"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["leader", "voter"]);
    // It was never a member, and never will be.
    for _ in 0..2 {
        assert_eq!(fleet.ask(0, Asked::Remove { id: 2 }), Ok(Outcome::Done));
    }
    let retired = Err(AskedError::Members(MembershipError::Retired { id: 2 }));
    assert_eq!(fleet.ask(0, Asked::Add(absent)), retired);
}
