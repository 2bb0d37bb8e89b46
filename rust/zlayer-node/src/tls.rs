//! rustls configurations of the worker port: TLS 1.3 only, mutual, and nothing that skips a check.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::error::NodeError;

/// The name behind which workers are served.
pub(crate) fn server_name(cluster_id: &str) -> String {
    format!("server.{cluster_id}.zlayer.internal")
}

/// The name behind which machines enrol.
pub(crate) fn join_name(cluster_id: &str) -> String {
    format!("join.{cluster_id}.zlayer.internal")
}

/// The ring provider, chosen explicitly so that another crate's default can't change it.
///
/// AES-128-GCM comes first: its key schedule is the smallest and a heartbeat is one short record each way.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

/// Reads one or more certificates from PEM text.
///
/// # Errors
/// [`NodeError::Identity`] when there is none or one is damaged.
pub(crate) fn certificates(
    what: &str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, NodeError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| NodeError::Identity(format!("{what}: {error}")))?;
    if certificates.is_empty() {
        return Err(NodeError::Identity(format!("{what}: no certificate in it")));
    }
    Ok(certificates)
}

/// Reads the private key from PEM text. The error never quotes it.
///
/// # Errors
/// [`NodeError::Identity`] when there is none.
pub(crate) fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, NodeError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| NodeError::Identity("no private key in the PEM text".into()))
}

/// Reads the CA certificates from PEM text.
///
/// # Errors
/// [`NodeError::Identity`] when there is none or one is unusable.
pub(crate) fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, NodeError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("CA", ca_pem)? {
        store.add(certificate).map_err(|error| NodeError::Identity(format!("CA: {error}")))?;
    }
    Ok(Arc::new(store))
}

/// The configuration of `server.<cluster>`: client certificate mandatory, no resumption, HTTP/2 only.
///
/// # Errors
/// [`NodeError::Identity`] when certificate, key and CA don't fit each other or the cluster.
pub(crate) fn server_config(
    cluster_id: &str,
    certificate_pem: &str,
    key_pem: &str,
    ca_pem: &str,
) -> Result<Arc<ServerConfig>, NodeError> {
    let identity = |error: rustls::Error| NodeError::Identity(error.to_string());
    let chain = certificates("server certificate", certificate_pem)?;
    check_server_name(&chain, cluster_id)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca_pem)?, provider())
        .build()
        .map_err(|error| NodeError::Identity(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private_key(key_pem)?)
        .map_err(identity)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed connection would skip the certificate checks.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// A server certificate that no worker would accept is an error at start, not at the first connection.
fn check_server_name(chain: &[CertificateDer<'static>], cluster_id: &str) -> Result<(), NodeError> {
    let name = server_name(cluster_id);
    let fail = |error: String| NodeError::Identity(format!("server certificate: {error}"));
    let expected = ServerName::try_from(name.as_str()).map_err(|error| fail(error.to_string()))?;
    let leaf = chain.first().ok_or_else(|| fail("empty chain".into()))?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| fail(error.to_string()))?;
    verify_server_name(&parsed, &expected).map_err(|_| fail(format!("is not for {name}")))
}
