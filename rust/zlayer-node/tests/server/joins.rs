//! The way to the Enrollment service: when it is open, and what may pass.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::Labels;
use zlayer_core::time::UnixMs;
use zlayer_node::ServerLimits;
use zlayer_node::clock::Clock;

use crate::cluster::{Cluster, PATIENCE};
use crate::tls::{answer, client, connect, connect_from, first_words, join_name};
use crate::worker::Worker;

fn hello(cluster: &Cluster) -> Vec<u8> {
    first_words(client(&cluster.ca.pem, None, &join_name())).1
}

/// Whether a machine is let through to the service, where nobody listens.
fn is_open(cluster: &Cluster) -> bool {
    let (through, closed) = ("join_connections_total", "refused_connections_total_join_closed");
    let before = (cluster.metric(through), cluster.metric(closed));
    let mut stream = connect(cluster.address());
    stream.write_all(&hello(cluster)).unwrap();
    answer(&mut stream);
    cluster
        .wait("a decision", |cluster| (cluster.metric(through), cluster.metric(closed)) != before);
    cluster.metric(through) > before.0
}

fn wait_open(cluster: &Cluster, open: bool) {
    cluster.wait("the join name", |cluster| is_open(cluster) == open);
}

#[test]
fn s21_the_join_name_is_answered_only_while_somebody_could_use_it() {
    let cluster = Cluster::limited(|limits| {
        limits.splices_per_second = 0;
        limits.splices_per_second_per_source = 0;
    });
    assert!(!is_open(&cluster), "neither token nor node");
    // A token that ends by itself.
    let jti = format!("{:032x}", cluster.number());
    let brief = Command::CreateToken {
        jti: jti.clone(),
        name: String::new(),
        expires_ms: UnixMs(Clock::unix().0 + 2_000),
        role: zlayer_core::record::TokenRole::Worker,
        uses_max: 1,
        labels: Labels::new(),
        labels_allowed: Vec::new(),
    };
    assert_eq!(cluster.propose(brief), Outcome::Done);
    wait_open(&cluster, true);
    wait_open(&cluster, false);
    // One that is revoked.
    let jti = cluster.token();
    wait_open(&cluster, true);
    assert_eq!(cluster.propose(Command::RevokeToken { jti }), Outcome::Done);
    wait_open(&cluster, false);
    // One that is used up: then there is a node, which may renew its certificate.
    let (id, _) = cluster.enrol();
    wait_open(&cluster, true);
    cluster.remove(id);
    wait_open(&cluster, false);
    cluster.token();
    wait_open(&cluster, true);
}

/// An open join name with the test as its service.
fn open_join(set: impl FnOnce(&mut ServerLimits)) -> (Cluster, UnixListener) {
    let cluster = Cluster::limited(|limits| {
        limits.splices_per_second = 0;
        limits.splices_per_second_per_source = 0;
        set(limits);
    });
    cluster.token();
    wait_open(&cluster, true);
    cluster.wait("nothing passes", |cluster| cluster.metric("open_joins") == 0);
    let service = UnixListener::bind(&cluster.options.join_socket).unwrap();
    (cluster, service)
}

/// A machine that is through to the service.
fn through(cluster: &Cluster, service: &UnixListener, source: [u8; 4]) -> (TcpStream, UnixStream) {
    let mut outer = connect_from(source, cluster.address());
    let hello = hello(cluster);
    outer.write_all(&hello).unwrap();
    let (mut inner, _) = service.accept().unwrap();
    inner.set_read_timeout(Some(PATIENCE)).unwrap();
    inner.set_write_timeout(Some(PATIENCE)).unwrap();
    inner.read_exact(&mut vec![0; hello.len()]).unwrap();
    (outer, inner)
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];

/// A machine that is refused for this reason.
fn refused(cluster: &Cluster, why: &str, source: [u8; 4]) {
    let name = format!("refused_connections_total_{why}");
    let before = cluster.metric(&name);
    let mut stream = connect_from(source, cluster.address());
    stream.write_all(&hello(cluster)).unwrap();
    assert_eq!(answer(&mut stream), b"");
    cluster.wait_metric(&name, before + 1);
}

#[test]
fn join_connections_are_limited_by_source_and_in_all() {
    let (cluster, service) = open_join(|limits| {
        limits.splices_per_source_max = 2;
        limits.splices_max = 3;
    });
    let first = through(&cluster, &service, HERE);
    let _second = through(&cluster, &service, HERE);
    refused(&cluster, "joins", HERE);
    let _third = through(&cluster, &service, THERE);
    refused(&cluster, "joins", [127, 0, 0, 3]);
    drop(first);
    cluster.wait("a place is free", |cluster| cluster.metric("open_joins") == 2);
    through(&cluster, &service, HERE);
}

#[test]
fn s21_new_join_connections_are_limited_by_rate() {
    let cluster = Cluster::limited(|limits| limits.splices_per_second_per_source = 5);
    cluster.token();
    let refused = || cluster.metric("refused_connections_total_join_rate");
    let (began, mut tried) = (Instant::now(), 0);
    cluster.wait("the rate is reached", |cluster| {
        let mut stream = connect(cluster.address());
        stream.write_all(&hello(cluster)).unwrap();
        answer(&mut stream);
        refused() > 0
    });
    // Another source has a rate of its own.
    let passed = cluster.metric("join_connections_total");
    let mut stream = connect_from(THERE, cluster.address());
    stream.write_all(&hello(&cluster)).unwrap();
    answer(&mut stream);
    cluster.wait_metric("join_connections_total", passed + 1);
    // In the long run five a second, after a burst of as many.
    while began.elapsed() < Duration::from_millis(1_500) {
        let mut stream = connect(cluster.address());
        stream.write_all(&hello(&cluster)).unwrap();
        answer(&mut stream);
        tried += 1;
    }
    let (passed, most) =
        (cluster.metric("join_connections_total"), began.elapsed().as_secs() * 5 + 12);
    assert!(passed <= most, "{passed} of {tried} passed");
}

