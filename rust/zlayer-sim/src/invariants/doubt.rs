//! A due lease is looked at twice, `confirm_ms` apart, and nobody expires for `drain_hold_ms` after a sleep of the
//! server: a beat that waits in a socket saves its lease.

use zlayer_core::record::Liveness;

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;
use crate::times::NOTICED_MS;

#[derive(Default)]
pub(super) struct Doubt {
    /// When each lease that this server process gave was due, in the time that it was awake.
    due: Accounts<u64>,
    slept: bool,
}

impl Invariant for Doubt {
    fn name(&self) -> &'static str {
        "doubt"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        let limits = &moment.rules.limits;
        match *fact {
            Fact::Opened { node, ack, .. } | Fact::Beat { node, ack, .. } => {
                let due = self.due.of(node);
                *due = (*due).max(moment.times.awake() + ack.ttl_ms + ack.grace_ms);
            }
            Fact::Booted => self.due.each().for_each(|(_, due)| *due = 0),
            Fact::Slept { ms } if ms > NOTICED_MS => self.slept = true,
            Fact::Leaving { node, .. } => *self.due.of(node) = 0,
            Fact::Proposed { node, to: Liveness::Unreachable, .. } => {
                let overdue = moment.times.awake().saturating_sub(*self.due.of(node));
                if overdue < limits.confirm_ms {
                    let what =
                        format!("expired {overdue} ms after its lease was due, at first look");
                    return broken(node, what);
                }
                let awake = moment.times.since_sleep_ms();
                if self.slept && awake < limits.drain_hold_ms {
                    return broken(node, format!("expired {awake} ms after the server slept"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
