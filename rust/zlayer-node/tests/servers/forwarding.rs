//! Any server takes any command and any question.

use std::collections::BTreeSet;
use std::time::Duration;

use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::{CertificateRecord, Labels, Profile};
use zlayer_core::time::UnixMs;
use zlayer_node::clock::Clock;
use zlayer_node::{Asked, AskedError, ProposeError};

use crate::fleet::{Fleet, json, until};

pub(crate) fn redeem(jti: &str, key: u64) -> Command {
    Command::Redeem {
        jti: jti.to_owned(),
        name: String::new(),
        labels: Labels::new(),
        profile: Profile::default(),
        certificate: CertificateRecord {
            serial: "1".into(),
            key_hash: format!("{key:064x}"),
            not_after_ms: UnixMs(Clock::unix().0 + 3_600_000),
        },
    }
}

#[test]
fn a_follower_passes_commands_and_questions_on() {
    let mut fleet = Fleet::formed(3);
    let jti = fleet.token();
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let outcome = fleet.propose_at(follower, redeem(&jti, 1)).unwrap();
    assert!(matches!(outcome, Outcome::Redeemed { node_id: 1_000, first: true, .. }));
    // What it answered is read there, once it is asked for.
    assert_eq!(fleet.ask(follower, Asked::Barrier {}), Ok(Outcome::Done));
    assert_eq!(fleet.state(follower, 1_000), "Suspect");
    let refused = fleet.propose_at(follower, Command::RemoveNode { node_id: 9 }).unwrap();
    assert!(matches!(refused, Outcome::Refused { .. }), "{refused:?}");
    let seen = fleet.ask_document(follower, Asked::Members {}).unwrap();
    assert_eq!(seen["leader"], fleet.options[leader].node_id);
    let items = seen["items"].as_array().unwrap();
    let heard = items.iter().filter(|item| item["silent_ms"].is_u64()).count();
    assert_eq!((items.len(), heard), (3, 2), "{seen}");
}

#[test]
fn what_is_said_during_an_election_waits_for_its_end() {
    let mut fleet = Fleet::formed(3);
    let jti = fleet.token();
    let (leader, follower) = (fleet.leader(), fleet.follower());
    fleet.kill(leader);
    let outcome = fleet.propose_at(follower, redeem(&jti, 1)).unwrap();
    assert!(matches!(outcome, Outcome::Redeemed { first: true, .. }), "{outcome:?}");
    // Nor does anybody wait for ever.
    let other = fleet.up().find(|at| *at != follower).unwrap();
    fleet.kill(other);
    let outcome = fleet.propose_at(follower, redeem(&jti, 2));
    assert!(matches!(
        outcome,
        Err(AskedError::Log(ProposeError::NoLeader | ProposeError::Unknown { .. }))
    ));
}

#[test]
fn commands_on_their_way_when_the_leader_dies_are_done_once() {
    const COMMANDS: u64 = 300;
    let mut fleet = Fleet::formed(3);
    let jti = fleet.token();
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let tickets: Vec<_> = (0..COMMANDS)
        .map(|key| {
            if key == COMMANDS / 2 {
                fleet.kill(leader);
            }
            fleet.submit(follower, redeem(&jti, key))
        })
        .collect();
    let ids: BTreeSet<_> = fleet
        .answers(follower, &tickets)
        .into_iter()
        .map(|answer| match answer {
            Ok(Outcome::Redeemed { node_id, .. }) => node_id,
            other => panic!("a redemption can be repeated: {other:?}"),
        })
        .collect();
    assert_eq!(ids, (1_000..1_000 + COMMANDS).collect());
    let token = || json(&fleet.server(follower).token_json(&jti).unwrap());
    until("all are counted", || token()["uses"].as_object().unwrap().len() as u64 == COMMANDS);
}

#[test]
fn a_server_that_was_removed_is_refused() {
    let mut fleet = Fleet::formed(3);
    let jti = fleet.token();
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let id = fleet.options[follower].node_id;
    assert_eq!(fleet.ask(leader, Asked::Remove { id }), Ok(Outcome::Done));
    let outcome = fleet.propose_at(follower, redeem(&jti, 1));
    assert_eq!(outcome, Err(AskedError::Log(ProposeError::NoLeader)));
    let token = json(&fleet.server(leader).token_json(&jti).unwrap());
    assert_eq!(token["uses"], serde_json::json!({}));
}

#[test]
fn a_leader_that_stops_in_order_hands_over() {
    let mut fleet = Fleet::formed(3);
    let jti = fleet.token();
    let (leader, follower) = (fleet.leader(), fleet.follower());
    let elections = fleet.metric(follower, "raft_elections_total");
    assert!(!fleet.server(follower).hand_over(Duration::from_secs(2)), "it does not lead");
    assert!(fleet.server(leader).hand_over(Duration::from_secs(2)));
    assert_eq!(fleet.metric(leader, "raft_leads"), 0);
    fleet.kill(leader);
    let outcome = fleet.propose_at(follower, redeem(&jti, 1)).unwrap();
    assert!(matches!(outcome, Outcome::Redeemed { first: true, .. }), "{outcome:?}");
    assert_eq!(fleet.metric(follower, "raft_elections_total"), elections + 1, "one, at once");
    // Alone among the voters there is nobody to hand over to.
    let last = fleet.leader();
    let other = fleet.up().find(|at| *at != last).unwrap();
    fleet.kill(other);
    assert!(!fleet.server(last).hand_over(Duration::from_millis(500)));
}
