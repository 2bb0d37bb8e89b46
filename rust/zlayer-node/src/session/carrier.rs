//! HTTP/2 on one connection: requests on it, and the future that carries them.
//!
//! hyper would spawn four tasks for a connection with one stream. Kept together here they are one future: whoever
//! polls it carries the connection, and dropping it closes the socket at once.

use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::codegen::Service;

use super::failure::{Failure, describe};
use super::inherited::Listed;
use super::telling::{Reason, Telling};

/// Time in which a connection that is closed may still say goodbye. Chosen.
const GOODBYE: Duration = Duration::from_millis(250);

type Socket = TokioIo<Telling<TlsStream<TcpStream>>>;
type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Requests on one connection.
#[derive(Clone)]
pub struct Requests(pub(crate) http2::SendRequest<Body>);

/// Carries a connection while it is polled; ready when the connection has ended.
pub struct Carrier {
    /// Gone once it has ended.
    http: Option<http2::Connection<Socket, Body, Parts>>,
    /// How it ended.
    ended: Option<Failure>,
    new_parts: Parts,
    parts: Vec<Part>,
    reason: Reason,
}

/// hyper's executor: keeps the futures for whoever carries the connection.
#[derive(Clone, Default)]
pub(crate) struct Parts(Arc<Mutex<Vec<Part>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Parts {
    fn execute(&self, part: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(part));
    }
}

/// Starts HTTP/2 on a socket whose server has proved itself.
pub(crate) async fn start(socket: TlsStream<TcpStream>) -> Result<(Requests, Carrier), Failure> {
    let reason = Reason::default();
    let new_parts = Parts::default();
    let listed = Listed::new(socket.as_raw_fd());
    let socket = TokioIo::new(Telling::new(socket, listed, reason.clone()));
    let (requests, http) = builder(new_parts.clone())
        .handshake(socket)
        .await
        .map_err(|error| Failure::lost(reason.get().unwrap_or_else(|| describe(&error))))?;
    let (http, parts) = (Some(http), Vec::new());
    Ok((Requests(requests), Carrier { http, ended: None, new_parts, parts, reason }))
}

/// HTTP/2 for one or two quiet streams.
fn builder(parts: Parts) -> http2::Builder<Parts> {
    const WINDOW_BYTES: u32 = 65_535;
    const FRAME_BYTES: u32 = 16_384;
    const SEND_BUFFER_BYTES: usize = 16_384;
    const HEADER_LIST_BYTES: u32 = 16_384;
    // Until the server says how many it takes: more could be refused.
    const FIRST_STREAMS: usize = 2;
    let mut builder = http2::Builder::new(parts);
    builder
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .initial_max_send_streams(FIRST_STREAMS);
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

impl Future for Carrier {
    /// Why it ended.
    type Output = Failure;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Failure> {
        let this = &mut *self;
        if let Some(http) = &mut this.http
            && let Poll::Ready(ended) = Pin::new(http).poll(cx)
        {
            this.http = None;
            this.ended = Some(Failure::lost(match ended {
                Ok(()) => "the server closed the connection".into(),
                Err(error) => describe(&error),
            }));
        }
        {
            let mut new = this.new_parts.0.lock().unwrap_or_else(PoisonError::into_inner);
            this.parts.append(&mut new);
        }
        // The connection's own part is the oldest: polled last, it sends what the others have just queued.
        for at in (0..this.parts.len()).rev() {
            if this.parts[at].as_mut().poll(cx).is_ready() {
                drop(this.parts.remove(at));
            }
        }
        match &this.ended {
            // It has to end as well, so that what is queued goes out.
            Some(_) if !this.parts.is_empty() => Poll::Pending,
            Some(ended) => {
                Poll::Ready(this.reason.get().map_or_else(|| ended.clone(), Failure::lost))
            }
            None => Poll::Pending,
        }
    }
}

impl Carrier {
    /// Why the connection failed, if it did.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.get()
    }

    /// Carries the connection on a task of its own.
    pub fn spawn(self) -> CarrierTask {
        CarrierTask(tokio::spawn(self))
    }

    /// Lets the connection say goodbye, once its requests and streams are dropped.
    pub async fn finish(self) {
        let _ = tokio::time::timeout(GOODBYE, self).await;
    }
}

/// A connection that is carried by a task. Dropping it closes the socket.
#[derive(Debug)]
pub struct CarrierTask(JoinHandle<Failure>);

impl CarrierTask {
    /// As [`Carrier::finish`].
    pub async fn finish(mut self) {
        let _ = tokio::time::timeout(GOODBYE, &mut self.0).await;
    }
}

impl Drop for CarrierTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
