//! Makes a world from its settings.

use zlayer_core::command::Command;
use zlayer_core::liveness::{Event, LivenessLimits};
use zlayer_core::record::{FIRST_WORKER_ID, NodeId};

use super::{AllDice, FACTS_TOLD, Happening, Host, Process, World};
use crate::Ms;
use crate::agenda::Agenda;
use crate::dice::{Dice, Stream};
use crate::fact::Fact;
use crate::flaw::Flaw;
use crate::invariants::{Invariants, Rules};
use crate::journal::{Asked, Journal};
use crate::scenario::FaultPlan;
use crate::server::Server;
use crate::settings::Settings;
use crate::trace::Trace;
use crate::verdict::Summary;
use crate::worker::{Manners, Worker};

/// Dials a second of a fleet that starts. Chosen: as in a reconnect.
const STARTS_PER_SECOND: u64 = 400;

impl World {
    /// A world before its first moment: a server without workers, and workers that will start.
    pub fn new(settings: Settings) -> Self {
        let rules = Rules {
            config: settings.ttl_config(),
            limits: LivenessLimits::default(),
            scenario: settings.scenario,
        };
        let dice = |stream| Dice::new(settings.seed, stream);
        let mut world = Self {
            plan: FaultPlan::new(settings.scenario, settings.seed, settings.workers),
            now: 0,
            calm_at: 0,
            calm: false,
            agenda: Agenda::new(),
            dice: AllDice {
                faults: dice(Stream::Faults),
                network: dice(Stream::Network),
                server: dice(Stream::Server),
                workers: dice(Stream::Workers),
            },
            hosts: Vec::new(),
            hosts_of: Vec::new(),
            server: Server::new(),
            journal: Journal::new(),
            invariants: Invariants::new(rules),
            trace: Trace::new(),
            broken: None,
            sum: Summary::default(),
            audits: 0,
            struck: 0,
            facts_told: FACTS_TOLD,
            settings,
        };
        world.journal.forgetful = world.settings.flaw == Some(Flaw::CommitLost);
        world.boot();
        world.enrol_fleet();
        world.plan_faults();
        world.agenda.push(1_000, Happening::Audit);
        world
    }

    pub(super) fn rules(&self) -> Rules {
        self.invariants.rules().clone()
    }

    fn enrol_fleet(&mut self) {
        let workers = self.settings.workers;
        let (jti, command) = self.journal.token(workers);
        self.journal.apply(0, command);
        for key in 0..u64::from(workers) {
            if let Some(node) = self.journal.enrol(0, &jti, key) {
                self.enrolled(node);
            }
        }
    }

    /// A node is a member: its host exists, and its worker starts.
    pub(super) fn enrolled(&mut self, node: NodeId) {
        self.tell(Fact::Enrolled { node });
        if let Some(record) = self.journal.state().node(node) {
            let event = Event::Enrolled { node, liveness: record.liveness, epoch: record.epoch };
            self.tell_engine([event]);
        }
        let worker = self.add_host(node, false);
        let fleet_ms = u64::from(self.settings.workers) * 1_000 / STARTS_PER_SECOND;
        let after_ms = self.dice.workers.below(fleet_ms.max(1_000));
        self.agenda.push(self.now + after_ms, Happening::Start { worker });
    }

    pub(super) fn add_host(&mut self, node: NodeId, is_twin: bool) -> u32 {
        let worker = self.hosts.len() as u32;
        self.hosts.push(Host {
            node,
            process: Process::Off,
            session: Worker::new(self.now, 0, 0, Manners::default()),
            lines: Vec::new(),
            cut_until: 0,
            wake_at: None,
            inbox: Vec::new(),
            stops_after_report: None,
            is_twin,
            is_over: false,
        });
        let index = (node - FIRST_WORKER_ID) as usize;
        if index >= self.hosts_of.len() {
            self.hosts_of.resize_with(index + 1, Vec::new);
        }
        self.hosts_of[index].push(worker);
        worker
    }

    /// One more worker enrols, over the log.
    pub(super) fn enrol_one(&mut self) {
        let (jti, command) = self.journal.token(1);
        self.propose(command, Asked::Other);
        // Keys of the fleet count from 0.
        let key = (1 << 40) + self.journal.entries() * 64 + self.journal.pending() as u64;
        self.propose(Journal::redeem(&jti, key), Asked::Other);
    }

    pub(super) fn remove_one(&mut self, node: NodeId) {
        self.propose(Command::RemoveNode { node_id: node }, Asked::Other);
    }

    fn plan_faults(&mut self) {
        self.calm_at = self.settings.length_ms.saturating_sub(self.calm_ms());
        self.agenda.push(self.calm_at, Happening::Calm);
        // The fleet gets up first.
        let from = u64::from(self.settings.workers) * 1_000 / STARTS_PER_SECOND + 10_000;
        let room = self.calm_at.saturating_sub(from);
        for (fault, mean) in self.plan.gaps.clone() {
            // Each kind once at least, however rare it is.
            let at = from + self.dice.faults.below(mean.min(room / 2));
            self.agenda.push(at, Happening::Strike(fault));
        }
    }

    /// Without faults, everything is right after this: a failover and its spread, a held brake, a lease, and the
    /// longest wait of a worker.
    fn calm_ms(&self) -> Ms {
        let Rules { config, limits, .. } = self.rules();
        let workers = u64::from(self.settings.workers) * 2;
        let ttl_ms = config.ttl_ms(workers);
        config.failover_window_ms(
            u64::from(config.max_ttl_secs.min(2 * ttl_ms as u32 / 1_000)) * 1_000,
        ) + limits.reconnect_spread_ms(workers, ttl_ms)
            + limits.brake.hold_ms
            + 2 * (ttl_ms + config.grace_ms())
            + 90_000
    }
}
