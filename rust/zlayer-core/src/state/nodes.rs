//! Rules of members: liveness changes, draining, removal; and the events that tell of them.

use std::sync::Arc;

use super::{Applied, State, keys, rules};
use crate::command::{Outcome, Refusal, Transition};
use crate::record::{
    EventKind, EventRecord, FIRST_WORKER_ID, LAST_SERVER_ID, Labels, Liveness, NodeId, NodeRecord,
    Profile, Reason,
};

/// Liveness changes in one command. Chosen: some 10 ms of applying.
pub const TRANSITIONS_MAX: usize = 10_000;

/// Bytes of an event's detail; the rest is cut.
const DETAIL_MAX: usize = 256;

impl State {
    pub(super) fn transition(&mut self, items: &[Transition]) -> Applied {
        if items.len() > TRANSITIONS_MAX {
            let why = format!("at most {TRANSITIONS_MAX}, got {}", items.len());
            return Err(rules::invalid("items", why));
        }
        let epochs = items.iter().map(|item| self.transition_one(item)).collect();
        Ok(Outcome::Transitioned { epochs })
    }

    /// The new epoch, or `None` where the decision was made on another state of the node than the recorded.
    fn transition_one(&mut self, item: &Transition) -> Option<u64> {
        let node = self.nodes.get_mut(&item.node_id).filter(|node| node.epoch == item.epoch)?;
        let node = Arc::make_mut(node);
        let kind = event_of(node, item);
        if node.liveness != item.to {
            node.since_ms = self.now;
        }
        node.liveness = item.to;
        node.reason = item.reason;
        node.epoch += 1;
        if item.incarnation != 0 {
            node.incarnation = item.incarnation;
        }
        if item.ttl_ms != 0 {
            node.ttl_ms = item.ttl_ms;
        }
        let epoch = node.epoch;
        self.digest.fold(&*node);
        if let Some(kind) = kind {
            self.note(kind, Some(item.node_id), Some(item.reason), &item.detail);
        }
        Some(epoch)
    }

    pub(super) fn set_draining(&mut self, node_id: NodeId, draining: bool) -> Applied {
        let Some(node) = self.nodes.get_mut(&node_id) else {
            return Err(Refusal::NodeNotFound { node_id });
        };
        if node.draining == draining {
            return Ok(Outcome::Done);
        }
        Arc::make_mut(node).draining = draining;
        self.digest.fold(&(node_id, draining));
        let kind = if draining { EventKind::DrainStarted } else { EventKind::DrainStopped };
        self.note(kind, Some(node_id), None, "");
        Ok(Outcome::Done)
    }

    pub(super) fn remove_node(&mut self, node_id: NodeId) -> Applied {
        if !self.nodes.contains_key(&node_id) {
            return Err(Refusal::NodeNotFound { node_id });
        }
        self.note(EventKind::Removed, Some(node_id), Some(Reason::Removed), "");
        if node_id < FIRST_WORKER_ID {
            self.peers_removed.insert(node_id);
        }
        if let Some(node) = self.nodes.remove(&node_id) {
            for held in &node.certificates {
                if let Some(key) = keys::parse(&held.key_hash) {
                    self.keys.release(key, node_id, held.not_after_ms);
                }
            }
        }
        Ok(Outcome::Done)
    }

    /// Makes a node of a server that is one itself, or notes what it is called now.
    pub(super) fn join_peer(&mut self, id: NodeId, name: &str, labels: &Labels) -> Applied {
        if !(1..FIRST_WORKER_ID).contains(&id) {
            return Err(rules::invalid("id", format!("1 to {LAST_SERVER_ID}, got {id}")));
        }
        rules::check_name(name)?;
        rules::check_labels(labels)?;
        if self.peers_removed.contains(&id) {
            return Err(Refusal::NodeNotFound { node_id: id });
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            if node.name != name || node.labels != *labels {
                let node = Arc::make_mut(node);
                name.clone_into(&mut node.name);
                labels.clone_into(&mut node.labels);
                self.digest.fold(&*node);
            }
            return Ok(Outcome::Done);
        }
        let node = NodeRecord {
            id,
            name: name.to_owned(),
            liveness: Liveness::Suspect,
            reason: Reason::Enrolled,
            since_ms: self.now,
            enrolled_ms: self.now,
            draining: false,
            labels: labels.clone(),
            profile: Profile::default(),
            token_jti: String::new(),
            certificates: Vec::new(),
            epoch: 0,
            incarnation: 0,
            ttl_ms: 0,
        };
        self.digest.fold(&node);
        self.nodes.insert(id, Arc::new(node));
        self.note(EventKind::Enrolled, Some(id), Some(Reason::Enrolled), "");
        Ok(Outcome::Done)
    }

    pub(super) fn hold_expiry(&mut self, due: u64, leases: u64) -> Outcome {
        let detail = format!("{due} of {leases} leases came due at once");
        self.note(EventKind::ExpiryHeld, None, None, &detail);
        Outcome::Done
    }

    /// Writes an event. `node_id` must still be a member.
    pub(super) fn note(
        &mut self,
        kind: EventKind,
        node_id: Option<NodeId>,
        reason: Option<Reason>,
        detail: &str,
    ) {
        let node = node_id.and_then(|id| self.nodes.get(&id));
        let node_name = node.map(|node| node.name.clone()).unwrap_or_default();
        self.push_event(kind, node_id.unwrap_or(0), node_name, reason, detail);
    }

    /// Writes an event about a server.
    pub(super) fn note_about(&mut self, kind: EventKind, id: NodeId, name: &str, detail: &str) {
        self.push_event(kind, id, name.to_owned(), None, detail);
    }

    fn push_event(
        &mut self,
        kind: EventKind,
        node_id: NodeId,
        node_name: String,
        reason: Option<Reason>,
        detail: &str,
    ) {
        let event = self.events.push(EventRecord {
            revision: 0,
            at_ms: self.now,
            kind,
            node_id,
            node_name,
            reason,
            detail: rules::cut(detail, DETAIL_MAX).to_owned(),
        });
        self.digest.fold(event);
    }
}

/// What a liveness change is called, if anything is worth telling.
fn event_of(before: &NodeRecord, item: &Transition) -> Option<EventKind> {
    let is_new = item.incarnation != 0 && item.incarnation != before.incarnation;
    match item.to {
        Liveness::Ready => {
            let was_away = before.liveness == Liveness::Left || before.reason == Reason::Enrolled;
            if is_new || was_away {
                Some(EventKind::Joined)
            } else {
                (before.liveness != Liveness::Ready).then_some(EventKind::Recovered)
            }
        }
        // Enrolling has an event of its own.
        Liveness::Suspect if item.reason == Reason::Enrolled => None,
        same if same == before.liveness => None,
        Liveness::Suspect => Some(EventKind::Suspect),
        Liveness::Unreachable => Some(EventKind::Unreachable),
        Liveness::Left => Some(EventKind::Left),
    }
}
