//! The control log of one voter: entries become durable in order, each after its latency, and are then applied to the
//! real [`State`]. A new process applies them again, and must come to the same state.

use std::collections::VecDeque;

use zlayer_core::command::{Command, Entry, Outcome, Transition};
use zlayer_core::record::{CertificateRecord, Labels, NodeId, Profile};
use zlayer_core::state::State;
use zlayer_core::time::UnixMs;

use crate::Ms;

/// Where the wall clock starts: 2025.
const EPOCH_MS: u64 = 1_735_689_600_000;
/// Entries after which the copy that a restart begins with is made anew.
const TAIL_MAX: usize = 2_000;

/// Who waits for the outcome.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// The engine, for these; without the answer where it is lost.
    Transitions { items: Vec<Transition>, answered: bool },
    /// Nobody, but what follows from it is followed.
    Other,
}

/// A proposal on its way to the disk.
pub(crate) struct Proposal {
    pub(crate) durable_at: Ms,
    pub(crate) command: Command,
    pub(crate) asked: Asked,
}

/// The log and what it says.
pub(crate) struct Journal {
    state: State,
    index: u64,
    /// What a new process starts from, and what came after.
    saved: State,
    tail: Vec<(u64, Entry)>,
    pending: VecDeque<Proposal>,
    /// Tokens made, so that each has a name of its own.
    tokens: u64,
    /// The server's wall clock against the world's time. Nobody's lease depends on it.
    pub(crate) clock_off_ms: i64,
    /// Acknowledged entries are lost, one time out of fifty: a mistake that can be put in.
    pub(crate) forgetful: bool,
    forgotten: bool,
}

impl Journal {
    pub(crate) fn new() -> Self {
        let state = State::new("zl-sim".into());
        Self {
            saved: state.clone(),
            state,
            index: 0,
            tail: Vec::new(),
            pending: VecDeque::new(),
            tokens: 0,
            clock_off_ms: 0,
            forgetful: false,
            forgotten: false,
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Entries so far.
    pub(crate) fn entries(&self) -> u64 {
        self.index
    }

    /// Queues a command; durable at that time, or after what was proposed before.
    pub(crate) fn propose(&mut self, durable_at: Ms, command: Command, asked: Asked) -> Ms {
        let before = self.pending.back().map_or(0, |proposal| proposal.durable_at);
        let durable_at = durable_at.max(before);
        self.pending.push_back(Proposal { durable_at, command, asked });
        durable_at
    }

    /// Makes the oldest proposal durable and applies it.
    pub(crate) fn commit(&mut self, now: Ms) -> Option<(Command, Asked, Outcome)> {
        let Proposal { command, asked, .. } = self.pending.pop_front()?;
        let outcome = self.apply(now, command.clone());
        Some((command, asked, outcome))
    }

    /// Applies a command at once.
    pub(crate) fn apply(&mut self, now: Ms, command: Command) -> Outcome {
        let stamp_ms = UnixMs((EPOCH_MS + now).saturating_add_signed(self.clock_off_ms));
        let entry = Entry { stamp_ms, command };
        self.index += 1;
        let outcome = self.state.apply(self.index, &entry);
        if self.forgetful && self.index.is_multiple_of(50) {
            self.forgotten = true;
        } else {
            self.tail.push((self.index, entry));
        }
        if self.tail.len() > TAIL_MAX && !self.forgotten {
            self.save();
        }
        outcome
    }

    fn save(&mut self) {
        self.saved = self.state.clone();
        self.tail.clear();
    }

    /// The process dies. What was on its way is durable or not, as `survives` says, in order.
    pub(crate) fn crash(&mut self, now: Ms, survives: usize) {
        for _ in 0..survives.min(self.pending.len()) {
            self.commit(now);
        }
        self.pending.clear();
    }

    /// Proposals that are not durable yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Reads it all again, as a new process does.
    ///
    /// # Errors
    /// When that leads to another state than the old process had.
    pub(crate) fn recover(&mut self) -> Result<(), String> {
        let mut again = self.saved.clone();
        for (index, entry) in &self.tail {
            again.apply(*index, entry);
        }
        if again.hash() != self.state.hash() || again.revision() != self.state.revision() {
            let (old, new) = (self.state.revision(), again.revision());
            return Err(format!(
                "reading the log again gives another state (events: {new}, were {old})"
            ));
        }
        again.check_invariants();
        self.state = again;
        self.save();
        Ok(())
    }

    /// The commands that admit one more worker, or `uses` of them with one token.
    pub(crate) fn token(&mut self, uses: u32) -> (String, Command) {
        self.tokens += 1;
        let jti = format!("{:032x}", self.tokens);
        let command = Command::CreateToken {
            jti: jti.clone(),
            name: String::new(),
            expires_ms: UnixMs(self.state.stamp().0.max(EPOCH_MS) + 20 * 3_600_000),
            role: zlayer_core::record::TokenRole::Worker,
            uses_max: uses.max(1),
            labels: Labels::new(),
            labels_allowed: Vec::new(),
        };
        (jti, command)
    }

    pub(crate) fn redeem(jti: &str, key: u64) -> Command {
        Command::Redeem {
            jti: jti.into(),
            name: String::new(),
            labels: Labels::new(),
            profile: Profile::default(),
            certificate: CertificateRecord {
                serial: format!("{key:x}"),
                key_hash: format!("{key:064x}"),
                not_after_ms: UnixMs(EPOCH_MS + 30 * 24 * 3_600_000),
            },
        }
    }

    /// Enrols one worker at once. Gives its id.
    pub(crate) fn enrol(&mut self, now: Ms, jti: &str, key: u64) -> Option<NodeId> {
        match self.apply(now, Self::redeem(jti, key)) {
            Outcome::Redeemed { node_id, .. } => Some(node_id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    fn journal() -> (Journal, String) {
        let mut journal = Journal::new();
        let (jti, command) = journal.token(9);
        assert_eq!(journal.apply(5, command), Outcome::Done);
        (journal, jti)
    }

    #[test]
    fn what_is_read_again_is_what_was_applied() {
        let (mut journal, jti) = journal();
        assert_eq!(journal.enrol(10, &jti, 77), Some(1_000));
        let hash = journal.state().hash();
        journal.recover().unwrap();
        assert_eq!(journal.state().hash(), hash);
        assert_eq!(journal.enrol(11, &jti, 78), Some(1_001));
    }

    #[test]
    fn a_lost_entry_is_seen() {
        let (mut journal, jti) = journal();
        journal.forgetful = true;
        for key in 0..60 {
            journal.enrol(10 + key, &jti, key);
        }
        assert!(journal.recover().unwrap_err().contains("another state"));
    }

    #[test]
    fn a_crash_keeps_the_first_proposals_and_their_order() {
        let (mut journal, jti) = journal();
        for key in 0..3 {
            journal.propose(100 - key, Journal::redeem(&jti, key), Asked::Other);
        }
        assert_eq!(journal.pending(), 3);
        journal.crash(50, 2);
        assert_eq!((journal.pending(), journal.state().node_count()), (0, 2));
    }
}
