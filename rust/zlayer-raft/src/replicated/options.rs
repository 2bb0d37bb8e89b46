//! How to open a replicated log.

use std::path::PathBuf;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::error::OpenError;

/// How to open a [`crate::Replicated`].
#[derive(Debug, Clone)]
pub struct ReplicatedOptions {
    /// Its directory; made if need be, mode 0700. One process at a time. That of a [`crate::SingleVoter`] is taken
    /// over: it becomes a cluster of one, with all its state.
    pub dir: PathBuf,
    /// Whose log it is; a directory of another cluster is refused.
    pub cluster_id: String,
    /// Whose; a directory of another node is refused.
    pub node_id: u64,
    /// `host:port` where the other servers reach this one.
    pub raft_addr: String,
    /// `host:port` of its HTTP API.
    pub api_addr: String,
    /// Bytes of entries after which a snapshot is made.
    pub snapshot_bytes: u64,
    /// Times.
    pub timers: Timers,
    /// Sizes.
    pub limits: ReplicatedLimits,
}

/// Times. The defaults are what was measured to fail over within a second: docs/decisions/0010.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// A follower waits for `election_max` without a sign of the leader, and then for a random time between the two
    /// bounds before it asks to be elected.
    pub election_min: Duration,
    /// See `election_min`. Also how long a leader goes on without a quorum before it takes no more proposals.
    pub election_max: Duration,
    /// After that a proposal's answer is [`crate::ProposeError::Unknown`].
    pub propose: Duration,
    /// For one piece of a snapshot, and for installing it.
    pub snapshot: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(350),
            propose: Duration::from_secs(10),
            snapshot: Duration::from_secs(60),
        }
    }
}

/// Sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicatedLimits {
    /// Proposals that may wait for their answer.
    pub proposals_max: u64,
    /// Their bytes.
    pub proposal_bytes_max: u64,
    /// Bytes of one entry.
    pub entry_bytes_max: usize,
    /// Bytes of entries in one message to a peer; one entry may be longer.
    pub message_bytes: usize,
    /// Bytes of a snapshot in one message.
    pub piece_bytes: usize,
    /// Bytes of a snapshot that is taken from a peer.
    pub snapshot_bytes_max: u64,
    /// Threads of the engine's runtime.
    pub threads: usize,
}

impl Default for ReplicatedLimits {
    /// Chosen: a control log of some KiB a second with storms of thousands of commands; messages well below what
    /// gRPC takes by default.
    fn default() -> Self {
        Self {
            proposals_max: 8_192,
            proposal_bytes_max: 32 << 20,
            entry_bytes_max: (1 << 20) - (64 << 10),
            message_bytes: 1 << 20,
            piece_bytes: 512 << 10,
            snapshot_bytes_max: 1 << 30,
            threads: 2,
        }
    }
}

/// Longest time without an answer that a stream of entries is kept, in election timeouts. Chosen: a disk may
/// stall for a second without the entries being sent anew.
const APPEND_PATIENCE: u32 = 4;

impl Timers {
    pub(crate) fn append_timeout(&self) -> Duration {
        self.election_max * APPEND_PATIENCE
    }

    /// openraft's settings.
    pub(crate) fn config(&self, cluster_id: &str) -> Result<Config, OpenError> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let election_max = ms(self.election_max);
        let config = Config {
            cluster_name: cluster_id.to_owned(),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election_min),
            election_timeout_max: election_max,
            install_snapshot_timeout: ms(self.snapshot),
            // Bytes limit a message, not entries.
            max_payload_entries: 4_096,
            max_append_entries: Some(4_096),
            // Snapshots and purges are ours: by bytes, and only once the snapshot before stands, too.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: u64::MAX,
            removed_leader_step_down: StepDownPolicy::After(ms(self.heartbeat)),
            // A leader that nobody answers falls silent, so that those who hear it can elect another.
            quorum_loss_probe_interval: Some(2 * election_max),
            enable_pre_vote: Some(true),
            // Its clock of leases is lost, and so is what it led.
            enable_leader_restore: Some(false),
            allow_log_reversion: Some(false),
            api_batch_linger_ms: 0,
            broadcast_submitted_on_append: Some(true),
            backoff: "20ms 50ms 100ms ..500ms".into(),
            ..Config::default()
        };
        config.validate().map_err(|error| OpenError::Engine { why: error.to_string() })
    }
}
