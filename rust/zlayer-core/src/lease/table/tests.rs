//! One behaviour each, at its edges. The table against a model: `tests/lease_model.rs`.

#![allow(clippy::unwrap_used)] // A failed unwrap is a failed test.

use super::*;

fn expired(table: &mut LeaseTable, now: u64, max: usize) -> (Vec<Expired>, bool) {
    let mut out = Vec::new();
    let more = table.expire(MonoMs(now), max, &mut out);
    table.check_invariants();
    (out, more)
}

#[test]
fn a_lease_ends_at_its_deadline_and_not_a_millisecond_before() {
    let mut table = LeaseTable::new(8);
    let handle = table.grant(MonoMs(1_000), 30_000).unwrap();
    assert_eq!(table.next_deadline(), Some(MonoMs(31_000)));
    assert_eq!(expired(&mut table, 30_999, 9), (vec![], false));
    assert_eq!(table.renew(handle, MonoMs(30_999), 1_001), Ok(MonoMs(32_000)));
    assert_eq!(expired(&mut table, 31_999, 9), (vec![], false));
    assert_eq!(table.next_deadline(), Some(MonoMs(32_000)));
    let end = Expired { handle, deadline: MonoMs(32_000), overdue_ms: 7 };
    assert_eq!(expired(&mut table, 32_007, 9), (vec![end], false));
    assert_eq!(table.next_deadline(), None);
    assert_eq!(table.revoke(handle), Err(LeaseError::Stale(handle)));
}

#[test]
fn an_overdue_lease_is_saved_by_a_beat() {
    let mut table = LeaseTable::new(8);
    let handle = table.grant(MonoMs(0), 100).unwrap();
    assert_eq!(table.peek_due(MonoMs(500), 9), 1);
    assert_eq!(table.renew(handle, MonoMs(500), 100), Ok(MonoMs(600)));
    assert_eq!(table.peek_due(MonoMs(500), 9), 0);
    assert_eq!(expired(&mut table, 599, 9), (vec![], false));
    assert_eq!(expired(&mut table, 600, 9).0.len(), 1);
}

#[test]
fn order_is_by_deadline_then_slot_in_bounded_batches() {
    let mut table = LeaseTable::new(100);
    for slot in 0..100_u64 {
        table.grant(MonoMs(0), 50 + slot % 3).unwrap();
    }
    let mut order = Vec::new();
    while table.len() > 10 {
        let (out, more) = expired(&mut table, 60, 9);
        assert_eq!((out.len(), more), (9, true));
        order.extend(out.iter().map(|lease| (lease.deadline, lease.handle.slot())));
    }
    let (out, more) = expired(&mut table, 60, 10);
    assert_eq!((out.len(), more), (10, false), "the last batch says that it is the last");
    order.extend(out.iter().map(|lease| (lease.deadline, lease.handle.slot())));
    assert!(order.is_sorted());
    assert_eq!(order.len(), 100);
}

#[test]
fn a_full_table_says_so_and_changes_nothing() {
    let mut table = LeaseTable::new(2);
    let full = LeaseError::Full { capacity: 2 };
    let mut out = Vec::new();
    assert_eq!(table.grant_many(3, MonoMs(0), 10, &mut out), Err(full));
    assert_eq!((out.len(), table.len()), (0, 0));
    table.grant_many(2, MonoMs(0), 10, &mut out).unwrap();
    assert_eq!(table.grant(MonoMs(0), 10), Err(full));
    assert_eq!(table.stats().granted, 2);
    table.revoke(out[0]).unwrap();
    assert_eq!(table.grant(MonoMs(0), 10).unwrap().slot(), out[0].slot());
    assert_eq!(LeaseTable::new(u32::MAX).slots().capacity(), LEASES_MAX);
    assert_eq!(LeaseTable::new(0).grant(MonoMs(0), 1), Err(LeaseError::Full { capacity: 0 }));
}

#[test]
fn vacated_slots_are_reused_in_the_order_in_which_they_were_vacated() {
    let mut table = LeaseTable::new(3);
    let first: Vec<LeaseHandle> = (0..3).map(|_| table.grant(MonoMs(0), 10).unwrap()).collect();
    for slot in [1, 0, 2] {
        table.revoke(first[slot]).unwrap();
    }
    let again = [(); 3].map(|()| table.grant(MonoMs(0), 10).unwrap());
    assert_eq!(again.map(LeaseHandle::slot), [1, 0, 2]);
    assert!(again.iter().all(|lease| lease.generation() == 2));
}

