//! The lease table at a million leases, beside what one would write with the standard library.
//!
//! `cargo bench -p zlayer-core --bench lease`. Ratios within one run are what to quote.

#![allow(missing_docs)] // `criterion_group!` makes a function without one.
#![allow(clippy::unwrap_used)] // A failed unwrap is a failed benchmark.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use zlayer_core::lease::{LeaseHandle, LeaseTable};
use zlayer_core::time::MonoMs;

const LEASES: usize = 1_000_000;
const WINDOW_MS: u64 = 30_000;
const BATCH: usize = 1_024;

/// `0..len`, shuffled; the same in every run.
fn shuffled(len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut seed = 1_u64;
    for last in (1..len).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (seed >> 33) as usize % (last + 1));
    }
    order
}

/// A table, and the handles of its leases in the order of their slots.
fn granted(count: usize) -> (LeaseTable, Vec<u64>) {
    let mut table = LeaseTable::new(count as u32);
    let mut handles = Vec::new();
    table.grant_many(count, MonoMs(0), WINDOW_MS, &mut handles).unwrap();
    (table, handles.into_iter().map(LeaseHandle::as_u64).collect())
}

/// Measures `renew` with one handle after the other, at a time that always goes on: a renewal that
/// finds a later deadline would not write.
fn renewals(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    order: &[u64],
    mut renew: impl FnMut(u64, u64) -> u64,
) {
    let (mut at, mut now) = (0, 1);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            at = if at + 1 == order.len() { 0 } else { at + 1 };
            now += 1;
            renew(order[at], now)
        });
    });
}

fn lease_renew(criterion: &mut Criterion) {
    let (table, sequential) = granted(LEASES);
    let random: Vec<u64> = shuffled(LEASES).into_iter().map(|index| sequential[index]).collect();
    let slots = table.slots();
    let renew = |handle, now| {
        let renewed = slots.renew(LeaseHandle::from_u64(handle), MonoMs(now), WINDOW_MS);
        let deadline = renewed.unwrap().0;
        assert_eq!(deadline, now + WINDOW_MS, "the renewal wrote");
        deadline
    };
    let mut group = criterion.benchmark_group("lease_renew");
    group.throughput(Throughput::Elements(1));
    renewals(&mut group, "random", &random, renew);
    // From a later time than the random ones reach.
    renewals(&mut group, "sequential", &sequential, |handle, now| renew(handle, now + (1 << 38)));

    let mut leases: HashMap<u64, u64> = sequential.iter().map(|&id| (id, WINDOW_MS)).collect();
    let mut heap: BinaryHeap<_> = sequential.iter().map(|&id| Reverse((WINDOW_MS, id))).collect();
    renewals(&mut group, "std_hash_map_and_binary_heap", &random, |id, now| {
        let deadline = now + WINDOW_MS;
        *leases.get_mut(&id).unwrap() = deadline;
        heap.push(Reverse((deadline, id)));
        // One stale entry out for each one in, or the heap would grow for ever.
        heap.pop().map_or(0, |oldest| oldest.0.0)
    });

    let mut leases: HashMap<u64, u64> = sequential.iter().map(|&id| (id, WINDOW_MS)).collect();
    let mut order: BTreeSet<(u64, u64)> = sequential.iter().map(|&id| (WINDOW_MS, id)).collect();
    renewals(&mut group, "std_hash_map_and_btree_set", &random, |id, now| {
        let deadline = leases.get_mut(&id).unwrap();
        order.remove(&(*deadline, id));
        *deadline = now + WINDOW_MS;
        order.insert((*deadline, id));
        *deadline
    });
    group.finish();
}

fn lease_renew_many(criterion: &mut Criterion) {
    let (table, handles) = granted(LEASES);
    let random: Vec<u64> = shuffled(LEASES).into_iter().map(|index| handles[index]).collect();
    let mut batches = random.chunks_exact(BATCH).cycle();
    let (mut now, mut failed) = (1, Vec::new());
    let mut group = criterion.benchmark_group("lease_renew_many");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("random", |bencher| {
        bencher.iter(|| {
            now += 1;
            table.renew_many(batches.next().unwrap(), MonoMs(now), WINDOW_MS, &mut failed)
        });
    });
    assert!(failed.is_empty());
    group.finish();
}

fn lease_grant(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lease_grant");
    group.throughput(Throughput::Elements(LEASES as u64));
    group.sample_size(10);
    group.bench_function("a_million", |bencher| bencher.iter_with_large_drop(|| granted(LEASES)));
    group.finish();
}

/// A million leases with random deadlines, a tenth of which are due at the time that is returned.
fn spread_out() -> (LeaseTable, MonoMs) {
    let mut table = LeaseTable::new(LEASES as u32);
    for deadline in shuffled(LEASES) {
        table.grant(MonoMs(0), deadline as u64 / 10).unwrap();
    }
    (table, MonoMs(LEASES as u64 / 100))
}

fn lease_expire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lease_expire");
    group.throughput(Throughput::Elements(LEASES as u64 / 10));
    group.sample_size(10);
    group.bench_function("a_hundred_thousand_of_a_million", |bencher| {
        bencher.iter_batched_ref(
            spread_out,
            |(table, now)| {
                let mut out = Vec::new();
                while table.expire(*now, BATCH, &mut out) {}
                black_box(out)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("std_hash_map_and_binary_heap", |bencher| {
        let deadlines: HashMap<u64, u64> =
            (0..).zip(shuffled(LEASES)).map(|(id, deadline)| (id, deadline as u64 / 10)).collect();
        let heap: BinaryHeap<_> = deadlines.iter().map(|(&id, &at)| Reverse((at, id))).collect();
        bencher.iter_batched_ref(
            || (deadlines.clone(), heap.clone()),
            |(deadlines, heap)| {
                let mut out = Vec::new();
                while let Some(&Reverse((deadline, id))) = heap.peek() {
                    if deadline > LEASES as u64 / 100 {
                        break;
                    }
                    heap.pop();
                    deadlines.remove(&id);
                    out.push((id, deadline));
                }
                black_box(out)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A tick of 100 ms with a million leases that are renewed in time: what the wheel costs.
fn lease_tick(criterion: &mut Criterion) {
    let mut table = LeaseTable::new(LEASES as u32);
    let mut handles = Vec::new();
    for index in 0..LEASES as u64 {
        let now = MonoMs(index * WINDOW_MS / 2 / LEASES as u64);
        handles.push(table.grant(now, WINDOW_MS).unwrap().as_u64());
    }
    // Each lease is renewed every half window, in the order in which it was granted.
    let mut batches = handles.chunks(LEASES / (WINDOW_MS as usize / 2 / 100) + 1).cycle();
    let (mut now, mut out, mut failed) = (WINDOW_MS / 2, Vec::new(), Vec::new());
    criterion.bench_function("lease_tick/a_million_renewed_in_time", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                now += 100;
                table.renew_many(batches.next().unwrap(), MonoMs(now), WINDOW_MS, &mut failed);
                let start = Instant::now();
                table.expire(MonoMs(now), BATCH, &mut out);
                black_box(table.next_deadline());
                spent += start.elapsed();
            }
            spent
        });
    });
    assert!(out.is_empty() && failed.is_empty());
}

criterion_group!(lease, lease_renew, lease_renew_many, lease_grant, lease_expire, lease_tick);
criterion_main!(lease);
