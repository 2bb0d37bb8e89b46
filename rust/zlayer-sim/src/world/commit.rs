//! Proposals on their way into the log, and what follows from them.

use zlayer_core::command::{Command, Outcome, Transition};
use zlayer_core::liveness::Event;
use zlayer_core::record::Liveness;

use super::{Happening, World};
use crate::Ms;
use crate::fact::Fact;
use crate::journal::Asked;

/// A write and its sync, as a rule.
const COMMIT_MS: (Ms, Ms) = (1, 8);
/// Transitions in one command (`zlayer-node`, ticker).
const BATCH_MAX: usize = 1_000;

impl World {
    /// Asks for the commit of what waits, one batch at a time: while it is written the next one gathers.
    pub(super) fn propose_waiting(&mut self) {
        while !self.server.in_flight && !self.server.waiting.is_empty() && self.server.is_up() {
            let count = self.server.waiting.len().min(BATCH_MAX);
            let items: Vec<_> = self.server.waiting.drain(..count).collect();
            if self.now < self.server.overloaded_until {
                self.answer(&items, &vec![None; items.len()]);
                continue;
            }
            let answered = !std::mem::take(&mut self.server.loses_answer);
            self.server.in_flight = true;
            let command = Command::Transition { items: items.clone() };
            self.propose(command, Asked::Transitions { items, answered });
        }
    }

    /// Sends a command to the disk.
    pub(super) fn propose(&mut self, command: Command, asked: Asked) {
        let mut ms = self.dice.server.between(COMMIT_MS.0, COMMIT_MS.1);
        if self.now < self.server.disk_slow_until {
            ms = self.dice.server.between(100, self.server.commit_ms_max.max(100));
        }
        let at = self.journal.propose(self.now + ms, command, asked);
        if at > self.now + 2 * COMMIT_MS.1 {
            self.tell(Fact::Busy { until: at });
        }
        let boot = self.server.boots;
        self.agenda.push(at, Happening::Durable { boot });
    }

    /// The oldest proposal is durable: it is applied, answered and followed.
    pub(super) fn durable(&mut self) {
        let Some((command, asked, outcome)) = self.journal.commit(self.now) else { return };
        if let (Asked::Transitions { items, answered }, Outcome::Transitioned { epochs }) =
            (asked, &outcome)
        {
            self.server.in_flight = false;
            self.recorded(&items, epochs);
            if answered {
                self.answer(&items, epochs);
            } else {
                self.answer(&items, &vec![None; items.len()]);
            }
        }
        self.follow(&command, &outcome);
        self.propose_waiting();
    }

    /// What the control state says now.
    pub(super) fn recorded(&mut self, items: &[Transition], epochs: &[Option<u64>]) {
        for (item, _) in items.iter().zip(epochs).filter(|(_, epoch)| epoch.is_some()) {
            self.tell(Fact::Recorded { node: item.node_id, liveness: item.to });
        }
    }

    /// Tells the engine what became of its proposals.
    fn answer(&mut self, items: &[Transition], epochs: &[Option<u64>]) {
        for (item, &epoch) in items.iter().zip(epochs) {
            let node = item.node_id;
            if item.to == Liveness::Left && epoch.is_some() {
                self.goodbye_is_durable(node);
            }
            self.tell(Fact::Answered { node, committed: epoch.is_some() });
            self.tell_engine([Event::Committed { node, epoch }]);
        }
    }

    /// What the server reads in the control state's events.
    fn follow(&mut self, command: &Command, outcome: &Outcome) {
        match (command, outcome) {
            (_, &Outcome::Redeemed { node_id: node, .. }) => self.enrolled(node),
            (&Command::RemoveNode { node_id: node }, Outcome::Done) => {
                self.tell(Fact::Removed { node });
                self.tell_engine([Event::Removed { node }]);
            }
            _ => {}
        }
    }
}
