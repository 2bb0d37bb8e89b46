//! Leases of locks: who has to renew by when. In the leader's memory alone; what is in the log is who holds which.
//!
//! A holder counts from the moment that it sent its renewal, this table from the moment that it came: the table lets
//! go later than the holder does. A renewal is answered once a quorum has confirmed the leader *after* it came, and a
//! new leader gives every lock its whole time again: so no two believe that they hold one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zlayer_core::command::HeldLock;
use zlayer_core::state::State;
use zlayer_core::time::MonoMs;

/// A look that comes later than this was held up, and renewals with it. Chosen: three ticks.
const LATE_MS: u64 = 300;

/// Until a release that was proposed, and not seen applied, is proposed again. Chosen.
const AGAIN_MS: u64 = 2_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LockLeases(Mutex<Option<Table>>);

#[derive(Debug)]
struct Table {
    leases: HashMap<String, Lease>,
    /// Of the state that the table was compared with last.
    revision: Option<u64>,
    looked: MonoMs,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    fence: u64,
    deadline: MonoMs,
}

impl LockLeases {
    fn table(&self) -> MutexGuard<'_, Option<Table>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This server leads from now on: every lock has its whole time.
    pub(crate) fn begin(&self, now: MonoMs) {
        *self.table() = Some(Table { leases: HashMap::new(), revision: None, looked: now });
    }

    /// It leads no more.
    pub(crate) fn end(&self) {
        *self.table() = None;
    }

    /// Renews these, and gives those that are not held under their fences any more. `None` where this server does
    /// not lead. The caller confirms that it leads before it believes the answer, and after the renewals came.
    pub(crate) fn renew(
        &self,
        items: &[HeldLock],
        state: &State,
        now: MonoMs,
    ) -> Option<Vec<HeldLock>> {
        let mut table = self.table();
        let table = table.as_mut()?;
        let mut gone = Vec::new();
        for item in items {
            match state.lock(&item.name).filter(|held| held.fence == item.fence) {
                Some(held) => {
                    let deadline = now.plus(held.ttl_ms);
                    let lease = Lease { fence: held.fence, deadline };
                    table.leases.insert(item.name.clone(), lease);
                }
                None => gone.push(item.clone()),
            }
        }
        Some(gone)
    }

    /// The locks whose time is over, each once in a while; empty where this server does not lead.
    pub(crate) fn due(&self, state: &State, now: MonoMs) -> Vec<HeldLock> {
        let mut table = self.table();
        let Some(table) = table.as_mut() else { return Vec::new() };
        let late = now.0.saturating_sub(table.looked.0);
        table.looked = now;
        if late > LATE_MS {
            for lease in table.leases.values_mut() {
                lease.deadline = lease.deadline.plus(late);
            }
        }
        if table.revision != Some(state.locks_revision()) {
            table.compare(state, now);
        }
        let due = table.leases.iter_mut().filter(|(_, lease)| lease.deadline <= now);
        let due = due.map(|(name, lease)| {
            lease.deadline = now.plus(AGAIN_MS);
            HeldLock { name: name.clone(), fence: lease.fence }
        });
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        due
    }
}

