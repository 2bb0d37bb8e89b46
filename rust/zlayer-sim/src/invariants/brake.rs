//! The mass-expiry brake. Of the leases whose connection stands, no more than `max(10, 30 % of those whose turn it
//! was)` end within 5 s, unless the brake was raised and its hold is over. It holds for a minute at most, and ten and
//! fewer never raise it.

use std::collections::VecDeque;

use zlayer_core::record::{Liveness, NodeId};

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::Ms;
use crate::fact::Fact;

/// Proposals may come later than the decision, and so a little more at once. Chosen.
const SLACK: u64 = 5;

#[derive(Default)]
pub(super) struct Brake {
    nodes: Accounts<Node>,
    /// Leases held, and when each of the last that stood ended.
    leases: u64,
    ended: VecDeque<Ms>,
    /// Most leases at any time since the last tick of a minute or so ago.
    leases_before: VecDeque<(Ms, u64)>,
    /// Raised until then, and since then no window without an expiry.
    raised: Option<Ms>,
    /// Ticks after the hold at which it could have been asked.
    quiet_ticks: u32,
    loaded: u64,
    began: Option<Ms>,
    longest_ttl_ms: u64,
}

#[derive(Default)]
struct Node {
    held: bool,
    newest: u64,
    lost: bool,
}

impl Invariant for Brake {
    fn name(&self) -> &'static str {
        "brake"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted => *self = Self::default(),
            Fact::Loaded { node, liveness, ttl_ms } => {
                self.longest_ttl_ms = self.longest_ttl_ms.max(ttl_ms);
                if matches!(liveness, Liveness::Ready | Liveness::Suspect) {
                    self.nodes.of(node).held = true;
                    self.leases += 1;
                    self.loaded += 1;
                }
            }
            Fact::Ticked { .. } => {
                self.began.get_or_insert(moment.now);
                self.settle(moment);
            }
            Fact::Opened { node, session, .. } => {
                let at = self.nodes.of(node);
                self.leases += u64::from(!at.held);
                *at = Node { held: true, newest: session, lost: false };
            }
            Fact::Closed { node, session } => {
                let at = self.nodes.of(node);
                at.lost |= at.newest == session;
            }
            Fact::Leaving { node, .. } | Fact::Removed { node } => {
                self.end(node);
            }
            Fact::Audit => {
                self.leases_before.push_back((moment.now, self.leases));
                while self.leases_before.front().is_some_and(|&(at, _)| moment.now - at > 90_000) {
                    self.leases_before.pop_front();
                }
            }
            Fact::Alarm { due, until } => {
                self.raised = Some(until);
                let hold_ms = until.saturating_sub(moment.now);
                if hold_ms > moment.rules.limits.brake.hold_ms {
                    return broken(None, format!("expiry is held for {hold_ms} ms"));
                }
                if due <= moment.rules.limits.brake.leases_min {
                    return broken(None, format!("expiry is held for {due} leases"));
                }
            }
            Fact::Proposed { node, to: Liveness::Unreachable, .. } => {
                // A proposal that was turned away is made again; its lease ended once.
                let stood = !self.nodes.of(node).lost;
                if self.end(node) && stood {
                    return self.count(moment, node);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Brake {
    /// True: it was held.
    fn end(&mut self, node: NodeId) -> bool {
        let held = std::mem::take(&mut self.nodes.of(node).held);
        self.leases -= u64::from(held);
        held
    }

    fn forget(&mut self, moment: &Moment<'_>) {
        let window_ms = moment.rules.limits.brake.window_ms;
        while self.ended.front().is_some_and(|&at| moment.now - at >= window_ms) {
            self.ended.pop_front();
        }
    }

    /// An incident is over once nothing expires although it may.
    fn settle(&mut self, moment: &Moment<'_>) {
        let may = self.raised.is_some_and(|until| moment.now > until)
            && moment.times.since_sleep_ms() > 1_500;
        if !may {
            return;
        }
        self.quiet_ticks += 1;
        self.forget(moment);
        if self.quiet_ticks >= 10 && self.ended.is_empty() {
            self.raised = None;
        }
    }

    /// One more lease ended whose connection stood, or that was awaited.
    fn count(&mut self, moment: &Moment<'_>, node: NodeId) -> Verdict {
        let brake = &moment.rules.limits.brake;
        self.forget(moment);
        self.ended.push_back(moment.now);
        self.quiet_ticks = 0;
        let most = brake.leases_min.max(self.turns(moment) * brake.share_percent / 100) + SLACK;
        match self.raised {
            // Right before the hold some may be under way.
            Some(until) if moment.now >= until || (self.ended.len() as u64) <= most => Ok(()),
            None if self.ended.len() as u64 <= most => Ok(()),
            _ => {
                let ended = self.ended.len();
                broken(node, format!("{ended} leases end within 5 s, {most} are believed"))
            }
        }
    }

    /// Leases whose turn was in the window, at the most.
    fn turns(&self, moment: &Moment<'_>) -> u64 {
        let (config, limits) = (&moment.rules.config, &moment.rules.limits);
        let leases = self.leases_before.iter().map(|&(_, leases)| leases).max().unwrap_or(0);
        let leases = leases.max(self.leases + self.ended.len() as u64);
        let ttl_ms = config.ttl_ms(self.leases).max(1);
        let turns = leases * limits.brake.window_ms.min(ttl_ms) / ttl_ms;
        // All loaded nodes have the same turn.
        let from = self.began.map(|at| at + config.failover_window_ms(self.longest_ttl_ms));
        let returning = from.is_some_and(|from| moment.now >= from);
        turns + self.ended.len() as u64 + if returning { self.loaded } else { 0 }
    }
}
