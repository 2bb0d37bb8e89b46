//! The one place of this crate that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zlayer_core::time::{MonoMs, UnixMs};

/// A monotonic clock that starts at 0 when it is made. Copies agree with each other.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that reads 0 now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since the clock was made. Decides.
    pub fn now(&self) -> MonoMs {
        MonoMs(self.origin.elapsed().as_millis() as u64)
    }

    /// The instant at which this clock reads `at`, for timers.
    pub fn instant(&self, at: MonoMs) -> Instant {
        self.origin + Duration::from_millis(at.0)
    }

    /// Wall clock. For people, and for the validity of certificates.
    pub fn unix() -> UnixMs {
        // A clock before 1970 reads as 0: every certificate is then "not yet valid", which is the safe side.
        UnixMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
    }
}
