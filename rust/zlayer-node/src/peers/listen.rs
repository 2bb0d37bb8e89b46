//! The port of the servers: accepts, checks who calls, serves.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::line::{USER_TIMEOUT, WINDOW_BYTES};
use super::service::{Answerer, PeerService, Served};
use crate::accept::{self, Listener};
use crate::clock::Clock;
use crate::limits::{Gate, Permit};
use crate::peer::{self, ServerIdentity};

/// Connections that have not shown who they are. Chosen: more than all servers make at once, four lanes each.
const HANDSHAKES_MAX: usize = 64;

/// For that.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Connections in all. Chosen: seven servers, four lanes, each made anew many times before the old end is noticed.
const CONNECTIONS_MAX: usize = 512;

/// Requests at once on one connection.
const STREAMS_MAX: u32 = 1_024;

/// See the module.
pub(super) struct Listening {
    pub(super) cluster_id: String,
    pub(super) credentials: Arc<Credentials>,
    pub(super) answerer: Arc<OnceLock<Arc<dyn Answerer>>>,
    pub(super) ending: CancellationToken,
}

impl Listening {
    /// Accepts until the server stops.
    pub(super) async fn run(self, socket: TcpListener) {
        let ending = self.ending.clone();
        let accepting = async {
            let mut listener = match Listener::new(socket) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the port of the servers"),
            };
            let this = Arc::new(self);
            let handshakes = Gate::new(HANDSHAKES_MAX, HANDSHAKES_MAX);
            let connections = Gate::new(CONNECTIONS_MAX, CONNECTIONS_MAX);
            loop {
                let (socket, address) = listener.accept().await;
                if let Some(handshake) = handshakes.admit(address.ip()) {
                    let (this, connections) = (Arc::clone(&this), Arc::clone(&connections));
                    tokio::spawn(async move {
                        this.serve(socket, address, handshake, &connections).await;
                    });
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = ending.cancelled() => {}
        }
    }

    async fn serve(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        handshake: Permit,
        connections: &Arc<Gate>,
    ) {
        let met = timeout(HANDSHAKE_LIMIT, self.meet(socket)).await;
        drop(handshake);
        let (socket, identity) = match met.unwrap_or_else(|_| Err("no handshake in time".into())) {
            Ok(met) => met,
            Err(why) => return tracing::info!(%address, why, "refused on the port of the servers"),
        };
        let Some(_permit) = connections.admit(address.ip()) else { return };
        let service = PeerService::server(identity.node_id, Arc::clone(&self.answerer));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(1 << 20)
            .max_concurrent_streams(STREAMS_MAX)
            .serve_connection(TokioIo::new(socket), Served(service));
        let valid_ms = identity.not_after.0.saturating_sub(Clock::unix().0);
        tokio::select! {
            // It says why by itself, at the other end.
            _ = timeout(Duration::from_millis(valid_ms), connection) => {}
            () = self.ending.cancelled() => {}
        }
    }

    async fn meet(
        &self,
        socket: TcpStream,
    ) -> Result<(TlsStream<tokio::net::TcpStream>, ServerIdentity), String> {
        accept::set_up(&socket, USER_TIMEOUT).map_err(|error| error.to_string())?;
        let socket = tokio::net::TcpStream::from_std(socket).map_err(|error| error.to_string())?;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.credentials.load().server));
        let socket = acceptor.accept(socket).await.map_err(|error| error.to_string())?;
        let session = socket.get_ref().1;
        let identity = peer::server_identity(session.peer_certificates(), &self.cluster_id)
            .map_err(|error| error.to_string())?;
        if session.alpn_protocol() != Some(b"h2") {
            return Err("no HTTP/2".into());
        }
        Ok((socket, identity))
    }
}
