//! No live and connected worker is given up, and no single lost message costs a lease. When a lease ends, a worker
//! of that node that runs must have had reason to be silent:
//!
//! * since its last answer it was cut off, stopped, refused or restarted, or its server was, or more than one of its
//!   messages was lost, late or cut short;
//! * and not all of that is long past: for so long that every wait of a worker fits in, nothing of the kind has
//!   happened and the server was well.

use zlayer_core::record::Liveness;

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::Ms;
use crate::fact::{Blow, Fact};

/// A worker that can speak has a session again after this: its longest wait (15 s) and its longest dial (5 s), some
/// times over; or the wait after a refusal (60 s).
const RECOVERY_MS: u64 = 75_000;
/// One that was refused keeps to that wait also when a later dial fails.
const AFTER_REFUSAL_MS: u64 = RECOVERY_MS + 60_000;

/// A worker that reads an answer after a long stop has so long to beat.
const ACT_MS: u64 = 1_000;

#[derive(Default)]
pub(super) struct FalseDown {
    nodes: Accounts<Worker>,
    server_began: Ms,
}

#[derive(Default)]
struct Worker {
    processes: u32,
    told_at: Option<Ms>,
    /// Since the last answer.
    lights: u32,
    heavy: bool,
    /// The last two light blows and the last heavy one.
    light_at: [Ms; 2],
    heavy_at: Ms,
    refused_at: Option<Ms>,
}

impl Invariant for FalseDown {
    fn name(&self) -> &'static str {
        "false_down"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted => self.server_began = moment.now,
            Fact::Process { node, running: true } => {
                let worker = self.nodes.of(node);
                worker.processes += 1;
                worker.strike(Blow::Heavy, moment.now);
            }
            Fact::Process { node, running: false } => {
                let worker = self.nodes.of(node);
                worker.processes -= 1;
                // The other one of two may have been refused for its sake.
                worker.strike(Blow::Heavy, moment.now);
            }
            Fact::Cut { node, until } => {
                self.nodes.of(node).strike(Blow::Heavy, moment.now);
                self.nodes.of(node).strike(Blow::Heavy, until);
            }
            Fact::Struck { node, blow } => self.nodes.of(node).strike(blow, moment.now),
            Fact::Told { node, .. } => {
                let worker = self.nodes.of(node);
                worker.told_at = Some(moment.now);
                // What was under way when its network was cut says nothing.
                (worker.lights, worker.heavy) = (0, worker.heavy_at > moment.now);
            }
            Fact::Proposed { node, to: Liveness::Unreachable, .. } => {
                return self.judge(moment, node);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Worker {
    fn strike(&mut self, blow: Blow, now: Ms) {
        match blow {
            Blow::Light => {
                self.lights += 1;
                self.light_at = [self.light_at[1], now];
            }
            Blow::Heavy | Blow::Refused => {
                if blow == Blow::Refused {
                    self.refused_at = Some(now);
                }
                self.heavy = true;
                self.heavy_at = self.heavy_at.max(now);
            }
        }
    }
}

impl FalseDown {
    fn judge(&mut self, moment: &Moment<'_>, node: u64) -> Verdict {
        let server_began = self.server_began;
        let worker = self.nodes.of(node);
        if worker.processes == 0 {
            return Ok(());
        }
        if let Some(told_at) = worker.told_at.filter(|&at| at > server_began)
            && !worker.heavy
            && worker.lights <= 1
            && moment.now - told_at > ACT_MS
        {
            let (ago, lights) = (moment.now - told_at, worker.lights);
            let what =
                format!("given up {ago} ms after an answer, {lights} messages lost or late since");
            return broken(node, what);
        }
        let quiet = moment.now.saturating_sub(worker.heavy_at.max(worker.light_at[0]));
        let well = moment.times.well_ms().min(quiet);
        let refused = worker.refused_at.is_some_and(|at| moment.now - at <= AFTER_REFUSAL_MS);
        if well > RECOVERY_MS && !refused {
            return broken(node, format!("given up, and it could speak for {well} ms"));
        }
        Ok(())
    }
}
