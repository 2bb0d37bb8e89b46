//! The lease table against a naive model that keeps every deadline in plain ordered maps.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A failed unwrap is a failed test.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use zlayer_core::lease::{Expired, LeaseError, LeaseHandle, LeaseTable};
use zlayer_core::time::MonoMs;

const CAPACITY: u32 = 3_000;

/// One call on the table. Numbers that pick a lease are taken modulo what there is.
#[derive(Debug, Clone)]
enum Op {
    Advance { ms: u64 },
    Grant { window_ms: u64 },
    GrantMany { count: usize, window_ms: u64 },
    Renew { pick: usize, window_ms: u64 },
    RenewMany { pick: usize, count: usize, window_ms: u64 },
    Revoke { pick: usize },
    UseStale { pick: usize },
    Expire { max: usize },
    Peek { ahead_ms: u64, max: usize },
    Shift { ms: u64 },
    Promote { window_ms: u64, spread_ms: u64 },
    Freeze,
    Thaw,
}

#[derive(Default)]
struct Model {
    deadlines: BTreeMap<LeaseHandle, u64>,
    order: BTreeSet<(u64, LeaseHandle)>,
    stale: Vec<LeaseHandle>,
    frozen_at: Option<u64>,
}

impl Model {
    fn set(&mut self, handle: LeaseHandle, deadline: u64) {
        if let Some(old) = self.deadlines.insert(handle, deadline) {
            self.order.remove(&(old, handle));
        }
        self.order.insert((deadline, handle));
    }

    fn renew(&mut self, handle: LeaseHandle, deadline: u64) -> u64 {
        let kept = self.deadlines[&handle].max(deadline);
        self.set(handle, kept);
        kept
    }

    fn end(&mut self, handle: LeaseHandle) {
        let deadline = self.deadlines.remove(&handle).expect("a lease that the model holds");
        self.order.remove(&(deadline, handle));
        if self.stale.len() < 64 {
            self.stale.push(handle);
        }
    }

    fn shift(&mut self, ms: u64) {
        for deadline in self.deadlines.values_mut() {
            *deadline += ms;
        }
        self.order = self.deadlines.iter().map(|(&handle, &deadline)| (deadline, handle)).collect();
    }

    fn pick(&self, pick: usize) -> Option<LeaseHandle> {
        // Around a number that is spread over the slots, so that old and new leases are picked.
        let from = LeaseHandle::from_u64(pick as u64 % u64::from(CAPACITY));
        let mut all = self.deadlines.range(from..).chain(&self.deadlines);
        all.next().map(|(&handle, _)| handle)
    }
}

/// The table and the model, in step.
struct Pair {
    table: LeaseTable,
    model: Model,
    now: u64,
}

impl Pair {
    fn new(now: u64) -> Self {
        Self { table: LeaseTable::new(CAPACITY), model: Model::default(), now }
    }

