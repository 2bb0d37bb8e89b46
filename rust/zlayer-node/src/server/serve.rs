//! From an accepted socket to its end: hello, route, TLS, identity; then a worker connection or a splice.

use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use zlayer_wire::v1::control_plane_server::ControlPlaneServer;

use super::connection::Connection;
use super::drive::{Driver, WorkerSocket};
use super::meter::Metered;
use super::service::{Caller, ConnectionService, WorkerService};
use super::shared::Shared;
use super::tls_socket::TlsSocket;
use crate::accept;
use crate::limits::Permit;
use crate::peer::{self, WorkerIdentity};
use crate::refusal::Refusal;
use crate::sni::{self, Route};
use crate::splice::{SpliceEnd, SpliceLimits, splice};

/// Seconds' worth of bytes that may come at once: four of the largest messages at the default rate.
const BURST_SECONDS: u32 = 16;

/// What a new connection turned out to be.
enum Met {
    Worker(Box<WorkerSocket>, WorkerIdentity),
    Join(tokio::net::TcpStream, Vec<u8>),
}

/// Serves one accepted socket to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    service: ControlPlaneServer<WorkerService>,
    socket: TcpStream,
    address: SocketAddr,
    handshake: Permit,
) {
    // Boxed: the handshake's state is large, and most of a connection's life comes after it.
    let meeting = Box::pin(meet(&shared, socket));
    let met = match timeout(shared.limits.handshake_timeout(), meeting).await {
        Ok(met) => met,
        Err(_) => Err("timeout"),
    };
    drop(handshake);
    match met {
        Ok(Met::Worker(socket, identity)) => {
            if let Some(driver) = admit(&shared, service, socket, identity, address) {
                driver.await;
            }
        }
        Ok(Met::Join(socket, first)) => Box::pin(join(&shared, socket, first, address)).await,
        Err(why) => {
            shared.metrics.handshakes_failed.add(why);
            tracing::debug!(%address, why, "connection refused");
        }
    }
}

async fn meet(shared: &Shared, socket: TcpStream) -> Result<Met, &'static str> {
    let user_timeout = Duration::from_millis(shared.limits.tcp_user_timeout_ms);
    accept::set_up(&socket, user_timeout).map_err(|_| "socket")?;
    let mut socket = tokio::net::TcpStream::from_std(socket).map_err(|_| "socket")?;
    let route = sni::route(&mut socket, &shared.names, shared.limits.hello_bytes_max)
        .await
        .map_err(|error| error.kind())?;
    match route {
        Route::Join(first) => Ok(Met::Join(socket, first)),
        Route::Server(first) => {
            let socket = shake_hands(shared, socket, first).await?;
            let identity = peer::worker_identity(socket.peer_certificates(), &shared.cluster_id)
                .map_err(|error| {
                    tracing::debug!(%error, "client certificate");
                    "identity"
                })?;
            Ok(Met::Worker(Box::new(socket), identity))
        }
    }
}

async fn shake_hands(
    shared: &Shared,
    socket: tokio::net::TcpStream,
    first: Vec<u8>,
) -> Result<WorkerSocket, &'static str> {
    let config = shared.tls.load_full();
    // Below TLS, so that what it answers by itself is counted as well.
    let rate = shared.limits.bytes_per_second_per_worker;
    let burst = rate.saturating_mul(BURST_SECONDS);
    let socket = Metered::new(socket, shared.clock, rate, burst);
    let socket = TlsSocket::accept(socket, config, first).await.map_err(|error| {
        tracing::debug!(%error, "TLS handshake");
        "tls"
    })?;
    match socket.alpn_protocol() {
        Some(b"h2") => Ok(socket),
        _ => Err("alpn"),
    }
}

/// Makes what drives a worker's connection, if the limits allow one more. Boxed: it is most of what a connected
/// worker costs, and nothing of it should be there twice.
fn admit(
    shared: &Arc<Shared>,
    service: ControlPlaneServer<WorkerService>,
    socket: Box<WorkerSocket>,
    identity: WorkerIdentity,
    address: SocketAddr,
) -> Option<Pin<Box<Driver>>> {
    let Some(permit) = shared.connections.admit(address.ip()) else {
        shared.metrics.refused_connections.add("connections");
        return None;
    };
    let connection = Arc::new(Connection::new(shared.registry.next_id(), identity, address));
    let ledger = shared.registry.insert(&connection, shared.limits.connections_per_node_max);
    // Looked up after the registry knows the connection: a change is either seen here or comes from there.
    if let Err(why) = shared.prepare(&connection) {
        connection.refuse_all(why);
    }
    if shared.has_outage() {
        connection.refuse_all(Refusal::Stopping);
    }
    shared.metrics.connections_opened.add(1);
    let caller = Caller { connection: Arc::clone(&connection), ledger };
    let service = ConnectionService::new(service, caller);
    Some(Box::pin(Driver::new(Arc::clone(shared), connection, *socket, service, permit)))
}

/// Passes a connection on to the Enrollment service, if the limits allow.
async fn join(shared: &Shared, socket: tokio::net::TcpStream, first: Vec<u8>, address: SocketAddr) {
    if !shared.join_open.load(Ordering::Relaxed) {
        shared.metrics.refused_connections.add("join_closed");
        return;
    }
    if !shared.splice_rates.admit(shared.clock.now(), address.ip()) {
        shared.metrics.refused_connections.add("join_rate");
        return;
    }
    let Some(_permit) = shared.splices.admit(address.ip()) else {
        shared.metrics.refused_connections.add("joins");
        return;
    };
    shared.metrics.join_connections.add(1);
    let limits = SpliceLimits {
        bytes_max: shared.limits.splice_bytes_max,
        idle: Duration::from_millis(shared.limits.splice_idle_ms),
        total: Duration::from_millis(shared.limits.splice_total_ms),
    };
    let ended = splice(socket, first, &shared.join_socket, limits).await;
    shared.metrics.joins_ended.add(ended.kind());
    match ended {
        SpliceEnd::Done => tracing::debug!(%address, "join connection done"),
        SpliceEnd::Unavailable => tracing::warn!("the Enrollment service does not listen"),
        other => tracing::info!(%address, why = other.kind(), "join connection cut"),
    }
}
