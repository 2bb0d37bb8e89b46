//! What a server is started with. Crosses from Python as one JSON document.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zlayer_core::ttl::AdaptiveTtlConfig;

use crate::error::NodeError;

/// Options of a [`crate::ServerNode`].
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerOptions {
    /// Trust domain of every certificate, and part of both server names. A DNS label of `[a-z0-9-]`.
    pub cluster_id: String,
    /// This server's id, 1..=999.
    pub node_id: u64,
    /// `host:port` of the worker port; port 0 takes a free one.
    pub listen: String,
    /// Unix socket of the Enrollment service.
    pub join_socket: PathBuf,
    /// Directory of the control log.
    pub control_dir: PathBuf,
    /// Server certificate chain, leaf first.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
    /// Certificates that worker certificates must be signed by; two during a rotation.
    pub ca_pem: String,
    /// How long workers may stay silent.
    pub ttl: AdaptiveTtlConfig,
    /// Limits of the port.
    #[serde(default)]
    pub limits: ServerLimits,
    /// The other servers. Without it this one is alone, and agrees with itself.
    #[serde(default)]
    pub raft: Option<RaftOptions>,
}

/// How several servers find each other and agree.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaftOptions {
    /// `host:port` of the port for the other servers; port 0 takes a free one.
    pub listen: String,
    /// `host:port` where the others reach it. Default: where it listens.
    #[serde(default)]
    pub advertise: String,
    /// `host:port` of this server's HTTP API, for whoever is sent on to it.
    #[serde(default)]
    pub api_addr: String,
    /// All servers that form the cluster, this one among them, alike on each: the one with the lowest id forms it
    /// once all are up. Empty: it waits until it is added, or formed by a call. Of no effect once there are members.
    #[serde(default)]
    pub members: Vec<MemberOptions>,
    /// Between heartbeats, milliseconds; 0 takes the engine's default. An election takes place after 6.5 to 8 times
    /// as long without one.
    #[serde(default)]
    pub heartbeat_ms: u64,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberOptions {
    /// Its id, 1..=999.
    pub id: u64,
    /// `host:port` for the other servers.
    pub raft_addr: String,
    /// `host:port` of its HTTP API.
    #[serde(default)]
    pub api_addr: String,
}

impl RaftOptions {
    fn check(&self, node_id: u64) -> Result<(), NodeError> {
        let mut ids: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        if ids.iter().any(|id| !(1..1000).contains(id)) {
            return Err(NodeError::option("raft.members", "an id is not within 1..=999"));
        }
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(NodeError::option("raft.members", "an id occurs twice"));
        }
        if !ids.is_empty() && !ids.contains(&node_id) {
            return Err(NodeError::option("raft.members", "this server is not among them"));
        }
        Ok(())
    }

    /// Whether this server forms the cluster.
    pub(crate) fn forms(&self, node_id: u64) -> bool {
        self.members.iter().map(|member| member.id).min() == Some(node_id)
    }
}

// By hand, so that the key never gets into a log.
impl std::fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions")
            .field("cluster_id", &self.cluster_id)
            .field("node_id", &self.node_id)
            .field("listen", &self.listen)
            .field("control_dir", &self.control_dir)
            .field("key_pem", &"***")
            .finish_non_exhaustive()
    }
}

