//! How long to wait before a dial: full jitter, so that a fleet which lost its server does not come back in step.

use super::options::Timing;

/// A small seeded generator (`SplitMix64`). Jitter needs spread, not secrecy.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same waits.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in `0..=max_ms`.
    pub(crate) fn upto(&mut self, max_ms: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * (u128::from(max_ms) + 1)) >> 64) as u64
    }
}

/// Counts failed dials in a row.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    jitter: Jitter,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(jitter: Jitter) -> Self {
        Self { jitter, failures: 0 }
    }

    /// A dial led to a session.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and returns the wait before the next dial, milliseconds: uniform in 0..=base · 2ⁿ, with
    /// the upper end capped by the maximum, and by `cap_ms` as far as the base allows.
    pub(crate) fn after_failure(&mut self, timing: &Timing, cap_ms: u64) -> u64 {
        let base_ms = timing.backoff_base_ms;
        let doubled = base_ms.saturating_mul(1 << self.failures.min(32));
        self.failures = self.failures.saturating_add(1);
        self.jitter.upto(doubled.min(timing.backoff_max_ms).min(cap_ms.max(base_ms)))
    }

    /// The wait after a refusal that only a change of mind of the cluster would lift: 50..=100 % of the slow retry.
    pub(crate) fn after_refusal(&mut self, timing: &Timing) -> u64 {
        let half = timing.slow_retry_ms / 2;
        timing.slow_retry_ms - half + self.jitter.upto(half)
    }

    /// The wait after a lost connection: uniform in 0..=`spread_ms`.
    pub(crate) fn after_loss(&mut self, spread_ms: u64) -> u64 {
        self.jitter.upto(spread_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_use_their_whole_range() {
        let timing = Timing::default();
        let mut longest = [0_u64; 12];
        for seed in 0..2_000 {
            let mut backoff = Backoff::new(Jitter::new(seed));
            for (n, longest) in longest.iter_mut().enumerate() {
                let wait = backoff.after_failure(&timing, u64::MAX);
                let bound = (timing.backoff_base_ms << n).min(timing.backoff_max_ms);
                assert!(wait <= bound, "seed {seed}: {wait} > {bound} after {n} failures");
                *longest = wait.max(*longest);
            }
        }
        for (n, longest) in longest.into_iter().enumerate() {
            let bound = (timing.backoff_base_ms << n).min(timing.backoff_max_ms);
            assert!(longest * 100 >= bound * 98, "{n}: the longest of 2000 waits is {longest}");
        }
    }

    #[test]
    fn a_success_starts_over() {
        let timing = Timing::default();
        let mut backoff = Backoff::new(Jitter::new(7));
        for _ in 0..100 {
            backoff.after_failure(&timing, u64::MAX);
        }
        backoff.reset();
        assert!(backoff.after_failure(&timing, u64::MAX) <= timing.backoff_base_ms);
    }

    #[test]
    fn jitter_is_uniform_and_reproducible() {
        let mut jitter = Jitter::new(1);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[(jitter.upto(999) / 100) as usize] += 1;
        }
        for count in counts {
            assert!((9_500..=10_500).contains(&count), "{counts:?}");
        }
        assert_eq!(Jitter::new(3).upto(u64::MAX), Jitter::new(3).upto(u64::MAX));
        assert_eq!(jitter.upto(0), 0);
    }

    #[test]
    fn refusals_are_retried_slowly() {
        let timing = Timing::default();
        let mut backoff = Backoff::new(Jitter::new(7));
        for _ in 0..1_000 {
            let wait = backoff.after_refusal(&timing);
            assert!((timing.slow_retry_ms / 2..=timing.slow_retry_ms).contains(&wait));
        }
    }
}
