//! A server of the cluster, as the others know it.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// Where a server is, and which disk it has. Stands in the membership.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// `host:port` for the other servers.
    pub raft_addr: String,
    /// `host:port` of its HTTP API, for whoever is sent on to it.
    pub api_addr: String,
    /// Number of its log directory, made at random with it: a server that lost its disk has another one. 0 is
    /// not known.
    pub store: u64,
}

impl Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raft_addr)
    }
}
