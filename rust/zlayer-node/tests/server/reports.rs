//! What a worker may say on its report stream, and what it must not.

use futures_util::stream;
use tonic::Code;
use zlayer_core::command::Command;
use zlayer_node::refusal::Refusal;
use zlayer_wire::v1::{Hello, Resources, StatusReport};

use crate::cluster::Cluster;
use crate::raw::{Frames, message};
use crate::worker::{Worker, hello, refusal, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_report_is_answered_with_the_lease_and_the_next_beat() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let worker = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut session = worker.open().await.unwrap();
    for beat in 1..=5 {
        let report = if beat == 1 { hello(7) } else { StatusReport::default() };
        let ack = session.ask(report).await.unwrap();
        assert_eq!((ack.seq, ack.ttl_ms, ack.grace_ms), (beat, 10_000, 10_000));
        assert!((1..=10_000).contains(&ack.next_beat_in_ms), "{ack:?}");
        assert!(!ack.draining);
    }
    cluster.wait_state(id, "Ready");
    let shown = cluster.show(id);
    assert_eq!(shown["connected"], true);
    assert_eq!(shown["incarnation"], "7");
    assert_eq!(shown["ttl_ms"], 10_000);
    assert!((1..=20_000).contains(&shown["lease_remaining_ms"].as_u64().unwrap()));
    assert!(shown["next_beat_in_ms"].as_u64().unwrap() <= 10_000);
    assert!(shown["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!((cluster.metric("beats_total"), cluster.metric("acks_total")), (5, 5));
    cluster.wait_story(id, &["joined"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_report_says_of_its_use_is_shown() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    assert!(cluster.show(id)["resources"].is_null());
    let resources = Resources { cpu_millicores: u32::MAX, memory_bytes: u64::MAX, disk_bytes: 3 };
    let report = StatusReport { resources: Some(resources), ..StatusReport::default() };
    session.ask(report).await.unwrap();
    // It stays when a report says nothing of it.
    session.beat().await.unwrap();
    let shown = &cluster.show(id)["resources"];
    assert_eq!(shown["cpu_millicores"], u32::MAX);
    assert_eq!(shown["memory_bytes"], u64::MAX);
    assert_eq!(shown["disk_bytes"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn draining_is_told_with_the_next_ack() {
    let cluster = Cluster::limited(|limits| limits.beats_per_second_per_worker = 0);
    let (id, leaf) = cluster.enrol();
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    for draining in [true, false] {
        cluster.propose(Command::SetDraining { node_id: id, draining });
        cluster.wait_state(id, if draining { "Draining" } else { "Ready" });
        // The command is applied before its connection is told.
        while session.beat().await.unwrap().draining != draining {}
    }
    // A new connection knows it from the start.
    cluster.propose(Command::SetDraining { node_id: id, draining: true });
    let worker = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut session = worker.open().await.unwrap();
    assert!(session.ask(hello(7)).await.unwrap().draining);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s11_another_workers_id_in_a_report_ends_the_session_and_touches_no_lease() {
    let cluster = Cluster::limited(|limits| limits.beats_per_second_per_worker = 0);
    let (mine, leaf) = cluster.enrol();
    let (theirs, of_them) = cluster.enrol();
    let (_other, mut other) = Worker::join(&cluster, &of_them).await;
    let leases = |cluster: &Cluster| cluster.show(theirs)["last_beat_ago_ms"].as_u64().unwrap();
    for named in [theirs, 1, mine + 1_000, u64::MAX] {
        let (worker, mut session) = Worker::join(&cluster, &leaf).await;
        let mut watch = worker.watch(0).await.unwrap();
        // Its own id may be said.
        session.ask(StatusReport { node_id: mine, ..StatusReport::default() }).await.unwrap();
        let (before, beats) = (leases(&cluster), cluster.metric("beats_total"));
        let lie = StatusReport { node_id: named, leaving: true, ..StatusReport::default() };
        assert_eq!(refusal(&session.ask(lie).await.unwrap_err()), Refusal::WrongNode);
        // Everything on that connection ends.
        soon("the snapshot", watch.message()).await.unwrap();
        let ended = soon("the watch", watch.message()).await.unwrap_err();
        assert_eq!(refusal(&ended), Refusal::WrongNode);
        assert_eq!(cluster.metric("beats_total"), beats);
        assert!(leases(&cluster) >= before, "the other's lease was renewed");
        // Also as the first word.
        let worker = Worker::dial(&cluster, &leaf).await.unwrap();
        let mut session = worker.open().await.unwrap();
        let lie = StatusReport { node_id: named, ..hello(7) };
        assert_eq!(refusal(&session.ask(lie).await.unwrap_err()), Refusal::WrongNode);
    }
    other.beat().await.unwrap();
    cluster.wait_story(theirs, &["joined"]);
    assert_eq!(cluster.metric("sessions_refused_total_wrong_node_id"), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hello_belongs_in_the_first_report_and_only_there() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    for first in [StatusReport::default(), StatusReport { leaving: true, ..Default::default() }] {
        let worker = Worker::dial(&cluster, &leaf).await.unwrap();
        let mut session = worker.open().await.unwrap();
        assert_eq!(refusal(&session.ask(first).await.unwrap_err()), Refusal::Protocol);
    }
    cluster.wait_story(id, &[""; 0]);
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    assert_eq!(refusal(&session.ask(hello(7)).await.unwrap_err()), Refusal::Protocol);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s18_an_unknown_required_feature_is_refused_by_name() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let worker = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut session = worker.open().await.unwrap();
    let needs = Hello {
        incarnation: 7,
        version: "99".into(),
        required_features: vec!["assignments.v9".into()],
    };
    let report = StatusReport { hello: Some(needs), ..StatusReport::default() };
    assert_eq!(refusal(&session.ask(report).await.unwrap_err()), Refusal::Feature);
    assert_eq!(cluster.show(id)["connected"], false);
    cluster.wait_story(id, &[""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_connection_carries_one_session_at_a_time() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (worker, mut session) = Worker::join(&cluster, &leaf).await;
    assert_eq!(refusal(&worker.open().await.unwrap_err()), Refusal::Protocol);
    session.beat().await.unwrap();
    cluster.wait_state(id, "Ready");
    // One after the other is in order.
    drop(session);
    cluster.wait_state(id, "Suspect");
    let mut session = worker.open().await.unwrap();
    session.ask(hello(7)).await.unwrap();
    cluster.wait_state(id, "Ready");
    cluster.wait_story(id, &["joined", "suspect", "recovered"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reports_above_the_rate_end_the_session_and_a_new_one_starts_no_new_burst() {
    let cluster = Cluster::limited(|limits| limits.beats_per_second_per_worker = 1);
    let (_, leaf) = cluster.enrol();
    let (_, of_another) = cluster.enrol();
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    // A burst of four seconds' worth, the hello among them, and as much as the seconds of this test add.
    let mut taken = 1;
    let ended = loop {
        match session.beat().await {
            Ok(_) => taken += 1,
            Err(ended) => break ended,
        }
        assert!(taken < 100, "there is no limit");
    };
    assert_eq!(refusal(&ended), Refusal::TooFast);
    assert!(taken >= 4, "{taken}");
    let mut tries = 0;
    while let Ok(worker) = Worker::dial(&cluster, &leaf).await {
        let mut session = worker.open().await.unwrap();
        match session.ask(hello(7)).await {
            Ok(_) => tries += 1,
            Err(ended) => {
                assert_eq!(refusal(&ended), Refusal::TooFast);
                break;
            }
        }
        assert!(tries < 100, "a new connection starts a new burst");
    }
    let (_worker, mut session) = Worker::join(&cluster, &of_another).await;
    session.beat().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_that_ends_without_a_goodbye_makes_suspect() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let worker = Worker::dial(&cluster, &leaf).await.unwrap();
    let mut acks =
        worker.report(stream::iter([StatusReport { seq: 1, ..hello(7) }])).await.unwrap();
    assert_eq!(acks.message().await.unwrap().unwrap().seq, 1);
    assert_eq!(acks.message().await.unwrap(), None);
    cluster.wait("suspect", |cluster| cluster.story(id) == ["joined", "suspect"]);
    assert_eq!(cluster.show(id)["reason"], "connection_lost");
}

/// Reports that are no reports: the stream ends by name, and the connection serves the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s18_messages_that_cannot_be_read_end_their_stream_by_name() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let limit = cluster.options.limits.message_bytes_max;
    let mut frames = Frames::open(&cluster, &leaf).await;
    let hello_message = [0x1a, 2, 8, 7];
    let bad: [(&str, Vec<u8>, Code); 8] = [
        ("a byte beyond the limit", message(0, &vec![0; limit + 1]), Code::ResourceExhausted),
        ("4 MiB announced", vec![0, 0, 0x40, 0, 0], Code::ResourceExhausted),
        ("4 GiB announced", vec![0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted),
        ("compressed", message(1, &hello_message), Code::InvalidArgument),
        ("a flag that is none", message(7, &hello_message), Code::InvalidArgument),
        ("a wrong wire type", message(0, &[0x1d, 0, 0, 0, 0]), Code::InvalidArgument),
        ("a length beyond the end", message(0, &[0x1a, 100, 8, 7]), Code::InvalidArgument),
        ("bad UTF-8", message(0, &[0x1a, 4, 0x12, 2, 0xff, 0xff]), Code::InvalidArgument),
    ];
    for (what, body, code) in bad {
        let ended = frames.report(&body).await;
        assert_eq!(ended.code(), code, "{what}: {ended:?}");
        assert!(!ended.message().contains("panic"), "{what}: {ended:?}");
    }
    cluster.wait_story(id, &[""; 0]);
    // Fields that a later version adds are passed over.
    let mut later = hello_message.to_vec();
    later.extend([0xf8, 7, 1, 0x82, 8, 3, 1, 2, 3]);
    let _open = frames.first_ack(&message(0, &later)).await;
    cluster.wait_state(id, "Ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s18_a_watch_that_cannot_be_read_is_refused_by_name() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let mut frames = Frames::open(&cluster, &leaf).await;
    let limit = cluster.options.limits.message_bytes_max;
    for (what, body, code) in [
        ("a byte beyond the limit", message(0, &vec![0; limit + 1]), Code::ResourceExhausted),
        ("4 GiB announced", vec![0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted),
        ("compressed", message(1, &[8, 1]), Code::InvalidArgument),
        ("a wrong wire type", message(0, &[0x0d, 0, 0, 0, 0]), Code::InvalidArgument),
    ] {
        let ended = frames.call("ControlPlane/WatchAssignments", &body).await;
        assert_eq!(ended.code(), code, "{what}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s29_what_belongs_to_the_join_name_is_not_served_here() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let mut frames = Frames::open(&cluster, &leaf).await;
    for path in ["Enrollment/Register", "Enrollment/Renew", "ControlPlane/Other", "x"] {
        let ended = frames.call(path, &message(0, &[])).await;
        assert_eq!(ended.code(), Code::Unimplemented, "{path}: {ended:?}");
    }
}
