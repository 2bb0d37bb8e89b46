//! S29: which connections go where, by the name in their first words.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustls::client::ClientConnection;

use crate::cluster::{Cluster, PATIENCE};
use crate::hello::{Hello, PADDING, SERVER_NAME};
use crate::pki::{CLUSTER, Leaf};
use crate::tls::{self, answer, connect, first_words, join_name, say, server_name};

/// TLS alert: fatal, `unrecognized_name`.
const UNRECOGNIZED: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// TLS alert: fatal, `protocol_version`.
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

/// A cluster whose Enrollment service is this test.
fn with_enrollment() -> (Cluster, UnixListener) {
    let cluster = Cluster::start();
    cluster.token();
    // Nobody listens yet, so a connection that is let through ends at once.
    cluster.wait("a token opens the join name", |cluster| {
        let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &join_name()));
        say(&mut connect(cluster.address()), &hello);
        cluster.metric("joins_ended_total_unavailable") > 0
    });
    let service = UnixListener::bind(&cluster.options.join_socket).unwrap();
    (cluster, service)
}

fn accept(service: &UnixListener) -> UnixStream {
    let (stream, _) = service.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A hello for the server name, and the client that goes on with it.
fn worker_hello(cluster: &Cluster, leaf: &Leaf, name: &str) -> (ClientConnection, Hello) {
    let (client, hello) = first_words(tls::client(&cluster.ca.pem, Some(leaf), name));
    (client, Hello::parse(&hello))
}

/// Sends the pieces one after the other, each on its own.
fn dribble(stream: &mut TcpStream, words: &[u8], size: usize) {
    for piece in words.chunks(size) {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
}

/// Refused by this cause; what the server said about it.
fn refused(cluster: &Cluster, why: &str, words: &[u8]) -> Vec<u8> {
    let name = format!("handshakes_failed_total_{why}");
    let before = cluster.metric(&name);
    let answer = say(&mut connect(cluster.address()), words);
    cluster.wait_metric(&name, before + 1);
    assert_eq!(cluster.metric("connections_opened_total"), 0);
    assert_eq!(cluster.metric("join_connections_total"), 0);
    answer
}

#[test]
fn s29_a_hello_in_any_number_of_packets_and_records_reaches_the_server() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let ways: [(usize, usize); 5] = [(16_384, 16_384), (16_384, 1), (100, 16_384), (33, 7), (1, 1)];
    for ((of_record, of_packet), opened) in ways.into_iter().zip(1..) {
        let (mut client, hello) = worker_hello(&cluster, &leaf, &server_name());
        let mut stream = connect(cluster.address());
        dribble(&mut stream, &hello.in_records(of_record), of_packet);
        tls::shake(&mut client, &mut stream).unwrap();
        cluster.wait_metric("connections_opened_total", opened);
    }
    assert_eq!(cluster.metric("handshakes_failed_total"), 0);
}

#[test]
fn s29_the_case_of_the_name_and_a_dot_at_its_end_do_not_matter() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let (_, mut hello) = worker_hello(&cluster, &leaf, &server_name());
    for name in [server_name().to_uppercase(), format!("{}.", server_name())] {
        hello.ask_for(&[name.as_bytes()]);
        let mut stream = connect(cluster.address());
        stream.write_all(&hello.record()).unwrap();
        // The transcripts differ now, so the handshake can't be finished; that the server begins it is enough.
        let mut head = [0; 1];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head, [22], "{name}: no handshake");
    }
}

#[test]
fn s29_bytes_for_the_join_name_arrive_unchanged() {
    let (cluster, service) = with_enrollment();
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &join_name()));
    let hello = Hello::parse(&hello);
    for (of_record, of_packet) in [(16_384, 16_384), (33, 7), (1, 1)] {
        let mut stream = connect(cluster.address());
        let words = hello.in_records(of_record);
        dribble(&mut stream, &words, of_packet);
        let mut inner = accept(&service);
        let mut heard = vec![0; words.len()];
        inner.read_exact(&mut heard).unwrap();
        assert_eq!(heard, words);
        // And on, both ways, up to the end of each.
        inner.write_all(b"from the service").unwrap();
        let mut heard = [0; 16];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"from the service");
        stream.write_all(b"from the machine").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        inner.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"from the machine");
        drop(inner);
        assert_eq!(answer(&mut stream), b"");
    }
    cluster.wait_metric("joins_ended_total_done", 3);
}

#[test]
fn s29_any_other_name_is_refused_by_an_alert() {
    let cluster = Cluster::start();
    cluster.enrol();
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &server_name()));
    let hello = Hello::parse(&hello);
    let server = server_name();
    for name in [
        "server.zl-other.zlayer.internal",
        "join.zl-other.zlayer.internal",
        "api.zl-test.zlayer.internal",
        "zl-test.zlayer.internal",
        "server.zl-test.zlayer.internal.example.org",
        &format!("x{server}"),
        &server[1..],
        "localhost",
        CLUSTER,
    ] {
        let mut hello = hello.clone();
        hello.ask_for(&[name.as_bytes()]);
        assert_eq!(refused(&cluster, "server_name", &hello.record()), UNRECOGNIZED, "{name}");
    }
    // None at all, as a client sends that dials an address.
    let mut silent = hello.clone();
    silent.extensions.retain(|(kind, _)| *kind != SERVER_NAME);
    assert_eq!(refused(&cluster, "server_name", &silent.record()), UNRECOGNIZED);
    let (_, by_address) = first_words(tls::client(&cluster.ca.pem, None, "127.0.0.1"));
    assert_eq!(refused(&cluster, "server_name", &by_address), UNRECOGNIZED);
}

