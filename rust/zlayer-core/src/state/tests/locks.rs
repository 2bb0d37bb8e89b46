//! Locks: one holder at a time, fences that grow.

use super::Log;
use crate::command::{Command, HeldLock, Outcome, Refusal};

fn acquire(name: &str, holder: u64) -> Command {
    Command::AcquireLock {
        name: name.into(),
        holder: format!("{holder:032x}"),
        owner: format!("process {holder}"),
        ttl_ms: 10_000,
    }
}

fn release(name: &str, fence: u64) -> Command {
    Command::ReleaseLocks { items: vec![HeldLock { name: name.into(), fence }] }
}

fn fence(log: &mut Log, command: Command) -> u64 {
    match log.apply(command) {
        Outcome::Locked { fence } => fence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_holds_it_and_the_next_has_a_greater_fence() {
    let mut log = Log::new();
    let first = fence(&mut log, acquire("a", 1));
    assert_eq!(fence(&mut log, acquire("a", 1)), first, "a retry");
    let held = Refusal::LockHeld { name: "a".into(), owner: "process 1".into(), fence: first };
    assert_eq!(log.refused(acquire("a", 2)), held);
    let other = fence(&mut log, acquire("b", 2));
    assert_ne!(other, first);
    let before = log.state.locks_revision();
    assert_eq!(log.apply(release("a", first + 1)), Outcome::Released { count: 0 }, "another fence");
    assert_eq!(log.state.locks_revision(), before);
    assert_eq!(log.apply(release("a", first)), Outcome::Released { count: 1 });
    assert!(log.state.locks_revision() > before);
    assert_eq!(log.apply(release("a", first)), Outcome::Released { count: 0 }, "again");
    let second = fence(&mut log, acquire("a", 2));
    assert!(second > first);
    // An old holder that wakes up lets go of nothing.
    assert_eq!(log.apply(release("a", first)), Outcome::Released { count: 0 });
    assert_eq!(log.state.lock("a").unwrap().fence, second);
    assert_eq!(log.state.locks().count(), 2);
}

#[test]
fn what_is_out_of_its_range_is_named() {
    let mut log = Log::new();
    let change = |change: &dyn Fn(&mut String, &mut String, &mut String, &mut u64)| {
        let mut command = acquire("a", 1);
        if let Command::AcquireLock { name, holder, owner, ttl_ms } = &mut command {
            change(name, holder, owner, ttl_ms);
        }
        command
    };
    for (field, command) in [
        ("name", change(&|name, _, _, _| name.clear())),
        ("holder", change(&|_, holder, _, _| holder.push('0'))),
        ("owner", change(&|_, _, owner, _| owner.push('\n'))),
        ("owner", change(&|_, _, owner, _| *owner = "x".repeat(129))),
        ("ttl_ms", change(&|_, _, _, ttl_ms| *ttl_ms = 999)),
        ("ttl_ms", change(&|_, _, _, ttl_ms| *ttl_ms = 3_600_001)),
    ] {
        let refusal = log.refused(command);
        assert!(matches!(&refusal, Refusal::Invalid { field: named, .. } if named == field));
    }
}
