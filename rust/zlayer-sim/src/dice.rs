//! Where every random choice of a world comes from: one seed, one stream for each who chooses.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::Ms;

/// Who chooses. Apart, so that one more choice of one does not move all others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Scenario,
    Faults,
    Network,
    Server,
    Workers,
}

/// Whole numbers only: the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// Uniform in `0..end`; 0 for an `end` of 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True once in `n` times; never for 0.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    /// True in so many of a million times.
    pub(crate) fn per_million(&mut self, n: u32) -> bool {
        n > 0 && self.below(1_000_000) < u64::from(n)
    }

    /// A gap until the next of events that come once in `mean` on average.
    pub(crate) fn gap(&mut self, mean: Ms) -> Ms {
        1 + self.below(mean * 2)
    }

    /// Between `low` and `high`, short ones far more often: each power of two is as likely as the next.
    pub(crate) fn skewed(&mut self, low: Ms, high: Ms) -> Ms {
        let doublings = (high / low.max(1)).max(1).ilog2();
        let start = low << self.below(u64::from(doublings) + 1);
        self.between(start, (start * 2).min(high).max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_stream_fix_every_choice() {
        let draw = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [(); 8].map(|()| dice.below(u64::MAX))
        };
        assert_eq!(draw(1, Stream::Network), draw(1, Stream::Network));
        assert_ne!(draw(1, Stream::Network), draw(2, Stream::Network));
        assert_ne!(draw(1, Stream::Network), draw(1, Stream::Faults));
    }

    #[test]
    fn choices_stay_in_their_ranges_and_use_them() {
        let mut dice = Dice::new(7, Stream::Faults);
        let (mut low, mut high, mut sum) = (u64::MAX, 0, 0);
        for _ in 0..10_000 {
            let ms = dice.skewed(1_000, 60_000);
            assert!((1_000..=60_000).contains(&ms), "{ms}");
            (low, high) = (low.min(ms), high.max(ms));
            sum += dice.gap(500);
        }
        assert!(low < 1_100 && high > 55_000, "{low} to {high}");
        assert!((4_900_000..5_100_000).contains(&sum), "{sum}");
        assert!(!dice.once_in(0) && dice.once_in(1));
        assert_eq!(dice.below(0), 0);
    }
}
