//! Faults of the server, its host, its disk, and of many workers at once.

use super::{Down, Happening, Process, Wire, World};
use crate::Ms;
use crate::fact::{Blow, Fact};
use crate::scenario::Fault;
use crate::server::Life;
use crate::worker::Ending;

/// How long reading the sockets takes after a sleep: less than the engine waits for it.
const DRAIN_MS: Ms = 250;
/// How late timers and the log's answers are served after a sleep.
const FIRST_MS: Ms = 30;

impl World {
    pub(super) fn strike_server(&mut self, fault: Fault) {
        match fault {
            Fault::MassReset => self.mass_reset(),
            Fault::MassSilence => self.mass_silence(),
            Fault::ClockJump => {
                let hour = 3_600_000;
                self.journal.clock_off_ms += self.dice.faults.below(2 * hour) as i64 - hour as i64;
            }
            _ if !self.server.is_up() => {}
            Fault::ServerPause => {
                let ms = self.lasting(1_000, 60_000);
                self.pause_server(ms);
            }
            Fault::Stutter => {
                let ms = self.dice.faults.between(50, 450);
                self.pause_server(ms);
            }
            Fault::Suspend => self.suspend(),
            Fault::Kill => {
                let ms = self.lasting(200, 120_000);
                self.kill_server(ms, false);
            }
            Fault::PowerLoss => {
                let ms = self.lasting(20_000, 180_000);
                self.kill_server(ms, true);
            }
            Fault::SlowDisk => {
                let ms = self.dice.faults.between(1_000, 15_000);
                self.server.disk_slow_until = self.now + ms;
                self.server.commit_ms_max = self.dice.faults.skewed(200, 3_000);
            }
            Fault::Overload => {
                let ms = self.lasting(100, 3_000);
                self.server.overloaded_until = self.now + ms;
                self.tell(Fact::Busy { until: self.now + ms });
            }
            Fault::LostAnswer => {
                self.server.loses_answer = true;
            }
            Fault::Enrol => self.enrol_one(),
            _ => {}
        }
    }

    fn pause_server(&mut self, ms: Ms) {
        self.server.life = Life::Paused { since: self.now };
        self.tell(Fact::Stopped);
        self.agenda.push(self.now + ms, Happening::Resume);
    }

    /// The host is suspended: what is open dies of it at the workers, and here when it goes on.
    fn suspend(&mut self) {
        let ms = self.dice.faults.between(13_000, 60_000);
        self.pause_server(ms);
        self.server.suspended_until = self.now + ms;
        for worker in 0..self.hosts.len() as u32 {
            let node = self.host(worker).node;
            self.tell(Fact::Struck { node, blow: Blow::Light });
            self.let_all_die(worker);
        }
    }

    /// SIGCONT: everything that waits is ready, and is read in some order, but each connection in its own.
    pub(super) fn resume(&mut self) {
        let Life::Paused { since } = self.server.life else { return };
        self.server.life = Life::Up;
        let waiting = std::mem::take(&mut self.server.inbox);
        self.tell(Fact::Slept { ms: self.now - since });
        for what in waiting {
            let (now, dice) = (self.now, &mut self.dice.server);
            let (first, drained) = (now + dice.below(FIRST_MS), now + dice.below(DRAIN_MS));
            if let Happening::AtServer { wire, .. } = what {
                let Some(line) = self.line(wire) else { continue };
                if line.read_at <= now {
                    line.read_at = drained;
                }
                let at = line.read_at;
                self.agenda.push(at, what);
            } else {
                self.agenda.push(first, what);
            }
        }
    }

    /// The process is gone; with its host, nobody is told.
    fn kill_server(&mut self, down_ms: Ms, with_host: bool) {
        let survives = self.dice.faults.below(self.journal.pending() as u64 + 1) as usize;
        let before = self.journal.state().revision();
        self.journal.crash(self.now, survives);
        self.server.die(with_host);
        self.tell(Fact::Died);
        self.tell_what_became(before);
        for worker in 0..self.hosts.len() as u32 {
            self.lose_server(worker, with_host);
        }
        self.agenda.push(self.now + down_ms, Happening::Boot);
    }

    /// What was durable without an answer is recorded all the same.
    fn tell_what_became(&mut self, revision: u64) {
        let page = self.journal.state().events_after(revision, usize::MAX);
        for event in page.events {
            use zlayer_core::record::EventKind as Kind;
            let node = event.node_id;
            match event.kind {
                Kind::Enrolled => self.enrolled(node),
                Kind::Removed => self.tell(Fact::Removed { node }),
                _ => {
                    let record = self.journal.state().node(node);
                    if let Some(liveness) = record.map(|record| record.liveness) {
                        self.tell(Fact::Recorded { node, liveness });
                    }
                }
            }
        }
    }

    fn lose_server(&mut self, worker: u32, with_host: bool) {
        if with_host {
            self.let_all_die(worker);
        }
        let links: Vec<_> = self.host(worker).lines.iter().map(|line| line.link).collect();
        for link in links {
            let wire = Wire { worker, link };
            let Some(line) = self.line(wire) else { continue };
            (line.served, line.handshaking) = (None, false);
            if line.worker_open && !with_host {
                self.send_down(wire, Down::End(Ending::Lost));
            }
        }
        self.sweep(worker);
    }

    fn mass_reset(&mut self) {
        let share = [100, 100, 50, 10][self.dice.faults.below(4) as usize];
        for worker in 0..self.hosts.len() as u32 {
            if self.dice.faults.below(100) < share {
                self.reset_all(worker);
            }
        }
    }

    /// A rack loses its network, or its hypervisor stops: the connections then look as if they stood.
    fn mass_silence(&mut self) {
        let share = [5, 20, 50, 95][self.dice.faults.below(4) as usize];
        let stopped = self.dice.faults.once_in(2);
        let ms = self.lasting(20_000, 240_000);
        for worker in 0..self.hosts.len() as u32 {
            let runs = self.host(worker).process == Process::Running;
            if !runs || self.dice.faults.below(100) >= share {
                continue;
            }
            if stopped {
                self.pause_for(worker, ms + self.now % 7);
            } else {
                self.cut(worker, ms);
            }
        }
    }
}
