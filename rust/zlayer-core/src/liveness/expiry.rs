//! Time passes: leases end, unless there is a doubt about this server itself.

use super::brake::Verdict;
use super::event::{Effect, ExpiryHeld};
use super::limits::BrakeLimits;
use super::member::{Held, Presence};
use super::planted::Bug;
use super::{Liveness, Promoted};
use crate::record::NodeId;
use crate::time::MonoMs;

impl Liveness {
    /// Did this server sleep? Then the time did not count.
    pub(super) fn observe(&mut self, now: MonoMs) {
        let gap_ms = self.watch.observe(now, &self.limits);
        if gap_ms == 0 || self.planted.is(Bug::NoShift) {
            return;
        }
        self.live.shift_by(gap_ms);
        self.lost.shift_by(gap_ms);
        self.awaited_until = self.awaited_until.plus(gap_ms);
        if let Some(promoted) = &mut self.promoted {
            promoted.from = promoted.from.plus(gap_ms);
        }
        self.stats.shifts += 1;
        self.stats.shift_ms_total += gap_ms;
        // To a worker whose connection broke meanwhile, this was a failover: its dials came to nothing, and it
        // waits for longer than the grace before the next one.
        if gap_ms > self.config.grace_ms() {
            let window_ms = self.limits.reconnect_window_ms;
            self.live.promote(now, window_ms, 0);
            self.lost.promote(now, window_ms, 0);
        }
    }

    /// At the first tick after records were loaded: nobody ends before the longest TTL that was handed out to
    /// anyone. A record holds the TTL of its node's last opening; the longest was handed out to all when the
    /// node that brought it about opened, so the longest of all records bounds what each may have been told.
    pub(super) fn promote(&mut self, now: MonoMs) {
        let Some(ttl_ms_max) = self.loading.take() else { return };
        let spread_ms = self.limits.reconnect_spread_ms(self.leases(), self.beats.ttl_ms());
        let window_ms = self.failover_window_ms(ttl_ms_max);
        self.live.promote(now, window_ms, spread_ms);
        self.promoted = Some(Promoted {
            leases: self.awaited.len() as u64,
            from: now.plus(window_ms),
            spread_ms,
        });
        // Half as much again: the last ones to dial need time for it.
        let reconnect_ms = self.limits.reconnect_window_ms.max(spread_ms + spread_ms / 2);
        self.awaited_until = now.plus(reconnect_ms);
    }

    pub(super) fn tick(&mut self, now: MonoMs, out: &mut Vec<Effect>) {
        self.promote(now);
        let horizon = if self.planted.is(Bug::NoDrainHold) {
            self.watch.look(now, &self.limits);
            Some(now)
        } else {
            self.watch.look(now, &self.limits)
        };
        let mut budget = self.limits.decisions_max;
        self.settle_again(now, &mut budget, out);
        if let Some(horizon) = horizon {
            self.miss_awaited(now, &mut budget, out);
            self.expire_lost(now, horizon, &mut budget, out);
            self.expire_live(now, horizon, &mut budget, out);
        }
        self.backlog = budget == 0;
    }

    pub(super) fn settle_again(&mut self, now: MonoMs, budget: &mut usize, out: &mut Vec<Effect>) {
        while *budget > 0
            && let Some(node) = self.unsettled.pop_front()
        {
            *budget -= 1;
            self.settle(now, node, out);
        }
    }

    pub(super) fn miss_awaited(&mut self, now: MonoMs, budget: &mut usize, out: &mut Vec<Effect>) {
        while *budget > 0
            && now >= self.awaited_until
            && let Some(node) = self.awaited.pop_front()
        {
            if self.members.get(&node).is_some_and(|m| m.presence == Presence::Awaited) {
                *budget -= 1;
                self.stats.not_reconnected += 1;
                self.set_presence(node, Presence::Missed);
                self.settle(now, node, out);
            }
        }
    }

    pub(super) fn expire_lost(
        &mut self,
        now: MonoMs,
        horizon: MonoMs,
        budget: &mut usize,
        out: &mut Vec<Effect>,
    ) {
        let mut expired = std::mem::take(&mut self.expired);
        self.lost.expire(horizon, *budget, &mut expired);
        self.conclude(now, &mut expired, budget, out);
        self.expired = expired;
    }

    pub(super) fn expire_live(
        &mut self,
        now: MonoMs,
        horizon: MonoMs,
        budget: &mut usize,
        out: &mut Vec<Effect>,
    ) {
        if *budget == 0 || self.brake.is_holding(now) {
            return;
        }
        let mut due = self.live.count_due(horizon, usize::MAX) as u64;
        let mut turns = self.turns_in_window();
        if let Some(promoted) = self.returning(now) {
            // Their leases end one after the other, and yet it is one question whether all of them are gone.
            turns += promoted.leases;
            due = if due > 0 { due.max(self.awaited_leases) } else { 0 };
        }
        match self.brake.ask(now, due, turns, &self.limits.brake) {
            Verdict::Pass => {}
            Verdict::Hold => return,
            Verdict::Raise { due, until } => {
                self.stats.brake_holds += 1;
                out.push(Effect::Alarm(ExpiryHeld { due, leases: self.leases(), until }));
                return;
            }
        }
        let mut expired = std::mem::take(&mut self.expired);
        self.live.expire(horizon, *budget, &mut expired);
        self.brake.passed(now, expired.len() as u64);
        self.conclude(now, &mut expired, budget, out);
        self.expired = expired;
    }

    /// How many of the beating leases would come due in one window of the brake if nobody renewed any.
    fn turns_in_window(&self) -> u64 {
        let beating = self.live.len() - self.awaited_leases;
        let ttl_ms = self.beats.ttl_ms().max(1);
        beating.saturating_mul(self.limits.brake.window_ms.min(ttl_ms)) / ttl_ms
    }

    /// The loaded leases, while they come due.
    fn returning(&mut self, now: MonoMs) -> Option<Promoted> {
        let promoted = self.promoted.filter(|promoted| now >= promoted.from)?;
        let BrakeLimits { hold_ms, window_ms, .. } = self.limits.brake;
        // Also a hold later, when those that it held back come out.
        let last = promoted.from.plus(promoted.spread_ms + hold_ms + window_ms * 2);
        if now > last {
            self.promoted = None;
        }
        Some(promoted)
    }

    /// These leases have ended.
    pub(super) fn conclude(
        &mut self,
        now: MonoMs,
        expired: &mut Vec<NodeId>,
        budget: &mut usize,
        out: &mut Vec<Effect>,
    ) {
        if expired.is_empty() {
            return;
        }
        *budget = budget.saturating_sub(expired.len());
        for node in expired.drain(..) {
            let Some(member) = self.members.get_mut(&node) else { continue };
            member.held = Held::Nothing;
            if let Some(marks) = &member.marks {
                self.beats.release(marks);
            }
            self.stats.expiries += 1;
            self.set_presence(node, Presence::Expired);
            self.settle(now, node, out);
        }
        self.publish();
    }
}
