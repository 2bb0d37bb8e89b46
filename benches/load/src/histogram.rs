//! Latencies in bounded memory, about 3 % exact.

use std::time::Duration;

/// Steps for each doubling.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values below are exact; above, each doubling up to 2⁴⁰ µs has its steps.
const BUCKETS: usize = (STEPS * (40 - STEP_BITS as u64 + 1)) as usize;

/// Counts microseconds by size.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The value that `share` of all are not above, in milliseconds; `None` when there are none.
    pub(crate) fn quantile_ms(&self, share: f64) -> Option<f64> {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper_end(at) as f64 / 1000.0)
    }
}

fn bucket(micros: u64) -> usize {
    let doubling = (u64::BITS - micros.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let at = u64::from(doubling) * STEPS + (micros >> doubling);
    (at as usize).min(BUCKETS - 1)
}

/// Largest value of a bucket.
fn upper_end(at: usize) -> u64 {
    let at = at as u64;
    let doubling = (at / STEPS).saturating_sub(1);
    ((at - doubling * STEPS + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_touch_and_stay_within_their_share() {
        for micros in (0..5_000).chain((0..40).map(|bit| 1 << bit)) {
            let at = bucket(micros);
            assert!(upper_end(at) >= micros, "{micros}");
            assert!(at == 0 || upper_end(at - 1) < micros, "{micros}");
            assert!((upper_end(at) - micros) * STEPS <= micros.max(STEPS), "{micros}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.5), None);
        let mut other = Histogram::default();
        for micros in 1..=1_000 {
            let half = if micros % 2 == 0 { &mut histogram } else { &mut other };
            half.record(Duration::from_micros(micros));
        }
        histogram.merge(&other);
        assert_eq!(histogram.total(), 1_000);
        for (share, expected) in [(0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let found = histogram.quantile_ms(share).unwrap_or_default();
            assert!(found >= expected && found <= expected * 1.035, "{share}: {found}");
        }
    }
}
