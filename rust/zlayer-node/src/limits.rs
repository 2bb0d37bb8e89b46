//! Limits by count and by rate, in all and for each source address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use zlayer_core::time::MonoMs;

/// Counts what is in use, in all and for each source address, and admits up to a maximum of both.
#[derive(Debug)]
pub(crate) struct Gate {
    total_max: usize,
    source_max: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One admission; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Gate {
    pub(crate) fn new(total_max: usize, source_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, source_max, used: Mutex::default() })
    }

    /// Admits one more from `source`, or `None` at either maximum.
    pub(crate) fn admit(self: &Arc<Self>, source: IpAddr) -> Option<Permit> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.total >= self.total_max {
            return None;
        }
        let of_source = used.by_source.entry(source).or_default();
        if *of_source >= self.source_max {
            return None;
        }
        *of_source += 1;
        used.total += 1;
        Some(Permit { gate: Arc::clone(self), source })
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.gate.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.total -= 1;
        if let Some(of_source) = used.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                used.by_source.remove(&self.source);
            }
        }
    }
}

/// A token bucket in thousandths of a token. A rate of 0 sets no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    milli_tokens: u64,
    filled: MonoMs,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(now: MonoMs, burst: u32) -> Self {
        Self { milli_tokens: u64::from(burst) * 1000, filled: now }
    }

    /// Takes `count` tokens, or none and says false.
    pub(crate) fn take_many(
        &mut self,
        now: MonoMs,
        count: u32,
        per_second: u32,
        burst: u32,
    ) -> bool {
        if per_second == 0 {
            return true;
        }
        // Tokens a second are milli-tokens a millisecond.
        let gained = now.since(self.filled).saturating_mul(u64::from(per_second));
        self.filled = self.filled.max(now);
        self.milli_tokens = self.milli_tokens.saturating_add(gained).min(u64::from(burst) * 1000);
        let cost = u64::from(count) * 1000;
        let enough = self.milli_tokens >= cost;
        if enough {
            self.milli_tokens -= cost;
        }
        enough
    }
}

/// A rate that threads share without a lock: the virtual scheduling algorithm (ITU-T I.371). A rate of 0 sets no
/// limit.
#[derive(Debug, Default)]
pub(crate) struct SharedRate {
    /// When all that was taken would have been due at an even pace, microseconds.
    due_us: AtomicU64,
}

impl SharedRate {
    /// Takes one; false when there is none left of a burst of `burst`.
    pub(crate) fn take(&self, now: MonoMs, per_second: u32, burst: u32) -> bool {
        let Some(step_us) = 1_000_000_u64.checked_div(u64::from(per_second)) else { return true };
        let now_us = now.0.saturating_mul(1_000);
        let most_us = now_us.saturating_add(step_us.saturating_mul(u64::from(burst)));
        // Nothing else is read or written by it, so any order will do.
        self.due_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due_us| {
                Some(due_us.max(now_us).saturating_add(step_us)).filter(|due_us| *due_us <= most_us)
            })
            .is_ok()
    }
}

/// Rates of new connections, in all and for each source address. The burst is one second's worth.
#[derive(Debug)]
pub(crate) struct Rates {
    per_second: u32,
    per_second_per_source: u32,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    all: Bucket,
    by_source: HashMap<IpAddr, Bucket>,
}

/// Sources remembered; when there are more, those that would be full again are forgotten. Chosen: 64 bytes each.
const SOURCES_MAX: usize = 4096;

impl Rates {
    pub(crate) fn new(now: MonoMs, per_second: u32, per_second_per_source: u32) -> Self {
        let buckets = Buckets { all: Bucket::full(now, per_second), by_source: HashMap::new() };
        Self { per_second, per_second_per_source, buckets: Mutex::new(buckets) }
    }

    /// Whether one more from `source` keeps within both rates.
    pub(crate) fn admit(&self, now: MonoMs, source: IpAddr) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = self.per_second_per_source;
        if buckets.by_source.len() >= SOURCES_MAX && !buckets.by_source.contains_key(&source) {
            // A bucket is full again one second after its last use.
            buckets.by_source.retain(|_, bucket| now.since(bucket.filled) < 1000);
            if buckets.by_source.len() >= SOURCES_MAX {
                return false;
            }
        }
        let of_source = buckets.by_source.entry(source).or_insert_with(|| Bucket::full(now, rate));
        of_source.take_many(now, 1, rate, rate)
            && buckets.all.take_many(now, 1, self.per_second, self.per_second)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use std::net::Ipv4Addr;

    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn a_gate_counts_in_all_and_by_source() {
        let gate = Gate::new(3, 2);
        let first = gate.admit(source(1)).unwrap();
        let _second = gate.admit(source(1)).unwrap();
        assert!(gate.admit(source(1)).is_none(), "two from one source");
        let _third = gate.admit(source(2)).unwrap();
        assert!(gate.admit(source(3)).is_none(), "three in all");
        drop(first);
        assert_eq!(gate.used(), 2);
        assert!(gate.admit(source(3)).is_some());
    }

    #[test]
    fn a_bucket_fills_with_time_up_to_its_burst() {
        let mut bucket = Bucket::full(MonoMs(0), 4);
        let mut take = |at, rate, burst| bucket.take_many(MonoMs(at), 1, rate, burst);
        assert_eq!((0..10).filter(|_| take(0, 2, 4)).count(), 4);
        assert!(!take(499, 2, 4));
        assert!(take(500, 2, 4));
        assert_eq!((0..10).filter(|_| take(60_000, 2, 4)).count(), 4);
        assert!((0..10).all(|_| take(60_000, 0, 0)), "0 sets no limit");
        assert!(!bucket.take_many(MonoMs(61_000), 3, 2, 4), "all or nothing");
        assert!(bucket.take_many(MonoMs(61_000), 2, 2, 4));
    }

    #[test]
    fn a_shared_rate_fills_with_time_up_to_its_burst() {
        let rate = SharedRate::default();
        let take = |at, per_second, burst| rate.take(MonoMs(at), per_second, burst);
        assert_eq!((0..10).filter(|_| take(7_000, 2, 4)).count(), 4);
        assert!(!take(7_499, 2, 4));
        assert!(take(7_500, 2, 4));
        assert!(!take(7_500, 2, 4), "a refusal counts nothing, and a success one");
        assert_eq!((0..10).filter(|_| take(60_000, 2, 4)).count(), 4);
        assert!((0..10).all(|_| take(60_000, 0, 0)), "0 sets no limit");
        assert!(!take(60_000, 2, 0), "no burst, no token");
    }

    #[test]
    fn a_shared_rate_is_one_for_all_threads() {
        let rate = SharedRate::default();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let count = (0..1_000).filter(|_| rate.take(MonoMs(5), 10, 100)).count();
                    taken.fetch_add(count as u64, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(taken.into_inner(), 100);
    }

    #[test]
    fn rates_hold_by_source_and_in_all() {
        let rates = Rates::new(MonoMs(0), 3, 2);
        assert_eq!((0..5).filter(|_| rates.admit(MonoMs(0), source(1))).count(), 2);
        assert_eq!((0..5).filter(|_| rates.admit(MonoMs(0), source(2))).count(), 1);
        assert!(rates.admit(MonoMs(1000), source(3)));
    }
}
