//! Renewals from many threads against one that expires: every promise that a renewal gave is kept.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A failed unwrap is a failed test.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use zlayer_core::lease::{Expired, LeaseError, LeaseHandle, LeaseSlots, LeaseTable};
use zlayer_core::time::MonoMs;

const RENEWERS: usize = 3;
/// Leases at any time. Few, so that renewals and expiries meet at the same words.
const LEASES: usize = 48;
/// Renewals, and ended leases, after which the race may stop.
const RENEWALS: u64 = 500_000;
const ENDINGS: usize = 20_000;
/// Simulated milliseconds after which it stops in any case. Far more than it takes.
const CLOCK_END: u64 = 100_000_000;
/// Short against the clock's steps, so that most leases end while somebody renews them.
const WINDOW_MS: u64 = 40;

/// What one renewer was promised: the newest deadline of each lease, and which were refused.
#[derive(Default)]
struct Promises {
    deadlines: HashMap<LeaseHandle, MonoMs>,
    refused: Vec<LeaseHandle>,
}

/// Renews what lies in `mailbox` until the clock stops; some leases seldom, some all the time.
fn renewer(
    slots: &LeaseSlots,
    clock: &AtomicU64,
    renewals: &AtomicU64,
    stop: &AtomicBool,
    mailbox: &Mutex<Vec<(LeaseHandle, MonoMs)>>,
) -> Promises {
    let mut promises = Promises::default();
    let mut held: Vec<LeaseHandle> = Vec::new();
    let mut round = 0_u64;
    while !stop.load(Ordering::Acquire) {
        for (handle, deadline) in mailbox.lock().unwrap().drain(..) {
            promises.deadlines.insert(handle, deadline);
            held.push(handle);
        }
        round += 1;
        held.retain(|&handle| {
            if u64::from(handle.generation()) % 4 > round % 4 {
                return true;
            }
            let now = MonoMs(clock.load(Ordering::Acquire));
            let window_ms = WINDOW_MS + u64::from(handle.slot()) % 8;
            match slots.renew(handle, now, window_ms) {
                Ok(deadline) => {
                    let before = promises.deadlines.insert(handle, deadline).unwrap();
                    assert!(deadline >= before, "a deadline went back");
                    renewals.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(error) => {
                    assert_eq!(error, LeaseError::Stale(handle));
                    promises.refused.push(handle);
                    false
                }
            }
        });
    }
    promises
}

/// Runs the race and returns what expired, with the time at which it was, and the promises.
fn race(shift_every: Option<u64>) -> (Vec<(Expired, u64)>, Vec<Promises>, LeaseTable) {
    let mut table = LeaseTable::new(LEASES as u32);
    let slots = table.slots();
    let clock = AtomicU64::new(1);
    let renewals = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let mailboxes: Vec<Mutex<Vec<(LeaseHandle, MonoMs)>>> =
        (0..RENEWERS).map(|_| Mutex::default()).collect();
    let mut expired = Vec::new();
    let promises = std::thread::scope(|scope| {
        let renewers: Vec<_> = mailboxes
            .iter()
            .map(|mailbox| scope.spawn(|| renewer(&slots, &clock, &renewals, &stop, mailbox)))
            .collect();
        let mut out = Vec::new();
        for now in 1..CLOCK_END {
            if renewals.load(Ordering::Relaxed) >= RENEWALS && expired.len() >= ENDINGS {
                break;
            }
            clock.store(now, Ordering::Release);
            if shift_every.is_some_and(|every| now % every == 0) {
                table.shift_by(3);
            }
            table.expire(MonoMs(now), usize::MAX, &mut out);
            expired.extend(out.drain(..).map(|lease| (lease, now)));
            while let Ok(handle) = table.grant(MonoMs(now), WINDOW_MS) {
                let deadline = table.deadline(handle).unwrap();
                mailboxes[handle.slot() as usize % RENEWERS]
                    .lock()
                    .unwrap()
                    .push((handle, deadline));
            }
        }
        stop.store(true, Ordering::Release);
        renewers.into_iter().map(|renewer| renewer.join().unwrap()).collect()
    });
    table.check_invariants();
    assert!(renewals.into_inner() >= RENEWALS && expired.len() >= ENDINGS, "no race took place");
    (expired, promises, table)
}

fn promised(promises: &[Promises]) -> HashMap<LeaseHandle, MonoMs> {
    promises.iter().flat_map(|one| one.deadlines.clone()).collect()
}

#[test]
fn a_lease_ends_at_the_deadline_that_was_promised_last() {
    let (expired, promises, table) = race(None);
    let promised_until = promised(&promises);
    let mut ended = HashMap::new();
    for &(lease, at) in &expired {
        assert!(lease.deadline.0 <= at, "{lease:?} expired early, at {at}");
        assert!(ended.insert(lease.handle, lease.deadline).is_none(), "{lease:?} expired twice");
        // A lease may end before its renewer has opened its mail; then it has only the table's word.
        if let Some(&deadline) = promised_until.get(&lease.handle) {
            assert_eq!(lease.deadline, deadline, "{lease:?} was promised another deadline");
        }
    }
    for handle in promises.iter().flat_map(|one| &one.refused) {
        assert!(ended.contains_key(handle), "{handle:?} was refused and had not ended");
    }
    for (&handle, &deadline) in &promised_until {
        if !ended.contains_key(&handle) {
            assert_eq!(table.deadline(handle), Some(deadline), "a lease that is still held");
        }
    }
}

#[test]
fn a_shift_beside_renewals_never_makes_a_deadline_earlier() {
    let (expired, promises, _) = race(Some(50));
    let promised_until = promised(&promises);
    for (lease, at) in expired {
        assert!(lease.deadline.0 <= at, "{lease:?} expired early, at {at}");
        if let Some(&deadline) = promised_until.get(&lease.handle) {
            assert!(lease.deadline >= deadline, "{lease:?} was promised {deadline:?}");
        }
    }
}
