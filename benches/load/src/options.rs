//! What to run: one JSON document with a tag `kind`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::commit_options::{EtcdCommitOptions, EtcdTakeoverOptions};
use crate::error::LoadError;

/// Most connections of one run: what the loopback's ephemeral ports can hold.
const CONNECTIONS_MAX: usize = 60_000;

/// A load.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Options {
    /// Workers of a zlayer cluster: enrol, connect, beat.
    EnrollAndRun(Box<SwarmOptions>),
    /// etcd's lease keepalive, in turn.
    Etcd(PeerOptions),
    /// Our report stream against a plain grpcio server, in turn.
    Grpcio(PeerOptions),
    /// etcd's puts, so many in flight at one server.
    EtcdCommits(EtcdCommitOptions),
    /// etcd's puts, from now until another server has taken the lead.
    EtcdTakeover(EtcdTakeoverOptions),
}

/// Which phases run after all are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Each worker beats when the server says so.
    Paced,
    /// Each connection beats in turn, as fast as the server answers.
    #[serde(alias = "in-turn")]
    InTurn,
    /// Paced, then in turn.
    Both,
}

impl Phase {
    pub(crate) fn is_paced(self) -> bool {
        self != Self::InTurn
    }

    pub(crate) fn is_in_turn(self) -> bool {
        self != Self::Paced
    }
}

/// A swarm of workers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmOptions {
    /// `host:port` of the worker port, or a list of those of several servers of one cluster.
    pub server: OneOrMore,
    /// Of the cluster.
    pub cluster_id: String,
    /// Its CA.
    pub ca_pem: String,
    /// Bootstrap token that admits `workers` more nodes. This or `identities`.
    #[serde(default)]
    pub token: Option<String>,
    /// Sign the certificates here, for nodes that the cluster knows already. This or `token`.
    #[serde(default)]
    pub identities: Option<Identities>,
    /// How many.
    pub workers: usize,
    /// Length of the paced phase.
    #[serde(default = "default_seconds")]
    pub seconds: f64,
    /// The paced phase ends early once this file is there. Default none.
    #[serde(default)]
    pub until_file: Option<PathBuf>,
    /// Default both.
    #[serde(default = "default_phase")]
    pub phase: Phase,
    /// Beats without an answer in the in-turn phase, over all connections. Default 64.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
    /// Length of the in-turn phase. Default 10.
    #[serde(default = "default_seconds")]
    pub in_turn_seconds: f64,
    /// In-turn beats before the measured ones. Default 1.
    #[serde(default = "default_warm_up_seconds")]
    pub warm_up_seconds: f64,
    /// Process whose CPU time and memory are read.
    pub server_pid: u32,
    /// New connections a second; 0 (default) sets no limit.
    #[serde(default)]
    pub connect_rate: f64,
    /// Connections that are opened at once. Default 32: below a server's limit on handshakes of one source.
    #[serde(default = "default_connect_in_flight")]
    pub connect_in_flight: usize,
    /// Join connections at once. Default 4.
    #[serde(default = "default_enroll_connections")]
    pub enroll_connections: usize,
    /// Register calls at once on each of them. Default 8.
    #[serde(default = "default_enroll_in_flight")]
    pub enroll_in_flight: usize,
    /// Time for all workers to enrol, and again for all to connect. Default 120.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: f64,
    /// Workers say goodbye at the end, so that the server does not see them as lost. Default true.
    #[serde(default = "default_leave")]
    pub leave: bool,
    /// Threads of the swarm; 0 (default) takes one for each core, two at most.
    #[serde(default)]
    pub threads: usize,
}

/// Nodes that exist, and the CA key that signs for them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identities {
    /// Private key of the CA.
    pub ca_key_pem: String,
    /// One id for each worker.
    pub node_ids: Vec<u64>,
}

