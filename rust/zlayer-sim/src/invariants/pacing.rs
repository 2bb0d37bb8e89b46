//! Beats come evenly. In any second
//!
//! * no more beats are *planned* than the cap (one more where a cap is no whole number of milliseconds a beat):
//!   always, whatever happens to server, network and workers;
//! * no more beats *arrive* within 20 ms of their slot than the cap and 5 % (where the cap is so low that 5 % is less
//!   than one beat and what 20 ms bring in, that): always;
//! * in a world without faults that holds for all beats;
//! * first reports keep to the spread that they were asked for: one and a half times `reconnects_per_second`, where
//!   connections are reset and the server is well. Somewhat more than once, since a worker does not wait beyond its
//!   next beat.

use std::collections::VecDeque;

use zlayer_core::record::{Liveness, NodeId};

use super::{Accounts, Invariant, Moment, Rules, Verdict, broken};
use crate::Ms;
use crate::fact::Fact;
use crate::scenario::Scenario;

const SECOND: Ms = 1_000;
/// How late a beat may be and still count as paced: what the answer and the beat take on the way, and timers.
pub(crate) const ON_TIME_MS: u64 = 20;
/// A worker waits so long after any answer, also where a fresh session's slot is nearer.
const WAIT_MIN_MS: u64 = 20;

/// Most in any second.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peaks {
    pub(crate) planned: u64,
    pub(crate) paced: u64,
    pub(crate) beats: u64,
    pub(crate) hellos: u64,
}

pub(super) struct Pacing {
    /// The slot that each node holds.
    slots: Accounts<Option<Ms>>,
    newest: Accounts<u64>,
    /// Beats planned for each millisecond, by its number modulo the length.
    plan: Vec<u16>,
    planned_until: Ms,
    planned: u64,
    paced: Window,
    beats: Window,
    hellos: Window,
    peaks: Peaks,
}

/// Times within the last second.
#[derive(Default)]
struct Window(VecDeque<Ms>);

impl Window {
    /// One more; how many there are.
    fn add(&mut self, now: Ms) -> u64 {
        while self.0.front().is_some_and(|&at| at + SECOND <= now) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() as u64
    }
}

impl Invariant for Pacing {
    fn name(&self) -> &'static str {
        "pacing"
    }

    fn peaks(&self) -> Option<Peaks> {
        Some(self.peaks)
    }

    fn note(&mut self, moment: &Moment<'_>, fact: &Fact) -> Verdict {
        match *fact {
            Fact::Opened { node, session, ack } => {
                *self.newest.of(node) = session;
                self.take(moment.now, node, Some(moment.now + ack.next_beat_in_ms));
                return self.hello(moment);
            }
            Fact::Beat { node, session, slot, ack } => {
                if *self.newest.of(node) == session {
                    self.take(moment.now, node, Some(moment.now + ack.next_beat_in_ms));
                }
                return self.beat(moment, node, slot);
            }
            Fact::Closed { node, session } if *self.newest.of(node) == session => {
                self.take(moment.now, node, None);
            }
            Fact::Leaving { node, .. }
            | Fact::Removed { node }
            | Fact::Proposed { node, to: Liveness::Unreachable, .. } => {
                self.take(moment.now, node, None);
            }
            Fact::Died => {
                self.plan.fill(0);
                self.planned = 0;
                self.slots.each().for_each(|(_, slot)| *slot = None);
            }
            Fact::Ticked { .. } | Fact::Audit => return self.advance(moment),
            _ => {}
        }
        Ok(())
    }
}

impl Pacing {
    pub(super) fn new(rules: &Rules) -> Self {
        let longest_ms = u64::from(rules.config.max_ttl_secs) * SECOND;
        // The longest TTL ahead, a second behind, and a long sleep between two ticks.
        let length = longest_ms + 200 * SECOND;
        Self {
            slots: Accounts::default(),
            newest: Accounts::default(),
            plan: vec![0; length as usize],
            planned_until: 0,
            planned: 0,
            paced: Window::default(),
            beats: Window::default(),
            hellos: Window::default(),
            peaks: Peaks::default(),
        }
    }

    /// A node gets another slot, or none. One whose time has come stays in the plan.
    fn take(&mut self, now: Ms, node: NodeId, slot: Option<Ms>) {
        let held = std::mem::replace(self.slots.of(node), slot);
        if let Some(held) = held.filter(|&held| held > now) {
            *self.planned_at(held) -= 1;
        }
        if let Some(slot) = slot {
            *self.planned_at(slot) += 1;
        }
    }

    fn planned_at(&mut self, at: Ms) -> &mut u16 {
        let length = self.plan.len() as u64;
        &mut self.plan[(at % length) as usize]
    }

    /// Looks at each second of the plan that has ended.
    fn advance(&mut self, moment: &Moment<'_>) -> Verdict {
        let cap = u64::from(moment.rules.config.max_heartbeats_per_second);
        let most = cap + u64::from(!SECOND.is_multiple_of(cap.max(1)));
        while self.planned_until < moment.now {
            self.planned_until += 1;
            let at = self.planned_until;
            self.planned += u64::from(*self.planned_at(at));
            if let Some(left) = at.checked_sub(SECOND) {
                self.planned -= u64::from(std::mem::take(self.planned_at(left)));
            }
            self.peaks.planned = self.peaks.planned.max(self.planned);
            if cap > 0 && self.planned > most {
                let planned = self.planned;
                return broken(None, format!("{planned} beats planned for one second, cap {cap}"));
            }
        }
        Ok(())
    }

    fn beat(&mut self, moment: &Moment<'_>, node: NodeId, slot: Option<Ms>) -> Verdict {
        self.peaks.beats = self.peaks.beats.max(self.beats.add(moment.now));
        // One that comes before its time is out of turn, as a goodbye is.
        let late = slot.and_then(|slot| moment.now.checked_sub(slot)).unwrap_or(u64::MAX);
        if moment.rules.scenario == Scenario::Steady {
            if late > ON_TIME_MS + WAIT_MIN_MS {
                return broken(node, format!("its beat is {late} ms late in a steady world"));
            }
        } else if late > ON_TIME_MS {
            return Ok(());
        }
        let paced = self.paced.add(moment.now);
        self.peaks.paced = self.peaks.paced.max(paced);
        let cap = u64::from(moment.rules.config.max_heartbeats_per_second);
        let most = (cap * 105 / 100).max(cap + 1 + cap * ON_TIME_MS / SECOND);
        if cap > 0 && paced > most {
            return broken(node, format!("{paced} paced beats within a second, cap {cap}"));
        }
        Ok(())
    }

    fn hello(&mut self, moment: &Moment<'_>) -> Verdict {
        let hellos = self.hellos.add(moment.now);
        self.peaks.hellos = self.peaks.hellos.max(hellos);
        let most = u64::from(moment.rules.limits.reconnects_per_second) * 3 / 2;
        if moment.rules.scenario == Scenario::Storms && hellos > most {
            return broken(None, format!("{hellos} sessions opened within a second, not {most}"));
        }
        Ok(())
    }
}
