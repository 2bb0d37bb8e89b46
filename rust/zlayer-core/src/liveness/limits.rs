//! The engine's fixed numbers. Chosen, except where a derivation is given.

use serde::{Deserialize, Serialize};

/// Bounds and delays of the engine. Milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LivenessLimits {
    /// Leases held at once; a session beyond it is refused by name.
    pub leases_max: u32,
    /// Nodes that one `handle` call decides about; the rest waits for the next wake-up, which is at once.
    pub decisions_max: usize,
    /// Planned time between ticks.
    pub tick_ms: u64,
    /// A tick that comes later than planned by more than this is proof that the server slept: the whole gap is
    /// added to every deadline. Half the slack of the promise "Unreachable by the window + 1 s".
    pub late_tick_ms: u64,
    /// After such a tick nothing expires for this long, so that what waits in the sockets is read.
    pub drain_hold_ms: u64,
    /// A due lease is looked at twice, at least this far apart; a beat in between saves it.
    pub confirm_ms: u64,
    /// Loaded nodes have at least this long to come back before they are Suspect; and after a sleep of the server
    /// that was longer than the grace, every lease lasts at least so long. Twice a worker's longest wait.
    pub reconnect_window_ms: u64,
    /// Rate of first dials that the reconnect spread aims at when every worker lost its connection. A TLS
    /// handshake costs a server about 1 ms of a core, so this is half a core.
    pub reconnects_per_second: u32,
    /// See [`BrakeLimits`].
    pub brake: BrakeLimits,
}

impl Default for LivenessLimits {
    fn default() -> Self {
        Self {
            leases_max: 100_000,
            decisions_max: 1_000,
            tick_ms: 100,
            late_tick_ms: 500,
            drain_hold_ms: 300,
            confirm_ms: 250,
            reconnect_window_ms: 30_000,
            reconnects_per_second: 500,
            brake: BrakeLimits::default(),
        }
    }
}

impl LivenessLimits {
    /// How long workers that all lost their connection are asked to spread their first dials over:
    /// `n_workers / reconnects_per_second`, never more than `ttl_ms`. A rate of 0 gives `ttl_ms`.
    pub fn reconnect_spread_ms(&self, n_workers: u64, ttl_ms: u64) -> u64 {
        n_workers
            .saturating_mul(1_000)
            .checked_div(u64::from(self.reconnects_per_second))
            .map_or(ttl_ms, |spread_ms| spread_ms.min(ttl_ms))
    }
}

/// When so many silent workers are more likely to be this server's fault than theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrakeLimits {
    /// So many are always believed.
    pub leases_min: u64,
    /// Of the leases whose turn falls into the window, in percent.
    pub share_percent: u64,
    /// Window in which they are counted, milliseconds.
    pub window_ms: u64,
    /// The brake opens by itself after this, milliseconds.
    pub hold_ms: u64,
}

impl Default for BrakeLimits {
    fn default() -> Self {
        Self { leases_min: 10, share_percent: 30, window_ms: 5_000, hold_ms: 60_000 }
    }
}
