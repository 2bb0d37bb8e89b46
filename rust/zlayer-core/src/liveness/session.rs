//! Sessions come, are replaced, break and say goodbye.

use std::sync::Arc;

use super::Liveness;
use super::beat::{Ack, BeatMarks, SessionLease};
use super::error::LivenessError;
use super::event::{CloseReason, Effect, SessionId};
use super::member::{Held, Member, Presence};
use super::planted::Bug;
use crate::lease::{LeaseError, LeaseHandle};
use crate::record::NodeId;
use crate::time::MonoMs;

impl Liveness {
    /// Opens `session` of `node`, whose first report was received at `now`: lease, pace, and Ready.
    ///
    /// Also the answer to a beat that was [`crate::lease::LeaseError::Stale`]: the same session again recovers
    /// a node whose lease has ended, or whose newer session of the same process is gone. A living older session loses its lease; if it is of another process it is
    /// closed, too.
    ///
    /// # Errors
    ///
    /// The node is unknown, a newer session was opened, this one has ended, or the table is full. The older
    /// session and its lease are then as before.
    pub fn open(
        &mut self,
        now: MonoMs,
        node: NodeId,
        session: SessionId,
        incarnation: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(SessionLease, Ack), LivenessError> {
        self.observe(now);
        let member = self.members.get(&node).ok_or(LivenessError::UnknownNode { node })?;
        if session < member.session && !member.may_return_to(incarnation) {
            return Err(LivenessError::Superseded { node, session, newest: member.session });
        }
        let ended = member.session_ended || member.presence == Presence::Left;
        if session == member.session && ended {
            return Err(LivenessError::SessionEnded { node, session });
        }
        // The TTL that this lease brings about is the one that it gets.
        let n_workers = self.leases() + u64::from(member.held == Held::Nothing);
        let capacity = self.limits.leases_max;
        if n_workers > u64::from(capacity) {
            return Err(LeaseError::Full { capacity }.into());
        }
        let ttl_ms = self.config.ttl_ms(n_workers);
        let window_ms = self.beats.window_ms(ttl_ms).max(self.promised_ms(now, member));
        let handle = self.lease_for_session(now, node, window_ms)?;
        self.note_replaced(node, session, incarnation, out);
        self.drop_lease(node, Some(handle));

        let marks = Arc::new(BeatMarks::new(now, ttl_ms));
        let Some(member) = self.members.get_mut(&node) else {
            return Err(LivenessError::UnknownNode { node });
        };
        member.held = Held::Live(handle);
        member.session = session;
        member.session_ended = false;
        member.is_announced = false;
        member.incarnation = incarnation;
        member.marks = Some(Arc::clone(&marks));
        self.stats.sessions_opened += 1;
        self.set_presence(node, Presence::Connected);
        self.publish();
        let ack = self.beats.first_beat(&marks, now);
        self.settle(now, node, out);
        Ok((SessionLease::new(node, session, handle, marks), ack))
    }

    /// Notes a session that an earlier leader has opened and that goes on by another server: its worker was told nothing
    /// by this engine, and goes by what it was told before. So the loaded lease stays as it is; the session is there.
    /// The worker's next report is answered by [`Self::open`] with the same session, and counts as a beat like any.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn announce(
        &mut self,
        now: MonoMs,
        node: NodeId,
        session: SessionId,
        incarnation: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), LivenessError> {
        self.observe(now);
        let member = self.members.get_mut(&node).ok_or(LivenessError::UnknownNode { node })?;
        if !member.is_awaited() {
            return self.open(now, node, session, incarnation, out).map(drop);
        }
        member.session = session;
        member.session_ended = false;
        member.incarnation = incarnation;
        member.is_announced = true;
        self.stats.sessions_opened += 1;
        self.set_presence(node, Presence::Connected);
        self.settle(now, node, out);
        Ok(())
    }

    /// What is left of the lease that an earlier session of the node was promised: should the answer to this one be
    /// lost, the worker still goes by that. What was promised before a failover is not known; there a session counts
    /// as a beat.
    fn promised_ms(&self, now: MonoMs, member: &Member) -> u64 {
        let deadline = match member.held {
            Held::Nothing => None,
            Held::Live(_) if member.is_awaited() || member.is_announced => None,
            Held::Live(handle) => self.live.deadline(handle),
            Held::Lost(handle) => self.lost.deadline(handle),
        };
        deadline.map_or(0, |deadline| deadline.since(now))
    }

    /// The lease of a new session: a fresh one, so that the old session's handle is of no use.
    pub(super) fn lease_for_session(
        &mut self,
        now: MonoMs,
        node: NodeId,
        window_ms: u64,
    ) -> Result<LeaseHandle, LivenessError> {
        if self.planted.is(Bug::OldSessionRenews)
            && let Some(Held::Live(handle)) = self.members.get(&node).map(|member| member.held)
        {
            self.live.slots().renew(handle, now, window_ms)?;
            return Ok(handle);
        }
        Ok(self.live.grant(node, now, window_ms)?)
    }

    /// Is a living session replaced, and by whom?
    pub(super) fn note_replaced(
        &mut self,
        node: NodeId,
        new: SessionId,
        incarnation: u64,
        out: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.get(&node) else { return };
        if member.session == new || member.session_ended || !member.is_connected() {
            return;
        }
        let old = member.session;
        if member.incarnation == incarnation {
            self.stats.sessions_replaced += 1;
            return;
        }
        self.stats.sessions_duplicate += 1;
        out.push(Effect::DuplicateSession { node, old, new });
        out.push(Effect::CloseSession { node, session: old, why: CloseReason::Duplicate });
    }

    pub(super) fn disconnect(
        &mut self,
        now: MonoMs,
        node: NodeId,
        session: SessionId,
        out: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let present = session == member.session || self.planted.is(Bug::OldDisconnectHonoured);
        if !present || member.session_ended {
            return;
        }
        member.session_ended = true;
        if !member.is_connected() {
            return;
        }
        if let Some(marks) = &member.marks {
            self.beats.release(marks);
        }
        if let Held::Live(handle) = member.held
            && let Some(deadline) = self.live.deadline(handle)
            && let Ok(moved) = self.lost.grant(node, now, deadline.since(now))
        {
            self.live.revoke(handle);
            member.held = Held::Lost(moved);
        }
        self.stats.suspects += 1;
        self.set_presence(node, Presence::Lost);
        self.settle(now, node, out);
    }

    pub(super) fn leave(
        &mut self,
        now: MonoMs,
        node: NodeId,
        session: SessionId,
        out: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.get(&node) else { return };
        if session != member.session || member.session_ended || member.presence == Presence::Left {
            return;
        }
        self.stats.leaves += 1;
        self.drop_lease(node, None);
        self.set_presence(node, Presence::Left);
        self.publish();
        self.settle(now, node, out);
    }
}
