//! A small cluster: Enrollment behind one server name, sessions behind the other, on one port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::LazyConfigAcceptor;
use tonic::{Request, Response, Status, Streaming};
use zlayer_wire::v1::control_plane_server::{ControlPlane, ControlPlaneServer};
use zlayer_wire::v1::enrollment_server::{Enrollment, EnrollmentServer};
use zlayer_wire::v1::{
    AssignmentEvent, AssignmentSnapshot, ChallengeRequest, ChallengeResponse, JoinServerRequest,
    JoinServerResponse, RegisterRequest, RegisterResponse, RenewRequest, RenewResponse, StatusAck,
    StatusReport, WatchAssignmentsRequest, assignment_event::Kind,
};

use crate::pki::{CLUSTER, Ca};

pub(crate) const TOKEN: &str = "a-token";
/// As the worker port of a server has it by default.
const JOIN_BYTES_MAX: usize = 64 * 1024;
pub(crate) const NEXT_BEAT_MS: u64 = 200;

#[derive(Default)]
pub(crate) struct Seen {
    /// Node ids by key request: a repeat gets the same one.
    pub(crate) nodes: HashMap<Vec<u8>, u64>,
    pub(crate) registers: usize,
    pub(crate) joins: usize,
    pub(crate) joins_cut: usize,
    pub(crate) hellos: u64,
    pub(crate) beats: u64,
    pub(crate) goodbyes: u64,
    pub(crate) watches: usize,
    /// The next calls that are answered with "come back soon".
    pub(crate) busy: usize,
}

pub(crate) struct State {
    pub(crate) ca: Ca,
    seen: Mutex<Seen>,
}

impl State {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    runtime: Option<Runtime>,
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { ca: Ca::new(), seen: Mutex::default() });
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, runtime: Some(runtime) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let server = format!("server.{CLUSTER}.zlayer.internal");
    let join = format!("join.{CLUSTER}.zlayer.internal");
    let server_tls = state.ca.server_config(&server, true);
    let join_tls = state.ca.server_config(&join, false);
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let was_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&was_cut);
        let socket = Capped { socket, read: 0, written: 0, max: usize::MAX, cut };
        let (server_tls, join_tls) = (Arc::clone(&server_tls), Arc::clone(&join_tls));
        let (state, join) = (Arc::clone(&state), join.clone());
        tokio::spawn(async move {
            let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await.ok()?;
            let joins = start.client_hello().server_name() == Some(join.as_str());
            let mut socket =
                start.into_stream(if joins { join_tls } else { server_tls }).await.ok()?;
            let builder = Builder::new(TokioExecutor::new());
            // How it ends is not asked: a client that has what it wants may simply go.
            let _ = if joins {
                state.seen().joins += 1;
                socket.get_mut().0.max = JOIN_BYTES_MAX;
                let service = EnrollmentServer::new(Service(Arc::clone(&state)));
                builder
                    .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
                    .await
            } else {
                let service = ControlPlaneServer::new(Service(Arc::clone(&state)));
                builder
                    .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
                    .await
            };
            state.seen().joins_cut += usize::from(was_cut.load(Ordering::Relaxed));
            Some(())
        });
    }
}

/// A socket that fails after so many bytes in either direction.
struct Capped {
    socket: TcpStream,
    read: usize,
    written: usize,
    max: usize,
    cut: Arc<AtomicBool>,
}

impl Capped {
    fn fail<T>(&self) -> Poll<std::io::Result<T>> {
        self.cut.store(true, Ordering::Relaxed);
        Poll::Ready(Err(std::io::ErrorKind::QuotaExceeded.into()))
    }
}

impl AsyncRead for Capped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.read += buf.filled().len() - before;
        if self.read > self.max { self.fail() } else { polled }
    }
}

impl AsyncWrite for Capped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = polled {
            self.written += n;
        }
        if self.written > self.max { self.fail() } else { polled }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

pub(crate) struct Service(pub(crate) Arc<State>);

#[tonic::async_trait]
impl Enrollment for Service {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let request = request.into_inner();
        let mut seen = self.0.seen();
        seen.registers += 1;
        if request.bootstrap_token != TOKEN {
            return Err(Status::unauthenticated("the token does not admit"));
        }
        if let Some(busy) = seen.busy.checked_sub(1) {
            seen.busy = busy;
            let mut status = Status::resource_exhausted("too many requests");
            status.metadata_mut().insert("zlayer-retry-after-ms", "20".parse().unwrap());
            return Err(status);
        }
        let next = 1000 + seen.nodes.len() as u64;
        let node_id = *seen.nodes.entry(request.csr_der.clone()).or_insert(next);
        drop(seen);
        let certificate_der = self.0.ca.sign(node_id, &request.csr_der);
        // As large as the real one.
        let ca_der = vec![vec![0; 500]];
        let cluster_id = CLUSTER.to_owned();
        let answer =
            RegisterResponse { node_id, certificate_der, ca_der, cluster_id, ..Default::default() };
        Ok(Response::new(answer))
    }

    async fn join_server(
        &self,
        _: Request<JoinServerRequest>,
    ) -> Result<Response<JoinServerResponse>, Status> {
        Err(Status::unimplemented("workers alone join here"))
    }

    async fn challenge(
        &self,
        _: Request<ChallengeRequest>,
    ) -> Result<Response<ChallengeResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }
}

impl State {
    fn answer(&self, report: &StatusReport) -> StatusAck {
        let mut seen = self.seen();
        if report.hello.is_some() {
            seen.hellos += 1;
        } else if report.leaving {
            seen.goodbyes += 1;
        } else {
            seen.beats += 1;
        }
        let (ttl_ms, grace_ms) = (10_000, 10_000);
        let next_beat_in_ms = NEXT_BEAT_MS;
        StatusAck { seq: report.seq, ttl_ms, grace_ms, next_beat_in_ms, ..Default::default() }
    }
}

#[tonic::async_trait]
impl ControlPlane for Service {
    type ReportStatusStream = BoxStream<'static, Result<StatusAck, Status>>;

    async fn report_status(
        &self,
        request: Request<Streaming<StatusReport>>,
    ) -> Result<Response<Self::ReportStatusStream>, Status> {
        let state = Arc::clone(&self.0);
        let acks =
            request.into_inner().map(move |report| report.map(|report| state.answer(&report)));
        Ok(Response::new(acks.boxed()))
    }

    type WatchAssignmentsStream =
        Pin<Box<dyn Stream<Item = Result<AssignmentEvent, Status>> + Send>>;

    async fn watch_assignments(
        &self,
        _: Request<WatchAssignmentsRequest>,
    ) -> Result<Response<Self::WatchAssignmentsStream>, Status> {
        self.0.seen().watches += 1;
        let kind = Some(Kind::Snapshot(AssignmentSnapshot {}));
        let event = AssignmentEvent { revision: 1, kind };
        Ok(Response::new(stream::iter([Ok(event)]).chain(stream::pending()).boxed()))
    }
}