/// Limits of the worker port. Every default is chosen from the threat list unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerLimits {
    /// Threads that serve connections. Default 2.
    pub threads: usize,
    /// Connections that have not finished TLS yet, both names together. Default 64.
    pub handshakes_max: usize,
    /// The same for one source address, so that one can't starve the others. Default 48.
    pub handshakes_per_source_max: usize,
    /// From accept to the end of the handshake, milliseconds. Default 5 s.
    pub handshake_timeout_ms: u64,
    /// Bytes of a `ClientHello` with its record headers. Default 16 KiB.
    pub hello_bytes_max: usize,
    /// From the handshake to the first request, milliseconds. Default 5 s.
    pub first_request_timeout_ms: u64,
    /// Worker connections in all. Default 20,000: 10,000 workers that all reconnect at once.
    pub connections_max: usize,
    /// Worker connections of one source address. Default 16,000: a fleet behind one NAT.
    pub connections_per_source_max: usize,
    /// Connections of one node; one more closes the oldest. Default 4.
    pub connections_per_node_max: usize,
    /// Age at which a connection is asked to go, milliseconds, ± 10 %. Default 1 h.
    pub connection_age_ms: u64,
    /// Concurrent requests on a connection. Default 16.
    pub streams_max: u32,
    /// Bytes of one message. Default 256 KiB.
    pub message_bytes_max: usize,
    /// Bytes of a request's headers. Default 16 KiB.
    pub header_list_bytes_max: u32,
    /// Reports a second of one node, with a burst of four seconds' worth; 0 sets no limit. Default 10.
    pub beats_per_second_per_worker: u32,
    /// Bytes a second of one connection, with a burst of sixteen seconds' worth; 0 sets no limit. Default 64 KiB.
    pub bytes_per_second_per_worker: u32,
    /// Time after which a silent host's connection is given up, milliseconds. Default 12 s.
    pub tcp_user_timeout_ms: u64,
    /// Join connections at once. Default 64.
    pub splices_max: usize,
    /// The same for one source address. Default 32.
    pub splices_per_source_max: usize,
    /// New join connections a second from one source address. Default 50.
    pub splices_per_second_per_source: u32,
    /// New join connections a second in all. Default 500.
    pub splices_per_second: u32,
    /// Bytes of a join connection in each direction. Default 64 KiB.
    pub splice_bytes_max: u64,
    /// Silence after which a join connection is closed, milliseconds. Default 10 s.
    pub splice_idle_ms: u64,
    /// Life of a join connection, milliseconds. Default 30 s.
    pub splice_total_ms: u64,
    /// Commands that wait for their answer. Default 4096.
    pub commands_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            threads: 2,
            handshakes_max: 64,
            handshakes_per_source_max: 48,
            handshake_timeout_ms: 5_000,
            hello_bytes_max: 16 * 1024,
            first_request_timeout_ms: 5_000,
            connections_max: 20_000,
            connections_per_source_max: 16_000,
            connections_per_node_max: 4,
            connection_age_ms: 3_600_000,
            streams_max: 16,
            message_bytes_max: 256 * 1024,
            header_list_bytes_max: 16 * 1024,
            beats_per_second_per_worker: 10,
            bytes_per_second_per_worker: 64 * 1024,
            tcp_user_timeout_ms: 12_000,
            splices_max: 64,
            splices_per_source_max: 32,
            splices_per_second_per_source: 50,
            splices_per_second: 500,
            splice_bytes_max: 64 * 1024,
            splice_idle_ms: 10_000,
            splice_total_ms: 30_000,
            commands_max: 4_096,
        }
    }
}

impl ServerLimits {
    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    pub(crate) fn first_request_timeout(&self) -> Duration {
        Duration::from_millis(self.first_request_timeout_ms)
    }
}

impl ServerOptions {
    /// Reads the JSON document.
    ///
    /// # Errors
    /// [`NodeError::Option`] that names the field, or the place in the document.
    pub fn from_json(json: &[u8]) -> Result<Self, NodeError> {
        let options: Self = serde_json::from_slice(json)
            .map_err(|error| NodeError::option("options", error.to_string()))?;
        options.check()?;
        Ok(options)
    }

