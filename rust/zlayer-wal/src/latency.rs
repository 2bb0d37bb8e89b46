//! How long things took: a histogram that any thread may add to and read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps within a power of two: a quantile is at most an eighth too high.
const STEPS: usize = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Enough for any u64 of microseconds.
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS;

/// Times, in microseconds, since it was made. Any thread may add; nothing is locked.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], count: AtomicU64::new(0) }
    }
}

/// Small values have a bucket each; above, each power of two has [`STEPS`].
fn bucket(us: u64) -> usize {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (us >> shift) as usize + shift as usize * STEPS
}

/// Largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - shift * STEPS) as u64;
    (step << shift).saturating_add((1 << shift) - 1)
}

impl Latency {
    /// Counts one.
    pub fn add(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The time that `percent` of all were within, microseconds; 0 while there are none.
    pub fn quantile_us(&self, percent: u64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let rank = (total * percent).div_ceil(100);
        let mut seen = 0;
        for (at, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return upper(at);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Latency, bucket, upper};
    use std::time::Duration;

    #[test]
    fn buckets_cover_all_without_gaps() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for at in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper(at)), at);
            assert_eq!(bucket(upper(at) + 1), at + 1);
        }
    }

    #[test]
    fn quantiles_are_an_eighth_too_high_at_most() {
        let latency = Latency::default();
        assert_eq!(latency.quantile_us(50), 0);
        for us in 1..=1_000 {
            latency.add(Duration::from_micros(us));
        }
        let (p50, p99) = (latency.quantile_us(50), latency.quantile_us(99));
        assert!((500..=563).contains(&p50), "{p50}");
        assert!((990..=1_115).contains(&p99), "{p99}");
        assert_eq!(latency.count(), 1_000);
    }
}
