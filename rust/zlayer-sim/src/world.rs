//! One world: its calendar, and who does what when something on it is due.

mod build;
mod cast;
mod commit;
mod engine;
mod network;
mod serve;
mod strike;
mod strike_server;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use zlayer_core::record::{FIRST_WORKER_ID, NodeId};

pub(crate) use cast::Happening;
use cast::{AllDice, Down, Host, Process, Up, Wire};

use crate::Ms;
use crate::agenda::Agenda;
use crate::fact::Fact;
use crate::invariants::Invariants;
use crate::journal::Journal;
use crate::line::Line;
use crate::scenario::FaultPlan;
use crate::server::Server;
use crate::settings::Settings;
use crate::trace::Trace;
use crate::verdict::{Failure, Summary, Violation};

/// Facts in a report, unless more are asked for.
const FACTS_TOLD: usize = 25;
/// How often the core checks itself, in audits; it takes time in proportion to the nodes.
const SELF_CHECK_S: u64 = 60;

/// A world between its first and its last moment.
pub struct World {
    settings: Settings,
    plan: FaultPlan,
    now: Ms,
    /// When the faults end.
    calm_at: Ms,
    calm: bool,
    agenda: Agenda<Happening>,
    dice: AllDice,
    hosts: Vec<Host>,
    /// Hosts of each node, by its place after the first id.
    hosts_of: Vec<Vec<u32>>,
    server: Server,
    journal: Journal,
    invariants: Invariants,
    trace: Trace,
    broken: Option<Violation>,
    sum: Summary,
    audits: u64,
    /// A bit for each kind of fault that was put in.
    struck: u32,
    facts_told: usize,
}

impl World {
    /// With so many facts in the report of a failure.
    #[must_use]
    pub fn telling(mut self, facts: usize) -> Self {
        self.facts_told = facts;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// The first broken promise, a check of the core's own included.
    pub fn run(mut self) -> Result<Summary, Box<Failure>> {
        let began = Instant::now();
        // The core's own checks panic; the world is only looked at afterwards.
        let ran = catch_unwind(AssertUnwindSafe(|| self.go_on()));
        if let Err(panic) = ran {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
            self.break_promise("core", None, text.unwrap_or_else(|| "a panic".into()));
        }
        if let Some(violation) = self.broken {
            let most = self.facts_told;
            let of_node = violation.node.map(|node| self.trace.last(Some(node), most));
            return Err(Box::new(Failure {
                settings: self.settings,
                of_node: of_node.unwrap_or_default(),
                of_all: self.trace.last(None, most / 2),
                violation,
            }));
        }
        let peaks = self.invariants.peaks();
        Ok(Summary {
            hash: self.trace.hash(),
            facts: self.trace.facts(),
            simulated_ms: self.now,
            took: began.elapsed(),
            paced_peak: peaks.paced,
            beats_peak: peaks.beats,
            plan_peak: peaks.planned,
            hellos_peak: peaks.hellos,
            entries: self.journal.entries(),
            kinds: self.struck.count_ones(),
            ..self.sum
        })
    }

    fn go_on(&mut self) {
        while self.broken.is_none()
            && let Some((at, what)) = self.agenda.pop_until(self.settings.length_ms)
        {
            self.now = at;
            self.happen(what);
        }
        if self.broken.is_none() {
            self.now = self.settings.length_ms;
            self.self_check();
            self.tell(Fact::Ended);
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wake { worker } => self.wake(worker),
            Happening::AtWorker { wire, down } => self.at_worker(wire, down),
            Happening::AtServer { .. }
            | Happening::Accepted { .. }
            | Happening::GivenUp { .. }
            | Happening::Old { .. }
            | Happening::Tick { .. }
            | Happening::Durable { .. } => self.at_server(what),
            Happening::Resume => self.resume(),
            Happening::Boot => self.boot(),
            Happening::Unpause { worker } => self.unpause(worker),
            Happening::Vanish { worker } => self.vanish(worker),
            Happening::Start { worker } => self.start(worker),
            Happening::End { worker } => self.end_twin(worker),
            Happening::Strike(fault) => self.strike(fault),
            Happening::Audit => self.audit(),
            Happening::Calm => {
                self.calm = true;
                self.tell(Fact::Calm);
            }
        }
    }

    fn audit(&mut self) {
        self.tell(Fact::Audit);
        self.agenda.push(self.now + 1_000, Happening::Audit);
        self.audits += 1;
        // Large fleets would spend all their time on this.
        let every = SELF_CHECK_S * (1 + self.hosts.len() as u64 / 100);
        if self.audits.is_multiple_of(every) {
            self.self_check();
        }
    }

    fn self_check(&self) {
        if let Some(engine) = self.server.engine() {
            engine.check_invariants();
        }
        self.journal.state().check_invariants();
    }

    /// Writes a fact down and lets every invariant judge it.
    fn tell(&mut self, fact: Fact) {
        self.trace.note(self.now, fact);
        if let Some(violation) = self.invariants.note(self.now, &fact) {
            self.broken.get_or_insert(violation);
        }
    }

    fn break_promise(&mut self, invariant: &'static str, node: Option<NodeId>, what: String) {
        let violation = Violation { invariant, at: self.now, node, what };
        self.broken.get_or_insert(violation);
    }

    fn host(&mut self, worker: u32) -> &mut Host {
        &mut self.hosts[worker as usize]
    }

    fn hosts_of(&self, node: NodeId) -> &[u32] {
        let index = (node - FIRST_WORKER_ID) as usize;
        self.hosts_of.get(index).map_or(&[], Vec::as_slice)
    }

    fn line(&mut self, wire: Wire) -> Option<&mut Line> {
        self.host(wire.worker).lines.iter_mut().find(|line| line.link == wire.link)
    }
}