    fn now(&self) -> MonoMs {
        MonoMs(self.now)
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Advance { ms } => self.now += ms,
            Op::Grant { window_ms } => self.grant(window_ms),
            Op::GrantMany { count, window_ms } => self.grant_many(count, window_ms),
            Op::Renew { pick, window_ms } => self.renew(pick, window_ms),
            Op::RenewMany { pick, count, window_ms } => self.renew_many(pick, count, window_ms),
            Op::Revoke { pick } => {
                if let Some(handle) = self.model.pick(pick) {
                    self.table.revoke(handle).unwrap();
                    self.model.end(handle);
                }
            }
            Op::UseStale { pick } => self.use_stale(pick),
            Op::Expire { max } => self.expire(max),
            Op::Peek { ahead_ms, max } => self.peek(ahead_ms, max),
            Op::Shift { ms } => {
                self.table.shift_by(ms);
                self.model.shift(ms);
            }
            Op::Promote { window_ms, spread_ms } => self.promote(window_ms, spread_ms),
            Op::Freeze => {
                self.table.freeze(self.now());
                self.model.frozen_at.get_or_insert(self.now);
            }
            Op::Thaw => {
                self.table.thaw(self.now());
                if let Some(since) = self.model.frozen_at.take() {
                    self.model.shift(self.now - since);
                }
            }
        }
    }

    fn grant(&mut self, window_ms: u64) {
        match self.table.grant(self.now(), window_ms) {
            Ok(handle) => self.granted(handle, window_ms),
            Err(error) => {
                assert_eq!(error, LeaseError::Full { capacity: CAPACITY });
                assert_eq!(self.model.deadlines.len(), CAPACITY as usize);
            }
        }
    }

    fn granted(&mut self, handle: LeaseHandle, window_ms: u64) {
        let other = self.model.deadlines.keys().find(|held| held.slot() == handle.slot());
        assert_eq!(other, None, "a slot that is held was granted");
        self.model.stale.retain(|stale| *stale != handle);
        self.model.set(handle, self.now + window_ms);
    }

    fn grant_many(&mut self, count: usize, window_ms: u64) {
        let mut handles = Vec::new();
        let fits = self.model.deadlines.len() + count <= CAPACITY as usize;
        let granted = self.table.grant_many(count, self.now(), window_ms, &mut handles);
        assert_eq!(granted.is_ok(), fits);
        assert_eq!(handles.len(), if fits { count } else { 0 });
        for handle in handles {
            self.granted(handle, window_ms);
        }
    }

    fn renew(&mut self, pick: usize, window_ms: u64) {
        let Some(handle) = self.model.pick(pick) else { return };
        let renewed = self.table.renew(handle, self.now(), window_ms).unwrap();
        assert_eq!(renewed.0, self.model.renew(handle, self.now + window_ms));
    }

    fn renew_many(&mut self, pick: usize, count: usize, window_ms: u64) {
        let Some(first) = self.model.pick(pick) else { return };
        let live: Vec<LeaseHandle> =
            self.model.deadlines.range(first..).take(count).map(|(&handle, _)| handle).collect();
        // Stale ones between the live ones: those at even places fail, and in that order.
        let stale = self.model.stale.iter().take(live.len());
        let mixed: Vec<u64> = live
            .iter()
            .zip(stale.clone())
            .flat_map(|(&live, &stale)| [stale.as_u64(), live.as_u64()])
            .chain(live.iter().skip(stale.len()).map(|live| live.as_u64()))
            .collect();
        let mut failed = vec![42];
        let renewed = self.table.renew_many(&mixed, self.now(), window_ms, &mut failed);
        assert_eq!(renewed, live.len());
        let stale: Vec<u64> = stale.map(|stale| stale.as_u64()).collect();
        assert_eq!((failed[0], &failed[1..]), (42, &stale[..]));
        for handle in live {
            let deadline = self.model.renew(handle, self.now + window_ms);
            assert_eq!(self.table.deadline(handle), Some(MonoMs(deadline)));
        }
    }

    fn use_stale(&mut self, pick: usize) {
        let stale = &self.model.stale;
        let Some(&handle) = stale.get(pick % stale.len().max(1)) else { return };
        assert_eq!(self.table.deadline(handle), None);
        assert_eq!(self.table.renew(handle, self.now(), 9), Err(LeaseError::Stale(handle)));
        assert_eq!(self.table.revoke(handle), Err(LeaseError::Stale(handle)));
        // The slot's next generation is as unknown, until it is granted.
        let next = LeaseHandle::from_u64(handle.as_u64() + (1 << 32));
        if !self.model.deadlines.contains_key(&next) {
            assert_eq!(self.table.renew(next, self.now(), 9), Err(LeaseError::Stale(next)));
        }
    }

    fn expire(&mut self, max: usize) {
        let mut out = Vec::new();
        let more = self.table.expire(self.now(), max, &mut out);
        let due: Vec<(u64, LeaseHandle)> = if self.model.frozen_at.is_some() {
            Vec::new()
        } else {
            self.model.order.iter().take_while(|due| due.0 <= self.now).copied().collect()
        };
        let expected: Vec<Expired> = due
            .iter()
            .take(max)
            .map(|&(deadline, handle)| Expired {
                handle,
                deadline: MonoMs(deadline),
                overdue_ms: self.now - deadline,
            })
            .collect();
        assert_eq!(out, expected, "at {}", self.now);
        assert_eq!(more, due.len() > max);
        for expired in out {
            self.model.end(expired.handle);
        }
    }

    fn peek(&mut self, ahead_ms: u64, max: usize) {
        let until = self.now + ahead_ms;
        let due = self.model.order.iter().take_while(|due| due.0 <= until).take(max).count();
        let expected = if self.model.frozen_at.is_some() { 0 } else { due };
        assert_eq!(self.table.peek_due(MonoMs(until), max), expected);
    }

    fn promote(&mut self, window_ms: u64, spread_ms: u64) {
        let window = |handle: LeaseHandle| window_ms + u64::from(handle.slot() % 7);
        self.table.promote(self.now(), window, spread_ms);
        let live = self.model.deadlines.len() as u64;
        let handles: Vec<LeaseHandle> = self.model.deadlines.keys().copied().collect();
        for (rank, handle) in handles.into_iter().enumerate() {
            let share = spread_ms * rank as u64 / live;
            self.model.renew(handle, self.now + window(handle) + share);
        }
    }

    fn check(&mut self) {
        self.table.check_invariants();
        assert_eq!(self.table.len(), self.model.deadlines.len());
        assert_eq!(self.table.is_frozen(), self.model.frozen_at.is_some());
        for (&handle, &deadline) in &self.model.deadlines {
            assert_eq!(self.table.deadline(handle), Some(MonoMs(deadline)));
        }
        self.check_next_deadline();
    }

    fn check_next_deadline(&mut self) {
        let bound = self.table.next_deadline().map(|bound| bound.0);
        let first = self.model.order.first().map(|first| first.0);
        match (bound, first) {
            (None, first) => assert!(first.is_none() || self.model.frozen_at.is_some()),
            (Some(bound), Some(first)) => {
                assert!(bound <= first, "{bound} is later than {first}");
                // Few leases: all of them can be looked at.
                assert!(bound == first || self.model.deadlines.len() > 128);
            }
            (Some(bound), None) => panic!("{bound} without a lease"),
        }
    }
}