/// A peer under the same load.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerOptions {
    /// `host:port`; a list of which the first is used is accepted as well.
    #[serde(alias = "endpoints")]
    pub server: OneOrMore,
    /// Name in the server's certificate. Default: the host.
    #[serde(default)]
    pub server_name: Option<String>,
    /// CA of the server.
    pub ca_pem: String,
    /// Client certificate.
    pub cert_pem: String,
    /// Its key.
    pub key_pem: String,
    /// How many.
    #[serde(alias = "workers")]
    pub connections: usize,
    /// Beats without an answer, over all connections. Default 64.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
    /// Length of the measured part. Default 10.
    #[serde(default = "default_seconds")]
    pub seconds: f64,
    /// Beats before it. Default 1.
    #[serde(default = "default_warm_up_seconds")]
    pub warm_up_seconds: f64,
    /// Process whose CPU time and memory are read.
    pub server_pid: u32,
    /// Connections that are opened at once. Default 32.
    #[serde(default = "default_connect_in_flight")]
    pub connect_in_flight: usize,
    /// Time for all to connect. Default 120.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: f64,
    /// Threads of the driver; 0 (default) takes one for each core, two at most.
    #[serde(default)]
    pub threads: usize,
}

/// A text or a list of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

impl OneOrMore {
    pub(crate) fn first(&self) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::More(texts) => texts.first().map(String::as_str),
        }
    }

    pub(crate) fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

// By hand, so that neither token nor key gets into a log.
impl std::fmt::Debug for SwarmOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwarmOptions")
            .field("server", &self.server)
            .field("workers", &self.workers)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerOptions")
            .field("server", &self.server)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

fn default_phase() -> Phase {
    Phase::Both
}

pub(crate) fn default_seconds() -> f64 {
    10.0
}

pub(crate) fn default_in_flight() -> usize {
    64
}

pub(crate) fn default_warm_up_seconds() -> f64 {
    1.0
}

fn default_connect_in_flight() -> usize {
    32
}

fn default_enroll_connections() -> usize {
    4
}

fn default_enroll_in_flight() -> usize {
    8
}

fn default_timeout_seconds() -> f64 {
    120.0
}

fn default_leave() -> bool {
    true
}

impl Options {
    /// Reads and checks the document.
    ///
    /// # Errors
    /// [`LoadError::Options`] that names the field.
    pub fn from_json(json: &[u8]) -> Result<Self, LoadError> {
        let options: Self =
            serde_json::from_slice(json).map_err(|error| LoadError::Options(error.to_string()))?;
        match &options {
            Self::EnrollAndRun(swarm) => swarm.check()?,
            Self::Etcd(peer) | Self::Grpcio(peer) => peer.check()?,
            Self::EtcdCommits(commits) => commits.check()?,
            Self::EtcdTakeover(takeover) => takeover.check()?,
        }
        Ok(options)
    }
}

impl SwarmOptions {
    fn check(&self) -> Result<(), LoadError> {
        count("workers", self.workers)?;
        count("in_flight", self.in_flight)?;
        count("connect_in_flight", self.connect_in_flight)?;
        count("enroll_connections", self.enroll_connections)?;
        count("enroll_in_flight", self.enroll_in_flight)?;
        seconds("seconds", self.seconds)?;
        seconds("in_turn_seconds", self.in_turn_seconds)?;
        seconds("warm_up_seconds", self.warm_up_seconds)?;
        seconds("timeout_seconds", self.timeout_seconds)?;
        if self.server.first().is_none() {
            return Err(LoadError::Options("server: is an empty list".into()));
        }
        if !self.connect_rate.is_finite() || self.connect_rate < 0.0 {
            return Err(LoadError::Options("connect_rate: is not within 0..".into()));
        }
        match (&self.token, &self.identities) {
            (Some(_), None) => Ok(()),
            (None, Some(identities)) if identities.node_ids.len() == self.workers => Ok(()),
            (None, Some(_)) => {
                Err(LoadError::Options("identities.node_ids: needs one id for each worker".into()))
            }
            _ => Err(LoadError::Options("token, identities: exactly one of them is needed".into())),
        }
    }
}

