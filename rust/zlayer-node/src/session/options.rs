//! What a worker's session is started with. Crosses from Python as one JSON document.

use serde::Deserialize;

use crate::error::NodeError;

/// Servers that one worker may list. Chosen: more than any cluster has.
const SERVERS_MAX: usize = 64;

/// Options of a [`super::WorkerSession`].
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionOptions {
    /// Trust domain of every certificate, and part of the server name.
    pub cluster_id: String,
    /// `host:port` of each server; `https://` or `http://` before it is accepted, and TLS is used in each case.
    pub servers: Vec<String>,
    /// This worker's id, as in its certificate.
    pub node_id: u64,
    /// Worker certificate chain, leaf first.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
    /// Certificates that the servers' certificates must be signed by; two during a rotation.
    pub ca_pem: String,
    /// Random, made at process start: tells a restarted worker from a reconnected one.
    pub incarnation: u64,
    /// Version of zlayer-native on this worker.
    pub version: String,
    /// Waits and time limits.
    #[serde(default)]
    pub timing: Timing,
}

// By hand, so that the key never gets into a log.
impl std::fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionOptions")
            .field("cluster_id", &self.cluster_id)
            .field("servers", &self.servers)
            .field("node_id", &self.node_id)
            .field("key_pem", &"***")
            .finish_non_exhaustive()
    }
}

/// Waits and time limits of a session. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// A report without an answer for this long is repeated over another connection. Default 2 s.
    pub ack_timeout_ms: u64,
    /// From the first packet of a dial to the answer to its hello, at most. Less when the lease is about to end.
    /// Default 5 s.
    pub dial_timeout_ms: u64,
    /// Upper end of the wait after the first failed dial; doubles with each further one. Default 250 ms.
    pub backoff_base_ms: u64,
    /// Where the doubling ends. Default 15 s.
    pub backoff_max_ms: u64,
    /// Wait after a refusal that is final, at most; at least half of it. Default 60 s.
    pub slow_retry_ms: u64,
    /// Time after which the kernel gives up a silent server's connection. Default 12 s.
    pub tcp_user_timeout_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ack_timeout_ms: 2_000,
            dial_timeout_ms: 5_000,
            backoff_base_ms: 250,
            backoff_max_ms: 15_000,
            slow_retry_ms: 60_000,
            tcp_user_timeout_ms: 12_000,
        }
    }
}

impl Timing {
    fn check(&self) -> Result<(), NodeError> {
        let positive = [
            ("timing.ack_timeout_ms", self.ack_timeout_ms),
            ("timing.dial_timeout_ms", self.dial_timeout_ms),
            ("timing.backoff_base_ms", self.backoff_base_ms),
            ("timing.backoff_max_ms", self.backoff_max_ms),
            ("timing.slow_retry_ms", self.slow_retry_ms),
            ("timing.tcp_user_timeout_ms", self.tcp_user_timeout_ms),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(NodeError::option(field, "must be at least 1")),
            None => Ok(()),
        }
    }
}

impl SessionOptions {
    /// Checks what the types don't, and brings the servers into the form `host:port`.
    ///
    /// # Errors
    /// [`NodeError::Option`] with the first field that can't be used.
    pub fn check(&self) -> Result<Vec<String>, NodeError> {
        if self.servers.is_empty() {
            return Err(NodeError::option("servers", "lists no server"));
        }
        if self.servers.len() > SERVERS_MAX {
            return Err(NodeError::option("servers", format!("lists more than {SERVERS_MAX}")));
        }
        if self.node_id == 0 {
            return Err(NodeError::option("node_id", "must be at least 1"));
        }
        self.timing.check()?;
        self.servers.iter().map(|server| parse_server(server)).collect()
    }
}

/// `host:port` out of an address with or without a scheme.
///
/// # Errors
/// [`NodeError::Option`] that quotes the address.
pub fn parse_server(text: &str) -> Result<String, NodeError> {
    let fail = |why: &str| NodeError::option("servers", format!("{text:?} {why}"));
    let trimmed = text.trim();
    let rest = trimmed
        .strip_prefix("https://")
        .or_else(|| trimmed.strip_prefix("http://"))
        .unwrap_or(trimmed);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| fail("has no port"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let known = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host(host),
    };
    if !known {
        return Err(fail("has no host (an IPv6 address needs brackets)"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(rest.to_owned()),
        _ => Err(fail("has no port within 1..=65535")),
    }
}

/// An IPv4 address or a DNS name.
fn is_host(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    #[test]
    fn servers_are_read_with_and_without_a_scheme() {
        for (text, expected) in [
            ("10.0.0.1:3670", "10.0.0.1:3670"),
            ("https://a.example:3670", "a.example:3670"),
            ("http://a.example:3670/", "a.example:3670"),
            (" [::1]:3670", "[::1]:3670"),
        ] {
            assert_eq!(parse_server(text).unwrap(), expected);
        }
        for text in [
            "",
            "a",
            "a:",
            ":3670",
            "a:0",
            "a:65536",
            "a:-1",
            "::1:3670",
            "[x]:1",
            "ftp://a:1",
            "a/b:1",
        ] {
            let error = parse_server(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    fn document() -> serde_json::Value {
        serde_json::json!({
            "cluster_id": "c1", "servers": ["a:1"], "node_id": 1000, "certificate_pem": "",
            "key_pem": "SECRET", "ca_pem": "", "incarnation": u64::MAX, "version": "0.1.0"
        })
    }

    fn read(document: &serde_json::Value) -> SessionOptions {
        serde_json::from_value(document.clone()).unwrap()
    }

    #[test]
    fn timing_has_defaults_and_unknown_keys_are_named() {
        let options = read(&document());
        assert_eq!(options.timing, Timing::default());
        assert_eq!(options.incarnation, u64::MAX);
        let mut bad = document();
        bad["timing"] = serde_json::json!({"ack_timeout": 1});
        let error = serde_json::from_value::<SessionOptions>(bad).unwrap_err();
        assert!(error.to_string().contains("ack_timeout"));
    }

    #[test]
    fn a_key_never_reaches_a_log() {
        assert!(!format!("{:?}", read(&document())).contains("SECRET"));
    }

    #[test]
    fn ranges_are_checked() {
        assert_eq!(read(&document()).check().unwrap(), ["a:1"]);
        for (field, value) in [
            ("servers", serde_json::json!([])),
            ("servers", serde_json::json!(["a:1", "b"])),
            ("servers", serde_json::json!(vec!["a:1"; 65])),
            ("node_id", serde_json::json!(0)),
            ("timing", serde_json::json!({"ack_timeout_ms": 0})),
        ] {
            let mut bad = document();
            bad[field] = value;
            assert!(read(&bad).check().unwrap_err().to_string().starts_with(field));
        }
    }
}
