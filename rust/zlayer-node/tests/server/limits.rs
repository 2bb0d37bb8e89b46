//! S19 and S20: peers with a good certificate that break the rules, or keep them and say too much.

use std::io::Write;

use crate::cluster::Cluster;
use crate::pki::Leaf;
use crate::tls::{self, answer, client, connect, connect_from, server_name, shake};
use crate::wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS,
    PING, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, call, field, frame,
};
use crate::worker::{Session, Worker};

/// A watch request: a message without a field.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

fn watch(stream: u32) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &call("WatchAssignments"));
    [head, frame(DATA, END_STREAM, stream, &EMPTY_MESSAGE)].concat()
}

/// Whether the server still answers on this connection.
fn is_alive(wire: &mut Wire) {
    wire.send(&frame(PING, 0, 0, b"are you?")).unwrap();
    let pong = |frame: &Frame| frame.kind == PING && frame.flags == ACK;
    assert_eq!(wire.wait("a pong", pong).payload, b"are you?");
}

#[test]
fn s20_streams_above_the_limit_are_refused_and_the_others_go_on() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let mut wire = Wire::open(&cluster, &leaf);
    let streams_max = cluster.options.limits.streams_max;
    for n in 0..streams_max {
        wire.send(&watch(2 * n + 1)).unwrap();
    }
    for _ in 0..streams_max {
        wire.wait("a snapshot", |frame| frame.kind == DATA);
    }
    for n in streams_max..streams_max + 20 {
        let flags = END_HEADERS | END_STREAM;
        wire.send(&frame(HEADERS, flags, 2 * n + 1, &call("WatchAssignments"))).unwrap();
        let refused = wire.wait("a refusal", |frame| frame.kind == RST_STREAM);
        assert_eq!(refused.stream, 2 * n + 1);
        assert_eq!(refused.error(RST_STREAM), Some(REFUSED_STREAM));
    }
    is_alive(&mut wire);
}

#[test]
fn s20_headers_above_the_limit_are_refused_and_the_connection_goes_on() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let mut wire = Wire::open(&cluster, &leaf);
    let most = cluster.options.limits.header_list_bytes_max as usize;
    // A list that just fits, by the measure of RFC 9113: 32 bytes more for each field.
    let fits = [call("WatchAssignments"), field("x", &"y".repeat(most - 400))].concat();
    wire.send(&frame(HEADERS, END_HEADERS, 1, &fits)).unwrap();
    wire.send(&frame(DATA, END_STREAM, 1, &EMPTY_MESSAGE)).unwrap();
    wire.wait("a snapshot", |frame| frame.kind == DATA && frame.stream == 1);
    let block = [call("WatchAssignments"), field("x", &"y".repeat(most))].concat();
    let (first, second) = block.split_at(16_000);
    wire.send(&frame(HEADERS, 0, 3, first)).unwrap();
    wire.send(&frame(CONTINUATION, END_HEADERS, 3, second)).unwrap();
    // ":status: 431" in Huffman's code.
    let refused = wire.wait("a refusal", |frame| frame.stream == 3);
    assert_eq!(
        (refused.kind, &refused.payload[..]),
        (HEADERS, &[0x48, 0x83, 0x69, 0x90, 0xff][..])
    );
    is_alive(&mut wire);
    assert_eq!(cluster.metric("connections_closed_total"), 0);
}

/// A worker that beats while somebody else misbehaves.
struct Neighbour {
    id: u64,
    session: Session,
    _worker: Worker,
}

impl Neighbour {
    async fn of(cluster: &Cluster) -> Self {
        let (id, leaf) = cluster.enrol();
        let (worker, session) = Worker::join(cluster, &leaf).await;
        cluster.wait_state(id, "Ready");
        Self { id, session, _worker: worker }
    }

    async fn is_well(&mut self, cluster: &Cluster) {
        for _ in 0..3 {
            self.session.beat().await.unwrap();
        }
        cluster.wait_story(self.id, &["joined"]);
    }
}