/// Windows and steps of every size that the wheel's levels tell apart.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        0..300_u64,
        0..30_000_u64,
        0..700_000_u64,
        0..40_000_000_u64,
        0..40_000_000_000_u64
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<usize>;
    prop_oneof![
        8 => span().prop_map(|ms| Op::Advance { ms }),
        8 => span().prop_map(|window_ms| Op::Grant { window_ms }),
        1 => (0..400_usize, span())
            .prop_map(|(count, window_ms)| Op::GrantMany { count, window_ms }),
        8 => (pick(), span()).prop_map(|(pick, window_ms)| Op::Renew { pick, window_ms }),
        2 => (pick(), 0..60_usize, span())
            .prop_map(|(pick, count, window_ms)| Op::RenewMany { pick, count, window_ms }),
        2 => pick().prop_map(|pick| Op::Revoke { pick }),
        1 => pick().prop_map(|pick| Op::UseStale { pick }),
        8 => prop_oneof![0..4_usize, Just(usize::MAX)].prop_map(|max| Op::Expire { max }),
        2 => (span(), 0..50_usize).prop_map(|(ahead_ms, max)| Op::Peek { ahead_ms, max }),
        1 => span().prop_map(|ms| Op::Shift { ms }),
        1 => (span(), span())
            .prop_map(|(window_ms, spread_ms)| Op::Promote { window_ms, spread_ms }),
        1 => Just(Op::Freeze),
        2 => Just(Op::Thaw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_agrees_with_the_model(
        start in prop_oneof![Just(0), 0..2_000_000_000_000_u64],
        ops in proptest::collection::vec(op(), 1..300),
    ) {
        let mut pair = Pair::new(start);
        for op in &ops {
            pair.step(op);
            pair.check();
        }
    }
}

/// A small seeded generator (`SplitMix64`), so that the long run is the same everywhere.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Mostly what a fleet does, now and then something extreme.
    fn op(&mut self) -> Op {
        let pick = self.next() as usize;
        let window_ms = match self.below(100) {
            0 => self.below(50),
            1..4 => self.below(400_000_000),
            _ => 1_000 + self.below(30_000),
        };
        match self.below(1_000) {
            0..150 => Op::Advance { ms: self.below(60) },
            150 => Op::Advance { ms: self.below(100_000) },
            151..300 => Op::Grant { window_ms },
            300..302 => Op::GrantMany { count: self.below(40) as usize, window_ms },
            302..800 => Op::Renew { pick, window_ms },
            800..806 => Op::RenewMany { pick, count: self.below(40) as usize, window_ms },
            806..840 => Op::Revoke { pick },
            840..860 => Op::UseStale { pick },
            860..990 => Op::Expire { max: self.below(8) as usize },
            990..995 => Op::Peek { ahead_ms: self.below(5_000), max: 20 },
            995 => Op::Expire { max: usize::MAX },
            996 => Op::Shift { ms: self.below(3_000) },
            997 if self.below(20) == 0 => {
                Op::Promote { window_ms: self.below(40_000), spread_ms: self.below(20_000) }
            }
            997 if self.below(5) == 0 => Op::Freeze,
            _ => Op::Thaw,
        }
    }
}

#[test]
fn a_million_seeded_calls_agree_with_the_model() {
    let mut seeded = Seeded(2_026);
    let mut pair = Pair::new(1_000);
    for step in 0..1_000_000 {
        let op = seeded.op();
        pair.step(&op);
        if step % 500 == 0 {
            pair.check();
        }
    }
    let stats = pair.table.stats();
    // The run has reached what it is for.
    assert!(stats.granted > 100_000, "{stats:?}");
    assert!(stats.expired > 50_000, "{stats:?}");
    assert!(stats.revoked > 10_000, "{stats:?}");
    assert!(stats.rearmed > 10_000, "{stats:?}");
    assert!(stats.shifted_ms > 0, "{stats:?}");
}
