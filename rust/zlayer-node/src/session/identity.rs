//! How a worker proves itself, and whom it believes: TLS 1.3, mutual, one CA, one server name, no fallback.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::error::NodeError;
use crate::peer;
use crate::tls;

/// Whom a client believes. Cheap to clone; one serves any number of sessions.
#[derive(Clone)]
pub struct Trust {
    verifier: Arc<WebPkiServerVerifier>,
    /// The name that is asked for and must be in the server's certificate.
    pub(crate) name: ServerName<'static>,
    /// The same as an HTTP origin.
    origin: http::Uri,
}

/// A TLS configuration of one client.
#[derive(Clone)]
pub struct Identity(pub(crate) Arc<ClientConfig>);

impl Trust {
    /// Believes servers with this name and a certificate of this CA.
    ///
    /// # Errors
    /// [`NodeError::Identity`] when the CA or the name can't be used.
    pub fn new(name: &str, ca_pem: &str) -> Result<Self, NodeError> {
        let fail = |error: String| NodeError::Identity(error);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(tls::roots(ca_pem)?, tls::provider())
                .build()
                .map_err(|error| fail(error.to_string()))?;
        let bad_name = || NodeError::option("server name", format!("{name:?} is no DNS name"));
        let origin = format!("https://{name}").parse().map_err(|_| bad_name())?;
        let name = ServerName::try_from(name.to_owned()).map_err(|_| bad_name())?;
        Ok(Self { verifier, name, origin })
    }

    /// Believes the servers of a cluster.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_servers(cluster_id: &str, ca_pem: &str) -> Result<Self, NodeError> {
        Self::new(&tls::server_name(cluster_id), ca_pem)
    }

    /// Believes the Enrollment service of a cluster.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_join(cluster_id: &str, ca_pem: &str) -> Result<Self, NodeError> {
        Self::new(&tls::join_name(cluster_id), ca_pem)
    }

    /// A client that has no certificate.
    ///
    /// # Errors
    /// [`NodeError::Identity`] when TLS can't be set up.
    pub fn anonymous(&self) -> Result<Identity, NodeError> {
        let config = self.builder()?.with_no_client_auth();
        Ok(Self::finish(config))
    }

    /// A client with a certificate.
    ///
    /// # Errors
    /// [`NodeError::Identity`] when the certificate and the key can't be used, or don't belong together.
    pub fn client(&self, certificate_pem: &str, key_pem: &str) -> Result<Identity, NodeError> {
        let chain = tls::certificates("certificate", certificate_pem)?;
        self.client_der(chain, tls::private_key(key_pem)?)
    }

    /// As [`Self::client`], with the certificate chain (leaf first) and the key as DER.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub fn client_der(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Identity, NodeError> {
        let config = self
            .builder()?
            .with_client_auth_cert(chain, key)
            .map_err(|error| NodeError::Identity(error.to_string()))?;
        Ok(Self::finish(config))
    }

    /// What requests to such a server name as their origin.
    pub fn origin(&self) -> http::Uri {
        self.origin.clone()
    }

    fn builder(
        &self,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, NodeError>
    {
        Ok(ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| NodeError::Identity(error.to_string()))?
            .with_webpki_verifier(Arc::clone(&self.verifier)))
    }

    fn finish(mut config: ClientConfig) -> Identity {
        config.alpn_protocols = vec![b"h2".to_vec()];
        // The servers give no tickets; a store for them would be memory for nothing.
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Identity(Arc::new(config))
    }
}

/// Checks that a certificate is what the cluster issues to this worker: a mistake in the files is an error at once,
/// and not a refusal that comes with every dial.
///
/// # Errors
/// [`NodeError::Identity`] that says what it is instead.
pub(crate) fn check_worker(
    cluster_id: &str,
    node_id: u64,
    certificate_pem: &str,
) -> Result<(), NodeError> {
    let chain = tls::certificates("certificate", certificate_pem)?;
    let found = peer::worker_identity(Some(&chain), cluster_id)
        .map_err(|error| NodeError::Identity(format!("certificate: {error}")))?;
    if found.node_id == node_id {
        return Ok(());
    }
    let id = found.node_id;
    Err(NodeError::Identity(format!("the certificate is worker {id}'s, not worker {node_id}'s")))
}
