//! What must hold in every world, one promise a file. Each is told the facts and keeps its own account of them.
//!
//! | file | promise |
//! |---|---|
//! | `early_expiry` | no lease ends before TTL + grace from the receipt of the last beat that was answered |
//! | `late_expiry` | a silent node is recorded Unreachable one second after that, and what [`crate`] allows |
//! | `doubt` | a due lease is looked at twice; after a sleep the sockets are read first |
//! | `false_down` | no live worker is given up while it can speak; one lost message costs no lease |
//! | `failover` | what a new server process waits for, before it calls anybody Suspect or Unreachable |
//! | `suspicion` | a closed connection is Suspect at once, and nothing else is |
//! | `one_session` | only the newest session of a node renews its lease |
//! | `record` | what is recorded is what is true, a second later |
//! | `pacing` | the plan and what arrives of it stay at the cap; first reports keep to their spread |
//! | `brake` | too many at once are held back, a few never are |
//! | `convergence` | once the faults are over, everything comes right |

mod brake;
mod convergence;
mod doubt;
mod early_expiry;
mod failover;
mod false_down;
mod late_expiry;
mod one_session;
mod pacing;
mod record;
mod suspicion;
#[cfg(test)]
mod tests;

use zlayer_core::liveness::LivenessLimits;
use zlayer_core::record::{FIRST_WORKER_ID, NodeId};
use zlayer_core::ttl::AdaptiveTtlConfig;

pub(crate) use pacing::Peaks;

use crate::Ms;
use crate::fact::Fact;
use crate::scenario::Scenario;
use crate::times::Times;
use crate::verdict::Violation;

/// By what the world is judged: the settings as they should be, without any flaw.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) config: AdaptiveTtlConfig,
    pub(crate) limits: LivenessLimits,
    pub(crate) scenario: Scenario,
}

/// What an invariant sees beside the fact.
pub(crate) struct Moment<'a> {
    pub(crate) now: Ms,
    pub(crate) times: &'a Times,
    pub(crate) rules: &'a Rules,
}

/// A broken promise: to whom, and how.
pub(crate) struct Breach {
    node: Option<NodeId>,
    what: String,
}

type Verdict = Result<(), Breach>;

fn broken(node: impl Into<Option<NodeId>>, what: String) -> Verdict {
    Err(Breach { node: node.into(), what })
}

/// One promise.
pub(crate) trait Invariant {
    fn name(&self) -> &'static str;
    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict;
    /// What it has measured on the way, if anything.
    fn peaks(&self) -> Option<Peaks> {
        None
    }
}

/// All promises and their clocks.
pub(crate) struct Invariants {
    rules: Rules,
    times: Times,
    all: Vec<Box<dyn Invariant>>,
}

impl Invariants {
    pub(crate) fn new(rules: Rules) -> Self {
        let all: Vec<Box<dyn Invariant>> = vec![
            Box::<early_expiry::EarlyExpiry>::default(),
            Box::<doubt::Doubt>::default(),
            Box::<failover::Failover>::default(),
            Box::<false_down::FalseDown>::default(),
            Box::<suspicion::Suspicion>::default(),
            Box::<one_session::OneSession>::default(),
            Box::new(pacing::Pacing::new(&rules)),
            Box::<brake::Brake>::default(),
            Box::<late_expiry::LateExpiry>::default(),
            Box::<record::Record>::default(),
            Box::<convergence::Convergence>::default(),
        ];
        Self { rules, times: Times::default(), all }
    }

    /// Tells a fact to all; the first promise that it breaks.
    pub(crate) fn note(&mut self, now: Ms, fact: &Fact) -> Option<Violation> {
        self.times.note(now, fact);
        let moment = Moment { now, times: &self.times, rules: &self.rules };
        self.all.iter_mut().find_map(|invariant| {
            let Breach { node, what } = invariant.note(&moment, fact).err()?;
            Some(Violation { invariant: invariant.name(), at: now, node, what })
        })
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn times(&self) -> &Times {
        &self.times
    }

    pub(crate) fn peaks(&self) -> Peaks {
        self.all.iter().find_map(|invariant| invariant.peaks()).unwrap_or_default()
    }
}

/// An account for each node. Ids are dense, so it is a vector.
#[derive(Debug, Default)]
struct Accounts<T>(Vec<T>);

impl<T: Default> Accounts<T> {
    fn of(&mut self, node: NodeId) -> &mut T {
        let index = (node - FIRST_WORKER_ID) as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, T::default);
        }
        &mut self.0[index]
    }

    fn each(&mut self) -> impl Iterator<Item = (NodeId, &mut T)> {
        (FIRST_WORKER_ID..).zip(self.0.iter_mut())
    }
}
