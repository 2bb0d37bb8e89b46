//! Faults of workers and of their network.

use zlayer_core::record::NodeId;

use super::network::BRIDGED_MS;
use super::{Happening, Process, Wire, World};
use crate::Ms;
use crate::fact::{Blow, Fact};
use crate::scenario::Fault;
use crate::worker::Input;

impl World {
    /// A fault is due; so is the next of its kind, later.
    pub(super) fn strike(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        let mean = self.plan.gaps.iter().find(|(kind, _)| *kind == fault).map(|(_, mean)| *mean);
        if let Some(mean) = mean {
            let after_ms = self.dice.faults.gap(mean);
            self.agenda.push(self.now + after_ms, Happening::Strike(fault));
        }
        self.sum.faults += 1;
        self.struck |= 1 << fault as u32;
        self.tell(Fact::Fault(fault));
        match fault {
            Fault::Reset
            | Fault::Cut
            | Fault::WorkerPause
            | Fault::Crash
            | Fault::Vanish
            | Fault::Relapse
            | Fault::Leave
            | Fault::Renew
            | Fault::Twin
            | Fault::Remove => {
                let worker = self.dice.faults.below(self.hosts.len() as u64) as u32;
                self.strike_worker(worker, fault);
            }
            _ => self.strike_server(fault),
        }
    }

    /// How long a fault lasts: short mostly, and over when all of them are.
    pub(super) fn lasting(&mut self, least: Ms, most: Ms) -> Ms {
        let left = self.calm_at.saturating_sub(self.now);
        self.dice.faults.skewed(least, most).min(left)
    }

    fn strike_worker(&mut self, worker: u32, fault: Fault) {
        let node = self.host(worker).node;
        match fault {
            Fault::Reset => self.reset_all(worker),
            Fault::Cut => {
                let ms = self.lasting(1_000, 600_000);
                self.cut(worker, ms);
            }
            Fault::WorkerPause => {
                let ms = self.lasting(500, 600_000);
                if self.dice.faults.once_in(4) {
                    self.host(worker).stops_after_report = Some(ms);
                } else {
                    self.pause_for(worker, ms);
                }
            }
            Fault::Crash if self.host(worker).process != Process::Off => {
                self.stop_process(worker);
                self.come_back(worker, 1_000);
            }
            Fault::Vanish => self.vanish(worker),
            Fault::Relapse => {
                self.reset_all(worker);
                let ms = self.lasting(500, 15_000);
                self.agenda.push(self.now + ms, Happening::Vanish { worker });
            }
            Fault::Leave => {
                self.tell(Fact::Struck { node, blow: Blow::Heavy });
                self.input(worker, Input::Leave);
                self.come_back(worker, 10_000);
            }
            Fault::Renew => self.input(worker, Input::NewIdentity),
            Fault::Twin => self.add_twin(node),
            Fault::Remove => self.remove_one_of(node),
            _ => {}
        }
    }

    pub(super) fn reset_all(&mut self, worker: u32) {
        let links: Vec<_> = self.host(worker).lines.iter().map(|line| line.link).collect();
        for link in links {
            self.reset(Wire { worker, link });
        }
    }

    /// No packet of this host passes for so long.
    pub(super) fn cut(&mut self, worker: u32, ms: Ms) {
        let whole_at = self.now + ms;
        let host = self.host(worker);
        host.cut_until = host.cut_until.max(whole_at);
        let (node, cut_until) = (host.node, host.cut_until);
        // What was sent into it may need as long again.
        let until = cut_until + ms.min(BRIDGED_MS);
        self.tell(Fact::Cut { node, until });
        if ms > BRIDGED_MS {
            self.let_all_die(worker);
        }
    }

    pub(super) fn pause_for(&mut self, worker: u32, ms: Ms) {
        let left = self.calm_at.saturating_sub(self.now);
        let ms = ms.min(left);
        self.pause(worker);
        self.agenda.push(self.now + ms, Happening::Unpause { worker });
    }

    /// A host is gone without a word.
    pub(super) fn vanish(&mut self, worker: u32) {
        if self.host(worker).process == Process::Off {
            return;
        }
        self.process_is_gone(worker);
        self.let_all_die(worker);
        for line in &mut self.host(worker).lines {
            line.worker_open = false;
        }
        self.come_back(worker, 20_000);
    }

    /// A process that ends is started again, mostly.
    fn come_back(&mut self, worker: u32, earliest_ms: Ms) {
        if self.host(worker).is_twin || self.dice.faults.once_in(6) {
            return;
        }
        let after_ms = self.lasting(earliest_ms, 600_000);
        self.agenda.push(self.now + after_ms, Happening::Start { worker });
    }

    /// A second process with the same identity, on another host, for a while.
    fn add_twin(&mut self, node: NodeId) {
        let is_first = self.hosts_of(node).len() == 1;
        if !is_first || self.journal.state().node(node).is_none() {
            return;
        }
        let worker = self.add_host(node, true);
        self.start(worker);
        let ms = self.lasting(1_000, 300_000);
        self.agenda.push(self.now + ms, Happening::End { worker });
    }

    /// A twin ends for good.
    pub(super) fn end_twin(&mut self, worker: u32) {
        self.host(worker).is_over = true;
        self.stop_process(worker);
    }

    fn remove_one_of(&mut self, node: NodeId) {
        if self.server.is_up() && self.journal.state().node(node).is_some() {
            self.remove_one(node);
        }
    }
}
