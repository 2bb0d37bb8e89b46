//! Bare TLS clients: sockets on which a test says what it likes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::{ClientConfig, ClientConnection};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{RootCertStore, SupportedProtocolVersion};
use socket2::{Domain, Socket, Type};

use crate::cluster::{Cluster, PATIENCE};
use crate::pki::{CLUSTER, Leaf};

pub(crate) fn server_name() -> String {
    format!("server.{CLUSTER}.zlayer.internal")
}

pub(crate) fn join_name() -> String {
    format!("join.{CLUSTER}.zlayer.internal")
}

/// A client's configuration: believes `ca`, offers HTTP/2, proves itself with `leaf`.
pub(crate) fn config(ca: &str, leaf: Option<&Leaf>) -> ClientConfig {
    config_of(ca, leaf, &[&rustls::version::TLS13])
}

pub(crate) fn config_of(
    ca: &str,
    leaf: Option<&Leaf>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
    let mut config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let chain = vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub(crate) fn client(ca: &str, leaf: Option<&Leaf>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::new(config(ca, leaf)), name).unwrap()
}

/// A client and what it says first.
pub(crate) fn first_words(mut client: ClientConnection) -> (ClientConnection, Vec<u8>) {
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    (client, hello)
}

/// A socket that gives up after a while.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    connect_from([127, 0, 0, 1], address)
}

/// From one of the addresses of the loopback device.
pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends what it takes, and returns what comes back until the server closes.
pub(crate) fn say(stream: &mut TcpStream, words: &[u8]) -> Vec<u8> {
    // The server may close before all is sent.
    let _ = stream.write_all(words);
    answer(stream)
}

/// What comes until the server closes.
pub(crate) fn answer(stream: &mut impl Read) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => panic!("the server did not close: {error}"),
    }
    answer
}

/// Finishes the handshake after the hello was sent, as far as a client can tell.
pub(crate) fn shake(client: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while client.is_handshaking() || client.wants_write() {
        client.complete_io(stream)?;
    }
    Ok(())
}

/// A worker's TLS connection that is through.
pub(crate) fn open(
    cluster: &Cluster,
    leaf: &Leaf,
) -> rustls::StreamOwned<ClientConnection, TcpStream> {
    let mut stream = connect(cluster.address());
    let mut client = client(&cluster.ca.pem, Some(leaf), &server_name());
    shake(&mut client, &mut stream).unwrap();
    rustls::StreamOwned::new(client, stream)
}
