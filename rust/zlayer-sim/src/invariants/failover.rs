//! A new server process gives each node that it loads a lease of `max(failover TTL, longest TTL recorded + grace)`
//! from its first tick, and a window to come back before it is Suspect.

use zlayer_core::record::{Liveness, Reason};

use super::{Accounts, Invariant, Moment, Verdict, broken};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct Failover {
    /// Loaded with a lease and not back yet.
    awaited: Accounts<bool>,
    loaded: u64,
    longest_ttl_ms: u64,
    /// First tick of this process, in the time that it was awake.
    began: Option<u64>,
}

impl Invariant for Failover {
    fn name(&self) -> &'static str {
        "failover"
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Booted => *self = Self::default(),
            Fact::Loaded { node, liveness, ttl_ms } => {
                let held = matches!(liveness, Liveness::Ready | Liveness::Suspect);
                *self.awaited.of(node) = held;
                self.loaded += u64::from(held);
                self.longest_ttl_ms = self.longest_ttl_ms.max(ttl_ms);
            }
            Fact::Ticked { .. } => {
                self.began.get_or_insert(moment.times.awake());
            }
            Fact::Opened { node, .. } => *self.awaited.of(node) = false,
            Fact::Proposed { node, to, reason } if *self.awaited.of(node) => {
                return self.judge(moment, node, to, reason);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Failover {
    fn judge(&self, moment: &Moment<'_>, node: u64, to: Liveness, reason: Reason) -> Verdict {
        let rules = moment.rules;
        // The tick that judges is told after what it decided.
        let since = self.began.map_or(0, |began| moment.times.awake() - began);
        let window = match to {
            Liveness::Unreachable => rules.config.failover_window_ms(self.longest_ttl_ms),
            Liveness::Suspect if reason == Reason::NotReconnected => {
                let ttl_ms = rules.config.ttl_ms(self.loaded);
                let spread_ms = rules.limits.reconnect_spread_ms(self.loaded, ttl_ms);
                rules.limits.reconnect_window_ms.max(spread_ms)
            }
            _ => 0,
        };
        if since >= window {
            return Ok(());
        }
        broken(node, format!("{to:?} {since} ms after a new server began to wait, not {window} ms"))
    }
}
