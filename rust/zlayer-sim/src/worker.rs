//! A worker's session, as `zlayer-node/src/session/protocol` has it, in small: what it does at which time, with one
//! server in its list, no watch and no resources.
//!
//! At most two links exist: the *primary* carries the session, the *candidate* is to become it.
//!
//! Two things it does that a session must do, as these worlds have shown; each can be taken out as a
//! [`crate::Flaw`]: an answer that comes late is counted from the sending of its report (`LateAnswerTrusted`), and a
//! refusal that a hello of its own may have brought about, given up and taken by the server all the same, is a lost
//! connection and not final (`RefusalBelieved`).

mod candidate;
mod ends;
#[cfg(test)]
mod tests;

use candidate::Candidate;

use crate::Ms;
use crate::dice::Dice;

/// How long a hello that was given up may still be on its way, and a session superseded by it without knowing: a TTL
/// and more.
const GAVE_UP_MS: Ms = 660_000;

/// The session's own defaults (`zlayer-node/src/session/options.rs`).
const ACK_TIMEOUT_MS: Ms = 2_000;
const DIAL_TIMEOUT_MS: Ms = 5_000;
const DIAL_MIN_MS: Ms = 1_000;
const BACKOFF_BASE_MS: Ms = 250;
const BACKOFF_MAX_MS: Ms = 15_000;
const SLOW_RETRY_MS: Ms = 60_000;
const BEAT_MIN_MS: Ms = 20;

/// Number of a dial and of the connection that comes of it; unique for one worker.
pub(crate) type Link = u32;

/// What a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) seq: u32,
    pub(crate) hello: bool,
    pub(crate) leaving: bool,
}

/// What it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) seq: u32,
    pub(crate) ttl_ms: u64,
    pub(crate) grace_ms: u64,
    pub(crate) next_beat_in_ms: u64,
    pub(crate) reconnect_spread_ms: u64,
    /// End of the lease in the time that the server was awake. For the invariants; the worker does not use it.
    pub(crate) promise: u64,
}

/// Why a dial or a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Dial again, with the waits of a lost connection or a failed dial.
    Lost,
    /// The server asked for a new connection: dial at once.
    Aged,
    /// Refused, as superseded or removed: retried slowly.
    Refused,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Tick,
    Opened(Link),
    Ended(Link, Ending),
    Acked(Link, Answer),
    NewIdentity,
    Leave,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Dial(Link),
    Send(Link, Report),
    Close(Link),
}

#[derive(Debug, Clone, Copy)]
enum Beat {
    Planned { at: Ms },
    Sent { at: Ms, overdue: bool },
}

impl Beat {
    /// The next one, when the server said, but never in a tight loop and never after the TTL. What the server says
    /// counts from its receipt of the report, so an answer that comes late is counted from the report's sending.
    fn planned(now: Ms, sent: Ms, answer: &Answer, trusting: bool) -> Self {
        let after_ms = answer.next_beat_in_ms.min(answer.ttl_ms).max(BEAT_MIN_MS);
        let from = if now - sent <= ACK_TIMEOUT_MS || trusting { now } else { sent };
        Self::Planned { at: (from + after_ms).max(now + BEAT_MIN_MS) }
    }
}

/// The link that carries the session.
#[derive(Debug)]
struct Primary {
    link: Link,
    identity: u32,
    seq: u32,
    beat: Beat,
    leaving: bool,
}

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Going,
    Refused,
    Leaving,
    Stopped,
}

/// One worker process's session.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) incarnation: u64,
    primary: Option<Primary>,
    candidate: Option<Candidate>,
    failures: u32,
    links: Link,
    identity: u32,
    /// Of the last answer.
    spread_ms: u64,
    lease_until: Option<Ms>,
    /// Until then a hello that it gave up may supersede its session.
    gave_up_until: Ms,
    announced: bool,
    standing: Standing,
    manners: Manners,
}

/// Mistakes that can be put in.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Manners {
    /// Waits for the answer to a beat for ever.
    pub(crate) patient: bool,
    /// Counts what a late answer says from its arrival.
    pub(crate) trusting: bool,
    /// Takes every refusal for final, also one that it has brought about itself.
    pub(crate) obedient: bool,
}

impl Worker {
    /// A session that dials at once. `links`: numbers that processes before it have used.
    pub(crate) fn new(now: Ms, incarnation: u64, links: Link, manners: Manners) -> Self {
        Self {
            incarnation,
            primary: None,
            candidate: Some(Candidate::Waiting { until: now }),
            failures: 0,
            links,
            identity: 0,
            spread_ms: 0,
            lease_until: None,
            gave_up_until: 0,
            announced: false,
            standing: Standing::Going,
            manners,
        }
    }

