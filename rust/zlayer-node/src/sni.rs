//! Which of the two names a connection asks for, read from its `ClientHello`.
//!
//! The hello is parsed by rustls' own acceptor. The bytes are kept, to be replayed: to rustls for
//! `server.<cluster>`, so that there is no second parser that could disagree, and to the Enrollment service for
//! `join.<cluster>`.

use std::io;

use rustls::server::{Accepted, Acceptor, ClientHello};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::tls;

/// Bytes asked of the socket at once. Chosen: a hello with a post-quantum key share has 1.5 to 2 KiB.
const CHUNK_BYTES: usize = 2048;

/// TLS alert record: fatal, `unrecognized_name` (RFC 6066, section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The two server names of this cluster.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    server: String,
    join: String,
}

/// Where a connection goes.
pub(crate) enum Route {
    /// To rustls. As below, with every byte that was read.
    Server(Vec<u8>),
    /// To the Enrollment service.
    Join(Vec<u8>),
}

/// Why a connection goes nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("the connection ended before its ClientHello")]
    Closed,
    #[error("reading the ClientHello: {0}")]
    Io(io::Error),
    #[error("the ClientHello is longer than the limit")]
    TooLong,
    #[error("no ClientHello: {0}")]
    Malformed(rustls::Error),
    #[error("the ClientHello offers no TLS 1.3 suite")]
    NoTls13,
    #[error("the ClientHello has no server name, or another one")]
    OtherName,
}

impl HelloError {
    /// Name of the metric.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Closed | Self::Io(_) => "closed",
            Self::TooLong => "hello_too_long",
            Self::Malformed(_) => "hello_malformed",
            Self::NoTls13 => "no_tls13",
            Self::OtherName => "server_name",
        }
    }
}

impl Names {
    pub(crate) fn new(cluster_id: &str) -> Self {
        Self { server: tls::server_name(cluster_id), join: tls::join_name(cluster_id) }
    }
}

/// Reads at most `bytes_max` bytes, up to the end of the `ClientHello`, and routes by its server name.
///
/// Cancel safe in the sense that the socket can only be dropped afterwards.
///
/// # Errors
/// [`HelloError`]; the peer was told by a TLS alert where there is one that fits.
pub(crate) async fn route(
    stream: &mut TcpStream,
    names: &Names,
    bytes_max: usize,
) -> Result<Route, HelloError> {
    let mut acceptor = Acceptor::default();
    let mut read = Vec::new();
    loop {
        let mut chunk = [0_u8; CHUNK_BYTES];
        let room = CHUNK_BYTES.min(bytes_max - read.len());
        let n = stream.read(&mut chunk[..room]).await.map_err(HelloError::Io)?;
        if n == 0 {
            return Err(HelloError::Closed);
        }
        read.extend_from_slice(&chunk[..n]);
        let mut rest = &chunk[..n];
        while !rest.is_empty() {
            // Reading from memory fails only when rustls' own buffer is full.
            if acceptor.read_tls(&mut rest).map_err(|_| HelloError::TooLong)? == 0 {
                return Err(HelloError::TooLong);
            }
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return choose(&accepted, read, names, stream),
            Ok(None) if read.len() >= bytes_max => return Err(HelloError::TooLong),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                let _ = alert.write_all(&mut bytes);
                tell(stream, &bytes);
                return Err(HelloError::Malformed(error));
            }
        }
    }
}

fn choose(
    accepted: &Accepted,
    read: Vec<u8>,
    names: &Names,
    stream: &TcpStream,
) -> Result<Route, HelloError> {
    let hello = accepted.client_hello();
    let asks_for = |name: &str| hello.server_name().is_some_and(|n| n.eq_ignore_ascii_case(name));
    if asks_for(&names.server) {
        return Ok(Route::Server(read));
    }
    if !asks_for(&names.join) {
        tell(stream, &UNRECOGNIZED_NAME);
        return Err(HelloError::OtherName);
    }
    if offers_tls13(&hello) { Ok(Route::Join(read)) } else { Err(HelloError::NoTls13) }
}

/// The Enrollment service's own TLS accepts 1.2, so the router passes no such hello on. What a hello says of its
/// versions can't be read here: a client that offers a 1.3 suite and means 1.2 is refused by the service itself.
fn offers_tls13(hello: &ClientHello<'_>) -> bool {
    // RFC 8446 gives TLS 1.3 suites the first byte 0x13, and no other suite has it.
    hello.cipher_suites().iter().any(|suite| u16::from(*suite) >> 8 == 0x13)
}

/// Sends an alert if the socket takes it at once: a peer that is being refused is not waited for.
fn tell(stream: &TcpStream, alert: &[u8]) {
    let _ = stream.try_write(alert);
}