/// The n-th words of a flood.
type Words = Box<dyn Fn(u32) -> Vec<u8>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s20_floods_end_the_connection_and_nobody_elses() {
    const MIB: usize = 1 << 20;
    let cluster = Cluster::limited(|limits| {
        limits.bytes_per_second_per_worker = 4 * 1024;
        limits.beats_per_second_per_worker = 0;
    });
    let (_, leaf) = cluster.enrol();
    let mut neighbour = Neighbour::of(&cluster).await;
    let head = |stream| frame(HEADERS, END_HEADERS, stream, &call("WatchAssignments"));
    let cancel = 8_u32.to_be_bytes();
    let floods: [(&str, Words); 9] = [
        ("PING", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("PING answers", Box::new(|_| frame(PING, ACK, 0, &[0; 8]))),
        ("SETTINGS", Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        ("SETTINGS answers", Box::new(|_| frame(SETTINGS, ACK, 0, &[]))),
        ("WINDOW_UPDATE", Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("PRIORITY", Box::new(|n| frame(2, 0, 2 * n + 1, &[0, 0, 0, 0, 9]))),
        ("frames that nobody knows", Box::new(|_| frame(0xbe, 0, 0, &[7; 100]))),
        (
            "resets",
            Box::new(move |n| [head(2 * n + 1), frame(RST_STREAM, 0, 2 * n + 1, &cancel)].concat()),
        ),
        ("requests", Box::new(move |n| watch(2 * n + 1))),
    ];
    for ((what, words), closed) in floods.into_iter().zip(1..) {
        let mut wire = Wire::open(&cluster, &leaf);
        assert!(wire.flood(words, 64 * MIB), "{what}: 64 MiB were taken");
        cluster.wait_metric("connections_closed_total", closed);
        neighbour.is_well(&cluster).await;
    }
    // On one stream: data that says nothing, and headers without an end.
    let streams = [
        ("empty DATA", END_HEADERS, frame(DATA, 0, 1, &[])),
        ("tiny DATA", END_HEADERS, frame(DATA, 0, 1, &[0])),
        ("CONTINUATION", 0, frame(CONTINUATION, 0, 1, &field("x", "y"))),
    ];
    for ((what, flags, more), closed) in streams.into_iter().zip(10..) {
        let mut wire = Wire::open(&cluster, &leaf);
        wire.send(&frame(HEADERS, flags, 1, &call("ReportStatus"))).unwrap();
        assert!(wire.flood(|_| more.clone(), 64 * MIB), "{what}: 64 MiB were taken");
        cluster.wait_metric("connections_closed_total", closed);
        neighbour.is_well(&cluster).await;
    }
}

/// The same with the byte rate out of the way: what HTTP/2 itself bounds.
#[test]
fn s20_resets_and_endless_headers_are_ended_by_name() {
    let cluster = Cluster::limited(|limits| limits.bytes_per_second_per_worker = 0);
    let (_, leaf) = cluster.enrol();
    let cancel = 8_u32.to_be_bytes();
    let reset = |n: u32| {
        let head = frame(HEADERS, END_HEADERS, 2 * n + 1, &call("WatchAssignments"));
        [head, frame(RST_STREAM, 0, 2 * n + 1, &cancel)].concat()
    };
    let mut wire = Wire::open(&cluster, &leaf);
    wire.send(&(0..100).flat_map(reset).collect::<Vec<_>>()).unwrap();
    let goaway = wire.wait("GOAWAY", |frame| frame.kind == GOAWAY);
    assert_eq!(goaway.error(GOAWAY), Some(ENHANCE_YOUR_CALM));
    let mut wire = Wire::open(&cluster, &leaf);
    wire.send(&frame(HEADERS, 0, 1, &call("WatchAssignments"))).unwrap();
    let more = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(1_000)));
    let _ = wire.send(&more.repeat(1_000));
    let goaway = wire.rest().into_iter().find_map(|frame| frame.error(GOAWAY));
    assert!(goaway.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{goaway:?}");
    cluster.wait_metric("connections_closed_total", 2);
}

#[test]
fn s20_frames_that_break_the_protocol_end_the_connection() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let bad: [(&str, Vec<u8>); 9] = [
        ("no preface", b"GET / HTTP/1.1\r\n\r\n".repeat(4)),
        ("a frame above the limit", frame(DATA, 0, 1, &vec![0; 16_385])),
        ("data of no stream", frame(DATA, 0, 1, &[0; 8])),
        ("a stream that a server opens", frame(HEADERS, END_HEADERS, 2, &call("WatchAssignments"))),
        ("a window beyond its end", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("an entry of an empty table", frame(HEADERS, END_HEADERS, 1, &[0xbe])),
        ("a table that grows", frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xe1, 0x1f])),
        ("a half header", frame(HEADERS, END_HEADERS, 1, &[0x00, 0x7f])),
        ("a short ping", frame(PING, 0, 0, &[0; 7])),
    ];
    for ((what, words), closed) in bad.into_iter().zip(1..) {
        if what == "no preface" {
            let _ = tls::open(&cluster, &leaf).write_all(&words);
        } else {
            let mut wire = Wire::open(&cluster, &leaf);
            // Only now the server's settings are binding.
            wire.wait("settings", |frame| frame.kind == SETTINGS && frame.flags == 0);
            wire.send(&frame(SETTINGS, ACK, 0, &[])).unwrap();
            let _ = wire.send(&words);
            assert!(wire.rest().iter().any(|frame| frame.kind == GOAWAY), "{what}: no GOAWAY");
        }
        cluster.wait(what, |cluster| cluster.metric("connections_closed_total") >= closed);
    }
    is_alive(&mut Wire::open(&cluster, &leaf));
}

