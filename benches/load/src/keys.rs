//! Keys of workers, and certificates for nodes that the cluster knows already.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::LoadError;

fn fail(error: &rcgen::Error) -> LoadError {
    LoadError::Keys(error.to_string())
}

/// A fresh P-256 key.
pub(crate) fn key() -> Result<KeyPair, LoadError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| fail(&error))
}

/// The form that TLS takes.
pub(crate) fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// A request for a certificate that says nothing but its key.
pub(crate) fn request_der(key: &KeyPair) -> Result<Vec<u8>, LoadError> {
    let request = bare_params().serialize_request(key).map_err(|error| fail(&error))?;
    Ok(request.der().to_vec())
}

fn bare_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

/// The CA, as far as it is needed to sign.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    cluster_id: String,
}

impl Signer {
    pub(crate) fn new(cluster_id: &str, ca_pem: &str, ca_key_pem: &str) -> Result<Self, LoadError> {
        let key = KeyPair::from_pem(ca_key_pem).map_err(|error| fail(&error))?;
        let issuer = Issuer::from_ca_cert_pem(ca_pem, key).map_err(|error| fail(&error))?;
        Ok(Self { issuer, cluster_id: cluster_id.to_owned() })
    }

    /// A worker certificate with the cluster's own profile.
    pub(crate) fn sign_worker(
        &self,
        node_id: u64,
        key: &KeyPair,
    ) -> Result<CertificateDer<'static>, LoadError> {
        let mut params = bare_params();
        params.distinguished_name.push(DnType::CommonName, format!("worker-{node_id}"));
        let uri = format!("spiffe://{}/worker/{node_id}", self.cluster_id);
        let uri = uri.try_into().map_err(|error| fail(&error))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // Wide enough to need no clock; the cluster's own are short.
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2099, 1, 1);
        let signed = params.signed_by(key, &self.issuer).map_err(|error| fail(&error))?;
        Ok(signed.der().clone())
    }
}
