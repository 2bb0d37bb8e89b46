//! The link that is to carry the session: waits, dials, greets, takes over.

use super::{
    Answer, BACKOFF_BASE_MS, BACKOFF_MAX_MS, Beat, DIAL_MIN_MS, DIAL_TIMEOUT_MS, Deed, Ending,
    GAVE_UP_MS, Link, Primary, Report, SLOW_RETRY_MS, Standing, Worker,
};
use crate::Ms;
use crate::dice::Dice;

/// Where it stands. `until` ends the stage.
#[derive(Debug, Clone, Copy)]
pub(super) enum Candidate {
    Waiting { until: Ms },
    Dialling { link: Link, identity: u32, until: Ms },
    Greeting { link: Link, identity: u32, until: Ms, sent: Ms, leaving: bool },
}

impl Candidate {
    pub(super) fn until(&self) -> Ms {
        match *self {
            Self::Waiting { until }
            | Self::Dialling { until, .. }
            | Self::Greeting { until, .. } => until,
        }
    }

    pub(super) fn link(&self) -> Option<Link> {
        match *self {
            Self::Waiting { .. } => None,
            Self::Dialling { link, .. } | Self::Greeting { link, .. } => Some(link),
        }
    }
}

impl Worker {
    /// Dials now, unless a dial is under way.
    pub(super) fn dial_soon(&mut self, now: Ms) {
        if self.candidate.is_none_or(|candidate| candidate.link().is_none()) {
            self.candidate = Some(Candidate::Waiting { until: now });
        }
    }

    pub(super) fn drop_candidate(&mut self, now: Ms, out: &mut Vec<Deed>) {
        out.extend(self.give_up(now).map(Deed::Close));
    }

    /// Forgets the candidate, and that its hello may be on its way.
    fn give_up(&mut self, now: Ms) -> Option<Link> {
        let candidate = self.candidate.take()?;
        if matches!(candidate, Candidate::Greeting { .. }) {
            self.gave_up_until = now + GAVE_UP_MS;
        }
        candidate.link()
    }

    pub(super) fn advance_candidate(&mut self, now: Ms, dice: &mut Dice, out: &mut Vec<Deed>) {
        // A stage may end the very moment it begins: a wait of nothing.
        while let Some(candidate) = self.candidate.filter(|stage| stage.until() <= now) {
            match candidate.link() {
                None => self.start_dial(now, out),
                Some(link) => {
                    out.push(Deed::Close(link));
                    self.candidate_failed(now, Ending::Lost, dice, out);
                }
            }
        }
    }

    fn start_dial(&mut self, now: Ms, out: &mut Vec<Deed>) {
        self.links += 1;
        let link = self.links;
        // A third of what is left of the lease, within bounds.
        let timeout_ms = self
            .lease_left_ms(now)
            .map_or(DIAL_TIMEOUT_MS, |left| (left / 3).clamp(DIAL_MIN_MS, DIAL_TIMEOUT_MS));
        let until = now + timeout_ms;
        self.candidate = Some(Candidate::Dialling { link, identity: self.identity, until });
        out.push(Deed::Dial(link));
    }

    /// Of a lease that still runs.
    fn lease_left_ms(&self, now: Ms) -> Option<u64> {
        self.lease_until.map(|until| until.saturating_sub(now)).filter(|left| *left > 0)
    }

    pub(super) fn greet(&mut self, now: Ms, opened: Link, out: &mut Vec<Deed>) {
        let Some(Candidate::Dialling { link, identity, until }) = self.candidate else { return };
        if link != opened {
            return;
        }
        let leaving = self.standing == Standing::Leaving;
        self.candidate = Some(Candidate::Greeting { link, identity, until, sent: now, leaving });
        out.push(Deed::Send(link, Report { seq: 1, hello: true, leaving }));
    }

    /// Takes the answer to a hello; false when it is no such answer.
    pub(super) fn acked_candidate(
        &mut self,
        now: Ms,
        answered: Link,
        answer: &Answer,
        out: &mut Vec<Deed>,
    ) -> bool {
        let Some(Candidate::Greeting { link, identity, sent, leaving, .. }) = self.candidate else {
            return false;
        };
        if link != answered || answer.seq != 1 {
            return false;
        }
        self.candidate = None;
        let beat = Beat::planned(now, sent, answer, self.manners.trusting);
        let old = self.primary.replace(Primary { link, identity, seq: 1, beat, leaving });
        out.extend(old.map(|old| Deed::Close(old.link)));
        if leaving {
            self.stop(now, out);
            return true;
        }
        self.note_answer(answer, sent);
        self.failures = 0;
        self.announced = true;
        if self.standing == Standing::Refused {
            self.standing = Standing::Going;
        }
        if identity != self.identity {
            self.dial_soon(now);
        }
        true
    }

    /// The candidate's dial or hello came to nothing. Its link is gone, or is being closed.
    pub(super) fn candidate_failed(
        &mut self,
        now: Ms,
        why: Ending,
        dice: &mut Dice,
        out: &mut Vec<Deed>,
    ) {
        self.give_up(now);
        let refused = why == Ending::Refused && !self.is_own_doing(now);
        if refused && !self.announced {
            return self.refused(now, dice, out);
        }
        if self.primary.is_none() {
            self.announced = false;
        }
        if !self.wants_candidate() {
            return;
        }
        let wait_ms = if refused || self.standing == Standing::Refused {
            slow_retry_ms(dice)
        } else {
            // The waits must not use up the lease either.
            let cap_ms = self.lease_left_ms(now).map_or(Ms::MAX, |left| left / 4);
            self.backoff_ms(cap_ms, dice)
        };
        self.candidate = Some(Candidate::Waiting { until: now + wait_ms });
    }

    /// Uniform in 0..=base · 2ⁿ, with the upper end capped by the maximum, and by `cap_ms` as far as the base
    /// allows.
    fn backoff_ms(&mut self, cap_ms: Ms, dice: &mut Dice) -> Ms {
        let doubled = BACKOFF_BASE_MS << self.failures.min(32);
        self.failures += 1;
        let most = doubled.min(BACKOFF_MAX_MS).min(cap_ms.max(BACKOFF_BASE_MS));
        dice.between(0, most)
    }
}

/// 50..=100 % of the slow retry.
pub(super) fn slow_retry_ms(dice: &mut Dice) -> Ms {
    dice.between(SLOW_RETRY_MS / 2, SLOW_RETRY_MS)
}
