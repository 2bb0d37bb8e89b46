//! Random networks, servers and owners; what must hold whatever they do.

use std::collections::BTreeMap;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Line {
    Dialling,
    Open { last_seq: u64, watched: bool },
}

/// A bench with the lines that stand, as a driver would hold them.
struct World {
    bench: Bench,
    dice: Jitter,
    lines: BTreeMap<LinkId, Line>,
    announced: bool,
    last_beat: Option<MonoMs>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Jitter::new(seed);
        let servers = 1 + dice.upto(2) as usize;
        let bench = Bench::new(servers, seed);
        let mut world =
            Self { bench, dice, lines: BTreeMap::new(), announced: false, last_beat: None };
        world.carry_out();
        world
    }

    fn carry_out(&mut self) {
        for effect in self.bench.take() {
            match effect {
                Effect::Dial(link, _) => {
                    assert_eq!(self.lines.insert(link, Line::Dialling), None, "a new number");
                }
                Effect::Send(link, report) => self.send(link, &report),
                Effect::Watch(link, _) => match self.lines.get_mut(&link) {
                    Some(Line::Open { watched, .. }) => *watched = true,
                    other => panic!("watch on {other:?}"),
                },
                Effect::Close(link) => {
                    assert!(self.lines.remove(&link).is_some(), "closed twice");
                }
                Effect::Tell(event) => self.tell(&event),
            }
        }
        assert!(self.lines.len() <= 2, "{:?}", self.lines);
        if self.bench.protocol.is_over() {
            assert!(self.lines.is_empty());
        } else {
            assert!(self.bench.protocol.next_wakeup().is_some() || !self.lines.is_empty());
        }
    }

    fn send(&mut self, link: LinkId, report: &StatusReport) {
        let Some(Line::Open { last_seq, .. }) = self.lines.get_mut(&link) else {
            panic!("a report on a line that is not open");
        };
        assert_eq!(report.seq, *last_seq + 1, "without a gap");
        assert_eq!(report.hello.is_some(), report.seq == 1);
        *last_seq = report.seq;
        if report.hello.is_none() && !report.leaving {
            let pause = self.last_beat.map(|at| self.bench.now.since(at));
            assert!(pause.is_none_or(|pause| pause >= BEAT_MIN_MS), "{pause:?}");
            self.last_beat = Some(self.bench.now);
        }
    }

    fn tell(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Connected { .. } => {
                assert!(!std::mem::replace(&mut self.announced, true));
            }
            SessionEvent::Disconnected { .. } => {
                assert!(std::mem::replace(&mut self.announced, false));
            }
            SessionEvent::Refused { .. } => self.announced = false,
            SessionEvent::Assignments { .. } => {}
        }
    }

    fn step(&mut self) {
        let lines = self.lines.len() as u64;
        match self.dice.upto(19) {
            0..=9 if lines > 0 => {
                let nth = self.dice.upto(lines - 1) as usize;
                self.use_line(nth);
            }
            10 => self.bench.give(Input::NewIdentity),
            11 => {
                let cpu_millicores = self.dice.upto(3) as u32;
                self.bench
                    .give(Input::Resources(Resources { cpu_millicores, ..Resources::default() }));
            }
            12 => {
                // Also much later than asked: a process may be frozen.
                let ms = self.dice.upto(30_000);
                self.bench.now = self.bench.now.plus(ms);
                self.bench.give(Input::Tick);
            }
            13 if self.dice.upto(30) == 0 => self.bench.give(Input::Leave),
            _ => {
                let ms = self.dice.upto(3_000);
                let until = self.bench.now.plus(ms);
                // Effects are carried out between the ticks, as a driver does.
                while let Some(at) = self.bench.protocol.next_wakeup().filter(|at| *at <= until) {
                    self.bench.now = at;
                    self.bench.give(Input::Tick);
                    self.carry_out();
                }
                self.bench.now = until;
                self.bench.give(Input::Tick);
            }
        }
        self.carry_out();
    }

    fn use_line(&mut self, nth: usize) {
        let (&link, &stage) = self.lines.iter().nth(nth).unwrap();
        let kind = match self.dice.upto(19) {
            0 => FailureKind::Removed,
            1 => FailureKind::Refused,
            2..=4 => FailureKind::Aged,
            _ => FailureKind::Lost,
        };
        match (stage, self.dice.upto(9)) {
            (_, 0) => {
                self.lines.remove(&link);
                self.bench.give(Input::Ended(link, failure(kind)));
            }
            (Line::Dialling, _) => {
                self.lines.insert(link, Line::Open { last_seq: 0, watched: false });
                self.bench.give(Input::Opened(link));
            }
            (Line::Open { watched: true, last_seq }, 1) => {
                self.lines.insert(link, Line::Open { watched: false, last_seq });
                self.bench.give(Input::WatchEnded(link, failure(kind)));
            }
            (Line::Open { watched: true, .. }, 2) => self.bench.give(Input::Assigned(link, 1)),
            (Line::Open { last_seq, .. }, _) => {
                let seq = last_seq.saturating_sub(u64::from(self.dice.upto(9) == 0));
                let next = self.dice.upto(TTL_MS);
                self.bench.ack(link, seq, next);
            }
        }
    }
}

#[test]
fn whatever_happens_the_rules_hold() {
    for seed in 0..3_000 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            if world.bench.protocol.is_over() {
                break;
            }
            world.step();
        }
    }
}

/// Every server works from now on: the session must stand again, and soon.
#[test]
fn a_session_always_comes_back() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..100 {
            world.step();
        }
        let timing = Timing::default();
        let bound = timing.slow_retry_ms + timing.backoff_max_ms + timing.dial_timeout_ms + TTL_MS;
        let until = world.bench.now.plus(bound);
        while world.bench.now < until && !world.bench.protocol.is_over() {
            let links: Vec<_> = world.lines.keys().copied().collect();
            for link in links {
                // Serving one line may have closed the other.
                let line = world.lines.get(&link).copied();
                match line {
                    Some(Line::Dialling) => {
                        world.lines.insert(link, Line::Open { last_seq: 0, watched: false });
                        world.bench.give(Input::Opened(link));
                    }
                    Some(Line::Open { last_seq, .. }) => world.bench.ack(link, last_seq, 1_000),
                    None => {}
                }
                world.carry_out();
            }
            world.bench.now = world.bench.now.plus(10);
            world.bench.give(Input::Tick);
            world.carry_out();
        }
        let over = world.bench.protocol.is_over();
        assert!(over || world.bench.state() == SessionState::Connected, "seed {seed}");
        assert!(over || world.lines.len() == 1, "seed {seed}: {:?}", world.lines);
    }
}