#[test]
fn a_shift_moves_all_deadlines_also_ahead_of_the_clock() {
    let mut table = LeaseTable::new(8);
    table.grant(MonoMs(0), 0).unwrap();
    table.shift_by(163);
    let second = table.grant(MonoMs(0), 0).unwrap();
    assert_eq!(table.deadline(second), Some(MonoMs(0)));
    assert_eq!(expired(&mut table, 0, 9).0[0].handle, second);
    assert_eq!(expired(&mut table, 162, 9).0, []);
    assert_eq!(expired(&mut table, 163, 9).0[0].deadline, MonoMs(163));
    assert_eq!(table.stats().shifted_ms, 163);
}

#[test]
fn frozen_nothing_ends_and_thawing_gives_the_time_back() {
    let mut table = LeaseTable::new(8);
    let handle = table.grant(MonoMs(0), 100).unwrap();
    table.freeze(MonoMs(90));
    table.freeze(MonoMs(95));
    assert!(table.is_frozen());
    assert_eq!(expired(&mut table, 5_000, 9), (vec![], false));
    assert_eq!((table.peek_due(MonoMs(5_000), 9), table.next_deadline()), (0, None));
    table.thaw(MonoMs(5_090));
    table.thaw(MonoMs(9_999));
    assert!(!table.is_frozen());
    assert_eq!(table.deadline(handle), Some(MonoMs(5_100)));
    assert_eq!(expired(&mut table, 5_099, 9).0, []);
    assert_eq!(expired(&mut table, 5_100, 9).0.len(), 1);
}

#[test]
fn a_new_leader_gives_every_lease_its_window_and_an_even_share() {
    let mut table = LeaseTable::new(8);
    let leases = [(); 4].map(|()| table.grant(MonoMs(0), 1_000).unwrap());
    table.renew(leases[3], MonoMs(0), 1_000_000).unwrap();
    table.revoke(leases[1]).unwrap();
    table.promote(MonoMs(500), |handle| 300_000 + u64::from(handle.slot()), 900);
    let deadlines = leases.map(|lease| table.deadline(lease).map(|deadline| deadline.0));
    assert_eq!(deadlines, [Some(300_500), None, Some(300_802), Some(1_000_000)]);
    table.check_invariants();
    assert_eq!(expired(&mut table, 300_499, 9).0, []);
    assert_eq!(expired(&mut table, 999_999, 9).0.len(), 2);
}

#[test]
fn a_renewed_lease_is_rearmed_once_a_window() {
    const WINDOW_MS: u64 = 30_000;
    let mut table = LeaseTable::new(100);
    let mut leases = Vec::new();
    table.grant_many(100, MonoMs(0), WINDOW_MS, &mut leases).unwrap();
    for now in (0..10 * WINDOW_MS).step_by(100) {
        if now % 1_000 == 0 {
            for &lease in &leases {
                table.renew(lease, MonoMs(now), WINDOW_MS).unwrap();
            }
        }
        assert_eq!(expired(&mut table, now, 9).0, []);
    }
    let rearmed = table.stats().rearmed;
    assert!((900..=1_100).contains(&rearmed), "{rearmed} moves for 100 leases in 10 windows");
}

#[test]
fn waking_at_the_next_deadline_is_rarely_in_vain() {
    let mut table = LeaseTable::new(10_000);
    for slot in 0..10_000_u64 {
        table.grant(MonoMs(0), 100_000 + slot * 100).unwrap();
    }
    let (mut wakeups, mut out) = (0, Vec::new());
    while let Some(next) = table.next_deadline() {
        wakeups += 1;
        table.expire(next, usize::MAX, &mut out);
    }
    assert_eq!(out.len(), 10_000);
    assert!(out.iter().all(|lease| lease.overdue_ms == 0), "no lease was woken up for late");
    assert!(wakeups < 10_050, "{wakeups} wake-ups for 10,000 deadlines");
}

#[test]
fn a_clock_of_any_origin_will_do() {
    for start in [0, 1, 1_790_000_000_000, u64::MAX - 10_000_000] {
        let mut table = LeaseTable::new(8);
        let handle = table.grant(MonoMs(start), 5_000).unwrap();
        assert_eq!(table.deadline(handle), Some(MonoMs(start + 5_000)));
        assert_eq!(expired(&mut table, start + 4_999, 9).0, []);
        assert_eq!(expired(&mut table, start + 5_000, 9).0.len(), 1);
    }
}
