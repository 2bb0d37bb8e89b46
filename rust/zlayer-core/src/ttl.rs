//! How long a worker may stay silent, as a function of how many workers there are.
//!
//! The more workers, the longer each one's TTL, so that all of them together send about
//! `max_heartbeats_per_second`. Source: the `AdaptiveTtlConfig` contract; compare Nomad's
//! `RateScaledInterval` in `nomad/heartbeat.go`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bounds of the TTL. All durations in whole seconds.
///
/// The fields are open, so a value may exist that [`AdaptiveTtlConfig::new`] would refuse; every
/// method still answers without a panic, and a TTL is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct AdaptiveTtlConfig {
    /// Shortest TTL.
    pub min_ttl_secs: u32,
    /// Longest TTL.
    pub max_ttl_secs: u32,
    /// What a lease lasts beyond the TTL that its worker was handed.
    pub grace_secs: u32,
    /// Beats a second that the whole fleet may send; 0 sets no limit and gives the longest TTL.
    pub max_heartbeats_per_second: u32,
    /// Shortest lease that a new leader gives, whatever the TTL.
    pub failover_ttl_secs: u32,
}

/// The fields of [`AdaptiveTtlConfig`] before they are checked.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    min_ttl_secs: u32,
    max_ttl_secs: u32,
    grace_secs: u32,
    max_heartbeats_per_second: u32,
    failover_ttl_secs: u32,
}

/// Why a TTL configuration is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TtlConfigError {
    /// A TTL of 0 would expire every worker at once.
    #[error("min_ttl_secs must be at least 1, got 0")]
    MinIsZero,
    /// No TTL lies between the bounds.
    #[error("min_ttl_secs ({min}) is above max_ttl_secs ({max})")]
    MinAboveMax {
        /// `min_ttl_secs` as given.
        min: u32,
        /// `max_ttl_secs` as given.
        max: u32,
    },
}

impl AdaptiveTtlConfig {
    /// Checks and builds a configuration. All durations in seconds.
    ///
    /// # Errors
    /// [`TtlConfigError`] when the shortest TTL is 0 or above the longest.
    pub const fn new(
        min_ttl_secs: u32,
        max_ttl_secs: u32,
        grace_secs: u32,
        max_heartbeats_per_second: u32,
        failover_ttl_secs: u32,
    ) -> Result<Self, TtlConfigError> {
        if min_ttl_secs == 0 {
            return Err(TtlConfigError::MinIsZero);
        }
        if min_ttl_secs > max_ttl_secs {
            return Err(TtlConfigError::MinAboveMax { min: min_ttl_secs, max: max_ttl_secs });
        }
        Ok(Self {
            min_ttl_secs,
            max_ttl_secs,
            grace_secs,
            max_heartbeats_per_second,
            failover_ttl_secs,
        })
    }

    /// TTL for a fleet of `n_workers`, in seconds.
    ///
    /// `clamp(ceil(n_workers / max_heartbeats_per_second), min_ttl_secs, max_ttl_secs)`; a cap of 0
    /// gives `max_ttl_secs`. Never falls as `n_workers` grows.
    #[must_use]
    pub fn compute_ttl(&self, n_workers: u64) -> u32 {
        let cap = u64::from(self.max_heartbeats_per_second);
        let wanted = if cap == 0 { u64::MAX } else { n_workers.div_ceil(cap) };
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        // Not `clamp`: that panics when the open fields hold min > max.
        wanted.max(self.min_ttl_secs).min(self.max_ttl_secs).max(1)
    }

    /// [`Self::compute_ttl`] in milliseconds.
    #[must_use]
    pub fn ttl_ms(&self, n_workers: u64) -> u64 {
        u64::from(self.compute_ttl(n_workers)) * 1000
    }

    /// Grace in milliseconds.
    #[must_use]
    pub const fn grace_ms(&self) -> u64 {
        self.grace_secs as u64 * 1000
    }

    /// Lease window, in milliseconds, that a new leader gives to a worker which was last handed a
    /// TTL of `ttl_handed_out_ms`: the failover TTL, or that TTL and grace if it is longer.
    #[must_use]
    pub fn failover_window_ms(&self, ttl_handed_out_ms: u64) -> u64 {
        let failover = u64::from(self.failover_ttl_secs) * 1000;
        failover.max(ttl_handed_out_ms.saturating_add(self.grace_ms()))
    }
}

