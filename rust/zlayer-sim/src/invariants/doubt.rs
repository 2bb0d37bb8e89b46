//! A due lease is looked at twice, `confirm_ms` apart, and nobody expires for `drain_hold_ms` after a sleep of the
//! server: a beat that waits in a socket saves its lease.

use zlayer_core::record::Liveness;

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::Ms;
use crate::fact::Fact;
use crate::times::NOTICED_MS;

#[derive(Default)]
pub(super) struct Doubt {
    nodes: Accounts<Lease>,
    slept: bool,
}

#[derive(Default)]
struct Lease {
    /// When it was due, in the time that the server was awake.
    due: u64,
    /// It was proposed to end it; that was turned away, perhaps.
    concluded: bool,
    /// When something else was answered that was under way for the node.
    answered_at: Ms,
}

impl Invariant for Doubt {
    fn name(&self) -> &'static str {
        "doubt"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        let limits = &moment.rules.limits;
        match *fact {
            Fact::Opened { node, ack, .. } | Fact::Beat { node, ack, .. } => {
                let lease = self.nodes.of(node);
                lease.due = lease.due.max(moment.times.awake() + ack.ttl_ms + ack.grace_ms);
                lease.concluded = false;
            }
            Fact::Booted => self.nodes.each().for_each(|(_, lease)| *lease = Lease::default()),
            Fact::Answered { node, .. } => self.nodes.of(node).answered_at = moment.now,
            Fact::Slept { ms } if ms > NOTICED_MS => self.slept = true,
            Fact::Leaving { node, .. } => *self.nodes.of(node) = Lease::default(),
            Fact::Proposed { node, to: Liveness::Unreachable, .. } => {
                let lease = self.nodes.of(node);
                let overdue = moment.times.awake().saturating_sub(lease.due);
                let decided_now = !std::mem::replace(&mut lease.concluded, true)
                    && lease.answered_at < moment.now;
                if overdue < limits.confirm_ms {
                    let what =
                        format!("expired {overdue} ms after its lease was due, at first look");
                    return broken(node, what);
                }
                let awake = moment.times.since_sleep_ms();
                if self.slept && decided_now && awake < limits.drain_hold_ms {
                    return broken(node, format!("expired {awake} ms after the server slept"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
