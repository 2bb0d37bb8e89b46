//! The trace of a world: a hash over every fact, and the last facts themselves.

use std::collections::VecDeque;

use zlayer_core::record::NodeId;

use crate::Ms;
use crate::fact::Fact;

/// Facts kept for a report. Chosen: a quarter of an hour of 10,000 workers.
const FACTS_KEPT: usize = 1 << 17;

/// Rolling hash and recent facts.
pub(crate) struct Trace {
    hash: u64,
    facts: u64,
    recent: VecDeque<(Ms, Fact)>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, facts: 0, recent: VecDeque::new() }
    }

    pub(crate) fn note(&mut self, at: Ms, fact: Fact) {
        self.facts += 1;
        for word in fact.words().into_iter().chain([at]) {
            self.hash = (self.hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.hash ^= self.hash >> 29;
        }
        // Ticks and audits would push out everything else.
        if matches!(fact, Fact::Ticked { decisions: 0 } | Fact::Audit) {
            return;
        }
        if self.recent.len() == FACTS_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, fact));
    }

    /// Over all facts and their times.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Facts so far.
    pub(crate) fn facts(&self) -> u64 {
        self.facts
    }

    /// The last `most` facts of a node, or of all; oldest first.
    pub(crate) fn last(&self, node: Option<NodeId>, most: usize) -> Vec<(Ms, Fact)> {
        let about = |fact: &Fact| match (node, fact.node()) {
            (Some(node), Some(other)) => node == other,
            // What happened to the server happened to every node.
            (Some(_), None) => !matches!(fact, Fact::Ticked { .. }),
            (None, _) => true,
        };
        let mut last: Vec<_> =
            self.recent.iter().rev().filter(|(_, fact)| about(fact)).take(most).copied().collect();
        last.reverse();
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_one_time_and_one_order_make_a_difference() {
        let hash = |facts: &[(Ms, Fact)]| {
            let mut trace = Trace::new();
            for &(at, fact) in facts {
                trace.note(at, fact);
            }
            trace.hash()
        };
        let (a, b) = ((1, Fact::Enrolled { node: 1_000 }), (1, Fact::Removed { node: 1_000 }));
        assert_eq!(hash(&[a, b]), hash(&[a, b]));
        assert_ne!(hash(&[a, b]), hash(&[b, a]));
        assert_ne!(hash(&[a]), hash(&[(2, a.1)]));
        assert_ne!(hash(&[a]), hash(&[(1, Fact::Enrolled { node: 1_001 })]));
    }

    #[test]
    fn the_last_facts_of_a_node_are_found_among_others() {
        let mut trace = Trace::new();
        for node in 1_000..1_010 {
            trace.note(node, Fact::Enrolled { node });
            trace.note(node, Fact::Ticked { decisions: 3 });
        }
        trace.note(2_000, Fact::Slept { ms: 5 });
        let times = |node, most| -> Vec<_> {
            trace.last(node, most).into_iter().map(|(at, _)| at).collect()
        };
        assert_eq!(times(Some(1_004), 9), [1_004, 2_000]);
        assert_eq!(times(None, 2), [1_009, 2_000]);
    }
}
