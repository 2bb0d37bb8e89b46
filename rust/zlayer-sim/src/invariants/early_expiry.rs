//! No lease ends before its promise: TTL + grace, in the time that the server was awake, from the receipt of any
//! beat that this server process answered, whatever session came later; and until the node is back after a failover,
//! of any beat whose answer its worker has from an earlier process.

use zlayer_core::record::Liveness;

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct EarlyExpiry {
    nodes: Accounts<Promises>,
}

/// Ends of leases, in the time that the server was awake.
#[derive(Default)]
struct Promises {
    /// Of this server process.
    answered: u64,
    /// That the worker has from an earlier one.
    told_before: u64,
    told: u64,
}

impl Invariant for EarlyExpiry {
    fn name(&self) -> &'static str {
        "early_expiry"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Opened { node, ack, .. } | Fact::Beat { node, ack, .. } => {
                let promises = self.nodes.of(node);
                let until = moment.times.awake() + ack.ttl_ms + ack.grace_ms;
                promises.answered = promises.answered.max(until);
                // Now it counts as one that has just beaten.
                promises.told_before = 0;
            }
            Fact::Told { node, promise } => {
                let promises = self.nodes.of(node);
                promises.told = promises.told.max(promise);
            }
            Fact::Booted => self.nodes.each().for_each(|(_, promises)| {
                promises.answered = 0;
                promises.told_before = promises.told;
            }),
            // A goodbye gives the lease back.
            Fact::Leaving { node, .. } => *self.nodes.of(node) = Promises::default(),
            Fact::Proposed { node, to: Liveness::Unreachable, .. } => {
                let awake = moment.times.awake();
                let promises = self.nodes.of(node);
                let until = promises.answered.max(promises.told_before);
                if awake < until {
                    let early = until - awake;
                    return broken(node, format!("its lease ends {early} ms before its promise"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
