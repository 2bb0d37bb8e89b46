//! A CA and the certificates that a test needs, right and wrong. Shared by the test programs of this crate.

#![allow(dead_code, reason = "no program needs all of it")]

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

pub(crate) const CLUSTER: &str = "zl-test";

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) cert: String,
    pub(crate) key: String,
}

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// What a leaf says.
pub(crate) struct Profile {
    pub(crate) names: Vec<SanType>,
    pub(crate) usages: Vec<Usage>,
    /// The year in which it ends.
    pub(crate) until: i32,
}

impl Profile {
    pub(crate) fn params(self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.subject_alt_names = self.names;
        params.extended_key_usages = self.usages;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(self.until, 1, 1);
        params
    }

    pub(crate) fn worker(node_id: u64) -> Self {
        Self {
            names: vec![uri(&format!("spiffe://{CLUSTER}/worker/{node_id}"))],
            usages: vec![Usage::ClientAuth],
            until: 2099,
        }
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::named("test CA")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let cert: Certificate = params.self_signed(&key).unwrap();
        Self { pem: cert.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn leaf(&self, profile: Profile) -> Leaf {
        self.sign(&profile.params())
    }

    /// Signs whatever it is given, with a key of its own.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn server(&self) -> Leaf {
        self.server_named(&format!("server.{CLUSTER}.zlayer.internal"), 2099)
    }

    pub(crate) fn server_named(&self, name: &str, until: i32) -> Leaf {
        let names = vec![SanType::DnsName(name.try_into().unwrap())];
        self.leaf(Profile { names, usages: vec![Usage::ServerAuth], until })
    }

    /// As the cluster issues it to a server that has others.
    pub(crate) fn member(&self, node_id: u64) -> Leaf {
        let name = format!("server.{CLUSTER}.zlayer.internal");
        let names = vec![
            uri(&format!("spiffe://{CLUSTER}/server/{node_id}")),
            SanType::DnsName(name.as_str().try_into().unwrap()),
        ];
        let usages = vec![Usage::ServerAuth, Usage::ClientAuth];
        self.leaf(Profile { names, usages, until: 2099 })
    }

    pub(crate) fn worker(&self, node_id: u64) -> Leaf {
        self.leaf(Profile::worker(node_id))
    }

    pub(crate) fn worker_until(&self, node_id: u64, until: i32) -> Leaf {
        self.leaf(Profile { until, ..Profile::worker(node_id) })
    }
}