    /// The newest number given to a link.
    pub(crate) fn links(&self) -> Link {
        self.links
    }

    /// Nothing more will happen: it has left.
    pub(crate) fn is_over(&self) -> bool {
        self.standing == Standing::Stopped
    }

    /// When to call again with [`Input::Tick`] at the latest.
    pub(crate) fn next_wakeup(&self) -> Option<Ms> {
        let beat = self.primary.as_ref().and_then(|primary| match primary.beat {
            Beat::Planned { at } => Some(at),
            Beat::Sent { at, overdue: false } => Some(at + self.ack_timeout_ms()),
            Beat::Sent { overdue: true, .. } => None,
        });
        let candidate = self.candidate.as_ref().map(Candidate::until);
        [beat, candidate].into_iter().flatten().min()
    }

    /// Takes one input and says what to do about it.
    pub(crate) fn handle(&mut self, now: Ms, input: Input, dice: &mut Dice, out: &mut Vec<Deed>) {
        if self.is_over() {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Opened(link) => self.greet(now, link, out),
            Input::Ended(link, why) => self.ended(now, link, why, dice, out),
            Input::Acked(link, answer) => self.acked(now, link, &answer, out),
            Input::NewIdentity => self.new_identity(now, out),
            Input::Leave => self.leave(now, out),
        }
        if !self.is_over() {
            self.beat_if_due(now, out);
            self.advance_candidate(now, dice, out);
        }
    }

    fn ack_timeout_ms(&self) -> Ms {
        if self.manners.patient { Ms::MAX / 4 } else { ACK_TIMEOUT_MS }
    }

    fn beat_if_due(&mut self, now: Ms, out: &mut Vec<Deed>) {
        let leaving = self.standing == Standing::Leaving;
        let timeout_ms = self.ack_timeout_ms();
        let Some(primary) = &mut self.primary else { return };
        let goodbye = leaving && !primary.leaving;
        match primary.beat {
            Beat::Planned { at } if now >= at || goodbye => {}
            // A goodbye does not wait for the answer to a beat.
            Beat::Sent { overdue: false, .. } if goodbye => {}
            Beat::Sent { at, overdue: false } if now - at >= timeout_ms => {
                primary.beat = Beat::Sent { at, overdue: true };
                // This one may still come back; meanwhile it looks for another.
                self.announced = false;
                self.dial_soon(now);
                return;
            }
            Beat::Planned { .. } | Beat::Sent { .. } => return,
        }
        primary.seq += 1;
        primary.leaving = leaving;
        primary.beat = Beat::Sent { at: now, overdue: false };
        let report = Report { seq: primary.seq, hello: false, leaving };
        out.push(Deed::Send(primary.link, report));
    }

    fn acked(&mut self, now: Ms, link: Link, answer: &Answer, out: &mut Vec<Deed>) {
        if self.acked_candidate(now, link, answer, out) {
            return;
        }
        let Some(primary) = &mut self.primary else { return };
        if primary.link != link || primary.seq != answer.seq {
            return;
        }
        let Beat::Sent { at, overdue } = primary.beat else { return };
        primary.beat = Beat::planned(now, at, answer, self.manners.trusting);
        if primary.leaving {
            return self.stop(now, out);
        }
        self.note_answer(answer, at);
        if overdue {
            self.announced = true;
            // It has come back before another connection stood. One that greets goes on: the server may have
            // taken its hello already.
            let greets = matches!(self.candidate, Some(Candidate::Greeting { .. }));
            if !self.wants_candidate() && !greets {
                self.drop_candidate(now, out);
            }
        }
    }

    /// The lease is counted from the sending of the report, so the server's ends later.
    fn note_answer(&mut self, answer: &Answer, sent: Ms) {
        self.lease_until = Some(sent + answer.ttl_ms + answer.grace_ms);
        self.spread_ms = answer.reconnect_spread_ms;
    }

    /// Whether another connection than the primary is needed.
    fn wants_candidate(&self) -> bool {
        self.primary.as_ref().is_none_or(|primary| {
            primary.identity != self.identity
                || matches!(primary.beat, Beat::Sent { overdue: true, .. })
        })
    }

    fn new_identity(&mut self, now: Ms, out: &mut Vec<Deed>) {
        self.identity += 1;
        if self.standing == Standing::Refused {
            self.standing = Standing::Going;
        }
        self.drop_candidate(now, out);
        self.dial_soon(now);
    }
}