impl PeerOptions {
    fn check(&self) -> Result<(), LoadError> {
        count("connections", self.connections)?;
        count("in_flight", self.in_flight)?;
        count("connect_in_flight", self.connect_in_flight)?;
        seconds("seconds", self.seconds)?;
        seconds("warm_up_seconds", self.warm_up_seconds)?;
        seconds("timeout_seconds", self.timeout_seconds)?;
        match self.server.first() {
            Some(_) => Ok(()),
            None => Err(LoadError::Options("server: is an empty list".into())),
        }
    }
}

pub(crate) fn count(field: &str, value: usize) -> Result<(), LoadError> {
    if (1..=CONNECTIONS_MAX).contains(&value) {
        return Ok(());
    }
    Err(LoadError::Options(format!("{field}: {value} is not within 1..={CONNECTIONS_MAX}")))
}

pub(crate) fn seconds(field: &str, value: f64) -> Result<(), LoadError> {
    if (0.0..=86_400.0).contains(&value) {
        return Ok(());
    }
    Err(LoadError::Options(format!("{field}: {value} is not within 0..=86400")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    fn swarm() -> serde_json::Value {
        serde_json::json!({
            "kind": "enroll_and_run", "server": "127.0.0.1:1", "cluster_id": "c1", "ca_pem": "",
            "token": "SECRET", "workers": 10, "server_pid": 1
        })
    }

    fn read(document: &serde_json::Value) -> Result<Options, LoadError> {
        Options::from_json(document.to_string().as_bytes())
    }

    #[test]
    fn a_swarm_has_defaults_and_keeps_its_token_to_itself() {
        let Options::EnrollAndRun(options) = read(&swarm()).unwrap() else {
            panic!("another kind");
        };
        assert_eq!((options.in_flight, options.connect_in_flight), (64, 32));
        assert_eq!(options.phase, Phase::Both);
        assert!(options.leave);
        assert!(!format!("{options:?}").contains("SECRET"));
    }

    #[test]
    fn phases_have_two_spellings() {
        for (text, phase) in [
            ("paced", Phase::Paced),
            ("in_turn", Phase::InTurn),
            ("in-turn", Phase::InTurn),
            ("both", Phase::Both),
        ] {
            assert_eq!(serde_json::from_value::<Phase>(text.into()).unwrap(), phase);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (field, value) in [
            ("workers", serde_json::json!(0)),
            ("in_flight", serde_json::json!(0)),
            ("seconds", serde_json::json!(-1)),
            ("connect_rate", serde_json::json!(-1)),
            ("phase", serde_json::json!("never")),
            ("worker", serde_json::json!(1)),
            ("server", serde_json::json!([])),
            ("token", serde_json::json!(null)),
            ("identities", serde_json::json!({"ca_key_pem": "", "node_ids": [1]})),
        ] {
            let mut bad = swarm();
            bad[field] = value;
            let error = read(&bad).unwrap_err().to_string();
            let named = if field == "phase" { "never" } else { field };
            assert!(error.contains(named), "{field}: {error}");
        }
        assert!(read(&serde_json::json!({"kind": "other"})).is_err());
    }

    #[test]
    fn a_peer_takes_a_server_or_a_list() {
        let mut peer = serde_json::json!({
            "kind": "etcd", "server": "a:1", "ca_pem": "", "cert_pem": "", "key_pem": "",
            "connections": 1, "server_pid": 1
        });
        let first = |document: &serde_json::Value| match read(document) {
            Ok(Options::Etcd(options)) => options.server.first().map(str::to_owned),
            _ => None,
        };
        assert_eq!(first(&peer).as_deref(), Some("a:1"));
        peer["server"] = serde_json::json!(["b:1", "c:1"]);
        assert_eq!(first(&peer).as_deref(), Some("b:1"));
        peer["server"] = serde_json::json!([]);
        assert!(read(&peer).unwrap_err().to_string().contains("server"));
    }
}
