//! The way to the other servers: a port of their own, connections of their own, threads of their own. Whatever the
//! workers do, votes and heartbeats go out and are answered.
//!
//! ```text
//! Replicated ─> PeerTransport ─> Line (one a peer and lane) ══ mTLS ══> listen ─> service ─> Answerer: Replicated
//!   relay    ─────────┘                                                                         └─> hosted
//! ```
//!
//! Both ends show a server certificate; who calls, and who answers, is whom the certificate names.

mod credentials;
mod line;
mod listen;
mod service;
mod transport;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

pub(crate) use service::{Answerer, Streamed};
pub(crate) use transport::PeerTransport;

use crate::accept;
use crate::error::NodeError;
use crate::options::ServerOptions;
use credentials::Credentials;
use listen::Listening;

/// Threads. Chosen: one may be busy with a snapshot.
const THREADS: usize = 2;

/// The port, the connections and their threads. Dropping it ends them.
pub(crate) struct PeerNet {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    transport: Arc<PeerTransport>,
    credentials: Arc<Credentials>,
    answerer: Arc<OnceLock<Arc<dyn Answerer>>>,
    local_addr: SocketAddr,
    ending: CancellationToken,
}

impl PeerNet {
    /// Opens the port. Requests are refused until [`PeerNet::serve`].
    ///
    /// # Errors
    /// [`NodeError`] when the address or the identity can't be used.
    pub(crate) fn start(options: &ServerOptions, listen: &str) -> Result<Self, NodeError> {
        let credentials = Arc::new(Credentials::new(
            &options.cluster_id,
            &options.certificate_pem,
            &options.key_pem,
            &options.ca_pem,
        )?);
        let socket = accept::bind(listen)?;
        let local_addr =
            socket.local_addr().map_err(|error| NodeError::io("read the address", error))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("zlayer-peers")
            .enable_all()
            .build()
            .map_err(|error| NodeError::io("start threads", error))?;
        let handle = runtime.handle().clone();
        let transport = Arc::new(PeerTransport::new(handle.clone(), Arc::clone(&credentials)));
        let (answerer, ending) = (Arc::new(OnceLock::new()), CancellationToken::new());
        let listening = Listening {
            cluster_id: options.cluster_id.clone(),
            credentials: Arc::clone(&credentials),
            answerer: Arc::clone(&answerer),
            ending: ending.clone(),
        };
        handle.spawn(listening.run(socket));
        let runtime = Mutex::new(Some(runtime));
        Ok(Self { runtime, handle, transport, credentials, answerer, local_addr, ending })
    }

    /// Whom requests are given to from now on. Once.
    pub(crate) fn serve(&self, answerer: Arc<dyn Answerer>) {
        // The first one stays.
        let _ = self.answerer.set(answerer);
    }

    pub(crate) fn transport(&self) -> Arc<PeerTransport> {
        Arc::clone(&self.transport)
    }

    /// Where the others reach this server.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Runs something on the threads of the peers.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Gives new connections a new identity; the open ones outwards are replaced at the next call.
    ///
    /// # Errors
    /// [`NodeError::Identity`]; nothing has changed then.
    pub(crate) fn set_identity(
        &self,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> Result<(), NodeError> {
        self.credentials.replace(certificate_pem, key_pem, ca_pem)
    }

    /// Closes the port and every connection.
    pub(crate) fn close(&self) {
        self.ending.cancel();
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

impl Drop for PeerNet {
    fn drop(&mut self) {
        self.close();
    }
}
