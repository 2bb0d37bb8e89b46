//! When the connection of a node's newest session closes, Suspect is proposed at once: in the same call, or as soon
//! as what is under way for the node is answered, a tick later at most. And nobody is Suspect for a lost connection
//! whose newest session stands.

use zlayer_core::record::{Liveness, Reason};

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct Suspicion {
    nodes: Accounts<Session>,
    /// Nodes whose session closed and that no proposal was made for yet.
    owed: Vec<u64>,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not by itself")]
struct Session {
    newest: u64,
    open: bool,
    /// It counts: it has a lease and has not left.
    counts: bool,
    /// A proposal is under way.
    in_flight: bool,
    recorded: Option<Liveness>,
    owed: bool,
}

impl Invariant for Suspicion {
    fn name(&self) -> &'static str {
        "suspicion"
    }

    fn note(&mut self, _: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted | Fact::Died => {
                self.owed.clear();
                self.nodes.each().for_each(|(_, at)| {
                    *at = Session { recorded: at.recorded, ..Session::default() };
                });
            }
            Fact::Opened { node, session, .. } => {
                let at = self.nodes.of(node);
                (at.newest, at.open, at.counts, at.owed) = (session, true, true, false);
            }
            Fact::Leaving { node, session } => {
                let at = self.nodes.of(node);
                at.counts &= at.newest != session;
            }
            Fact::Removed { node } => *self.nodes.of(node) = Session::default(),
            Fact::Closed { node, session } => {
                let at = self.nodes.of(node);
                if session == at.newest && at.open {
                    at.open = false;
                    at.owed = at.counts;
                    self.owed.extend(at.owed.then_some(node));
                }
            }
            Fact::Recorded { node, liveness } => self.nodes.of(node).recorded = Some(liveness),
            Fact::Answered { node, .. } => self.nodes.of(node).in_flight = false,
            Fact::Proposed { node, to, reason } => {
                let at = self.nodes.of(node);
                at.in_flight = true;
                if to == Liveness::Suspect && reason == Reason::ConnectionLost && at.open {
                    let what = format!("Suspect, and its session {} is open", at.newest);
                    return broken(node, what);
                }
                if to != Liveness::Ready {
                    at.owed = false;
                }
                at.counts &= to != Liveness::Unreachable;
            }
            Fact::Ticked { .. } => return self.collect(),
            _ => {}
        }
        Ok(())
    }
}

impl Suspicion {
    /// After a tick only what waits for an answer may still be owed, and what is recorded already.
    fn collect(&mut self) -> Verdict {
        let mut owed = std::mem::take(&mut self.owed);
        owed.retain(|&node| self.nodes.of(node).owed);
        let unpaid = owed.iter().find(|&&node| {
            let at = self.nodes.of(node);
            !at.in_flight && at.recorded != Some(Liveness::Suspect)
        });
        if let Some(&node) = unpaid {
            return broken(node, "its connection closed, and nobody called it Suspect".into());
        }
        owed.retain(|&node| self.nodes.of(node).in_flight);
        self.owed = owed;
        Ok(())
    }
}
