//! Servers that come and go: one that ran alone, new ones, removed ones, such that lost their disk.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openraft::Precondition;
use tokio::time::{sleep, timeout};
use zlayer_core::time::UnixMs;
use zlayer_wal::sim::{Fault, SimFs, Survive};

use super::history::Clients;
use super::rig::{Cluster, LOOK, PATIENCE, Seat, addresses, create_token, hash, redeem};
use crate::replicated::transport::Kind;
use crate::replicated::wire::{self, Envelope};
use crate::{
    ControlLog, LogOptions, Machine, MembershipError, PeerRefusal, Replicated, SingleVoter,
};

impl Cluster {
    /// Starts a new server and takes it in as a learner.
    async fn add(&mut self, id: u64) -> Result<(), MembershipError> {
        self.start(id);
        let (raft_addr, api_addr) = addresses(id);
        let (_, leader) = self.leader().await;
        leader.add_learner(id, raft_addr, api_addr).await
    }

    async fn promote(&self, ids: &[u64]) -> Result<(), MembershipError> {
        let (_, leader) = self.leader().await;
        leader.promote(ids.iter().copied().collect()).await
    }

    async fn voters(&self) -> BTreeSet<u64> {
        self.leader().await.1.members().voters
    }
}

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

fn single_voter(fs: &SimFs) -> SingleVoter {
    let options = LogOptions {
        dir: "/log".into(),
        cluster_id: "zl-test".into(),
        node_id: 1,
        snapshot_bytes: 4 << 10,
    };
    let machine =
        Machine { fs: Arc::new(fs.clone()), clock: Arc::new(|| UnixMs(1)), ..Machine::default() };
    SingleVoter::open_on(options, machine).unwrap()
}

/// The disk of a server that ran alone, and the hash of its state.
async fn ran_alone(keys: u64) -> (SimFs, u64) {
    let fs = SimFs::default();
    for opening in 0..2 {
        let log = single_voter(&fs);
        log.propose(create_token(opening + 1)).await.unwrap();
        for key in 0..keys {
            log.propose(redeem(opening + 1, opening * 1_000 + key)).await.unwrap();
        }
    }
    let log = single_voter(&fs);
    let hash = log.state().with_state(zlayer_core::state::State::hash);
    drop(log);
    (fs, hash)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ran_alone_grows_to_three_with_all_it_knows() {
    // With snapshots and purges behind it, and without any.
    for keys in [100, 3] {
        let (fs, before) = ran_alone(keys).await;
        let mut cluster = Cluster::empty();
        cluster.seats.insert(1, Seat { fs, server: None });
        let server = cluster.start(1);
        assert_eq!(hash(&server), before);
        assert_eq!(server.members().voters, [1].into());
        cluster.leader().await;
        assert_eq!(hash(&server), before);
        // Again, as after a restart before anything else was done.
        cluster.kill(1);
        cluster.restart(1);
        cluster.leader().await;
        for id in [2, 3] {
            cluster.add(id).await.unwrap();
        }
        cluster.promote(&[2, 3]).await.unwrap();
        assert_eq!(cluster.converge().await, before);
        // Ids go on where they were.
        let id = cluster.enrol(1, 77_777).await;
        assert_eq!(id, zlayer_core::record::FIRST_WORKER_ID + 2 * keys);
        cluster.kill(1);
        cluster.enrol(1, 77_778).await;
        // There is no way back, and it is said.
        let disk = cluster.seats[&1].fs.copy();
        let options = LogOptions {
            dir: "/log".into(),
            cluster_id: "zl-test".into(),
            node_id: 1,
            snapshot_bytes: 4 << 10,
        };
        let machine = Machine { fs: Arc::new(disk), ..Machine::default() };
        let Err(error) = SingleVoter::open_on(options, machine) else { panic!("it went back") };
        assert!(error.to_string().contains("format"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_over_survives_a_power_cut_at_every_operation() {
    let (alone, before) = ran_alone(20).await;
    for operation in 0.. {
        let disk = alone.copy();
        let mut cluster = Cluster::empty();
        disk.set_fault(disk.operations() + operation, Fault::PowerCut);
        cluster.seats.insert(1, Seat { fs: disk.clone(), server: None });
        let mut is_done = false;
        if let Ok(server) = cluster.try_start(1) {
            let settled = async {
                while server.health().stopped.is_none() && server.confirm_leader().await.is_err() {
                    sleep(LOOK).await;
                }
            };
            timeout(PATIENCE, settled).await.unwrap();
            is_done = disk.operations() < alone.operations() + operation;
        }
        cluster.board.disconnect(1);
        if let Some(server) = cluster.seats.get_mut(&1).unwrap().server.take() {
            server.abort_for_test();
        }
        for survive in [Survive::Nothing, Survive::Everything, Survive::Coin(operation as u64)] {
            let mut cluster = Cluster::empty();
            let fs = disk.after_power_cut(survive);
            cluster.seats.insert(1, Seat { fs, server: None });
            let server = cluster.try_start(1).unwrap_or_else(|e| panic!("{operation}: {e}"));
            cluster.leader().await;
            server.confirm_leader().await.unwrap();
            assert_eq!(hash(&server), before, "{operation} {survive:?}");
        }
        if is_done {
            return;
        }
    }
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
    let vote = openraft::raft::VoteRequest::new(crate::replicated::types::Vote::new(99, 8), None);
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
        let vote = crate::replicated::types::Vote::new_committed(server.health().term, leader);
        put.vote(&vote);
        put.optional_log_id(None);
        put.optional_log_id(None);
        put.u32(1);
        put.log_id(&crate::replicated::types::log_id(9, leader, log_index + 1));
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