impl Table {
    /// Takes over who holds what.
    fn compare(&mut self, state: &State, now: MonoMs) {
        self.leases
            .retain(|name, lease| state.lock(name).is_some_and(|held| held.fence == lease.fence));
        for held in state.locks() {
            self.leases
                .entry(held.name.clone())
                .or_insert_with(|| Lease { fence: held.fence, deadline: now.plus(held.ttl_ms) });
        }
        self.revision = Some(state.locks_revision());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;
    use zlayer_core::command::{Command, Entry, Outcome};
    use zlayer_core::time::UnixMs;

    struct Held {
        state: State,
        index: u64,
    }

    impl Held {
        fn new() -> Self {
            Self { state: State::new("zl".into()), index: 0 }
        }

        fn apply(&mut self, command: Command) -> Outcome {
            self.index += 1;
            self.state.apply(self.index, &Entry { stamp_ms: UnixMs(1), command })
        }

        fn acquire(&mut self, name: &str, ttl_ms: u64) -> HeldLock {
            let holder = format!("{:032x}", self.index);
            let (name, owner) = (name.to_owned(), String::new());
            let command = Command::AcquireLock { name: name.clone(), holder, owner, ttl_ms };
            match self.apply(command) {
                Outcome::Locked { fence } => HeldLock { name, fence },
                other => panic!("{other:?}"),
            }
        }
    }

    /// Looks every 100 ms up to `until`.
    fn look(leases: &LockLeases, held: &Held, from: u64, until: u64) -> Vec<HeldLock> {
        let looks = (from..=until).step_by(100);
        looks.flat_map(|at| leases.due(&held.state, MonoMs(at))).collect()
    }

    #[test]
    fn a_lock_ends_when_it_is_not_renewed_and_not_before() {
        let (leases, mut held) = (LockLeases::default(), Held::new());
        leases.begin(MonoMs(0));
        let lock = held.acquire("a", 1_000);
        assert_eq!(look(&leases, &held, 0, 900), []);
        let renewed = leases.renew(std::slice::from_ref(&lock), &held.state, MonoMs(950));
        assert_eq!(renewed, Some(Vec::new()));
        assert_eq!(look(&leases, &held, 1_000, 1_900), []);
        let due = look(&leases, &held, 2_000, 3_900);
        assert_eq!(due, std::slice::from_ref(&lock), "once in a while");
        held.apply(Command::ReleaseLocks { items: vec![lock.clone()] });
        assert_eq!(look(&leases, &held, 4_000, 9_000), []);
        assert_eq!(
            leases.renew(std::slice::from_ref(&lock), &held.state, MonoMs(9_000)),
            Some(vec![lock])
        );
    }

    #[test]
    fn a_new_leader_gives_the_whole_time_again_and_another_server_none() {
        let (leases, mut held) = (LockLeases::default(), Held::new());
        let lock = held.acquire("a", 1_000);
        assert_eq!(leases.renew(std::slice::from_ref(&lock), &held.state, MonoMs(0)), None);
        assert_eq!(look(&leases, &held, 0, 5_000), []);
        leases.begin(MonoMs(5_000));
        assert_eq!(look(&leases, &held, 5_000, 5_900), []);
        leases.end();
        assert_eq!(look(&leases, &held, 6_000, 9_000), []);
        leases.begin(MonoMs(9_000));
        assert_eq!(look(&leases, &held, 9_000, 9_900), []);
        assert_eq!(look(&leases, &held, 10_000, 10_000), [lock]);
    }

    #[test]
    fn a_leader_that_slept_blames_nobody_for_it() {
        let (leases, mut held) = (LockLeases::default(), Held::new());
        leases.begin(MonoMs(0));
        let lock = held.acquire("a", 1_000);
        assert_eq!(look(&leases, &held, 0, 500), []);
        // A minute goes by between two looks.
        assert_eq!(look(&leases, &held, 60_500, 60_900), []);
        assert_eq!(look(&leases, &held, 61_000, 61_000), [lock]);
    }

    #[test]
    fn a_lock_that_changed_hands_has_the_next_holders_time() {
        let (leases, mut held) = (LockLeases::default(), Held::new());
        leases.begin(MonoMs(0));
        let first = held.acquire("a", 1_000);
        assert_eq!(look(&leases, &held, 0, 900), []);
        held.apply(Command::ReleaseLocks { items: vec![first.clone()] });
        let second = held.acquire("a", 5_000);
        assert_eq!(look(&leases, &held, 1_000, 5_900), []);
        let both = [first.clone(), second.clone()];
        assert_eq!(leases.renew(&both, &held.state, MonoMs(5_900)), Some(vec![first]));
        assert_eq!(look(&leases, &held, 6_000, 10_800), []);
        assert_eq!(look(&leases, &held, 10_900, 10_900), [second]);
    }
}
