//! Rules of identity: redeeming a token, renewing a certificate. Whose key is whose.

use std::sync::Arc;

use super::keys::{KEYS_MAX, Key};
use super::{Applied, NODES_MAX, State, rules};
use crate::command::{Outcome, Refusal};
use crate::record::{
    CERTIFICATES_KEPT, CertificateRecord, EventKind, Labels, Liveness, NodeId, NodeRecord, Profile,
    Reason, TokenRole,
};

/// The fields of [`crate::command::Command::Redeem`].
pub(super) struct Ask<'a> {
    pub(super) jti: &'a str,
    pub(super) name: &'a str,
    pub(super) labels: &'a Labels,
    pub(super) profile: &'a Profile,
    pub(super) certificate: &'a CertificateRecord,
}

impl State {
    /// Counts a use and makes a node; or, for a key that this token admitted already, answers the same node.
    ///
    /// Why a token does not admit is said only to the holder of one that does: all else is `TokenInvalid`.
    pub(super) fn redeem(&mut self, ask: &Ask<'_>) -> Applied {
        let token = self.open_token(ask.jti, TokenRole::Worker)?;
        let key = rules::check_certificate(ask.certificate)?;
        rules::check_name(ask.name)?;
        rules::check_profile(ask.profile)?;
        let labels = rules::admit_labels(&token.labels, &token.labels_allowed, ask.labels)?;
        if let Some(&node_id) = token.uses.get(&ask.certificate.key_hash) {
            return self.redeem_again(node_id, key, ask.certificate);
        }
        if token.uses.len() as u64 >= u64::from(token.uses_max) {
            let uses_max = token.uses_max;
            return Err(Refusal::TokenUsedUp { jti: token.jti.clone(), uses_max });
        }
        if self.keys.owner(&key, self.now).is_some() {
            return Err(Refusal::KeyInUse);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(Refusal::LimitReached { what: "nodes".into(), limit: NODES_MAX as u64 });
        }
        self.check_room_for_key()?;
        Ok(self.enrol(key, labels, ask))
    }

    fn enrol(&mut self, key: Key, labels: Labels, ask: &Ask<'_>) -> Outcome {
        let id = self.next_node_id;
        self.next_node_id += 1;
        let name = if ask.name.is_empty() { format!("worker-{id}") } else { ask.name.to_owned() };
        let node = NodeRecord {
            id,
            name: name.clone(),
            liveness: Liveness::Suspect,
            reason: Reason::Enrolled,
            since_ms: self.now,
            enrolled_ms: self.now,
            draining: false,
            labels: labels.clone(),
            profile: ask.profile.clone(),
            token_jti: ask.jti.to_owned(),
            certificates: vec![ask.certificate.clone()],
            epoch: 0,
            incarnation: 0,
            ttl_ms: 0,
        };
        if let Some(token) = self.tokens.get_mut(ask.jti) {
            // In place unless a snapshot shares the record: a copy would cost as much as the token has uses.
            Arc::make_mut(token).uses.insert(ask.certificate.key_hash.clone(), id);
        }
        self.keys.hold(key, id);
        self.digest.fold(&node);
        self.nodes.insert(id, Arc::new(node));
        self.note(EventKind::Enrolled, Some(id), Some(Reason::Enrolled), "");
        Outcome::Redeemed { node_id: id, name, labels, first: true }
    }

    /// A retry after a lost answer. The certificate is a new one: signing is not repeatable.
    fn redeem_again(
        &mut self,
        node_id: NodeId,
        key: Key,
        certificate: &CertificateRecord,
    ) -> Applied {
        let Some(node) = self.nodes.get(&node_id) else { return Err(Refusal::KeyInUse) };
        let (name, labels) = (node.name.clone(), node.labels.clone());
        self.check_may_hold(node_id, &key)?;
        self.record_certificate(node_id, key, certificate);
        Ok(Outcome::Redeemed { node_id, name, labels, first: false })
    }

    pub(super) fn renew_certificate(
        &mut self,
        node_id: NodeId,
        old_key_hash: &str,
        certificate: &CertificateRecord,
    ) -> Applied {
        let key = rules::check_certificate(certificate)?;
        let Some(node) = self.nodes.get(&node_id) else {
            return Err(Refusal::NodeNotFound { node_id });
        };
        if !node.certificates.iter().any(|held| held.key_hash == old_key_hash) {
            return Err(Refusal::KeyUnknown { node_id });
        }
        self.check_may_hold(node_id, &key)?;
        self.record_certificate(node_id, key, certificate);
        Ok(Outcome::Done)
    }

    /// Refuses a key of another node. The same node may come back to a key of its own.
    fn check_may_hold(&self, node_id: NodeId, key: &Key) -> Result<(), Refusal> {
        match self.keys.owner(key, self.now) {
            Some(owner) if owner == node_id => Ok(()),
            Some(_) => Err(Refusal::KeyInUse),
            None => self.check_room_for_key(),
        }
    }

    pub(super) fn check_room_for_key(&self) -> Result<(), Refusal> {
        if self.keys.len() < KEYS_MAX {
            return Ok(());
        }
        Err(Refusal::LimitReached { what: "keys".into(), limit: KEYS_MAX as u64 })
    }

    /// Makes a certificate the node's newest, in place of an older one of the same key.
    fn record_certificate(&mut self, node_id: NodeId, key: Key, certificate: &CertificateRecord) {
        let Some(node) = self.nodes.get_mut(&node_id) else { return };
        let node = Arc::make_mut(node);
        node.certificates.retain(|held| held.key_hash != certificate.key_hash);
        node.certificates.push(certificate.clone());
        self.keys.hold(key, node_id);
        let surplus = node.certificates.len().saturating_sub(CERTIFICATES_KEPT);
        for dropped in node.certificates.drain(..surplus) {
            if let Some(key) = super::keys::parse(&dropped.key_hash) {
                self.keys.release(key, node_id, dropped.not_after_ms);
            }
        }
        self.digest.fold(&*node);
    }
}