    /// Checks every range that the types don't.
    ///
    /// # Errors
    /// [`NodeError::Option`] with the first field that is out of its range.
    pub fn check(&self) -> Result<(), NodeError> {
        if !is_dns_label(&self.cluster_id) {
            return Err(NodeError::option("cluster_id", "is no DNS label of a-z, 0-9 and -"));
        }
        if !(1..1000).contains(&self.node_id) {
            return Err(NodeError::option("node_id", "is not within 1..=999"));
        }
        if let Some(raft) = &self.raft {
            raft.check(self.node_id)?;
        }
        let limits = &self.limits;
        let positive = [
            ("limits.threads", limits.threads as u64),
            ("limits.handshakes_max", limits.handshakes_max as u64),
            ("limits.handshakes_per_source_max", limits.handshakes_per_source_max as u64),
            ("limits.handshake_timeout_ms", limits.handshake_timeout_ms),
            ("limits.hello_bytes_max", limits.hello_bytes_max as u64),
            ("limits.first_request_timeout_ms", limits.first_request_timeout_ms),
            ("limits.connections_max", limits.connections_max as u64),
            ("limits.connections_per_source_max", limits.connections_per_source_max as u64),
            ("limits.connections_per_node_max", limits.connections_per_node_max as u64),
            ("limits.connection_age_ms", limits.connection_age_ms),
            ("limits.streams_max", u64::from(limits.streams_max)),
            ("limits.message_bytes_max", limits.message_bytes_max as u64),
            ("limits.header_list_bytes_max", u64::from(limits.header_list_bytes_max)),
            ("limits.tcp_user_timeout_ms", limits.tcp_user_timeout_ms),
            ("limits.splices_max", limits.splices_max as u64),
            ("limits.splices_per_source_max", limits.splices_per_source_max as u64),
            ("limits.splice_bytes_max", limits.splice_bytes_max),
            ("limits.commands_max", limits.commands_max as u64),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(NodeError::option(field, "must be at least 1")),
            None => Ok(()),
        }
    }
}

/// 1..=63 of `[a-z0-9-]`, no `-` at either end.
fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    fn document() -> serde_json::Value {
        serde_json::json!({
            "cluster_id": "zl-abc", "node_id": 1, "listen": "127.0.0.1:0", "join_socket": "/run/j",
            "control_dir": "/run/c", "certificate_pem": "", "key_pem": "SECRET", "ca_pem": "",
            "ttl": {"min_ttl_secs": 10, "max_ttl_secs": 600, "grace_secs": 10,
                    "max_heartbeats_per_second": 50, "failover_ttl_secs": 300}
        })
    }

    fn read(document: &serde_json::Value) -> Result<ServerOptions, NodeError> {
        ServerOptions::from_json(document.to_string().as_bytes())
    }

    #[test]
    fn limits_have_defaults_and_unknown_keys_are_named() {
        let options = read(&document()).unwrap();
        assert_eq!(options.limits, ServerLimits::default());
        let mut partial = document();
        partial["limits"] = serde_json::json!({"streams_max": 4});
        assert_eq!(read(&partial).unwrap().limits.streams_max, 4);
        partial["limits"] = serde_json::json!({"stream_max": 4});
        assert!(read(&partial).unwrap_err().to_string().contains("stream_max"));
    }

    #[test]
    fn a_key_never_reaches_a_log() {
        assert!(!format!("{:?}", read(&document()).unwrap()).contains("SECRET"));
    }

    #[test]
    fn ranges_are_checked() {
        for (field, value) in [
            ("cluster_id", serde_json::json!("Zl.Abc")),
            ("cluster_id", serde_json::json!("")),
            ("node_id", serde_json::json!(0)),
            ("node_id", serde_json::json!(1000)),
        ] {
            let mut bad = document();
            bad[field] = value;
            assert!(read(&bad).unwrap_err().to_string().starts_with(field));
        }
        for members in [
            serde_json::json!([{"id": 2, "raft_addr": "b:1"}]),
            serde_json::json!([{"id": 1, "raft_addr": "a:1"}, {"id": 1, "raft_addr": "b:1"}]),
            serde_json::json!([{"id": 1, "raft_addr": "a:1"}, {"id": 1000, "raft_addr": "b:1"}]),
        ] {
            let mut bad = document();
            bad["raft"] = serde_json::json!({"listen": "127.0.0.1:0", "members": members});
            assert!(read(&bad).unwrap_err().to_string().starts_with("raft.members"));
        }
        let mut bad = document();
        bad["limits"] = serde_json::json!({"handshakes_max": 0});
        assert!(read(&bad).unwrap_err().to_string().starts_with("limits.handshakes_max"));
    }
}
