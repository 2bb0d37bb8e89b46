//! One connection to another server: made when it is needed, made anew when it broke, and given a rest while nobody
//! answers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use zlayer_raft::{Target, TransportError};
use zlayer_wire::raft::peers_client::PeersClient;

use super::credentials::{Credential, Credentials};
use crate::accept;
use crate::peer;
use crate::session::Requests;

/// From the first packet to HTTP/2. Chosen: a handshake on a busy machine.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

/// Wait after the first failed dial; doubles up to [`REST_MAX`]. Chosen: well below an election timeout.
const REST_FIRST: Duration = Duration::from_millis(25);

/// See [`REST_FIRST`]. Chosen: a server that comes back is found at once.
const REST_MAX: Duration = Duration::from_millis(400);

/// A connection is asked whether it lives, and given up when it does not say so. Chosen: a path that was cut and is
/// mended is found by a new dial within about two seconds, and not when TCP tries again.
const ALIVE_INTERVAL: Duration = Duration::from_millis(700);

/// See [`ALIVE_INTERVAL`].
const ALIVE_LIMIT: Duration = Duration::from_millis(1_300);

/// The same, as the kernel sees it.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes that may be on their way on a stream and on a connection. Chosen: the largest message, and some more.
pub(super) const WINDOW_BYTES: u32 = 4 << 20;

/// Bytes of one message: an entry and its message, or a piece of a snapshot, with room.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Why there is no connection.
#[derive(Debug, Clone)]
struct Refused {
    why: String,
    at: Instant,
}

type Dialled = Result<Requests, Refused>;
type Dial = Shared<Pin<Box<dyn Future<Output = Dialled> + Send>>>;

/// See the module.
pub(super) struct Line {
    target: Target,
    handle: Handle,
    credentials: Arc<Credentials>,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    dial: Option<Dial>,
    /// Of the identity that it was dialled with.
    generation: u64,
    /// Dials that failed, in a row.
    failures: u32,
}

impl Line {
    pub(super) fn new(target: Target, handle: Handle, credentials: Arc<Credentials>) -> Self {
        Self { target, handle, credentials, slot: Mutex::default() }
    }

    /// A client on the connection, once there is one. Whoever waits may be dropped: the dial goes on for the next.
    pub(super) async fn client(&self) -> Result<PeersClient<Requests>, TransportError> {
        let dial = self.dial()?;
        match dial.await {
            Ok(requests) => {
                let origin = self.credentials.load().trust.origin();
                Ok(PeersClient::with_origin(requests, origin)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX))
            }
            Err(refused) => Err(TransportError::Unreachable(refused.why)),
        }
    }

    /// The connection that stands or is being made, or a new one.
    fn dial(&self) -> Result<Dial, TransportError> {
        let credential = self.credentials.load();
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dial) = &slot.dial {
            match dial.peek() {
                None => return Ok(dial.clone()),
                Some(Ok(requests)) => {
                    if !requests.0.is_closed() && slot.generation == credential.generation {
                        return Ok(dial.clone());
                    }
                    slot.failures = 0;
                }
                Some(Err(refused)) => {
                    let rest = (REST_FIRST * (1 << slot.failures.min(8))).min(REST_MAX);
                    if refused.at.elapsed() < rest {
                        return Err(TransportError::Unreachable(refused.why.clone()));
                    }
                    slot.failures = slot.failures.saturating_add(1);
                }
            }
        }
        slot.generation = credential.generation;
        let (target, cluster_id) = (self.target.clone(), self.credentials.cluster_id.clone());
        let task = self.handle.spawn(async move {
            let dialled = match timeout(DIAL_LIMIT, open(&target, &cluster_id, &credential)).await {
                Ok(dialled) => dialled,
                Err(_) => Err("no connection in time".into()),
            };
            dialled.map_err(|why| Refused { why: format!("{target}: {why}"), at: Instant::now() })
        });
        let ended = || Err(Refused { why: "the server stops".into(), at: Instant::now() });
        let boxed: Pin<Box<dyn Future<Output = Dialled> + Send>> =
            Box::pin(task.map(move |dialled| dialled.unwrap_or_else(|_| ended())));
        let dial = boxed.shared();
        slot.dial = Some(dial.clone());
        Ok(dial)
    }
}

/// TCP, TLS, and the proof that it is the server that was meant.
async fn open(
    target: &Target,
    cluster_id: &str,
    credential: &Credential,
) -> Result<Requests, String> {
    let socket = TcpStream::connect(&target.addr).await.map_err(|error| error.to_string())?;
    let socket = socket.into_std().map_err(|error| error.to_string())?;
    accept::set_up(&socket, USER_TIMEOUT).map_err(|error| error.to_string())?;
    let socket = TcpStream::from_std(socket).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::clone(&credential.identity.0));
    let name = credential.trust.name.clone();
    let socket = connector.connect(name, socket).await.map_err(|error| error.to_string())?;
    let session = socket.get_ref().1;
    let found = peer::server_identity(session.peer_certificates(), cluster_id)
        .map_err(|error| format!("its certificate: {error}"))?;
    if found.node_id != target.id {
        return Err(format!("its certificate is server {}'s", found.node_id));
    }
    if session.alpn_protocol() != Some(b"h2") {
        return Err("it offers no HTTP/2".into());
    }
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(1 << 20)
        .keep_alive_interval(ALIVE_INTERVAL)
        .keep_alive_timeout(ALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a server");
        }
    });
    Ok(Requests(requests))
}
