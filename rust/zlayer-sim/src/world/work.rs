//! The workers' side: wakes them, hands them what arrives, carries out what they decide.

use super::{Down, Happening, Process, Up, Wire, World};
use crate::Ms;
use crate::fact::{Blow, Fact};
use crate::flaw::Flaw;
use crate::line::Line;
use crate::worker::{Deed, Ending, Input, Manners, Worker};

/// How late a timer wakes its thread. Chosen: what a loaded machine does.
const TIMER_LATE_MS: Ms = 3;

impl World {
    /// The time has come that a worker asked for.
    pub(super) fn wake(&mut self, worker: u32) {
        let now = self.now;
        let host = self.host(worker);
        if host.wake_at != Some(now) {
            return;
        }
        host.wake_at = None;
        if host.process == Process::Running {
            self.input(worker, Input::Tick);
        }
    }

    /// Something has reached a worker's socket.
    pub(super) fn at_worker(&mut self, wire: Wire, down: Down) {
        let host = self.host(wire.worker);
        if host.process == Process::Paused {
            host.inbox.push((wire.link, down));
            return;
        }
        let Some(line) = self.line(wire).filter(|line| line.worker_open) else { return };
        if matches!(down, Down::End(_)) {
            line.worker_open = false;
        }
        self.read(wire, down);
        self.sweep(wire.worker);
    }

    fn read(&mut self, wire: Wire, down: Down) {
        let node = self.host(wire.worker).node;
        let link = wire.link;
        let input = match down {
            Down::Opened => Input::Opened(link),
            Down::Answer(answer) => {
                self.tell(Fact::Told { node, promise: answer.promise });
                Input::Acked(link, answer)
            }
            Down::End(why) => {
                // Nobody else has its identity, and it is a member: there is no reason to refuse it.
                let alone = self.hosts_of(node).len() == 1;
                let member = self.journal.state().node(node).is_some();
                if why == Ending::Refused && !(alone && member) {
                    self.tell(Fact::Struck { node, blow: Blow::Refused });
                }
                Input::Ended(link, why)
            }
        };
        self.input(wire.worker, input);
    }

    /// Gives a worker's session an input and carries out what it says.
    pub(super) fn input(&mut self, worker: u32, input: Input) {
        let now = self.now;
        let mut deeds = Vec::new();
        let host = &mut self.hosts[worker as usize];
        if host.process != Process::Running {
            return;
        }
        host.session.handle(now, input, &mut self.dice.workers, &mut deeds);
        for deed in deeds {
            self.carry_out(worker, deed);
        }
        let host = self.host(worker);
        if host.session.is_over() && host.process == Process::Running {
            self.stop_process(worker);
        }
        self.plan_wake(worker);
    }

    fn carry_out(&mut self, worker: u32, deed: Deed) {
        match deed {
            Deed::Dial(link) => {
                self.host(worker).lines.push(Line::new(link));
                self.send_up(Wire { worker, link }, Up::Dial);
            }
            Deed::Send(link, report) => {
                self.send_up(Wire { worker, link }, Up::Report(report));
                if let Some(ms) = self.host(worker).stops_after_report.take() {
                    self.pause_for(worker, ms);
                }
            }
            Deed::Close(link) => self.close(Wire { worker, link }),
        }
    }

    /// The worker's end is closed; its kernel says so.
    fn close(&mut self, wire: Wire) {
        let Some(line) = self.line(wire).filter(|line| line.worker_open) else { return };
        line.worker_open = false;
        self.send_up(wire, Up::Fin);
        self.sweep(wire.worker);
    }

    fn plan_wake(&mut self, worker: u32) {
        let host = &self.hosts[worker as usize];
        let Some(at) = host.session.next_wakeup().filter(|_| host.process == Process::Running)
        else {
            return;
        };
        if host.wake_at.is_some_and(|wake_at| wake_at <= at + TIMER_LATE_MS) {
            return;
        }
        let at = at.max(self.now) + self.dice.workers.between(0, TIMER_LATE_MS);
        self.host(worker).wake_at = Some(at);
        self.agenda.push(at, Happening::Wake { worker });
    }

    /// Forgets connections that neither end knows.
    pub(super) fn sweep(&mut self, worker: u32) {
        self.host(worker).lines.retain(|line| !line.is_gone());
    }

    /// A new process of a host.
    pub(super) fn start(&mut self, worker: u32) {
        if self.host(worker).process != Process::Off || self.host(worker).is_over {
            return;
        }
        let incarnation = 1 + self.dice.workers.below(u64::MAX - 1);
        let manners = Manners {
            patient: self.settings.flaw == Some(Flaw::AnswerAwaited),
            trusting: self.settings.flaw == Some(Flaw::LateAnswerTrusted),
            obedient: self.settings.flaw == Some(Flaw::RefusalBelieved),
        };
        let now = self.now;
        let host = self.host(worker);
        host.session = Worker::new(now, incarnation, host.session.links(), manners);
        host.process = Process::Running;
        host.wake_at = None;
        let node = host.node;
        self.tell(Fact::Process { node, running: true });
        self.input(worker, Input::Tick);
    }

    /// A process ends, and its kernel closes what it had open.
    pub(super) fn stop_process(&mut self, worker: u32) {
        let links: Vec<_> = self.host(worker).lines.iter().map(|line| line.link).collect();
        self.process_is_gone(worker);
        for link in links {
            self.close(Wire { worker, link });
        }
    }

    /// A process is gone, whatever its kernel says.
    pub(super) fn process_is_gone(&mut self, worker: u32) {
        let host = self.host(worker);
        let was = std::mem::replace(&mut host.process, Process::Off);
        host.inbox.clear();
        let node = host.node;
        if was == Process::Running {
            self.tell(Fact::Process { node, running: false });
        }
    }

    /// SIGSTOP.
    pub(super) fn pause(&mut self, worker: u32) {
        let host = self.host(worker);
        if host.process != Process::Running {
            return;
        }
        host.process = Process::Paused;
        let node = host.node;
        self.tell(Fact::Process { node, running: false });
    }

    /// SIGCONT: timers and sockets are ready at once, in either order.
    pub(super) fn unpause(&mut self, worker: u32) {
        let host = self.host(worker);
        if host.process != Process::Paused {
            return;
        }
        host.process = Process::Running;
        host.wake_at = None;
        let node = host.node;
        let waiting = std::mem::take(&mut host.inbox);
        self.tell(Fact::Process { node, running: true });
        if self.dice.workers.once_in(2) {
            self.input(worker, Input::Tick);
        }
        for (link, down) in waiting {
            self.at_worker(Wire { worker, link }, down);
        }
        self.input(worker, Input::Tick);
    }
}
