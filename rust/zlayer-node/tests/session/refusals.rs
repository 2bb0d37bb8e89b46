//! Servers that a worker must not talk to, and servers that don't want the worker. Each is named.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use zlayer_node::refusal::Refusal;
use zlayer_node::session::SessionEvent;

use crate::pki::{CLUSTER, Ca, Leaf};
use crate::server::{Server, TLS_1_2, Tls};
use crate::worker::{NODE, Worker};

/// Starts a worker of `ca` against a server and waits for the named error.
fn expect_error(ca: &Ca, worker: &Leaf, tls: &Tls, error: &str) -> (Server, Worker) {
    let server = Server::start(tls);
    let worker = Worker::start(&[server.address()], ca, worker);
    worker.wait_state(error, |state| {
        state["last_error"].as_str().is_some_and(|text| text.ends_with(error))
    });
    let state = worker.state();
    assert_eq!(state["state"], "connecting");
    let named = state["last_error"].as_str().unwrap().starts_with(&server.address());
    assert!(named, "{state}");
    (server, worker)
}

/// The same, where the worker must not have said anything.
fn expect_silence(tls: &Tls, ca: &Ca, error: &str) {
    let (server, worker) = expect_error(ca, &ca.worker(NODE), tls, error);
    // It goes on trying, with waits in between.
    server.state.wait("another try", |seen| seen.handshakes_failed + seen.clients.len() >= 3);
    assert_eq!(worker.state()["beats"], 0);
    assert!(server.state.seen().reports.is_empty());
}

#[test]
fn another_ca() {
    let (ca, other) = (Ca::new(), Ca::new());
    let tls = Tls { leaf: other.server(), ..Tls::good(&ca) };
    expect_silence(&tls, &ca, "the server's certificate is not of this cluster's CA");
}

#[test]
fn another_name() {
    let ca = Ca::new();
    for name in [&format!("join.{CLUSTER}.zlayer.internal"), "server.zl-other.zlayer.internal"] {
        let tls = Tls { leaf: ca.server_named(name, 2099), ..Tls::good(&ca) };
        expect_silence(&tls, &ca, "the server's certificate is not for a server of this cluster");
    }
}

#[test]
fn a_worker_that_plays_server() {
    let ca = Ca::new();
    let tls = Tls { leaf: ca.worker(NODE), ..Tls::good(&ca) };
    let server = Server::start(&tls);
    let worker = Worker::start(&[server.address()], &ca, &ca.worker(NODE));
    worker.wait_state("refused", |state| {
        state["last_error"].as_str().is_some_and(|text| text.contains("the server's certificate"))
    });
    assert!(server.state.seen().reports.is_empty());
}

#[test]
fn an_expired_server() {
    let ca = Ca::new();
    let name = format!("server.{CLUSTER}.zlayer.internal");
    let tls = Tls { leaf: ca.server_named(&name, 2021), ..Tls::good(&ca) };
    expect_silence(&tls, &ca, "the server's certificate has expired");
}

#[test]
fn tls_1_2() {
    let ca = Ca::new();
    let tls = Tls { versions: TLS_1_2, ..Tls::good(&ca) };
    expect_silence(&tls, &ca, "the server offers no TLS 1.3");
}

#[test]
fn no_http_2() {
    let ca = Ca::new();
    for alpn in [vec![], vec![b"http/1.1".to_vec()]] {
        let tls = Tls { alpn, ..Tls::good(&ca) };
        expect_silence(&tls, &ca, "the server offers no HTTP/2");
    }
}

#[test]
fn plaintext() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let worker = Worker::start(&[address], &ca, &ca.worker(NODE));
    let (mut socket, _) = listener.accept().unwrap();
    let mut first = [0_u8; 3];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(first[0], 22, "a TLS handshake record and nothing else");
    std::io::Write::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    worker.wait_state("named", |state| {
        state["last_error"]
            .as_str()
            .is_some_and(|text| text.ends_with("the server does not speak TLS"))
    });
}

#[test]
fn nobody_there() {
    let ca = Ca::new();
    // Bound and closed again: nobody listens there now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let worker = Worker::start(&[address], &ca, &ca.worker(NODE));
    worker.wait_state("named", |state| {
        state["last_error"].as_str().is_some_and(|text| text.contains("can't connect: "))
    });
}

#[test]
fn a_server_that_refuses_the_certificate() {
    let ca = Ca::new();
    for (other, text) in [
        (
            Ca::named("other CA"),
            "the server refused this certificate: it is not of the server's CA",
        ),
        // Of the same name, so that the signature is what gives it away.
        (Ca::new(), "the server refused this certificate"),
    ] {
        let tls = Tls { client_ca: other.pem.clone(), ..Tls::good(&ca) };
        expect_error(&ca, &ca.worker(NODE), &tls, text);
    }
}

#[test]
fn an_expired_worker_is_told_and_a_new_certificate_mends_it() {
    let ca = Ca::new();
    let expired = ca.worker_until(NODE, 2021);
    let text = "the server refused this certificate: it has expired";
    let (_server, mut worker) = expect_error(&ca, &expired, &Tls::good(&ca), text);
    let renewed = ca.worker(NODE);
    worker.session.set_identity(&renewed.cert, &renewed.key, &ca.pem).unwrap();
    worker.wait_connected();
}

#[test]
fn a_removed_worker_is_told_and_tries_rarely() {
    let ca = Ca::new();
    let server = Server::start(&Tls::good(&ca));
    let mut worker = Worker::start(&[server.address()], &ca, &ca.worker(NODE));
    worker.wait_connected();
    *server.state.refuse.lock().unwrap() = Some(Refusal::Removed);
    let event = worker.wait("refused", |event| matches!(event, SessionEvent::Refused { .. }));
    let why = "this node was removed from the cluster".to_owned();
    assert_eq!(event, SessionEvent::Refused { why, removed: true });
    assert_eq!(worker.state()["state"], "removed");
    // At least half of the slow retry lies between two tries.
    let tried = std::time::Instant::now();
    let hellos = server.state.seen().hellos();
    server.state.wait("three more", |seen| seen.hellos() >= hellos + 3);
    assert!(tried.elapsed() >= Duration::from_millis(200), "{:?}", tried.elapsed());
    // The cluster changes its mind.
    *server.state.refuse.lock().unwrap() = None;
    worker.wait_connected();
    assert_eq!(worker.state()["state"], "connected");
}

#[test]
fn other_refusals_of_the_server() {
    for (refusal, state) in [
        (Refusal::Unknown, "removed"),
        (Refusal::Superseded, "refused"),
        (Refusal::Feature, "refused"),
        (Refusal::Stopping, "connecting"),
        (Refusal::Full, "connecting"),
    ] {
        let ca = Ca::new();
        let server = Server::start(&Tls::good(&ca));
        *server.state.refuse.lock().unwrap() = Some(refusal);
        let worker = Worker::start(&[server.address()], &ca, &ca.worker(NODE));
        let text = refusal.status().message().to_owned();
        worker.wait_state(&text, |found| {
            found["state"] == state
                && found["last_error"].as_str().is_some_and(|error| error.ends_with(&text))
        });
    }
}
