//! Tests of the control state: the rules one by one, then random histories.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod format;
mod identity;
mod limits;
mod liveness;
mod locks;
mod peers;
mod properties;
mod restore;
mod servers;
mod snapshot;
mod tokens;
mod values;

use super::State;
use crate::command::{Command, Entry, Outcome, Refusal, Transition};
use crate::record::{
    CertificateRecord, EventKind, EventRecord, Labels, Liveness, NodeId, Profile, Reason, TokenRole,
};
use crate::time::UnixMs;

const HOUR: u64 = 3_600_000;

/// A state with the log that it came from.
struct Log {
    state: State,
    index: u64,
    now: u64,
}

impl Log {
    fn new() -> Self {
        Self { state: State::new("zl-test".into()), index: 0, now: 1_000 }
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.index += 1;
        let stamp_ms = UnixMs(self.now);
        let outcome = self.state.apply(self.index, &Entry { stamp_ms, command });
        self.state.check_invariants();
        outcome
    }

    /// Applies what must be refused, and checks that nothing has changed.
    fn refused(&mut self, command: Command) -> Refusal {
        let before = serde_json::to_value(&self.state).unwrap();
        let refusal = match self.apply(command) {
            Outcome::Refused { refusal } => refusal,
            other => panic!("{other:?}"),
        };
        let mut after = serde_json::to_value(&self.state).unwrap();
        for position in ["applied_index", "now_ms", "digest"] {
            after[position] = before[position].clone();
        }
        assert_eq!(before, after, "a refusal changed something");
        refusal
    }

    /// Makes token `number`, which lives an hour.
    fn token(&mut self, number: u64, uses_max: u32) {
        let token = Token { uses_max, ..Token::new(number, self.now + HOUR) };
        assert_eq!(self.apply(token.create()), Outcome::Done);
    }

    /// Redeems, and must be admitted.
    fn enrol(&mut self, token: u64, key: u64) -> NodeId {
        match self.apply(redeem(token, key)) {
            Outcome::Redeemed { node_id, first: true, .. } => node_id,
            other => panic!("{other:?}"),
        }
    }

    /// A state with one node.
    fn with_node() -> (Self, NodeId) {
        let mut log = Self::new();
        log.token(1, 100);
        let id = log.enrol(1, 1);
        (log, id)
    }

    /// Changes a node's liveness on its present epoch.
    fn shift(&mut self, id: NodeId, to: Liveness, reason: Reason, incarnation: u64) {
        let epoch = self.state.node(id).unwrap().epoch;
        let item = Transition { incarnation, ..transition(id, epoch, to, reason) };
        let outcome = self.apply(Command::Transition { items: vec![item] });
        assert_eq!(outcome, Outcome::Transitioned { epochs: vec![Some(epoch + 1)] });
    }

    fn events(&self) -> Vec<EventRecord> {
        self.state.events_after(0, usize::MAX).events
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.events().iter().map(|event| event.kind).collect()
    }
}

/// The fields of a token to be made.
struct Token {
    number: u64,
    expires: u64,
    uses_max: u32,
    labels: Labels,
    allowed: Vec<String>,
}

impl Token {
    fn new(number: u64, expires: u64) -> Self {
        Self { number, expires, uses_max: 1, labels: Labels::new(), allowed: Vec::new() }
    }

    fn create(self) -> Command {
        Command::CreateToken {
            jti: jti(self.number),
            name: String::new(),
            expires_ms: UnixMs(self.expires),
            role: TokenRole::Worker,
            uses_max: self.uses_max,
            labels: self.labels,
            labels_allowed: self.allowed,
        }
    }
}

fn jti(number: u64) -> String {
    format!("{number:032x}")
}

fn key_hash(key: u64) -> String {
    format!("{key:064x}")
}

/// A certificate of a key, with a serial number of its own.
fn certificate(key: u64, serial: u64, not_after: u64) -> CertificateRecord {
    CertificateRecord {
        serial: format!("{serial:x}"),
        key_hash: key_hash(key),
        not_after_ms: UnixMs(not_after),
    }
}

/// The certificate that a node of `key` gets at first: valid for a day.
fn first_certificate(key: u64) -> CertificateRecord {
    certificate(key, key, 24 * HOUR)
}

fn redeem_with(token: u64, labels: Labels, certificate: CertificateRecord) -> Command {
    let (name, profile) = (String::new(), Profile::default());
    Command::Redeem { jti: jti(token), name, labels, profile, certificate }
}

fn redeem(token: u64, key: u64) -> Command {
    redeem_with(token, Labels::new(), first_certificate(key))
}

fn renew(node_id: NodeId, old: u64, new: u64) -> Command {
    let certificate = certificate(new, 1_000 + new, 48 * HOUR);
    Command::RenewCertificate { node_id, old_key_hash: key_hash(old), certificate }
}

fn transition(node_id: NodeId, epoch: u64, to: Liveness, reason: Reason) -> Transition {
    let detail = String::new();
    Transition { node_id, epoch, to, reason, incarnation: 0, ttl_ms: 0, detail }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
