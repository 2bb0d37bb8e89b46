//! What this server shows to the others, and whom it believes; can be replaced while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use crate::error::NodeError;
use crate::peer;
use crate::session::{Identity, Trust};
use crate::tls;

/// One identity, both ways.
pub(crate) struct Credential {
    /// Grows with every replacement.
    pub(crate) generation: u64,
    /// For connections from others.
    pub(crate) server: Arc<ServerConfig>,
    /// For connections to others.
    pub(crate) trust: Trust,
    /// As `trust`.
    pub(crate) identity: Identity,
}

/// The newest identity.
pub(crate) struct Credentials {
    pub(crate) cluster_id: String,
    generations: AtomicU64,
    now: ArcSwap<Credential>,
}

impl Credentials {
    /// # Errors
    /// [`NodeError::Identity`] when it is not a server's certificate of this cluster, with its key and CA.
    pub(crate) fn new(
        cluster_id: &str,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> Result<Self, NodeError> {
        let first = read(cluster_id, 1, certificate_pem, key_pem, ca_pem)?;
        Ok(Self {
            cluster_id: cluster_id.to_owned(),
            generations: AtomicU64::new(1),
            now: ArcSwap::from_pointee(first),
        })
    }

    pub(crate) fn load(&self) -> Arc<Credential> {
        self.now.load_full()
    }

    /// # Errors
    /// As [`Credentials::new`]; nothing has changed then.
    pub(crate) fn replace(
        &self,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> Result<(), NodeError> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let new = read(&self.cluster_id, generation, certificate_pem, key_pem, ca_pem)?;
        self.now.store(Arc::new(new));
        Ok(())
    }
}

fn read(
    cluster_id: &str,
    generation: u64,
    certificate_pem: &str,
    key_pem: &str,
    ca_pem: &str,
) -> Result<Credential, NodeError> {
    let chain = tls::certificates("server certificate", certificate_pem)?;
    peer::server_identity(Some(&chain), cluster_id)
        .map_err(|error| NodeError::Identity(format!("server certificate: {error}")))?;
    let server = tls::server_config(cluster_id, certificate_pem, key_pem, ca_pem)?;
    let trust = Trust::of_servers(cluster_id, ca_pem)?;
    let identity = trust.client(certificate_pem, key_pem)?;
    Ok(Credential { generation, server, trust, identity })
}
