//! The life of a session: watched, replaced, aged, lost, ended by goodbye or by removal.

use std::time::{Duration, Instant};

use zlayer_node::refusal::Refusal;
use zlayer_wire::v1::assignment_event::Kind;

use crate::cluster::Cluster;
use crate::worker::{Session, Worker, hello, refusal, soon};

/// What a beat may take; then the worker beats again.
const PAUSE: Duration = Duration::from_millis(5);

/// Beats until the server ends the session, and says how.
async fn beat_on(session: &mut Session) -> Refusal {
    loop {
        match session.beat().await {
            Ok(_) => tokio::time::sleep(PAUSE).await,
            Err(ended) => return refusal(&ended),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_begins_with_an_empty_snapshot_and_goes_on_for_as_long_as_the_connection() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let (worker, mut session) = Worker::join(&cluster, &leaf).await;
    let mut watches = Vec::new();
    // At first, anew, and beyond what there ever was.
    for last_revision in [0, 0, 1, u64::MAX] {
        let mut watch = worker.watch(last_revision).await.unwrap();
        let event = soon("a snapshot", watch.message()).await.unwrap().unwrap();
        assert_eq!(event.revision, 0);
        assert!(matches!(event.kind, Some(Kind::Snapshot(_))));
        watches.push(watch);
    }
    // Nothing more comes, and beats go by.
    for watch in &mut watches {
        let more = tokio::time::timeout(Duration::from_millis(20), watch.message()).await;
        assert!(more.is_err(), "{more:?}");
    }
    session.beat().await.unwrap();
    cluster.node.shutdown(crate::cluster::PATIENCE);
    for mut watch in watches {
        let ended = soon("the end", watch.message()).await.unwrap_err();
        assert_eq!(refusal(&ended), Refusal::Stopping);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_without_a_session_changes_nothing_and_outlives_the_first_request_timeout() {
    let cluster = Cluster::limited(|limits| limits.first_request_timeout_ms = 100);
    let (id, leaf) = cluster.enrol();
    let worker = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut watch = worker.watch(0).await.unwrap();
    watch.message().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut session = worker.open().await.unwrap();
    session.ask(hello(7)).await.unwrap();
    cluster.wait_state(id, "Ready");
    // Without any stream it is closed.
    drop((watch, session));
    cluster.wait_metric("connections_closed_total", 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_goodbye_is_answered_once_it_is_recorded() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (worker, mut session) = Worker::join(&cluster, &leaf).await;
    session.leave().await.unwrap();
    assert_eq!(cluster.show(id)["state"], "Left", "the answer came first");
    cluster.wait_story(id, &["joined", "left"]);
    let ended = session.next().await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::Ok, "{ended:?}");
    drop(worker);
    cluster.wait_metric("connections_closed_total", 1);
    cluster.wait_story(id, &["joined", "left"]);
    assert_eq!(cluster.metric("leases"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_that_left_may_come_back_and_leave_again_on_the_same_connection() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (worker, mut session) = Worker::join(&cluster, &leaf).await;
    for round in 1..=5 {
        session.leave().await.unwrap();
        assert_eq!(cluster.show(id)["state"], "Left", "round {round}: the answer came first");
        session.next().await.unwrap_err();
        session = worker.open().await.unwrap();
        session.ask(hello(7)).await.unwrap();
        cluster.wait_state(id, "Ready");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_goodbye_may_be_the_first_word() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let worker = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut session = worker.open().await.unwrap();
    session.ask(zlayer_wire::v1::StatusReport { leaving: true, ..hello(7) }).await.unwrap();
    assert_eq!(cluster.show(id)["state"], "Left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lost_connection_makes_suspect_within_a_second() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (worker, session) = Worker::join(&cluster, &leaf).await;
    cluster.wait_state(id, "Ready");
    let lost = Instant::now();
    drop((worker, session));
    cluster.wait_state(id, "Suspect");
    assert!(lost.elapsed() < Duration::from_secs(1), "{:?}", lost.elapsed());
    assert_eq!(cluster.show(id)["reason"], "connection_lost");
    assert!(cluster.show(id)["lease_remaining_ms"].as_u64().unwrap() > 10_000);
    // It comes back as the same process.
    let _joined = Worker::join(&cluster, &leaf).await;
    cluster.wait_state(id, "Ready");
    cluster.wait_story(id, &["joined", "suspect", "recovered"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_silent_worker_is_unreachable_once_its_lease_has_ended_and_recovers_on_the_same_stream() {
    let cluster = Cluster::with(|options| {
        options.ttl.min_ttl_secs = 1;
        options.ttl.grace_secs = 1;
    });
    let (id, leaf) = cluster.enrol();
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    let joined = Instant::now();
    cluster.wait_state(id, "Unreachable");
    let silent = joined.elapsed();
    assert!(silent >= Duration::from_millis(1_900), "expired early: {silent:?}");
    assert!(silent < Duration::from_millis(3_500), "by TTL + grace + 1 s: {silent:?}");
    assert_eq!(cluster.show(id)["connected"], false);
    session.beat().await.unwrap();
    cluster.wait_state(id, "Ready");
    cluster.wait_story(id, &["joined", "unreachable", "recovered"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn another_process_with_the_same_identity_is_reported_and_the_older_session_closed() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (first, mut old) = Worker::join(&cluster, &leaf).await;
    let mut watch = first.watch(0).await.unwrap();
    watch.message().await.unwrap();
    cluster.wait_state(id, "Ready");
    let second = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut new = second.open().await.unwrap();
    new.ask(hello(8)).await.unwrap();
    assert_eq!(refusal(&old.next().await.unwrap_err()), Refusal::Superseded);
    let ended = soon("the watch", watch.message()).await.unwrap_err();
    assert_eq!(refusal(&ended), Refusal::Superseded);
    new.beat().await.unwrap();
    cluster.wait_metric("duplicate_sessions_total", 1);
    cluster.wait("the new process is recorded", |c| c.show(id)["incarnation"] == "8");
    cluster.wait_story(id, &["joined", "joined"]);
    assert_eq!(cluster.show(id)["state"], "Ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_process_that_connects_anew_replaces_its_session_unnoticed() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (_first, mut old) = Worker::join(&cluster, &leaf).await;
    let (_second, mut new) = Worker::join(&cluster, &leaf).await;
    new.beat().await.unwrap();
    // The old one may not renew any more, and says so when it tries.
    assert_eq!(refusal(&old.beat().await.unwrap_err()), Refusal::Superseded);
    new.beat().await.unwrap();
    cluster.wait_story(id, &["joined"]);
    assert_eq!(cluster.metric("sessions_replaced_total"), 1);
    assert_eq!(cluster.metric("duplicate_sessions_total"), 0);
    assert_eq!(cluster.metric("connected_workers"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_older_stream_that_speaks_late_is_refused() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let late = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut slow = late.open().await.unwrap();
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    assert_eq!(refusal(&slow.ask(hello(7)).await.unwrap_err()), Refusal::Superseded);
    session.beat().await.unwrap();
    cluster.wait_story(id, &["joined"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_has_so_many_connections_and_one_more_closes_the_oldest() {
    let cluster = Cluster::limited(|limits| limits.connections_per_node_max = 2);
    let (id, leaf) = cluster.enrol();
    let (_, of_another) = cluster.enrol();
    let (_other, mut other) = Worker::join(&cluster, &of_another).await;
    let (first, mut oldest) = Worker::join(&cluster, &leaf).await;
    let second = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut watch = second.watch(0).await.unwrap();
    watch.message().await.unwrap();
    oldest.beat().await.unwrap();
    let (_third, mut newest) = Worker::join(&cluster, &leaf).await;
    assert_eq!(refusal(&oldest.next().await.unwrap_err()), Refusal::Superseded);
    drop(first);
    newest.beat().await.unwrap();
    other.beat().await.unwrap();
    cluster.wait("two are left", |cluster| cluster.metric("open_connections") == 3);
    cluster.wait_state(id, "Ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_has_reached_its_age_is_handed_over_and_nobody_is_suspect() {
    let cluster = Cluster::limited(|limits| {
        limits.connection_age_ms = 300;
        limits.beats_per_second_per_worker = 0;
    });
    let (id, leaf) = cluster.enrol();
    let (mut worker, mut session) = Worker::join(&cluster, &leaf).await;
    for opened in 2..=4 {
        let mut watch = worker.watch(0).await.unwrap();
        watch.message().await.unwrap();
        assert_eq!(beat_on(&mut session).await, Refusal::Aged);
        let ended = soon("the watch", watch.message()).await.unwrap_err();
        assert_eq!(refusal(&ended), Refusal::Aged);
        assert_eq!(cluster.show(id)["state"], "Ready", "before it is back");
        (worker, session) = Worker::join(&cluster, &leaf).await;
        cluster.wait_metric("connections_opened_total", opened);
        cluster.wait_metric("connections_closed_total", opened - 1);
    }
    session.beat().await.unwrap();
    cluster.wait_story(id, &["joined"]);
    assert_eq!(cluster.metric("suspects_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_that_does_not_come_back_after_a_hand_over_is_suspect() {
    let cluster = Cluster::limited(|limits| limits.connection_age_ms = 100);
    let (id, leaf) = cluster.enrol();
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    assert_eq!(refusal(&session.next().await.unwrap_err()), Refusal::Aged);
    let told = Instant::now();
    // Before its first session it counts as suspect, too.
    cluster.wait_story(id, &["joined"]);
    cluster.wait_state(id, "Suspect");
    assert!(told.elapsed() > Duration::from_secs(1), "it had no time to come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s12_a_removed_node_loses_its_streams_within_5_s_and_its_certificate_is_of_no_use() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (_, of_another) = cluster.enrol();
    let (_other, mut other) = Worker::join(&cluster, &of_another).await;
    let (first, mut session) = Worker::join(&cluster, &leaf).await;
    let second = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut watches = vec![first.watch(0).await.unwrap(), second.watch(0).await.unwrap()];
    for watch in &mut watches {
        watch.message().await.unwrap();
    }
    let idle = Worker::dial(&cluster, &leaf).await.unwrap();
    // A client is done with the handshake before the server is.
    cluster.wait_metric("connections_opened_total", 4);
    let removed = Instant::now();
    cluster.remove(id);
    assert_eq!(refusal(&session.next().await.unwrap_err()), Refusal::Removed);
    for mut watch in watches {
        let ended = soon("a watch", watch.message()).await.unwrap_err();
        assert_eq!(refusal(&ended), Refusal::Removed);
    }
    cluster.wait("its connections are closed", |c| c.metric("open_connections") == 1);
    assert!(removed.elapsed() < Duration::from_secs(5), "{:?}", removed.elapsed());
    idle.open().await.unwrap_err();
    let again = Worker::dial(&cluster, &leaf).await.unwrap();
    assert_eq!(again.refused().await, Refusal::Removed);
    other.beat().await.unwrap();
    assert!(cluster.node.node_json(id).is_none());
    cluster.wait_story(id, &["joined", "removed"]);
    assert_eq!((cluster.metric("nodes"), cluster.metric("leases")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s12_a_node_that_is_removed_while_it_connects_gets_no_session() {
    let cluster = Cluster::start();
    for _ in 0..10 {
        let (id, leaf) = cluster.enrol();
        let dialling = Worker::dial(&cluster, &leaf);
        let removing = async { cluster.remove(id) };
        let (dialled, ()) = tokio::join!(dialling, removing);
        if let Ok(worker) = dialled
            && let Ok(mut session) = worker.open().await
        {
            session.ask(hello(7)).await.unwrap_err();
        }
    }
    cluster.wait("all are closed", |cluster| cluster.metric("open_connections") == 0);
    assert_eq!((cluster.metric("nodes"), cluster.metric("leases")), (0, 0));
}
