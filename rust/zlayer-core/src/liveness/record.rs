//! What is recorded of the nodes: loading it, proposing changes to it, hearing the answers.

use super::Liveness;
use super::event::{CloseReason, Effect};
use super::member::{Flight, Held, Member, Presence};
use super::planted::Bug;
use crate::command::Transition;
use crate::record::{Liveness as State, NodeId};
use crate::time::MonoMs;

impl Liveness {
    pub(super) fn load(&mut self, now: MonoMs, node: NodeId, member: Member, ttl_ms: u64) {
        if self.members.contains_key(&node) {
            return;
        }
        self.loading = Some(self.loading.unwrap_or(0).max(ttl_ms));
        let holds_lease = matches!(member.recorded, State::Ready | State::Suspect);
        self.members.insert(node, member);
        if !holds_lease {
            return;
        }
        // A full table leaves the node as recorded, until it comes back and is refused by name.
        if self.leases() >= u64::from(self.limits.leases_max) {
            return;
        }
        let granted = self.live.grant(node, now, self.failover_window_ms(ttl_ms));
        let Some(member) = self.members.get_mut(&node) else { return };
        if let Ok(handle) = granted {
            member.held = Held::Live(handle);
            self.set_presence(node, Presence::Awaited);
            self.awaited.push_back(node);
            self.publish();
        }
    }

    pub(super) fn failover_window_ms(&self, ttl_ms: u64) -> u64 {
        if self.planted.is(Bug::PlainFailoverWindow) {
            self.beats.ttl_ms()
        } else {
            self.config.failover_window_ms(ttl_ms)
        }
    }

    pub(super) fn remove(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        self.drop_lease(node, None);
        self.set_presence(node, Presence::Unseen);
        self.set_flight(node, Flight::Idle);
        let Some(member) = self.members.remove(&node) else { return };
        self.publish();
        if !member.session_ended {
            let session = member.session;
            out.push(Effect::CloseSession { node, session, why: CloseReason::Removed });
        }
    }

    pub(super) fn commit(
        &mut self,
        now: MonoMs,
        node: NodeId,
        epoch: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let Flight::Proposed(to, incarnation) = member.flight else { return };
        let epoch = if self.planted.is(Bug::RefusalTakenForCommit) {
            epoch.or(Some(member.epoch))
        } else {
            epoch
        };
        let Some(epoch) = epoch else {
            self.stats.refreshes += 1;
            self.set_flight(node, Flight::Refreshing);
            out.push(Effect::Refresh { node });
            return;
        };
        member.recorded = to;
        member.epoch = epoch;
        if incarnation != 0 {
            member.incarnation_recorded = incarnation;
        }
        self.set_flight(node, Flight::Idle);
        self.settle(now, node, out);
    }

    /// Takes the record as it is. The next decision waits for a tick, so that a log that refuses everything is
    /// asked ten times a second and no faster.
    pub(super) fn refresh(&mut self, node: NodeId, liveness: State, epoch: u64, incarnation: u64) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if matches!(member.flight, Flight::Proposed(..)) {
            return;
        }
        member.recorded = liveness;
        member.epoch = epoch;
        member.incarnation_recorded = incarnation;
        self.set_flight(node, Flight::Idle);
        self.unsettled.push_back(node);
    }

    /// Proposes what the node's record should say, unless it does or something is in flight.
    pub(super) fn settle(&mut self, now: MonoMs, node: NodeId, out: &mut Vec<Effect>) {
        let Some(member) = self.members.get(&node) else { return };
        let Some((to, reason)) = member.change_due() else { return };
        let marks = member.marks.as_ref();
        let (incarnation, ttl_ms) = match to {
            State::Ready => (member.incarnation, marks.map_or(0, |marks| marks.ttl_ms())),
            State::Suspect | State::Unreachable | State::Left => (0, 0),
        };
        let detail = match (to, marks) {
            (State::Unreachable, Some(marks)) => {
                format!("no beat for {} s", now.since(marks.beat_at()) / 1_000)
            }
            _ => String::new(),
        };
        let epoch = member.epoch;
        self.set_flight(node, Flight::Proposed(to, incarnation));
        out.push(Effect::Propose(Transition {
            node_id: node,
            epoch,
            to,
            reason,
            incarnation,
            ttl_ms,
            detail,
        }));
    }
}
