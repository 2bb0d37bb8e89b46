//! From an address to an HTTP/2 connection: TCP, TLS, and nothing sent before the server has proved itself.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::carrier::{self, Carrier, Requests};
use super::failure::{Failure, describe};
use super::identity::{Identity, Trust};
use crate::accept;

/// Dials `host:port`.
///
/// # Errors
/// [`Failure`] in plain words, without the address.
pub async fn dial(
    address: &str,
    trust: &Trust,
    identity: &Identity,
    user_timeout: Duration,
) -> Result<(Requests, Carrier), Failure> {
    let socket = connect(address, user_timeout).await?;
    let connector = TlsConnector::from(identity.0.clone());
    // Boxed, and HTTP/2's start as well: a handshake's state is large, and most of a connection's life comes after.
    let socket = Box::pin(connector.connect(trust.name.clone(), socket))
        .await
        .map_err(|error| Failure::lost(describe(&error)))?;
    if socket.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::lost("the server offers no HTTP/2"));
    }
    Box::pin(carrier::start(socket)).await
}

async fn connect(address: &str, user_timeout: Duration) -> Result<TcpStream, Failure> {
    let addresses = lookup_host(address)
        .await
        .map_err(|error| Failure::lost(format!("can't resolve the name: {error}")))?;
    let mut last = Failure::lost("the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return set_up(socket, user_timeout),
            Err(error) => last = Failure::lost(format!("can't connect: {error}")),
        }
    }
    Err(last)
}

fn set_up(socket: TcpStream, user_timeout: Duration) -> Result<TcpStream, Failure> {
    let apply = || {
        let socket = socket.into_std()?;
        accept::set_up(&socket, user_timeout)?;
        TcpStream::from_std(socket)
    };
    apply().map_err(|error| Failure::lost(format!("can't set the socket up: {error}")))
}
