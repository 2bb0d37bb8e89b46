//! Who is none of the cluster's, or says what nobody understands, is refused by name, and nothing is done.

use bytes::Bytes;

use super::rig::{Cluster, create_token};
use crate::replicated::transport::Kind;
use crate::replicated::types::{Vote, log_id};
use crate::replicated::wire::{self, Envelope};
use crate::{ControlLog, PeerRefusal, Replicated};

/// Says something to a server as somebody.
async fn say(server: &Replicated, proved: u64, envelope: &Envelope) -> Result<(), PeerRefusal> {
    let request = envelope.seal(|_| Ok(())).unwrap();
    let answer = server.handle(proved, request).await;
    match wire::read_answer(&answer, |get| get.raw(get.0.len()).map(drop)) {
        Ok(()) => Ok(()),
        Err(wire::NoAnswer::Refused(refusal)) => Err(refusal),
        Err(wire::NoAnswer::Unreadable(why)) => panic!("{why}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_by_name() {
    let cluster = Cluster::of(3).await;
    cluster.token().await;
    cluster.converge().await;
    let server = cluster.server(1);
    let two = cluster.server(2);
    let link = &two.engine_for_test().link;
    let store = server.engine_for_test().link.store;
    let right = link.envelope(Kind::Hello, 1, store);
    assert_eq!(say(&server, 2, &right).await, Ok(()));
    let cluster_id = Envelope { cluster_id: "zl-other".into(), ..right.clone() };
    let refusal = say(&server, 2, &cluster_id).await.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "this server is of cluster zl-test, the request is for zl-other"
    );
    let target = Envelope { to: 3, ..right.clone() };
    let refused = Err(PeerRefusal::WrongTarget { expected: 1, found: 3 });
    assert_eq!(say(&server, 2, &target).await, refused);
    let refused = Err(PeerRefusal::WrongSender { expected: 3, found: 2 });
    assert_eq!(say(&server, 3, &right).await, refused);
    let disk = Envelope { to_store: 5, ..right.clone() };
    assert_eq!(say(&server, 2, &disk).await, Err(PeerRefusal::WrongStore { id: 1 }));
    let disk = Envelope { from_store: 5, ..right.clone() };
    assert_eq!(say(&server, 2, &disk).await, Err(PeerRefusal::WrongStore { id: 2 }));
    // Who is no member may ask who is there, and no more.
    let stranger = Envelope { from: 8, from_store: 8, ..right.clone() };
    assert_eq!(say(&server, 8, &stranger).await, Ok(()));
    let reader = Envelope { kind: Kind::ReadIndex, ..stranger.clone() };
    assert_eq!(say(&server, 8, &reader).await, Err(PeerRefusal::NotMember { id: 8 }));
    let vote = openraft::raft::VoteRequest::new(Vote::new(99, 8), None);
    let stranger = Envelope { kind: Kind::Vote, ..stranger };
    let request = stranger.seal(|put| {
        wire::put_vote(put, &vote);
        Ok(())
    });
    let before = server.health().term;
    let answer = server.handle(8, request.unwrap()).await;
    let refused = wire::read_answer(&answer, |_| Ok(()));
    let not_member = PeerRefusal::NotMember { id: 8 };
    assert_eq!(refused, Err(wire::NoAnswer::Refused(not_member)));
    assert_eq!(server.health().term, before);
    // Nonsense is refused and ends nothing.
    for length in 0..80 {
        for fill in [0, 1, 0x7f, 0xff] {
            let answer = server.handle(2, Bytes::from(vec![fill; length])).await;
            let refused = wire::read_answer(&answer, |_| Ok(()));
            assert!(matches!(refused, Err(wire::NoAnswer::Refused(_))), "{length} of {fill}");
        }
    }
    let whole = right.seal(|_| Ok(())).unwrap();
    for kind in Kind::ALL {
        let mut bytes = whole.to_vec();
        bytes[1] = kind.number();
        bytes.extend([0xff; 9]);
        let answer = server.handle(2, bytes.into()).await;
        assert!(wire::read_answer(&answer, |_| Ok(())).is_err(), "{kind:?}");
    }
    // A command of a later version is refused before it counts, too: an unknown one, in entries of the leader.
    let (leader, log_index) = (cluster.leader().await.0, server.health().log_index);
    let leading = cluster.server(leader);
    let link = &leading.engine_for_test().link;
    let entries = link.envelope(Kind::Append, 1, store).seal(|put| {
        let vote = Vote::new_committed(server.health().term, leader);
        put.vote(&vote);
        put.optional_log_id(None);
        put.optional_log_id(None);
        put.u32(1);
        put.log_id(&log_id(9, leader, log_index + 1));
        put.u8(1);
        put.bytes(b"\x01\x81\xa5entry\x82\xa8stamp_ms\x01\xa7command\x81\xa4type\xa6dream!");
        Ok(())
    });
    let answer = server.handle(leader, entries.unwrap()).await;
    match wire::read_answer(&answer, |_| Ok(())) {
        Err(wire::NoAnswer::Refused(PeerRefusal::Unreadable { why })) => {
            assert!(why.contains("dream!"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    cluster.write(&create_token(50)).await;
    assert!(cluster.running().all(|(_, server)| server.health().stopped.is_none()));
}
