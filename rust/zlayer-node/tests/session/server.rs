//! A control plane that does what a test tells it, on a thread of its own.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, Streaming};
use zlayer_node::refusal::Refusal;
use zlayer_wire::v1::control_plane_server::{ControlPlane, ControlPlaneServer};
use zlayer_wire::v1::{
    AssignmentEvent, AssignmentSnapshot, StatusAck, StatusReport, WatchAssignmentsRequest,
    assignment_event::Kind,
};

use crate::pki::{Ca, Leaf};

/// Far beyond what anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) static TLS_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
pub(crate) static TLS_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// How the server's TLS is set up.
pub(crate) struct Tls {
    pub(crate) leaf: Leaf,
    /// CA that clients are checked against.
    pub(crate) client_ca: String,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Tls {
    pub(crate) fn good(ca: &Ca) -> Self {
        Self {
            leaf: ca.server(),
            client_ca: ca.pem.clone(),
            versions: TLS_1_3,
            alpn: vec![b"h2".to_vec()],
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.client_ca.as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(self.leaf.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.leaf.key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols.clone_from(&self.alpn);
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What was seen. Every change can be waited for.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) reports: Vec<StatusReport>,
    pub(crate) watches: Vec<u64>,
    /// Client certificates of finished handshakes.
    pub(crate) clients: Vec<Vec<u8>>,
    pub(crate) handshakes_failed: usize,
    pub(crate) connections_closed: usize,
}

impl Seen {
    pub(crate) fn hellos(&self) -> usize {
        self.reports.iter().filter(|report| report.hello.is_some()).count()
    }
}

/// What the server does and has seen.
pub(crate) struct State {
    pub(crate) mute: AtomicBool,
    pub(crate) next_beat_in_ms: AtomicU64,
    pub(crate) refuse: Mutex<Option<Refusal>>,
    seen: Mutex<Seen>,
    changed: Condvar,
    connections: Mutex<Vec<AbortHandle>>,
}

impl State {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }

    /// Waits until what was seen satisfies `enough`.
    pub(crate) fn wait(&self, what: &str, enough: impl Fn(&Seen) -> bool) {
        let (seen, timeout) =
            self.changed.wait_timeout_while(self.seen(), PATIENCE, |seen| !enough(seen)).unwrap();
        assert!(!timeout.timed_out(), "{what}: {:?}", seen.reports);
    }

    /// Cuts every connection.
    pub(crate) fn cut_all(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }

    fn answer(&self, report: &StatusReport) -> Option<Result<StatusAck, Status>> {
        self.note(|seen| seen.reports.push(report.clone()));
        if let Some(refusal) = *self.refuse.lock().unwrap() {
            return Some(Err(refusal.status()));
        }
        if self.mute.load(Ordering::SeqCst) {
            return None;
        }
        Some(Ok(StatusAck {
            seq: report.seq,
            ttl_ms: 10_000,
            grace_ms: 10_000,
            next_beat_in_ms: self.next_beat_in_ms.load(Ordering::SeqCst),
            reconnect_spread_ms: 50,
            draining: false,
        }))
    }
}

/// A running server. Dropping it cuts everything.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    pub(crate) fn start(tls: &Tls) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            mute: AtomicBool::new(false),
            next_beat_in_ms: AtomicU64::new(50),
            refuse: Mutex::new(None),
            seen: Mutex::default(),
            changed: Condvar::new(),
            connections: Mutex::default(),
        });
        runtime.spawn(accept(listener, tls.acceptor(), Arc::clone(&state)));
        Self { address, state, runtime: Some(runtime) }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, of_connection) = (acceptor.clone(), Arc::clone(&state));
        let connection = tokio::spawn(async move {
            let _closing = Closing(Arc::clone(&of_connection));
            let Ok(socket) = acceptor.accept(socket).await else {
                of_connection.note(|seen| seen.handshakes_failed += 1);
                return;
            };
            let client = socket.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            of_connection.note(|seen| seen.clients.push(client));
            let service = ControlPlaneServer::new(Service(of_connection));
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
                .await;
        });
        state.connections.lock().unwrap().push(connection.abort_handle());
    }
}

struct Closing(Arc<State>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.note(|seen| seen.connections_closed += 1);
    }
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl ControlPlane for Service {
    type ReportStatusStream = BoxStream<'static, Result<StatusAck, Status>>;

    async fn report_status(
        &self,
        request: Request<Streaming<StatusReport>>,
    ) -> Result<Response<Self::ReportStatusStream>, Status> {
        let state = Arc::clone(&self.0);
        let acks = request.into_inner().filter_map(move |report| {
            let answer = match report {
                Ok(report) => state.answer(&report),
                Err(status) => Some(Err(status)),
            };
            std::future::ready(answer)
        });
        Ok(Response::new(acks.boxed()))
    }

    type WatchAssignmentsStream =
        Pin<Box<dyn Stream<Item = Result<AssignmentEvent, Status>> + Send>>;

    async fn watch_assignments(
        &self,
        request: Request<WatchAssignmentsRequest>,
    ) -> Result<Response<Self::WatchAssignmentsStream>, Status> {
        let last_revision = request.into_inner().last_revision;
        self.0.note(|seen| seen.watches.push(last_revision));
        let kind = Some(Kind::Snapshot(AssignmentSnapshot {}));
        let event = AssignmentEvent { revision: last_revision + 1, kind };
        let events = stream::iter([Ok(event)]).chain(stream::pending());
        Ok(Response::new(events.boxed()))
    }
}
