//! S10 and S13: who is let in by its certificate, and who is not.

use std::io::{Read, Write};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Usage, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::HandshakeKind;
use rustls::client::Resumption;
use zlayer_node::clock::Clock;
use zlayer_node::refusal::Refusal;

use crate::cluster::Cluster;
use crate::pki::{CLUSTER, Ca, Leaf, Profile, uri};
use crate::tls::{self, answer, client, connect, server_name, shake};
use crate::worker::{Worker, hello, refusal, soon};

/// TLS alerts with which a server refuses a client's certificate.
const ALERTS: [u8; 8] = [42, 43, 44, 45, 46, 48, 51, 116];

/// Tries a certificate; the server must refuse it for this cause, and never open a connection.
fn refused(cluster: &Cluster, what: &str, leaf: Option<&Leaf>, why: &str) {
    let name = format!("handshakes_failed_total_{why}");
    let before = cluster.metric(&name);
    let mut stream = connect(cluster.address());
    let mut client = client(&cluster.ca.pem, leaf, &server_name());
    // A client of TLS 1.3 is done before the server has looked at its certificate.
    let _ = shake(&mut client, &mut stream);
    let mut through = rustls::StreamOwned::new(client, stream);
    let mut heard = Vec::new();
    let ended = through.read_to_end(&mut heard);
    assert!(heard.is_empty(), "{what}: the server spoke HTTP/2");
    if why == "tls"
        && let Err(error) = &ended
        && let Some(rustls::Error::AlertReceived(alert)) =
            error.get_ref().and_then(|inner| inner.downcast_ref())
    {
        assert!(ALERTS.contains(&u8::from(*alert)), "{what}: {alert:?}");
    }
    cluster.wait(what, |cluster| cluster.metric(&name) > before);
    assert_eq!(cluster.metric("connections_opened_total"), 0, "{what}");
}

#[test]
fn s10_certificates_that_tls_refuses() {
    let cluster = Cluster::start();
    let (id, good) = cluster.enrol();
    let ca = &cluster.ca;
    refused(&cluster, "none", None, "tls");
    refused(&cluster, "another CA", Some(&Ca::named("other CA").worker(id)), "tls");
    refused(&cluster, "a CA of the same name", Some(&Ca::named("test CA").worker(id)), "tls");
    refused(&cluster, "expired", Some(&ca.worker_until(id, 2021)), "tls");
    let mut later = Profile::worker(id).params();
    later.not_before = date_time_ymd(2098, 1, 1);
    refused(&cluster, "not valid yet", Some(&ca.sign(&later)), "tls");
    let server = Leaf {
        cert: cluster.options.certificate_pem.clone(),
        key: cluster.options.key_pem.clone(),
    };
    refused(&cluster, "the server's own", Some(&server), "tls");
    let key = KeyPair::generate().unwrap();
    let alone = Profile::worker(id).params().self_signed(&key).unwrap();
    let alone = Leaf { cert: alone.pem(), key: key.serialize_pem() };
    refused(&cluster, "self-signed", Some(&alone), "tls");
    let mut authority = Profile::worker(id).params();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    refused(&cluster, "a CA", Some(&ca.sign(&authority)), "tls");
    // A certificate that is another's: the key does not fit, so no honest library would send it.
    let stolen = Leaf { cert: good.cert, key: ca.worker(id).key };
    let honest = std::panic::catch_unwind(|| tls::config(&cluster.ca.pem, Some(&stolen)));
    assert!(honest.is_err(), "certificate and key must not fit each other");
}

#[test]
fn s10_certificates_that_are_no_workers() {
    let cluster = Cluster::start();
    let (id, _) = cluster.enrol();
    let worker = uri(&format!("spiffe://{CLUSTER}/worker/{id}"));
    let of_uri = |text: String| Profile { names: vec![uri(&text)], ..Profile::worker(id) };
    let of_names = |names: Vec<SanType>| Profile { names, ..Profile::worker(id) };
    let of_usages = |usages: Vec<Usage>| Profile { usages, ..Profile::worker(id) };
    let dns = SanType::DnsName(server_name().try_into().unwrap());
    let dns_again = dns.clone();
    let profiles = [
        ("no usage at all", of_usages(vec![])),
        ("client and server", of_usages(vec![Usage::ClientAuth, Usage::ServerAuth])),
        ("client and mail", of_usages(vec![Usage::ClientAuth, Usage::EmailProtection])),
        ("client and code", of_usages(vec![Usage::ClientAuth, Usage::CodeSigning])),
        ("client and OCSP", of_usages(vec![Usage::ClientAuth, Usage::OcspSigning])),
        ("client and time stamps", of_usages(vec![Usage::ClientAuth, Usage::TimeStamping])),
        ("client and anything", of_usages(vec![Usage::ClientAuth, Usage::Any])),
        ("client and something", of_usages(vec![Usage::ClientAuth, Usage::Other(vec![1, 3, 9])])),
        ("no name", of_names(vec![])),
        ("a DNS name", of_names(vec![dns.clone()])),
        ("a URI and a DNS name", of_names(vec![worker.clone(), dns])),
        ("two URIs", of_names(vec![worker.clone(), uri("spiffe://zl-test/worker/1")])),
        ("the same URI twice", of_names(vec![worker.clone(), worker])),
        ("another trust domain", of_uri(format!("spiffe://zl-other/worker/{id}"))),
        ("a longer trust domain", of_uri(format!("spiffe://{CLUSTER}.x/worker/{id}"))),
        ("another scheme", of_uri(format!("https://{CLUSTER}/worker/{id}"))),
        ("a server's role", of_uri(format!("spiffe://{CLUSTER}/server/{id}"))),
        (
            "a server, with all that is in its profile",
            Profile {
                names: vec![uri(&format!("spiffe://{CLUSTER}/server/1")), dns_again],
                usages: vec![Usage::ServerAuth, Usage::ClientAuth],
                until: 2099,
            },
        ),
        ("another role", of_uri(format!("spiffe://{CLUSTER}/admin/{id}"))),
        ("id 0", of_uri(format!("spiffe://{CLUSTER}/worker/0"))),
        ("an id beyond i64", of_uri(format!("spiffe://{CLUSTER}/worker/{}", 1_u64 << 63))),
        ("an id with a sign", of_uri(format!("spiffe://{CLUSTER}/worker/+{id}"))),
        ("an id and more", of_uri(format!("spiffe://{CLUSTER}/worker/{id}/x"))),
    ];
    for (what, profile) in profiles {
        refused(&cluster, what, Some(&cluster.ca.leaf(profile)), "identity");
    }
}

