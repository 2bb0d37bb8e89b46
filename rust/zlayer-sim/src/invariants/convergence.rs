//! Once there have been no faults for long enough, everything is right: whoever runs is Ready, whoever doesn't is
//! Unreachable or has left, and nothing is under way.

use zlayer_core::record::Liveness;

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct Convergence {
    nodes: Accounts<Node>,
}

#[derive(Default)]
struct Node {
    processes: u32,
    recorded: Option<Liveness>,
    in_flight: bool,
}

impl Invariant for Convergence {
    fn name(&self) -> &'static str {
        "convergence"
    }

    fn note(&mut self, _: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Process { node, running } => {
                let processes = &mut self.nodes.of(node).processes;
                *processes = if running { *processes + 1 } else { *processes - 1 };
            }
            Fact::Booted => self.nodes.each().for_each(|(_, node)| node.in_flight = false),
            Fact::Enrolled { node } => self.nodes.of(node).recorded = Some(Liveness::Suspect),
            Fact::Recorded { node, liveness } => self.nodes.of(node).recorded = Some(liveness),
            Fact::Removed { node } => self.nodes.of(node).recorded = None,
            Fact::Proposed { node, .. } => self.nodes.of(node).in_flight = true,
            Fact::Answered { node, .. } => self.nodes.of(node).in_flight = false,
            Fact::Ended => return self.judge(),
            _ => {}
        }
        Ok(())
    }
}

impl Convergence {
    fn judge(&mut self) -> Verdict {
        for (id, node) in self.nodes.each() {
            // A removed node's process goes on asking, and is refused.
            let Some(recorded) = node.recorded else { continue };
            let gone = matches!(recorded, Liveness::Unreachable | Liveness::Left);
            if node.in_flight {
                return broken(id, "something is under way for it, and nothing happens".into());
            }
            if node.processes == 0 && !gone {
                return broken(id, format!("{recorded:?}, and nothing of it runs"));
            }
            if node.processes > 0 && recorded != Liveness::Ready {
                return broken(id, format!("{recorded:?}, and it runs and nothing is in its way"));
            }
        }
        Ok(())
    }
}
