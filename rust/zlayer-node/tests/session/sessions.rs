//! Sessions that stand, are interrupted and come back.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use zlayer_node::clock::Clock;
use zlayer_node::session::{
    Control, Observer, Prepared, Resources, SessionEvent, WorkerSession, run,
};

use crate::pki::Ca;
use crate::server::{PATIENCE, Server, Tls};
use crate::worker::{NODE, Worker, options};

fn start() -> (Ca, Server, Worker) {
    let ca = Ca::new();
    let server = Server::start(&Tls::good(&ca));
    let worker = Worker::start(&[server.address()], &ca, &ca.worker(NODE));
    (ca, server, worker)
}

#[test]
fn connects_beats_and_tells() {
    let (_, server, mut worker) = start();
    worker.wait_connected();
    worker.wait("assignments", |event| *event == SessionEvent::Assignments { revision: 1 });
    server.state.wait("five beats", |seen| seen.reports.len() >= 6);
    let seen = server.state.seen();
    let hello = seen.reports[0].hello.clone().unwrap();
    assert_eq!((hello.incarnation, hello.version.as_str()), (42, "0.1.0"));
    assert!(seen.reports.iter().map(|report| report.seq).eq(1..=seen.reports.len() as u64));
    assert_eq!(seen.hellos(), 1);
    assert_eq!(seen.watches, [0]);
    drop(seen);
    worker.wait_state("acks", |state| state["acks"].as_u64() >= Some(6));
    let state = worker.state();
    assert_eq!(state["state"], "connected");
    assert_eq!(state["server"], server.address());
    assert_eq!((state["ttl_ms"].as_u64(), state["reconnects"].as_u64()), (Some(10_000), Some(0)));
    assert!(state["lease_remaining_ms"].as_u64().unwrap() > 19_000, "{state}");
    assert_eq!(state["last_error"], serde_json::Value::Null);
    assert_eq!(worker.rest(), []);
    assert!(!worker.readable(Duration::ZERO), "nothing waits any more");
}

#[test]
fn resources_arrive() {
    let (_, server, mut worker) = start();
    worker.wait_connected();
    let used = Resources { cpu_millicores: 250, memory_bytes: 1 << 40, disk_bytes: 3 };
    worker.session.set_resources(used);
    server.state.wait("resources", |seen| seen.reports.iter().any(|r| r.resources == Some(used)));
}

#[test]
fn comes_back_when_the_server_cuts_the_connection() {
    let (_, server, mut worker) = start();
    worker.wait_connected();
    worker.wait("assignments", |event| matches!(event, SessionEvent::Assignments { .. }));
    for n in 1..=3_u64 {
        server.state.cut_all();
        worker.wait("lost", |event| matches!(event, SessionEvent::Disconnected { .. }));
        worker.wait_connected();
        // The watch goes on from where it was.
        worker.wait("assignments", |event| *event == SessionEvent::Assignments { revision: n + 1 });
    }
    assert_eq!(server.state.seen().watches, [0, 1, 2, 3]);
    assert_eq!(worker.state()["reconnects"], 3);
}

#[test]
fn moves_to_another_server_when_one_falls_silent() {
    let ca = Ca::new();
    let servers = [Server::start(&Tls::good(&ca)), Server::start(&Tls::good(&ca))];
    let addresses = [servers[0].address(), servers[1].address()];
    let mut worker = Worker::start(&addresses, &ca, &ca.worker(NODE));
    let SessionEvent::Connected { server: first } =
        worker.wait("connected", |event| matches!(event, SessionEvent::Connected { .. }))
    else {
        unreachable!()
    };
    let silent = usize::from(first == addresses[1]);
    servers[silent].state.mute.store(true, Ordering::SeqCst);
    worker.wait(
        "silence",
        |event| matches!(event, SessionEvent::Disconnected { why } if why.contains("300 ms")),
    );
    let other = addresses[1 - silent].clone();
    worker.wait("moved", |event| *event == SessionEvent::Connected { server: other.clone() });
    servers[silent].state.wait("the old one is closed", |seen| seen.connections_closed == 1);
    assert_eq!(worker.state()["lapses"], 0);
}

