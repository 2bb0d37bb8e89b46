//! Who is at the other end: the identity inside a certificate that TLS has verified already.
//!
//! TLS checks the chain, the validity and, where it is present, the extended key usage. What is left is the
//! profile: exactly one name, of the right cluster and role, and a usage that says client and nothing else.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zlayer_core::record::{FIRST_WORKER_ID, NodeId};
use zlayer_core::time::UnixMs;

use crate::tls;

/// A worker, by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerIdentity {
    /// From the certificate's URI.
    pub(crate) node_id: NodeId,
    /// End of the certificate's validity.
    pub(crate) not_after: UnixMs,
}

/// Another server, by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerIdentity {
    /// From the certificate's URI.
    pub(crate) node_id: NodeId,
    /// End of the certificate's validity.
    pub(crate) not_after: UnixMs,
}

/// Why a verified certificate is not one of whom is expected. The texts go to the server's log and metrics only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("no client certificate")]
    Missing,
    #[error("the certificate can't be parsed")]
    Malformed,
    #[error("the extended key usage is not that of its role")]
    Usage,
    #[error("the subject alternative names are not those of its role")]
    Names,
    #[error("the URI is of another trust domain")]
    TrustDomain,
    #[error("the URI's role is another")]
    Role,
    #[error("the URI's id is no number within 1..=i64::MAX")]
    Id,
}

/// Reads the identity out of a verified chain, leaf first.
///
/// # Errors
/// [`PeerError`] when the leaf is not exactly what the cluster issues to workers.
pub(crate) fn worker_identity(
    chain: Option<&[CertificateDer<'_>]>,
    cluster_id: &str,
) -> Result<WorkerIdentity, PeerError> {
    let certificate = leaf_of(chain)?;
    check_usage(&certificate, false)?;
    let node_id = parse_uri(single_uri(&certificate)?, cluster_id, "worker")?;
    Ok(WorkerIdentity { node_id, not_after: not_after(&certificate) })
}

/// Reads another server's identity out of a verified chain, leaf first: of whoever calls, and of whoever is called.
///
/// # Errors
/// [`PeerError`] when the leaf is not exactly what the cluster issues to servers.
pub(crate) fn server_identity(
    chain: Option<&[CertificateDer<'_>]>,
    cluster_id: &str,
) -> Result<ServerIdentity, PeerError> {
    let certificate = leaf_of(chain)?;
    check_usage(&certificate, true)?;
    let node_id = parse_uri(server_uri(&certificate, cluster_id)?, cluster_id, "server")?;
    if node_id >= FIRST_WORKER_ID {
        return Err(PeerError::Id);
    }
    Ok(ServerIdentity { node_id, not_after: not_after(&certificate) })
}

fn leaf_of<'a>(chain: Option<&'a [CertificateDer<'_>]>) -> Result<X509Certificate<'a>, PeerError> {
    let leaf = chain.and_then(<[_]>::first).ok_or(PeerError::Missing)?;
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| PeerError::Malformed)?;
    if rest.is_empty() { Ok(certificate) } else { Err(PeerError::Malformed) }
}

fn not_after(certificate: &X509Certificate<'_>) -> UnixMs {
    let seconds = certificate.validity().not_after.timestamp();
    UnixMs(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

/// webpki lets a leaf without the extension pass as a client, so presence is checked here.
fn check_usage(certificate: &X509Certificate<'_>, is_server: bool) -> Result<(), PeerError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| PeerError::Malformed)?
        .ok_or(PeerError::Usage)?
        .value;
    let others = [
        usage.any,
        usage.server_auth != is_server,
        usage.code_signing,
        usage.email_protection,
        usage.time_stamping,
        usage.ocsp_signing,
        !usage.other.is_empty(),
    ];
    let alone = !others.contains(&true);
    if usage.client_auth && alone { Ok(()) } else { Err(PeerError::Usage) }
}

fn single_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, PeerError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerError::Malformed)?
        .ok_or(PeerError::Names)?
        .value;
    match names.general_names.as_slice() {
        [GeneralName::URI(uri)] => Ok(uri),
        _ => Err(PeerError::Names),
    }
}

/// The one URI of a server; beside it stands the name behind which servers are served, and nothing else.
fn server_uri<'a>(
    certificate: &'a X509Certificate<'_>,
    cluster_id: &str,
) -> Result<&'a str, PeerError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerError::Malformed)?
        .ok_or(PeerError::Names)?
        .value;
    let expected = tls::server_name(cluster_id);
    match names.general_names.as_slice() {
        [GeneralName::URI(uri), GeneralName::DNSName(name)]
        | [GeneralName::DNSName(name), GeneralName::URI(uri)]
            if *name == expected =>
        {
            Ok(uri)
        }
        _ => Err(PeerError::Names),
    }
}

/// `spiffe://<cluster>/<role>/<id>`, with the id in its one decimal form.
fn parse_uri(uri: &str, cluster_id: &str, role: &str) -> Result<NodeId, PeerError> {
    let path = uri
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.strip_prefix(cluster_id))
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or(PeerError::TrustDomain)?;
    let id =
        path.strip_prefix(role).and_then(|rest| rest.strip_prefix('/')).ok_or(PeerError::Role)?;
    let canonical =
        id.bytes().all(|byte| byte.is_ascii_digit()) && !id.starts_with('0') && !id.is_empty();
    if !canonical {
        return Err(PeerError::Id);
    }
    let id: i64 = id.parse().map_err(|_| PeerError::Id)?;
    u64::try_from(id).map_err(|_| PeerError::Id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_has_one_form() {
        assert_eq!(parse_uri("spiffe://c1/worker/1000", "c1", "worker"), Ok(1000));
        assert_eq!(
            parse_uri("spiffe://c1/worker/9223372036854775807", "c1", "worker"),
            Ok(9_223_372_036_854_775_807)
        );
        for (uri, error) in [
            ("spiffe://c2/worker/1000", PeerError::TrustDomain),
            ("spiffe://c1x/worker/1000", PeerError::TrustDomain),
            ("spiffe://C1/worker/1000", PeerError::TrustDomain),
            ("https://c1/worker/1000", PeerError::TrustDomain),
            ("spiffe://c1", PeerError::TrustDomain),
            ("spiffe://c1/server/1000", PeerError::Role),
            ("spiffe://c1/Worker/1000", PeerError::Role),
            ("spiffe://c1/worker/", PeerError::Id),
            ("spiffe://c1/worker/0", PeerError::Id),
            ("spiffe://c1/worker/01000", PeerError::Id),
            ("spiffe://c1/worker/+1000", PeerError::Id),
            ("spiffe://c1/worker/-1", PeerError::Id),
            ("spiffe://c1/worker/1000/x", PeerError::Id),
            ("spiffe://c1/worker/1000?x", PeerError::Id),
            ("spiffe://c1/worker/9223372036854775808", PeerError::Id),
        ] {
            assert_eq!(parse_uri(uri, "c1", "worker"), Err(error), "{uri}");
        }
        assert_eq!(parse_uri("spiffe://c1/server/3", "c1", "server"), Ok(3));
        let worker = parse_uri("spiffe://c1/worker/3", "c1", "server");
        assert_eq!(worker, Err(PeerError::Role));
    }
}
