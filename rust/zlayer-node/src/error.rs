//! What can go wrong when a server or a session is made or asked. One enum for the crate.

use std::io;

/// Why a server or a worker session can't be started, or refused a call.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An option is out of its range.
    #[error("{field}: {why}")]
    Option {
        /// Which.
        field: &'static str,
        /// What was wrong with it.
        why: String,
    },
    /// The certificate, its key or the CA can't be used.
    #[error("identity: {0}")]
    Identity(String),
    /// The operating system refused.
    #[error("can't {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        source: io::Error,
    },
    /// The control log can't be opened.
    #[error("{0}")]
    Log(String),
    /// The node has been shut down.
    #[error("the node has stopped")]
    Stopped,
}

impl NodeError {
    /// An I/O error with what was tried.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// An option that is out of its range.
    pub(crate) fn option(field: &'static str, why: impl Into<String>) -> Self {
        Self::Option { field, why: why.into() }
    }
}