#[test]
fn s29_what_is_no_name_is_refused() {
    let cluster = Cluster::start();
    cluster.enrol();
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &server_name()));
    let hello = Hello::parse(&hello);
    let server = server_name();
    let long = format!("server.{}.zlayer.internal", "a".repeat(300));
    let zero = format!("{server}\0");
    let names: [&[u8]; 6] = [
        zero.as_bytes(),
        b"",
        b"server.zl-test.zlayer.internal\n",
        b"server.\xff\xfe.zlayer.internal",
        b"127.0.0.1",
        long.as_bytes(),
    ];
    for name in names {
        let mut hello = hello.clone();
        hello.ask_for(&[name]);
        let before = cluster.metric("handshakes_failed_total");
        let answer = say(&mut connect(cluster.address()), &hello.record());
        assert!(answer.is_empty() || answer[0] == 21, "{name:?}: {answer:?}");
        cluster.wait_metric("handshakes_failed_total", before + 1);
    }
    // Two names, and two lists of names.
    let mut two = hello.clone();
    two.ask_for(&[server.as_bytes(), join_name().as_bytes()]);
    let mut twice = hello.clone();
    let again = twice.extensions.iter().find(|(kind, _)| *kind == SERVER_NAME).unwrap().clone();
    twice.extensions.insert(0, again);
    let mut empty = hello.clone();
    empty.set(SERVER_NAME, Vec::new());
    for hello in [two, twice, empty] {
        refused(&cluster, "hello_malformed", &hello.record());
    }
    assert_eq!(cluster.metric("connections_opened_total"), 0);
}

#[test]
fn s29_what_is_no_hello_is_refused() {
    let cluster = Cluster::start();
    cluster.enrol();
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &server_name()));
    let mut other_message = hello.clone();
    other_message[5] = 2;
    let mut other_record = hello.clone();
    other_record[0] = 23;
    let mut bad_length = hello.clone();
    bad_length[8] -= 1;
    let garbage: Vec<u8> =
        (0..4_096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let words: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: server.zl-test.zlayer.internal\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        &[0; 64],
        &garbage,
        &other_message,
        &other_record,
        &bad_length,
    ];
    for words in words {
        refused(&cluster, "hello_malformed", words);
    }
}

#[test]
fn s29_a_hello_that_ends_early_is_no_error_of_the_server() {
    let cluster = Cluster::start();
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &server_name()));
    for length in [0, 1, 5, 9, hello.len() - 1] {
        let before = cluster.metric("handshakes_failed_total_closed");
        connect(cluster.address()).write_all(&hello[..length]).unwrap();
        cluster.wait_metric("handshakes_failed_total_closed", before + 1);
    }
}

#[test]
fn s29_an_oversized_hello_is_refused() {
    let cluster = Cluster::start();
    cluster.enrol();
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &server_name()));
    let hello = Hello::parse(&hello);
    // All in order, and too long: in records of the usual size, and byte by byte in records of their own.
    let mut padded = hello.clone();
    padded.set(PADDING, vec![0; 17 * 1024]);
    refused(&cluster, "hello_too_long", &padded.in_records(4_096));
    let mut short = hello.clone();
    short.set(PADDING, vec![0; 3 * 1024]);
    refused(&cluster, "hello_too_long", &short.in_records(1));
    // A length that nobody would wait for.
    let mut endless = hello.record();
    endless[6..9].copy_from_slice(&[0xff; 3]);
    refused(&cluster, "hello_malformed", &endless);
    // One that just fits is served.
    let mut fits = hello.clone();
    fits.set(PADDING, vec![0; 12 * 1024]);
    let mut stream = connect(cluster.address());
    stream.write_all(&fits.in_records(4_096)).unwrap();
    let mut head = [0; 1];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head, [22], "no handshake");
}

#[test]
fn s29_a_hello_without_tls_1_3_reaches_neither_name() {
    let (cluster, service) = with_enrollment();
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &join_name()));
    let mut hello = Hello::parse(&hello);
    hello.suites.retain(|suite| suite[0] != 0x13);
    hello.suites.push([0xc0, 0x2b]);
    let joins = cluster.metric("join_connections_total");
    assert_eq!(say(&mut connect(cluster.address()), &hello.record()), b"");
    cluster.wait_metric("handshakes_failed_total_no_tls13", 1);
    // A client that speaks 1.2 only, whatever suites it offers.
    let old = tls::config_of(&cluster.ca.pem, None, &[&rustls::version::TLS12]);
    let name = server_name().try_into().unwrap();
    let client = ClientConnection::new(old.into(), name).unwrap();
    let answer = say(&mut connect(cluster.address()), &first_words(client).1);
    cluster.wait_metric("handshakes_failed_total_tls", 1);
    assert_eq!(answer, PROTOCOL_VERSION);
    assert_eq!(cluster.metric("join_connections_total"), joins);
    service.set_nonblocking(true).unwrap();
    assert!(service.accept().is_err(), "the Enrollment service saw a byte");
}

#[test]
fn s19_a_slow_hello_is_given_up() {
    let cluster = Cluster::limited(|limits| limits.handshake_timeout_ms = 300);
    let (_, hello) = first_words(tls::client(&cluster.ca.pem, None, &server_name()));
    // Silence, a part of the hello, and the hello without what must follow.
    for length in [0, 40, hello.len()] {
        let before = cluster.metric("handshakes_failed_total_timeout");
        let mut stream = connect(cluster.address());
        stream.write_all(&hello[..length]).unwrap();
        answer(&mut stream);
        cluster.wait_metric("handshakes_failed_total_timeout", before + 1);
    }
    // One that never stops, and never gets anywhere.
    let mut stream = connect(cluster.address());
    for byte in hello {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    cluster.wait_metric("handshakes_failed_total_timeout", 4);
    assert_eq!(cluster.metric("handshakes_in_flight"), 0);
}