#[test]
fn a_new_certificate_moves_the_session_without_a_gap() {
    let (ca, server, mut worker) = start();
    worker.wait_connected();
    let renewed = ca.worker(NODE);
    worker.session.set_identity(&renewed.cert, &renewed.key, &ca.pem).unwrap();
    server.state.wait("the old connection is closed", |seen| seen.connections_closed == 1);
    let seen = server.state.seen();
    assert_eq!((seen.clients.len(), seen.hellos()), (2, 2));
    assert_ne!(seen.clients[0], seen.clients[1]);
    drop(seen);
    assert!(!worker.rest().iter().any(|e| matches!(e, SessionEvent::Disconnected { .. })));
    assert_eq!(worker.state()["state"], "connected");
}

#[test]
fn a_certificate_of_another_node_or_cluster_is_an_error_at_once() {
    let (ca, server, mut worker) = start();
    worker.wait_connected();
    let other = ca.worker(NODE + 1);
    let error = worker.session.set_identity(&other.cert, &other.key, &ca.pem).unwrap_err();
    assert!(error.to_string().contains("worker 1001's, not worker 1000's"), "{error}");
    let mine = ca.worker(NODE);
    assert!(worker.session.set_identity(&mine.cert, &other.key, &ca.pem).is_err(), "another key");
    assert!(worker.session.set_identity("", &mine.key, &ca.pem).is_err());
    let bad = options(&[server.address()], &ca, &other);
    assert!(WorkerSession::start(bad).is_err());
    assert_eq!(server.state.seen().clients.len(), 1);
}

#[test]
fn leaves_with_an_answer() {
    let (_, server, mut worker) = start();
    worker.wait_connected();
    assert!(worker.session.leave(PATIENCE));
    server.state.wait("closed", |seen| seen.connections_closed == 1);
    assert!(server.state.seen().reports.last().unwrap().leaving);
    assert_eq!(worker.state()["state"], "stopped");
    assert!(worker.session.leave(PATIENCE), "asked again, the answer is the same");
}

#[test]
fn gives_up_a_goodbye_that_nobody_answers() {
    let (_, server, mut worker) = start();
    worker.wait_connected();
    server.state.mute.store(true, Ordering::SeqCst);
    let started = Instant::now();
    assert!(!worker.session.leave(Duration::from_millis(200)));
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(worker.state()["state"], "stopped");
    server.state.wait("closed", |seen| seen.connections_closed == seen.clients.len());
}

#[test]
fn stops_while_a_dial_hangs() {
    let ca = Ca::new();
    // Accepted by the kernel, answered by nobody.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let worker = Worker::start(&[address], &ca, &ca.worker(NODE));
    let _accepted = listener.accept().unwrap();
    worker.session.stop();
    worker.session.stop();
    assert_eq!(worker.state()["state"], "stopped");
}

struct Forward(mpsc::UnboundedSender<SessionEvent>);

impl Observer for Forward {
    fn event(&mut self, event: SessionEvent) {
        let _ = self.0.send(event);
    }
}

#[test]
fn many_sessions_share_one_runtime() {
    const SESSIONS: u64 = 20;
    let ca = Ca::new();
    let server = Server::start(&Tls::good(&ca));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (events, mut heard) = mpsc::unbounded_channel();
        let mut running = Vec::new();
        for n in 0..SESSIONS {
            let node_id = NODE + n;
            let leaf = ca.worker(node_id);
            let options = options(&[server.address()], &ca, &leaf);
            let prepared =
                Prepared::new(&zlayer_node::session::SessionOptions { node_id, ..options });
            let (control, observer) = (Control::default(), Forward(events.clone()));
            let session = run(prepared.unwrap(), Clock::new(), control.clone(), observer);
            running.push((control, tokio::spawn(session)));
        }
        let mut connected = 0;
        while connected < SESSIONS {
            let event = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
            connected += u64::from(matches!(event, SessionEvent::Connected { .. }));
        }
        for (control, session) in running {
            control.leave();
            assert!(tokio::time::timeout(PATIENCE, session).await.unwrap().unwrap());
        }
    });
    assert_eq!(server.state.seen().hellos(), SESSIONS as usize);
}