#[test]
fn s19_peers_that_say_nothing_after_the_handshake_are_closed() {
    let cluster = Cluster::limited(|limits| limits.first_request_timeout_ms = 300);
    let (_, leaf) = cluster.enrol();
    answer(&mut tls::open(&cluster, &leaf));
    // The preface only; half a head; a request without its message; pings in between.
    Wire::open(&cluster, &leaf).rest();
    let mut wire = Wire::open(&cluster, &leaf);
    wire.send(&frame(HEADERS, 0, 1, &call("ReportStatus"))).unwrap();
    wire.rest();
    let mut wire = Wire::open(&cluster, &leaf);
    wire.send(&frame(HEADERS, END_HEADERS, 1, &call("ReportStatus"))).unwrap();
    wire.rest();
    let mut wire = Wire::open(&cluster, &leaf);
    while wire.send(&frame(PING, 0, 0, &[0; 8])).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    cluster.wait_metric("connections_closed_total", 5);
}

/// A finished handshake from this address, or none.
fn handshake(cluster: &Cluster, leaf: &Leaf, source: [u8; 4]) -> (std::net::TcpStream, bool) {
    let mut stream = connect_from(source, cluster.address());
    let opened = cluster.metric("connections_opened_total");
    let refused = cluster.metric("refused_connections_total");
    let mut client = client(&cluster.ca.pem, Some(leaf), &server_name());
    let _ = shake(&mut client, &mut stream);
    let is_open = |cluster: &Cluster| cluster.metric("connections_opened_total") > opened;
    cluster.wait("a decision", |cluster| {
        is_open(cluster) || cluster.metric("refused_connections_total") > refused
    });
    (stream, is_open(cluster))
}

#[test]
fn connections_are_limited_by_source_and_in_all() {
    let cluster = Cluster::limited(|limits| {
        limits.connections_per_source_max = 2;
        limits.connections_max = 3;
        limits.connections_per_node_max = 100;
    });
    let (_, leaf) = cluster.enrol();
    let open = |last: u8| handshake(&cluster, &leaf, [127, 0, 0, last]);
    let first = [open(1), open(1)];
    assert!(first.iter().all(|(_, is_open)| *is_open));
    let (mut third, is_open) = open(1);
    assert!(!is_open, "three from one source");
    answer(&mut third);
    let (other, is_open) = open(2);
    assert!(is_open);
    assert!(!open(3).1, "four in all");
    assert_eq!(cluster.metric("refused_connections_total_connections"), 2);
    drop(other);
    cluster.wait("a place is free", |cluster| cluster.metric("open_connections") == 2);
    assert!(open(3).1);
}

#[test]
fn a_reset_before_the_first_word_costs_nothing() {
    let cluster = Cluster::start();
    for _ in 0..200 {
        let stream = connect(cluster.address());
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    cluster.wait_metric("accepted_connections_total", 200);
    cluster.wait("all are forgotten", |cluster| cluster.metric("handshakes_in_flight") == 0);
}