impl Default for AdaptiveTtlConfig {
    /// 10 s to 600 s, 10 s of grace, 50 beats a second, 300 s after a failover: Nomad's figures,
    /// with an upper bound of ours.
    fn default() -> Self {
        Self {
            min_ttl_secs: 10,
            max_ttl_secs: 600,
            grace_secs: 10,
            max_heartbeats_per_second: 50,
            failover_ttl_secs: 300,
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        let AdaptiveTtlConfig {
            min_ttl_secs,
            max_ttl_secs,
            grace_secs,
            max_heartbeats_per_second,
            failover_ttl_secs,
        } = AdaptiveTtlConfig::default();
        Self {
            min_ttl_secs,
            max_ttl_secs,
            grace_secs,
            max_heartbeats_per_second,
            failover_ttl_secs,
        }
    }
}

impl TryFrom<Fields> for AdaptiveTtlConfig {
    type Error = TtlConfigError;

    fn try_from(fields: Fields) -> Result<Self, TtlConfigError> {
        Self::new(
            fields.min_ttl_secs,
            fields.max_ttl_secs,
            fields.grace_secs,
            fields.max_heartbeats_per_second,
            fields.failover_ttl_secs,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failed unwrap is a failed test.

    use super::*;

    #[test]
    fn ttl_follows_the_fleet_between_its_bounds() {
        let config = AdaptiveTtlConfig::default();
        let cases = [
            (0, 10),
            (1, 10),
            (10, 10),
            (100, 10),
            (500, 10),
            (501, 11),
            (1_000, 20),
            (10_000, 200),
            (10_001, 201),
            (30_000, 600),
            (30_001, 600),
            (100_000, 600),
            (u64::MAX, 600),
        ];
        for (workers, ttl) in cases {
            assert_eq!(config.compute_ttl(workers), ttl, "{workers} workers");
            assert_eq!(config.ttl_ms(workers), u64::from(ttl) * 1000);
        }
    }

    #[test]
    fn a_cap_of_zero_gives_the_longest_ttl() {
        let config = AdaptiveTtlConfig::new(10, 600, 10, 0, 300).unwrap();
        assert_eq!(config.compute_ttl(0), 600);
        assert_eq!(config.compute_ttl(1_000_000), 600);
    }

    #[test]
    fn ttl_never_falls_as_the_fleet_grows() {
        let config = AdaptiveTtlConfig::new(3, 77, 1, 7, 9).unwrap();
        let ttls: Vec<u32> = (0..2_000).map(|n| config.compute_ttl(n)).collect();
        assert!(ttls.is_sorted());
        assert_eq!((ttls[0], ttls[1_999]), (3, 77));
    }

    #[test]
    fn bounds_that_hold_no_ttl_are_refused_by_name() {
        assert_eq!(AdaptiveTtlConfig::new(0, 600, 10, 50, 300), Err(TtlConfigError::MinIsZero));
        let error = AdaptiveTtlConfig::new(11, 10, 10, 50, 300).unwrap_err();
        assert_eq!(error, TtlConfigError::MinAboveMax { min: 11, max: 10 });
        assert_eq!(error.to_string(), "min_ttl_secs (11) is above max_ttl_secs (10)");
        assert!(AdaptiveTtlConfig::new(10, 10, 0, 0, 0).is_ok());
    }

    #[test]
    fn open_fields_out_of_bounds_never_panic() {
        let crossed =
            AdaptiveTtlConfig { min_ttl_secs: 9, max_ttl_secs: 3, ..AdaptiveTtlConfig::default() };
        assert_eq!(crossed.compute_ttl(5), 3);
        let zero =
            AdaptiveTtlConfig { min_ttl_secs: 0, max_ttl_secs: 0, ..AdaptiveTtlConfig::default() };
        assert_eq!(zero.compute_ttl(0), 1);
    }

    #[test]
    fn a_failover_window_outlasts_what_the_worker_holds() {
        let config = AdaptiveTtlConfig::default();
        assert_eq!(config.grace_ms(), 10_000);
        assert_eq!(config.failover_window_ms(20_000), 300_000);
        assert_eq!(config.failover_window_ms(290_000), 300_000);
        assert_eq!(config.failover_window_ms(600_000), 610_000);
        assert_eq!(config.failover_window_ms(u64::MAX), u64::MAX);
    }

    #[test]
    fn json_round_trips_and_is_checked() {
        let config = AdaptiveTtlConfig::new(5, 50, 2, 7, 70).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<AdaptiveTtlConfig>(&json).unwrap(), config);
        assert_eq!(
            serde_json::from_str::<AdaptiveTtlConfig>("{}").unwrap(),
            AdaptiveTtlConfig::default()
        );
        let refused = serde_json::from_str::<AdaptiveTtlConfig>(r#"{"min_ttl_secs":0}"#);
        assert!(refused.unwrap_err().to_string().contains("min_ttl_secs must be at least 1"));
        assert!(serde_json::from_str::<AdaptiveTtlConfig>(r#"{"min_ttl":1}"#).is_err());
    }
}