#[test]
fn s21_the_rate_in_all_holds_for_many_sources() {
    let cluster = Cluster::limited(|limits| limits.splices_per_second = 3);
    cluster.token();
    cluster.wait("the rate is reached", |cluster| {
        let last = (cluster.number() % 250 + 1) as u8;
        let mut stream = connect_from([127, 0, 0, last], cluster.address());
        stream.write_all(&hello(cluster)).unwrap();
        answer(&mut stream);
        cluster.metric("refused_connections_total_join_rate") > 0
    });
}

#[test]
fn more_bytes_than_the_limit_are_not_passed_either_way() {
    let (cluster, service) = open_join(|limits| limits.splice_bytes_max = 10_000);
    // Up: the hello counts.
    let (mut outer, mut inner) = through(&cluster, &service, HERE);
    let _ = outer.write_all(&vec![7; 20_000]);
    let heard = answer(&mut inner);
    assert!(heard.len() <= 10_000 - hello(&cluster).len(), "{}", heard.len());
    answer(&mut outer);
    cluster.wait_metric("joins_ended_total_bytes", 1);
    // Down.
    let (mut outer, mut inner) = through(&cluster, &service, HERE);
    let _ = inner.write_all(&vec![7; 20_000]);
    assert!(answer(&mut outer).len() <= 10_000);
    cluster.wait_metric("joins_ended_total_bytes", 2);
    // As many as the limit, both ways.
    let (mut outer, mut inner) = through(&cluster, &service, HERE);
    inner.write_all(&[7; 10_000]).unwrap();
    outer.read_exact(&mut [0; 10_000]).unwrap();
    let up = 10_000 - hello(&cluster).len();
    outer.write_all(&vec![7; up]).unwrap();
    inner.read_exact(&mut vec![0; up]).unwrap();
    assert_eq!(cluster.metric("joins_ended_total_bytes"), 2);
}

#[test]
fn s19_a_join_connection_that_falls_silent_is_closed() {
    let (cluster, service) = open_join(|limits| limits.splice_idle_ms = 200);
    let (mut outer, mut inner) = through(&cluster, &service, HERE);
    // Words in between keep it, from either side.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(80));
        outer.write_all(b"x").unwrap();
        inner.read_exact(&mut [0; 1]).unwrap();
        std::thread::sleep(Duration::from_millis(80));
        inner.write_all(b"y").unwrap();
        outer.read_exact(&mut [0; 1]).unwrap();
    }
    assert_eq!(cluster.metric("joins_ended_total_idle"), 0);
    assert_eq!((answer(&mut outer).len(), answer(&mut inner).len()), (0, 0));
    cluster.wait_metric("joins_ended_total_idle", 1);
}

#[test]
fn s19_a_join_connection_has_so_long_to_live_however_busy() {
    let (cluster, service) = open_join(|limits| limits.splice_total_ms = 400);
    let (mut outer, _inner) = through(&cluster, &service, HERE);
    while outer.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    cluster.wait_metric("joins_ended_total_total", 1);
}

#[test]
fn a_service_that_does_not_read_or_is_gone_holds_nothing() {
    let (cluster, service) = open_join(|limits| {
        limits.splice_total_ms = 300;
        limits.splice_bytes_max = 64 << 20;
    });
    let (mut outer, inner) = through(&cluster, &service, HERE);
    // More than the sockets hold.
    let _ = outer.write_all(&vec![0; 32 << 20]);
    cluster.wait_metric("joins_ended_total_total", 1);
    drop(inner);
    // It hangs up.
    let (mut outer, inner) = through(&cluster, &service, HERE);
    drop(inner);
    assert_eq!(answer(&mut outer), b"");
    // It does not listen.
    drop(service);
    std::fs::remove_file(&cluster.options.join_socket).unwrap();
    let unavailable = cluster.metric("joins_ended_total_unavailable");
    let mut outer = connect(cluster.address());
    outer.write_all(&hello(&cluster)).unwrap();
    assert_eq!(answer(&mut outer), b"");
    cluster.wait_metric("joins_ended_total_unavailable", unavailable + 1);
    cluster.wait("nothing is left", |cluster| cluster.metric("open_joins") == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s21_a_flood_of_joins_takes_no_place_of_a_worker() {
    let (cluster, service) = open_join(|limits| {
        limits.handshakes_max = 4;
        limits.handshakes_per_source_max = 4;
        limits.connections_max = 4;
    });
    let (id, leaf) = cluster.enrol();
    let splices_max = cluster.options.limits.splices_per_source_max;
    let _joining: Vec<_> = (0..splices_max).map(|_| through(&cluster, &service, HERE)).collect();
    refused(&cluster, "joins", HERE);
    let (_worker, mut session) = Worker::join(&cluster, &leaf).await;
    session.beat().await.unwrap();
    cluster.wait_state(id, "Ready");
    assert_eq!(cluster.metric("open_joins"), splices_max as u64);
}
