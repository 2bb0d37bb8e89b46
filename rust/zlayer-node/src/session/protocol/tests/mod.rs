//! The protocol against a bench that plays clock, network and server.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod leaving;
mod random;
mod recovery;
mod session;

use super::*;

/// TTL and grace of the bench's server.
const TTL_MS: u64 = 10_000;
const GRACE_MS: u64 = 10_000;

/// A protocol, the time, and what it has asked for and not been given yet.
struct Bench {
    protocol: Protocol,
    now: MonoMs,
    asked: Vec<Effect>,
}

impl Bench {
    fn new(servers: usize, seed: u64) -> Self {
        Self::with(servers, seed, Timing::default())
    }

    fn with(servers: usize, seed: u64, timing: Timing) -> Self {
        let servers = (0..servers).map(|n| format!("s{n}:1")).collect();
        let terms = Terms { servers, incarnation: 7, version: "1.2.3".into(), timing };
        let mut bench = Self {
            protocol: Protocol::new(MonoMs(1_000), terms, seed),
            now: MonoMs(1_000),
            asked: Vec::new(),
        };
        bench.give(Input::Tick);
        bench
    }

    fn give(&mut self, input: Input) {
        self.protocol.handle(self.now, input, &mut self.asked);
        if let Some(at) = self.protocol.next_wakeup() {
            assert!(at > self.now, "a wake-up in the past would spin");
        }
    }

    /// Lets time pass, with a tick at each wake-up, up to `at`.
    fn sleep_to(&mut self, at: MonoMs) {
        while let Some(wakeup) = self.protocol.next_wakeup().filter(|wakeup| *wakeup <= at) {
            self.now = wakeup;
            self.give(Input::Tick);
        }
        self.now = at;
        self.give(Input::Tick);
    }

    fn sleep(&mut self, ms: u64) {
        self.sleep_to(self.now.plus(ms));
    }

    /// Sleeps until something is asked for, at most `ms`; returns how long it took.
    fn sleep_until_asked(&mut self, ms: u64) -> Option<u64> {
        let from = self.now;
        while self.asked.is_empty() {
            let wakeup = self.protocol.next_wakeup().filter(|at| at.since(from) <= ms)?;
            self.now = wakeup;
            self.give(Input::Tick);
        }
        Some(self.now.since(from))
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.asked)
    }

    /// The one dial that was asked for.
    fn take_dial(&mut self) -> (LinkId, usize) {
        match self.take().as_slice() {
            [Effect::Dial(link, server)] => (*link, *server),
            other => panic!("not one dial: {other:?}"),
        }
    }

    /// The one report that was asked for.
    fn take_report(&mut self) -> (LinkId, StatusReport) {
        match self.take().as_slice() {
            [Effect::Send(link, report)] => (*link, report.clone()),
            other => panic!("not one report: {other:?}"),
        }
    }

    fn ack(&mut self, link: LinkId, seq: u64, next_beat_in_ms: u64) {
        self.give(Input::Acked(link, ack(seq, next_beat_in_ms)));
    }

    /// Dials, greets and is answered; returns the link and its server.
    fn connect(&mut self, next_beat_in_ms: u64) -> (LinkId, usize) {
        let (link, server) = self.take_dial();
        self.give(Input::Opened(link));
        let (_, hello) = self.take_report();
        assert!(hello.hello.is_some());
        self.ack(link, 1, next_beat_in_ms);
        (link, server)
    }

    /// As `connect`, with nothing left in `asked`.
    fn connected(servers: usize, seed: u64, next_beat_in_ms: u64) -> (Self, LinkId, usize) {
        let mut bench = Self::new(servers, seed);
        let (link, server) = bench.connect(next_beat_in_ms);
        bench.take();
        (bench, link, server)
    }

    fn state(&self) -> SessionState {
        self.protocol.status().state
    }
}

fn ack(seq: u64, next_beat_in_ms: u64) -> StatusAck {
    StatusAck {
        seq,
        ttl_ms: TTL_MS,
        grace_ms: GRACE_MS,
        next_beat_in_ms,
        reconnect_spread_ms: 4_000,
        draining: false,
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, why: format!("{kind:?}"), said: true }
}

fn told(effects: &[Effect]) -> Vec<&SessionEvent> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Tell(event) => Some(event),
            _ => None,
        })
        .collect()
}
