//! Beats come from many threads while one owner decides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

#[test]
fn beats_from_many_threads_keep_their_leases_while_the_owner_ticks_and_replaces_others() {
    const THREADS: usize = 4;
    const STEPS: u64 = 2_000;
    let (mut server, leases) = Server::with_workers(400);
    let (beating, replaced) = leases.split_at(200);
    let clock = AtomicU64::new(server.now.0);
    thread::scope(|scope| {
        for part in beating.chunks(beating.len() / THREADS) {
            let (clock, beats) = (&clock, Arc::clone(&server.beats));
            let mut seen = 0;
            scope.spawn(move || {
                while seen != u64::MAX {
                    seen = clock.load(Ordering::Acquire);
                    let now = MonoMs(if seen == u64::MAX { 0 } else { seen });
                    for lease in part {
                        let ack = beats.beat(lease, now).expect("held");
                        assert!(ack.next_beat_in_ms <= ack.ttl_ms);
                    }
                }
            });
        }
        for step in 0..STEPS {
            // Slow enough for the others: a lease lasts 200 steps, and each step hands them the processor.
            server.pass(100);
            clock.store(server.now.0, Ordering::Release);
            let node = replaced[(step % 200) as usize].node();
            server.open(node);
            thread::yield_now();
            wait_for_beats(&server, beating);
        }
        clock.store(u64::MAX, Ordering::Release);
    });
    assert!(server.log.iter().all(|&(_, node, _, _)| node >= 1_200));
    server.engine.check_invariants();
}

/// Until the newest of all beats is no older than half a window: the threads keep up with the clock.
fn wait_for_beats(server: &Server, leases: &[SessionLease]) {
    for lease in leases {
        while server
            .engine
            .view(lease.node())
            .and_then(|view| view.last_beat)
            .is_none_or(|beat| server.now.since(beat) > 10_000)
        {
            thread::yield_now();
        }
    }
}
