//! From an address to an HTTP/2 connection: TCP, TLS, and nothing sent before the server has proved itself.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;

use super::failure::{Failure, describe};
use super::identity::{Identity, Trust};
use crate::accept;

/// Time in which a connection that is closed may still say goodbye. Chosen.
const GOODBYE: Duration = Duration::from_millis(250);

/// Requests on one connection.
#[derive(Clone)]
pub struct Requests(http2::SendRequest<Body>);

/// Keeps a connection going. Dropping it cuts the connection.
#[derive(Debug)]
pub struct Carrier(JoinHandle<Result<(), hyper::Error>>);

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
    // Boxed: a handshake's state is large, and most of a connection's life comes after it.
    let socket = Box::pin(connector.connect(trust.name.clone(), socket))
        .await
        .map_err(|error| Failure::lost(describe(&error)))?;
    if socket.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::lost("the server offers no HTTP/2"));
    }
    let (requests, connection) = builder()
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| Failure::lost(describe(&error)))?;
    Ok((Requests(requests), Carrier(tokio::spawn(connection))))
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

/// HTTP/2 for one or two quiet streams.
fn builder() -> http2::Builder<TokioExecutor> {
    const WINDOW_BYTES: u32 = 65_535;
    const FRAME_BYTES: u32 = 16_384;
    const SEND_BUFFER_BYTES: usize = 16_384;
    const HEADER_LIST_BYTES: u32 = 16_384;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES);
    builder
}

impl Service<Request<Body>> for Requests {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Carrier {
    /// Ready when the connection has ended, with the reason.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        Pin::new(&mut self.0).poll(cx).map(|ended| match ended {
            Ok(Ok(())) => Failure::lost("the server closed the connection"),
            Ok(Err(error)) => Failure::lost(describe(&error)),
            Err(_) => Failure::lost("the connection was cut"),
        })
    }

    /// Lets the connection say goodbye once everything else of it is dropped.
    pub async fn finish(mut self) {
        let _ = tokio::time::timeout(GOODBYE, &mut self.0).await;
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}
