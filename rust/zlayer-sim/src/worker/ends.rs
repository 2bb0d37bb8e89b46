//! How a session ends, or is interrupted: lost connections, refusals, goodbyes.

use super::candidate::{Candidate, slow_retry_ms};
use super::{Beat, Deed, Ending, Link, Standing, Worker};
use crate::Ms;
use crate::dice::Dice;

impl Worker {
    /// A dial failed or a link ended.
    pub(super) fn ended(
        &mut self,
        now: Ms,
        link: Link,
        why: Ending,
        dice: &mut Dice,
        out: &mut Vec<Deed>,
    ) {
        if self.candidate.is_some_and(|candidate| candidate.link() == Some(link)) {
            return self.candidate_failed(now, why, dice, out);
        }
        let Some(primary) = self.primary.take_if(|primary| primary.link == link) else { return };
        match why {
            // The session that greets has superseded this one.
            Ending::Refused if matches!(self.candidate, Some(Candidate::Greeting { .. })) => {}
            Ending::Refused if !self.is_own_doing(now) => self.refused(now, dice, out),
            Ending::Aged => self.dial_soon(now),
            Ending::Refused | Ending::Lost => {
                self.plan_return(now, primary.beat, dice);
                self.announced = false;
            }
        }
    }

    /// Whether a refusal may be due to a hello of its own, which it gave up and the server took all the same.
    pub(super) fn is_own_doing(&self, now: Ms) -> bool {
        now < self.gave_up_until && !self.manners.obedient
    }

    /// After a lost connection.
    fn plan_return(&mut self, now: Ms, beat: Beat, dice: &mut Dice) {
        let planned = match self.candidate {
            Some(candidate) if candidate.link().is_some() => return,
            Some(candidate) => candidate.until(),
            None => Ms::MAX,
        };
        // Beyond the time of the next beat the wait would eat the grace.
        let spread_ms = match beat {
            Beat::Planned { at } => self.spread_ms.min(at.saturating_sub(now)),
            Beat::Sent { .. } => 0,
        };
        let leaving = self.standing == Standing::Leaving;
        let wait_ms = if leaving { 0 } else { dice.between(0, spread_ms) };
        self.candidate = Some(Candidate::Waiting { until: planned.min(now + wait_ms) });
    }

    /// Final until the cluster changes its mind: everything is closed, and a dial is tried rarely.
    pub(super) fn refused(&mut self, now: Ms, dice: &mut Dice, out: &mut Vec<Deed>) {
        self.close_all(now, out);
        self.announced = false;
        if self.standing == Standing::Leaving {
            // Nobody is left to say goodbye to.
            self.standing = Standing::Stopped;
            return;
        }
        self.standing = Standing::Refused;
        self.candidate = Some(Candidate::Waiting { until: now + slow_retry_ms(dice) });
    }

    pub(super) fn leave(&mut self, now: Ms, out: &mut Vec<Deed>) {
        if self.standing == Standing::Refused {
            return self.stop(now, out);
        }
        self.standing = Standing::Leaving;
        if self.primary.is_none() {
            self.dial_soon(now);
        }
    }

    pub(super) fn stop(&mut self, now: Ms, out: &mut Vec<Deed>) {
        self.close_all(now, out);
        self.standing = Standing::Stopped;
    }

    fn close_all(&mut self, now: Ms, out: &mut Vec<Deed>) {
        self.drop_candidate(now, out);
        out.extend(self.primary.take().map(|primary| Deed::Close(primary.link)));
    }
}
