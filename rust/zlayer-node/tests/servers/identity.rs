//! Who may call whom. Row S28 of the bad-input matrix, and the roles of S10.

use std::time::Duration;

use zlayer_core::command::Outcome;
use zlayer_node::session::{Failure, Trust, dial};
use zlayer_node::{Asked, AskedError, MemberOptions, MembershipError};
use zlayer_wire::raft::peers_client::PeersClient;

use crate::fleet::{Fleet, until};
use crate::pki::{CLUSTER, Ca, Leaf};

fn call(ca: &Ca, address: &str, leaf: Option<&Leaf>) -> Result<(), Failure> {
    ask(ca, address, leaf, None)
}

/// TLS and HTTP/2 with this certificate, and one request, of the engine's or passed on: with TLS 1.3 the server's no
/// comes with the first answer.
fn ask(
    ca: &Ca,
    address: &str,
    leaf: Option<&Leaf>,
    passed_on: Option<&'static str>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let trust = Trust::of_servers(CLUSTER, &ca.pem).unwrap();
        let identity = match leaf {
            Some(leaf) => trust.client(&leaf.cert, &leaf.key).unwrap(),
            None => trust.anonymous().unwrap(),
        };
        let (requests, carrier) = dial(address, &trust, &identity, Duration::from_secs(12)).await?;
        let carrier = carrier.spawn();
        let mut client = PeersClient::with_origin(requests, trust.origin());
        let body = passed_on.unwrap_or("nonsense").into();
        let asked = zlayer_wire::raft::Request { body };
        let answered = match passed_on {
            Some(_) => client.forward(asked).await,
            None => client.call(asked).await,
        };
        drop(carrier);
        answered.map(drop).map_err(|status| Failure {
            kind: zlayer_node::session::FailureKind::Lost,
            why: status.to_string(),
            said: false,
        })
    })
}

#[test]
fn s28_the_port_of_the_servers_takes_servers_of_the_cluster_alone() {
    let fleet = Fleet::formed(1);
    let address = fleet.server(0).raft_addr().unwrap().to_string();
    let other = Ca::named("other CA");
    assert!(call(&fleet.ca, &address, Some(&fleet.ca.member(2))).is_ok(), "the call itself works");
    for (what, leaf) in [
        ("a worker", Some(fleet.ca.worker(1000))),
        ("a server's certificate without its URI", Some(fleet.ca.server())),
        ("another CA", Some(other.member(2))),
        ("an id that is no server's", Some(fleet.ca.member(1000))),
        ("none", None),
    ] {
        assert!(call(&fleet.ca, &address, leaf.as_ref()).is_err(), "{what}");
    }
    until("it leads on", || fleet.metric(0, "raft_leads") == 1);
}

#[test]
fn what_is_passed_on_is_taken_from_members_alone() {
    let mut fleet = Fleet::formed(3);
    let leader = fleet.leader();
    let address = fleet.server(leader).raft_addr().unwrap().to_string();
    let member = fleet.ca.member(fleet.options[fleet.follower()].node_id);
    let hold = r#"{"command": {"type": "hold_expiry", "due": 7, "leases": 9}}"#;
    let stranger = fleet.ca.member(9);
    let refused = ask(&fleet.ca, &address, Some(&stranger), Some(hold)).unwrap_err();
    assert!(refused.why.contains("not a member"), "{}", refused.why);
    let worker = fleet.ca.worker(1000);
    assert!(ask(&fleet.ca, &address, Some(&worker), Some(hold)).is_err());
    assert!(ask(&fleet.ca, &address, None, Some(hold)).is_err());
    // What a server does for whoever runs it alone, it does for no other server.
    let local = r#"{"asked": {"barrier": {}}}"#;
    let refused = ask(&fleet.ca, &address, Some(&member), Some(local)).unwrap_err();
    assert!(refused.why.contains("not asked of another"), "{}", refused.why);
    let recorded = |fleet: &Fleet| {
        let page = crate::fleet::json(&fleet.server(leader).events_json(0, usize::MAX));
        let events = page["items"].as_array().unwrap().clone();
        events.iter().filter(|event| event["kind"] == "expiry_held").count()
    };
    assert_eq!(fleet.ask(leader, Asked::Barrier {}), Ok(Outcome::Done));
    assert_eq!(recorded(&fleet), 0, "nothing was done");
    assert!(ask(&fleet.ca, &address, Some(&member), Some(hold)).is_ok());
    assert_eq!(recorded(&fleet), 1);
}

#[test]
fn s10_a_servers_certificate_is_no_workers() {
    let fleet = Fleet::formed(1);
    let address = fleet.address(0).to_string();
    assert!(call(&fleet.ca, &address, Some(&fleet.ca.member(2))).is_err());
    until("counted", || fleet.metric(0, "handshakes_failed_total_identity") == 1);
}

#[test]
fn whoever_answers_must_be_the_server_that_was_meant() {
    let mut fleet = Fleet::new(2);
    let first = fleet.member(0);
    assert_eq!(fleet.ask(0, Asked::Form { members: vec![first] }), Ok(Outcome::Done));
    fleet.leader();
    let second = fleet.member(1);
    // Server 2 is where server 3 is said to be.
    let wrong = MemberOptions { id: 3, ..second.clone() };
    match fleet.ask(0, Asked::Add(wrong)) {
        Err(AskedError::Members(MembershipError::Unreachable { id: 3, why })) => {
            assert!(why.contains("server 2's"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fleet.ask(0, Asked::Add(second)), Ok(Outcome::Done));
}

#[test]
fn a_cluster_moves_to_another_ca_while_it_runs() {
    let mut fleet = Fleet::formed(3);
    let (old, new) = (Ca::named("the old"), Ca::named("the new"));
    let old = std::mem::replace(&mut fleet.ca, old);
    let both = format!("{}{}", old.pem, new.pem);
    for (ca, trusted) in [(&old, &both), (&new, &both), (&new, &new.pem)] {
        for at in 0..3 {
            let leaf = ca.member(fleet.options[at].node_id);
            fleet.server(at).set_identity(&leaf.cert, &leaf.key, trusted).unwrap();
        }
        // Every lane is dialled anew: an append, a vote, and the hello of the transfer.
        let leader = fleet.leader();
        let to = fleet.options[fleet.follower()].node_id;
        assert!(fleet.ask_document(leader, Asked::Transfer { to: Some(to) }).is_ok());
        fleet.token();
    }
    let address = fleet.server(0).raft_addr().unwrap().to_string();
    assert!(call(&new, &address, Some(&new.member(2))).is_ok());
    assert!(call(&new, &address, Some(&old.member(2))).is_err(), "the old CA is believed no more");
    let worker = new.worker(1000);
    let refused = fleet.server(0).set_identity(&worker.cert, &worker.key, &new.pem);
    assert!(refused.is_err(), "no server's certificate");
}
