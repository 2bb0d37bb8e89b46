//! What one beat costs in the pacer, and a whole fleet that reconnects at once.
//!
//! `cargo bench -p zlayer-core --bench pacing`.

#![allow(missing_docs)] // `criterion_group!` makes a function without one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zlayer_core::pacing::Pacer;
use zlayer_core::time::MonoMs;
use zlayer_core::ttl::AdaptiveTtlConfig;

/// All workers of a fleet connect at `now`; their slots are returned.
fn connected(pacer: &mut Pacer, now: MonoMs, workers: u64) -> Vec<MonoMs> {
    let ttl_ms = AdaptiveTtlConfig::default().ttl_ms(workers);
    (0..workers).map(|_| pacer.next_beat(now, None, ttl_ms, workers, true)).collect()
}

fn pacing(criterion: &mut Criterion) {
    let config = AdaptiveTtlConfig::default();
    let mut group = criterion.benchmark_group("pacing");
    for workers in [10_000, 45_000] {
        group.throughput(Throughput::Elements(workers));
        group.bench_function(format!("reconnect_of_{workers}"), |bencher| {
            bencher.iter(|| connected(&mut Pacer::new(config), MonoMs(1_000), workers));
        });
    }
    // Far below the cap, at it, and above.
    for workers in [100, 10_000, 45_000] {
        group.throughput(Throughput::Elements(1));
        let mut pacer = Pacer::new(config);
        let ttl_ms = config.ttl_ms(workers);
        let slots = connected(&mut pacer, MonoMs(1_000), workers);
        let mut coming: BinaryHeap<_> = slots.into_iter().map(Reverse).collect();
        group.bench_function(format!("steady_beat_of_{workers}"), |bencher| {
            bencher.iter(|| {
                // The heap is part of the figure: some tens of nanoseconds.
                if let Some(mut next) = coming.peek_mut() {
                    let (slot, now) = (next.0, next.0.plus(7));
                    next.0 = pacer.next_beat(now, Some(slot), ttl_ms, workers, false);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pacing);
criterion_main!(benches);