#[test]
fn http_1_is_refused() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let before = cluster.metric("handshakes_failed_total");
        let mut config = tls::config(&cluster.ca.pem, Some(&leaf));
        config.alpn_protocols = protocols;
        let name = server_name().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut stream = connect(cluster.address());
        let _ = shake(&mut client, &mut stream);
        answer(&mut stream);
        cluster.wait_metric("handshakes_failed_total", before + 1);
    }
    assert_eq!(cluster.metric("connections_opened_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s10_nodes_that_the_cluster_does_not_know_are_told_so() {
    let cluster = Cluster::start();
    let (id, leaf) = cluster.enrol();
    let (gone, of_gone) = cluster.enrol();
    cluster.remove(gone);
    for (leaf, why) in [
        (&of_gone, Refusal::Removed),
        (&cluster.ca.worker(gone + 1), Refusal::Unknown),
        (&cluster.ca.worker(1), Refusal::Unknown),
        (&cluster.ca.worker(i64::MAX as u64), Refusal::Unknown),
    ] {
        let worker = Worker::dial(&cluster, leaf).await.unwrap();
        assert_eq!(worker.refused().await, why);
        // The connection is of no other use either.
        assert_eq!(refusal(&worker.watch(0).await.unwrap_err()), why);
    }
    assert_eq!(cluster.metric("sessions_opened_total"), 0);
    let _joined = Worker::join(&cluster, &leaf).await;
    cluster.wait_state(id, "Ready");
}

#[test]
fn s10_a_connection_that_is_of_no_use_is_closed() {
    let cluster = Cluster::limited(|limits| limits.first_request_timeout_ms = 200);
    let (gone, leaf) = cluster.enrol();
    cluster.remove(gone);
    let mut stream = tls::open(&cluster, &leaf);
    answer(&mut stream);
    cluster.wait_metric("connections_closed_total", 1);
}

#[test]
fn s13_no_ticket_is_given_and_none_is_taken() {
    let cluster = Cluster::start();
    let (_, leaf) = cluster.enrol();
    let mut config = tls::config(&cluster.ca.pem, Some(&leaf));
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = std::sync::Arc::new(config);
    for opened in 1..=3 {
        let name = server_name().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.clone(), name).unwrap();
        assert!(client.early_data().is_none(), "0-RTT");
        let mut stream = connect(cluster.address());
        shake(&mut client, &mut stream).unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        cluster.wait_metric("connections_opened_total", opened);
        // The server's first words come after any ticket.
        let mut through = rustls::StreamOwned::new(client, stream);
        through.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        through.read_exact(&mut [0; 9]).unwrap();
        assert_eq!(through.conn.tls13_tickets_received(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s12_a_certificate_that_ends_during_a_stream_ends_it() {
    let cluster = Cluster::start();
    let (id, _) = cluster.enrol();
    let mut brief: CertificateParams = Profile::worker(id).params();
    let now = Clock::unix().0 / 1_000;
    brief.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now + 3);
    let leaf = cluster.ca.sign(&brief);
    let (worker, mut session) = Worker::join(&cluster, &leaf).await;
    let mut watch = worker.watch(0).await.unwrap();
    watch.message().await.unwrap().unwrap();
    session.beat().await.unwrap();
    // Nobody says anything any more.
    let ended = session.next().await.unwrap_err();
    assert_eq!(refusal(&ended), Refusal::CertificateExpired);
    let ended = soon("the watch", watch.message()).await.unwrap_err();
    assert_eq!(refusal(&ended), Refusal::CertificateExpired);
    let late = Clock::unix().0.saturating_sub((now + 3) * 1_000);
    assert!(late < 5_000, "closed {late} ms after its end");
    // It opens no other connection; in its last second, it is the first report that is refused.
    if let Ok(worker) = Worker::dial(&cluster, &leaf).await
        && let Ok(mut session) = worker.open().await
    {
        session.ask(hello(7)).await.unwrap_err();
    }
    assert_eq!(cluster.metric("sessions_opened_total"), 1);
}
