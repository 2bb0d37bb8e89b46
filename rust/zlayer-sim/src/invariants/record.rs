//! One second after something became true, the control state says so: Ready with a session, Suspect without its
//! connection, Unreachable without a lease, Left after a goodbye. Pauses, slow commits and turned-away proposals add
//! what they took.

use std::collections::VecDeque;

use zlayer_core::record::{Liveness, NodeId};

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;

/// How long the record may lag. Part of the promise "within a second".
const LAG_MS: i64 = 1_000;

#[derive(Default)]
pub(super) struct Record {
    nodes: Accounts<Node>,
    /// What to compare, in order of the time from which it counts.
    open: VecDeque<(i64, NodeId)>,
}

#[derive(Default)]
struct Node {
    newest: u64,
    recorded: Option<Liveness>,
    /// What is true; `None`: whatever is recorded.
    truth: Option<Liveness>,
    since: i64,
}

impl Invariant for Record {
    fn name(&self) -> &'static str {
        "record"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted | Fact::Died => {
                self.nodes.each().for_each(|(_, node)| (node.truth, node.newest) = (None, 0));
            }
            Fact::Opened { node, session, .. } => {
                self.nodes.of(node).newest = session;
                self.becomes(moment, node, Some(Liveness::Ready));
            }
            Fact::Closed { node, session } => {
                let at = self.nodes.of(node);
                if at.newest == session && at.truth == Some(Liveness::Ready) {
                    self.becomes(moment, node, Some(Liveness::Suspect));
                }
            }
            Fact::Leaving { node, session } if self.nodes.of(node).newest == session => {
                self.becomes(moment, node, Some(Liveness::Left));
            }
            // Whether it is right to say so is for others to judge.
            Fact::Proposed {
                node, to: to @ (Liveness::Unreachable | Liveness::Suspect), ..
            } if self.nodes.of(node).truth != Some(to) => {
                self.becomes(moment, node, Some(to));
            }
            Fact::Removed { node } => self.becomes(moment, node, None),
            Fact::Recorded { node, liveness } => {
                let at = self.nodes.of(node);
                at.recorded = Some(liveness);
                // What is recorded late is wrong from now on, if it is.
                if at.truth.is_some_and(|truth| truth != liveness) {
                    self.open.push_back((moment.times.able(), node));
                }
            }
            Fact::Audit | Fact::Ticked { .. } => return self.compare(moment),
            _ => {}
        }
        Ok(())
    }
}

impl Record {
    fn becomes(&mut self, moment: &Moment<'_>, node: NodeId, truth: Option<Liveness>) {
        let at = self.nodes.of(node);
        at.truth = truth;
        at.since = moment.times.able();
        if truth.is_some() && truth != at.recorded {
            self.open.push_back((at.since, node));
        }
    }

    fn compare(&mut self, moment: &Moment<'_>) -> Verdict {
        let able = moment.times.able();
        while let Some(&(since, node)) = self.open.front() {
            // The clock steps back a little where an excuse is noted; then this waits.
            if able - since <= LAG_MS {
                break;
            }
            self.open.pop_front();
            let at = self.nodes.of(node);
            let Some(truth) = at.truth.filter(|&truth| at.recorded != Some(truth)) else {
                continue;
            };
            if able - at.since > LAG_MS {
                let (recorded, lag) = (at.recorded, able - at.since);
                let what = format!("{truth:?} for {lag} ms, and recorded as {recorded:?}");
                return broken(node, what);
            }
            self.open.push_back((at.since, node));
        }
        Ok(())
    }
}
