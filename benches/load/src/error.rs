//! Why a load could not be run. A run with a failed part gives no figures: they would mean something else.

use zlayer_node::NodeError;

/// One line for each cause.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option is missing, unknown or out of its range.
    #[error("load options: {0}")]
    Options(String),
    /// A limit of this machine is too low for the asked load.
    #[error("{what}: this machine allows {allowed}, the load needs {needed}; {mend}")]
    Host {
        /// Which limit.
        what: &'static str,
        /// What it is.
        allowed: u64,
        /// What it should be.
        needed: u64,
        /// What to do.
        mend: &'static str,
    },
    /// A certificate, a key or an address can't be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A key or a certificate can't be made.
    #[error("make keys: {0}")]
    Keys(String),
    /// The server's process can't be read.
    #[error("server process {pid}: {why}")]
    Process {
        /// Which.
        pid: u32,
        /// What is wrong.
        why: String,
    },
    /// A worker could not enrol.
    #[error("enrol worker {worker} of {workers}: {why}")]
    Enroll {
        /// Counted from 1.
        worker: usize,
        /// Of how many.
        workers: usize,
        /// What the server or the connection said.
        why: String,
    },
    /// Not every connection could be opened.
    #[error("{connected} of {wanted} connections opened; the last error: {why}")]
    Connect {
        /// How many stand.
        connected: usize,
        /// How many were asked for.
        wanted: usize,
        /// Of one that does not.
        why: String,
    },
    /// A connection failed while it was driven in turn.
    #[error("a connection failed in turn: {0}")]
    Turn(String),
    /// Threads can't be started.
    #[error("start threads: {0}")]
    Threads(std::io::Error),
}
