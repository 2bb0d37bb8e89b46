//! What to commit, and how: one JSON document with a tag `kind` for each load.

use std::time::Duration;

use serde::Deserialize;

use crate::error::LoadError;
use crate::options::{count, default_in_flight, default_seconds, default_warm_up_seconds, seconds};
use crate::turn::TurnPlan;

/// A value that every store in the comparison takes.
const VALUE_BYTES_MAX: usize = 4_096;

/// A load on the control log of a server in this process.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CommitLoad {
    /// So many commits in flight, for a time; on the leader.
    InFlight(InFlightOptions),
    /// Commits at a pace, from now until this server leads and the first of them is acknowledged.
    Takeover(PaceOptions),
    /// Commits at a pace, for as long as this server leads.
    Hold(PaceOptions),
}

/// Commits in flight.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlightOptions {
    /// Commits that wait for their answer. Default 64.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
    /// Bytes of each value. Default 100.
    #[serde(default = "default_value_bytes")]
    pub value_bytes: usize,
    /// Length of the measured part. Default 10.
    #[serde(default = "default_seconds")]
    pub seconds: f64,
    /// Commits before it. Default 1.
    #[serde(default = "default_warm_up_seconds")]
    pub warm_up_seconds: f64,
    /// Processes whose CPU time is read: all servers.
    pub server_pids: Vec<u32>,
    /// Threads of the load; 0 (default) takes one for each core, two at most.
    #[serde(default)]
    pub threads: usize,
}

/// Commits at a pace, whatever became of those before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaceOptions {
    /// Time from one to the next, milliseconds. Default 5.
    #[serde(default = "default_every_ms")]
    pub every_ms: f64,
    /// Bytes of each value. Default 100.
    #[serde(default = "default_value_bytes")]
    pub value_bytes: usize,
    /// After that the load ends with an error (a takeover) or by itself. Default 3600.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: f64,
}

/// Puts in flight at one etcd, over plain HTTP/2.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdCommitOptions {
    /// `host:port` of the leader's client port.
    pub server: String,
    /// Connections that the puts are spread over. Default 4.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// As of our own load.
    pub load: InFlightOptions,
}

/// Puts at a pace at several etcds, until one of them acknowledges one in a newer term.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdTakeoverOptions {
    /// `host:port` of the client ports.
    pub servers: Vec<String>,
    /// Of the leader that is to go.
    pub after_term: u64,
    /// As of our own load; at each server.
    pub pace: PaceOptions,
}

fn default_value_bytes() -> usize {
    100
}

fn default_every_ms() -> f64 {
    5.0
}

fn default_timeout_seconds() -> f64 {
    3_600.0
}

fn default_connections() -> usize {
    4
}

impl CommitLoad {
    /// Reads and checks the document.
    ///
    /// # Errors
    /// [`LoadError::Options`] that names the field.
    pub fn from_json(json: &[u8]) -> Result<Self, LoadError> {
        let load: Self =
            serde_json::from_slice(json).map_err(|error| LoadError::Options(error.to_string()))?;
        match &load {
            Self::InFlight(options) => options.check()?,
            Self::Takeover(options) | Self::Hold(options) => options.check()?,
        }
        Ok(load)
    }
}

impl InFlightOptions {
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        count("in_flight", self.in_flight)?;
        value_bytes(self.value_bytes)?;
        seconds("seconds", self.seconds)?;
        seconds("warm_up_seconds", self.warm_up_seconds)?;
        if self.server_pids.is_empty() {
            return Err(LoadError::Options("server_pids: is an empty list".into()));
        }
        Ok(())
    }

    pub(crate) fn plan(&self) -> TurnPlan {
        TurnPlan {
            in_flight: self.in_flight,
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            measured: Duration::from_secs_f64(self.seconds),
        }
    }
}

impl PaceOptions {
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        value_bytes(self.value_bytes)?;
        seconds("timeout_seconds", self.timeout_seconds)?;
        if !(0.1..=60_000.0).contains(&self.every_ms) {
            let every_ms = self.every_ms;
            return Err(LoadError::Options(format!(
                "every_ms: {every_ms} is not within 0.1..=60000"
            )));
        }
        Ok(())
    }

    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs_f64(self.every_ms / 1_000.0)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_seconds)
    }
}

impl EtcdCommitOptions {
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        count("connections", self.connections)?;
        self.load.check()
    }
}

impl EtcdTakeoverOptions {
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        if self.servers.is_empty() {
            return Err(LoadError::Options("servers: is an empty list".into()));
        }
        self.pace.check()
    }
}

fn value_bytes(value: usize) -> Result<(), LoadError> {
    if (1..=VALUE_BYTES_MAX).contains(&value) {
        return Ok(());
    }
    Err(LoadError::Options(format!("value_bytes: {value} is not within 1..={VALUE_BYTES_MAX}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use serde_json::{Value, json};

    use super::*;

    fn read(document: &Value) -> Result<CommitLoad, LoadError> {
        CommitLoad::from_json(document.to_string().as_bytes())
    }

    #[test]
    fn a_load_has_defaults() {
        let Ok(CommitLoad::InFlight(options)) =
            read(&json!({"kind": "in_flight", "server_pids": [1]}))
        else {
            panic!("another kind");
        };
        assert_eq!((options.in_flight, options.value_bytes), (64, 100));
        let Ok(CommitLoad::Takeover(options)) = read(&json!({"kind": "takeover"})) else {
            panic!("another kind");
        };
        assert_eq!(options.every(), Duration::from_millis(5));
    }

    #[test]
    fn mistakes_are_named() {
        for (field, value) in [
            ("in_flight", json!(0)),
            ("value_bytes", json!(0)),
            ("value_bytes", json!(VALUE_BYTES_MAX + 1)),
            ("seconds", json!(-1)),
            ("server_pids", json!([])),
            ("pids", json!([1])),
        ] {
            let mut bad = json!({"kind": "in_flight", "server_pids": [1]});
            bad[field] = value;
            assert!(read(&bad).unwrap_err().to_string().contains(field), "{field}");
        }
        let bad = json!({"kind": "hold", "every_ms": 0});
        assert!(read(&bad).unwrap_err().to_string().contains("every_ms"));
    }
}
