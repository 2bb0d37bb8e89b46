//! A real rustls client at the other end: whole, in pieces, too much, too little, and wrong.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::provider;

struct Pki {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn pki() -> Pki {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["a.test".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let chain = vec![leaf.der().clone()];
    let key_der = || PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .unwrap();
    let versions = &[&rustls::version::TLS13];
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key_der())
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key_der())
        .unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Pki { server: Arc::new(server), client: Arc::new(client) }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, dialled)
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    client: Arc<ClientConfig>,
    socket: S,
) -> io::Result<TlsStream<S>> {
    TlsConnector::from(client).connect(ServerName::try_from("a.test").unwrap(), socket).await
}

async fn connected() -> (TlsSocket<TcpStream>, TlsStream<TcpStream>) {
    let (accepted, dialled) = pair().await;
    connected_over(accepted, dialled).await
}

async fn connected_over<S: AsyncRead + AsyncWrite + Unpin>(
    accepted: S,
    dialled: S,
) -> (TlsSocket<S>, TlsStream<S>) {
    let Pki { server, client } = pki();
    let (ours, theirs) =
        tokio::join!(TlsSocket::accept(accepted, server, Vec::new()), connect(client, dialled));
    (ours.unwrap(), theirs.unwrap())
}

/// Passes bytes on one by one, so that no record ever arrives whole.
async fn dribble(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
) {
    let mut buffer = [0; 256];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        for byte in &buffer[..count] {
            if to.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn an_idle_connection_keeps_no_buffer() {
    let (mut ours, mut theirs) = connected().await;
    assert_eq!(ours.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(ours.peer_certificates().unwrap().len(), 1);
    theirs.write_all(b"beat").await.unwrap();
    let mut read = [0; 4];
    ours.read_exact(&mut read).await.unwrap();
    ours.write_all(b"ack!").await.unwrap();
    ours.flush().await.unwrap();
    theirs.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ack!");
    let kept = [&ours.incoming, &ours.plaintext, &ours.outgoing].map(Vec::capacity);
    assert_eq!(kept, [0, 0, 0]);
}

#[tokio::test]
async fn bytes_that_were_read_before_are_the_start_of_the_handshake() {
    let Pki { server, client } = pki();
    let (mut accepted, dialled) = pair().await;
    let ours = async {
        let mut first = vec![0; 100];
        accepted.read_exact(&mut first).await.unwrap();
        TlsSocket::accept(accepted, server, first).await
    };
    let (ours, theirs) = tokio::join!(ours, connect(client, dialled));
    ours.unwrap();
    theirs.unwrap();
}

#[tokio::test]
async fn records_in_pieces_and_in_heaps_arrive_whole_and_in_order() {
    let Pki { server, client } = pki();
    let (accepted, outer) = pair().await;
    let (inner, dialled) = pair().await;
    outer.set_nodelay(true).unwrap();
    let (inner_read, inner_write) = inner.into_split();
    let (outer_read, outer_write) = outer.into_split();
    tokio::spawn(dribble(inner_read, outer_write));
    tokio::spawn(dribble(outer_read, inner_write));
    let (ours, theirs) =
        tokio::join!(TlsSocket::accept(accepted, server, Vec::new()), connect(client, dialled));
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());

    let sent = pattern(40_000);
    let mut received = vec![0; sent.len()];
    let write = async {
        theirs.write_all(&sent).await.unwrap();
        theirs.flush().await.unwrap();
    };
    let (read, ()) = tokio::join!(ours.read_exact(&mut received), write);
    read.unwrap();
    assert_eq!(sent, received);
}

#[tokio::test]
async fn a_reader_that_is_slow_holds_the_writer_back() {
    let (mut ours, mut theirs) = connected().await;
    let sent = pattern(8 << 20);
    let expected = sent.clone();
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        received
    });
    let mut at = 0;
    while at < sent.len() {
        at += ours.write(&sent[at..]).await.unwrap();
        assert!(ours.outgoing.len() <= RECORD_BYTES, "one record waits at most");
    }
    ours.shutdown().await.unwrap();
    // Ends with a close_notify: `read_to_end` would fail without.
    assert_eq!(reading.await.unwrap(), expected);
}

#[tokio::test]
async fn new_keys_of_the_peer_are_answered_and_used() {
    let (mut ours, mut theirs) = connected().await;
    for round in 0..3_u8 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(&[round]).await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), round);
        ours.write_all(&[round]).await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), round);
    }
}

/// Each request for new keys has to be answered; a peer that asks and reads nothing must not fill our memory.
#[tokio::test]
async fn a_peer_that_asks_for_new_keys_and_does_not_read_costs_nothing() {
    let (accepted, dialled) = tokio::io::duplex(1_024);
    let (mut ours, mut theirs) = connected_over(accepted, dialled).await;
    for _ in 0..2_000 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(b"x").await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
        assert!(ours.outgoing.len() < 100, "{} bytes wait for it", ours.outgoing.len());
    }
    ours.write_all(b"y").await.unwrap();
    ours.flush().await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'y');
}

#[tokio::test]
async fn an_end_is_an_end_only_when_it_is_said() {
    let (mut ours, mut theirs) = connected().await;
    theirs.shutdown().await.unwrap();
    assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
    // What we still have to say is said.
    ours.write_all(b"bye").await.unwrap();
    ours.shutdown().await.unwrap();

    let (mut ours, theirs) = connected().await;
    drop(theirs.into_inner().0);
    let error = ours.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Has no certificate to show.
#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_so_and_refused() {
    let Pki { server, client } = pki();
    let (accepted, dialled) = pair().await;

    let mut anonymous = ClientConfig::clone(&client);
    anonymous.client_auth_cert_resolver = Arc::new(Nothing);
    let theirs = async {
        let mut socket = connect(Arc::new(anonymous), dialled).await?;
        // In TLS 1.3 the client learns of the refusal with its first read.
        socket.read_u8().await
    };
    let (ours, theirs) = tokio::join!(TlsSocket::accept(accepted, server, Vec::new()), theirs);
    assert_eq!(ours.err().unwrap().kind(), io::ErrorKind::InvalidData);
    assert!(theirs.unwrap_err().to_string().contains("CertificateRequired"));
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_it_with_an_alert() {
    let (mut ours, theirs) = connected().await;
    let (mut socket, mut session) = theirs.into_inner();
    socket.write_all(&[23, 3, 3, 0, 32]).await.unwrap();
    socket.write_all(&[7; 32]).await.unwrap();
    let error = ours.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    drop(ours);
    let mut said = Vec::new();
    socket.read_to_end(&mut said).await.unwrap();
    session.read_tls(&mut said.as_slice()).unwrap();
    let told = session.process_new_packets().unwrap_err().to_string();
    assert!(told.contains("BadRecordMac"), "{told}");
}

#[tokio::test]
async fn plaintext_is_refused() {
    let Pki { server, .. } = pki();
    let (accepted, mut dialled) = pair().await;
    dialled.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let ours = TlsSocket::accept(accepted, server, Vec::new()).await;
    assert_eq!(ours.err().unwrap().kind(), io::ErrorKind::InvalidData);
}
