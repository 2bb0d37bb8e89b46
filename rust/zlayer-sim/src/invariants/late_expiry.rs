//! Whoever is silent is recorded Unreachable one second after TTL + grace from its last beat: from the longest that
//! this server process promised it, or after a failover from the failover window and its spread. What the server
//! slept, what the log took, and, for a connection that stands, what the brake held is added. After a sleep longer than
//! the grace every lease lasts as long as the reconnect window.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use zlayer_core::record::{Liveness, NodeId};

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::Ms;
use crate::fact::Fact;
use crate::times::NOTICED_MS;

/// From the end of the lease to the record.
const SLACK_MS: i64 = 1_000;

#[derive(Default)]
pub(super) struct LateExpiry {
    nodes: Accounts<Lease>,
    /// When to look at a node next, once each.
    looks: BinaryHeap<Reverse<(Ms, NodeId)>>,
    loaded: u64,
    longest_ttl_ms: u64,
    began: bool,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not by itself")]
struct Lease {
    held: bool,
    /// Given at a failover; the node has not been back.
    awaited: bool,
    /// Its end, in the time that the server was able to act, with and without the brake's.
    due: i64,
    due_unbraked: i64,
    newest: u64,
    /// The newest session's connection closed then.
    lost_at: Option<i64>,
    /// The engine let it end.
    concluded: bool,
    is_watched: bool,
}

impl Invariant for LateExpiry {
    fn name(&self) -> &'static str {
        "late_expiry"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted | Fact::Died => *self = Self::default(),
            Fact::Loaded { node, liveness, ttl_ms } => {
                self.longest_ttl_ms = self.longest_ttl_ms.max(ttl_ms);
                if matches!(liveness, Liveness::Ready | Liveness::Suspect) {
                    let lease = self.nodes.of(node);
                    (lease.held, lease.awaited) = (true, true);
                    self.loaded += 1;
                }
            }
            Fact::Opened { node, session, ack } => {
                let lease = self.nodes.of(node);
                let awaited = std::mem::take(&mut lease.awaited);
                let continues = lease.held && !awaited;
                lease.held = true;
                if !continues {
                    (lease.due, lease.due_unbraked) = (i64::MIN, i64::MIN);
                }
                (lease.newest, lease.lost_at, lease.concluded) = (session, None, false);
                self.extend(moment, node, ack.ttl_ms + ack.grace_ms);
            }
            Fact::Beat { node, ack, .. } => self.extend(moment, node, ack.ttl_ms + ack.grace_ms),
            Fact::Closed { node, session } => {
                let lease = self.nodes.of(node);
                if lease.newest == session {
                    lease.lost_at = Some(moment.times.able());
                }
            }
            Fact::Leaving { node, .. } | Fact::Removed { node } => self.nodes.of(node).held = false,
            Fact::Proposed { node, to: Liveness::Unreachable, .. } => {
                self.nodes.of(node).concluded = true;
            }
            Fact::Recorded { node, liveness: Liveness::Unreachable } => {
                let lease = self.nodes.of(node);
                lease.held &= !lease.concluded;
            }
            Fact::Ticked { .. } if !self.began => self.begin(moment),
            Fact::Slept { ms } => self.give_time(moment, ms),
            Fact::Ticked { .. } | Fact::Audit => return self.look(moment),
            _ => {}
        }
        Ok(())
    }
}

impl LateExpiry {
    /// The server's first tick: now the leases of loaded nodes begin.
    fn begin(&mut self, moment: &Moment<'_>) {
        self.began = true;
        let rules = moment.rules;
        let ttl_ms = rules.config.ttl_ms(self.loaded);
        let window_ms = rules.config.failover_window_ms(self.longest_ttl_ms)
            + rules.limits.reconnect_spread_ms(self.loaded, ttl_ms);
        let loaded: Vec<_> =
            self.nodes.each().filter(|(_, lease)| lease.held).map(|(node, _)| node).collect();
        for node in loaded {
            self.extend(moment, node, window_ms);
        }
    }

    /// A sleep longer than the grace, with the ticks around it, is a failover to those that lost their connection.
    fn give_time(&mut self, moment: &Moment<'_>, ms: u64) {
        if ms + 2 * NOTICED_MS <= moment.rules.config.grace_ms() {
            return;
        }
        let held: Vec<_> =
            self.nodes.each().filter(|(_, lease)| lease.held).map(|(node, _)| node).collect();
        for node in held {
            self.extend(moment, node, moment.rules.limits.reconnect_window_ms);
        }
    }

    fn extend(&mut self, moment: &Moment<'_>, node: NodeId, window_ms: u64) {
        let lease = self.nodes.of(node);
        let due = moment.times.able_when_noticed() + window_ms as i64;
        lease.due = lease.due.max(due);
        lease.due_unbraked = lease.due_unbraked.max(due - moment.times.braked());
        if !std::mem::replace(&mut lease.is_watched, true) {
            self.looks.push(Reverse((moment.now + window_ms, node)));
        }
    }

    fn look(&mut self, moment: &Moment<'_>) -> Verdict {
        while let Some(&Reverse((at, node))) = self.looks.peek() {
            if at > moment.now {
                break;
            }
            self.looks.pop();
            let lease = self.nodes.of(node);
            if !lease.held {
                lease.is_watched = false;
                continue;
            }
            let overdue = lease.overdue(moment);
            if overdue > SLACK_MS {
                return broken(
                    node,
                    format!("silent, and not Unreachable {overdue} ms after its time"),
                );
            }
            let again = (SLACK_MS - overdue + 1) as u64;
            self.looks.push(Reverse((moment.now + again, node)));
        }
        Ok(())
    }
}

impl Lease {
    fn overdue(&self, moment: &Moment<'_>) -> i64 {
        match self.lost_at {
            // The brake holds for connections that stand; one that is lost is past its hold.
            Some(lost_at) => moment.times.able() - self.due.max(lost_at),
            None => moment.times.able() - moment.times.braked() - self.due_unbraked,
        }
    }
}
