//! The server itself: restarted, given a new identity, shut down.

use std::time::Duration;

use zlayer_core::command::Command;
use zlayer_node::refusal::Refusal;
use zlayer_node::{AskedError, ProposeError, ServerNode, ServerOptions};

use crate::cluster::{Cluster, PATIENCE};
use crate::pki::{Ca, Leaf};
use crate::tls::{client, connect, server_name, shake};
use crate::worker::{Worker, refusal};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shutting_down_tells_the_workers_and_records_nobody_as_lost() {
    let cluster = Cluster::start();
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let (id, leaf) = cluster.enrol();
        let (worker, session) = Worker::join(&cluster, &leaf).await;
        cluster.wait_state(id, "Ready");
        sessions.push((id, worker, session));
    }
    let cluster = cluster.restart();
    for (id, _worker, mut session) in sessions {
        assert_eq!(refusal(&session.next().await.unwrap_err()), Refusal::Stopping);
        cluster.wait_story(id, &["joined"]);
        assert_eq!(cluster.show(id)["state"], "Ready");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_restarted_server_gives_everybody_the_failover_time() {
    let cluster = Cluster::start();
    let (back, leaf) = cluster.enrol();
    let (away, of_away) = cluster.enrol();
    let (gone, of_gone) = cluster.enrol();
    let (left, of_left) = cluster.enrol();
    let _joined = (Worker::join(&cluster, &leaf).await, Worker::join(&cluster, &of_away).await);
    let (_worker, mut session) = Worker::join(&cluster, &of_left).await;
    session.leave().await.unwrap();
    for id in [back, away] {
        cluster.wait_state(id, "Ready");
    }
    cluster.remove(gone);
    let revision = cluster.node.revision();
    let cluster = cluster.restart();
    assert_eq!(cluster.node.revision(), revision);
    for id in [back, away] {
        let shown = cluster.show(id);
        assert_eq!((&shown["state"], &shown["connected"]), (&"Ready".into(), &false.into()));
        cluster.wait("its lease is promoted", |cluster| {
            cluster.show(id)["lease_remaining_ms"].as_u64().unwrap() > 290_000
        });
    }
    assert_eq!(cluster.show(left)["state"], "Left");
    // Coming back counts as a beat, and is no event.
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    session.beat().await.unwrap();
    assert_eq!(cluster.show(back)["connected"], true);
    cluster.wait_story(back, &["joined"]);
    let removed = Worker::dial(&cluster, &of_gone).await.unwrap();
    assert_eq!(removed.refused().await, Refusal::Removed);
    cluster.wait_story(away, &["joined"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn after_a_shutdown_nothing_listens_and_every_command_is_answered() {
    let cluster = Cluster::start();
    let address = cluster.address();
    cluster.node.shutdown(PATIENCE);
    cluster.node.shutdown(PATIENCE);
    assert!(std::net::TcpStream::connect(address).is_err());
    cluster.drain(Duration::ZERO);
    for ticket in 1..=3 {
        cluster.node.submit(ticket, Command::RemoveNode { node_id: 1_000 });
        let answers = cluster.drain(PATIENCE);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].ticket, ticket);
        assert!(matches!(answers[0].result, Err(AskedError::Log(ProposeError::Stopped { .. }))));
    }
    assert_eq!(cluster.node.stopped(), None, "it did not stop by itself");
}

#[test]
fn commands_that_are_in_work_at_a_shutdown_are_answered() {
    let cluster = Cluster::start();
    for ticket in 1..=200 {
        cluster.node.submit(ticket, Command::HoldExpiry { due: 1, leases: 1 });
    }
    cluster.node.shutdown(PATIENCE);
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 200 {
        let answers = cluster.drain(PATIENCE);
        assert!(!answers.is_empty(), "{} are answered", answered.len());
        answered.extend(answers.into_iter().map(|answer| answer.ticket));
    }
}

#[test]
fn commands_beyond_the_limit_are_refused_by_name() {
    let cluster = Cluster::limited(|limits| limits.commands_max = 1);
    let mut refused = 0;
    for ticket in 1..=200 {
        cluster.node.submit(ticket, Command::HoldExpiry { due: 1, leases: 1 });
    }
    let mut answered = 0;
    while answered < 200 {
        for answer in cluster.drain(PATIENCE) {
            answered += 1;
            refused +=
                u64::from(matches!(answer.result, Err(AskedError::Log(ProposeError::Overloaded))));
        }
    }
    assert!((1..200).contains(&refused), "{refused}");
    assert_eq!(cluster.node.revision(), 200 - refused);
}

/// The certificate of the server at the other end.
fn server_of(cluster: &Cluster, leaf: &Leaf) -> Vec<u8> {
    let mut stream = connect(cluster.address());
    // Believes whatever CA the cluster had first: the server's certificates here are all of that one.
    let mut client = client(&cluster.ca.pem, Some(leaf), &server_name());
    shake(&mut client, &mut stream).unwrap();
    client.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_new_identity_is_for_new_connections_only() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    let before = server_of(&cluster, &leaf);
    // A new server certificate, and a second CA for workers.
    let (renewed, next) = (cluster.ca.server(), Ca::named("next CA"));
    let both = format!("{}{}", cluster.ca.pem, next.pem);
    cluster.node.set_identity(&renewed.cert, &renewed.key, &both).unwrap();
    assert_ne!(server_of(&cluster, &leaf), before);
    let (_second, mut second) = Worker::join(&cluster, &next.worker(id)).await;
    second.beat().await.unwrap();
    // The first CA is retired: what is open goes on, what is new is refused.
    cluster.node.set_identity(&renewed.cert, &renewed.key, &next.pem).unwrap();
    second.beat().await.unwrap();
    let failed = cluster.metric("handshakes_failed_total_tls");
    let retired = Worker::dial(&cluster, &leaf).await;
    assert!(retired.is_err() || retired.unwrap().open().await.is_err());
    cluster.wait_metric("handshakes_failed_total_tls", failed + 1);
    let ended = session.beat().await.unwrap_err();
    assert_eq!(refusal(&ended), Refusal::Superseded, "by the second session, not by the CA");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_identity_that_nobody_could_use_changes_nothing() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let (good, other) = (cluster.ca.server(), cluster.ca.server());
    let join = cluster.ca.server_named("join.zl-test.zlayer.internal", 2099);
    let ca = &cluster.ca.pem;
    for (certificate, key, ca, why) in [
        (&good.cert, &other.key, ca, "key"),
        (&join.cert, &join.key, ca, "is not for server.zl-test"),
        (&leaf.cert, &leaf.key, ca, "is not for server.zl-test"),
        (&String::new(), &good.key, ca, "no certificate"),
        (&good.cert, &String::new(), ca, "no private key"),
        (&good.cert, &good.key, &String::new(), "CA: no certificate"),
    ] {
        let error = cluster.node.set_identity(certificate, key, ca).unwrap_err().to_string();
        assert!(error.to_lowercase().contains(&why.to_lowercase()), "{why}: {error}");
        assert!(!error.contains("PRIVATE KEY"), "{error}");
    }
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    session.beat().await.unwrap();
}

type Change<'a> = &'a dyn Fn(&mut ServerOptions);

#[test]
fn what_can_not_be_started_says_why_and_holds_nothing() {
    let cluster = Cluster::start();
    let (busy, taken) = (cluster.address().to_string(), cluster.options.control_dir.clone());
    let mut good = cluster.options.clone();
    good.listen = "127.0.0.1:0".into();
    good.control_dir = cluster.path("other");
    std::fs::create_dir(&good.control_dir).unwrap();
    let changes: [(&str, Change<'_>); 7] = [
        ("listen", &|options| options.listen.clone_from(&busy)),
        ("listen", &|options| options.listen = "nowhere".into()),
        ("control log", &|options| options.control_dir = "/proc/none".into()),
        ("control log", &|options| options.control_dir.clone_from(&taken)),
        ("identity", &|options| options.key_pem = String::new()),
        ("identity", &|options| options.cluster_id = "zl-other".into()),
        ("limits.threads", &|options| options.limits.threads = 0),
    ];
    for (why, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let error = ServerNode::start(&bad).err().unwrap().to_string();
        assert!(error.starts_with(why) || error.contains(&format!("can't {why}")), "{error}");
    }
    // Neither the address nor the directory is held by those that failed.
    ServerNode::start(&good).unwrap().shutdown(PATIENCE);
    ServerNode::start(&good).unwrap().shutdown(PATIENCE);
}
