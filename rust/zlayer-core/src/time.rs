//! The two kinds of time. They never mix: a deadline is monotonic, a stamp is for people.

use serde::{Deserialize, Serialize};

/// Milliseconds on one process's monotonic clock, from an arbitrary origin. Decides.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct MonoMs(pub u64);

impl MonoMs {
    /// This time plus `ms`, saturating.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since the Unix epoch, by the leader's wall clock, never going back within one log. For people
/// and for token and certificate validity; no lease is decided by it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);
