//! What a world ends with: a summary in one line, or a failure with all that it takes to see it again.

use std::fmt;
use std::time::Duration;

use zlayer_core::record::NodeId;

use crate::Ms;
use crate::fact::Fact;
use crate::settings::Settings;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise: a file in `invariants`, `core` for a check of the core's own, or `replay`.
    pub invariant: &'static str,
    /// When, in the world's time.
    pub at: Ms,
    /// Whose, if it is about one node.
    pub node: Option<NodeId>,
    /// What was seen, in one line.
    pub what: String,
}

/// A world that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Of that world.
    pub settings: Settings,
    /// The promise.
    pub violation: Violation,
    /// The last facts about the node, oldest first.
    pub(crate) of_node: Vec<(Ms, Fact)>,
    /// The last facts of all, oldest first.
    pub(crate) of_all: Vec<(Ms, Fact)>,
}

/// A world that kept them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of the trace: equal for equal settings.
    pub hash: u64,
    /// Facts in the trace.
    pub facts: u64,
    /// Simulated time.
    pub simulated_ms: Ms,
    /// Time that it took.
    pub took: Duration,
    /// Beats that renewed a lease, first reports not counted.
    pub beats: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Most beats in any second that came within 20 ms of their slot.
    pub paced_peak: u64,
    /// Most beats in any second, however late.
    pub beats_peak: u64,
    /// Most beats planned for any second.
    pub plan_peak: u64,
    /// Most first reports in any second.
    pub hellos_peak: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Nodes that were called Suspect.
    pub suspects: u64,
    /// Nodes that were called Unreachable.
    pub unreachable: u64,
    /// Of those, with a process that ran, cut off though it was.
    pub cut_off: u64,
    /// Times that the brake held.
    pub alarms: u64,
    /// Times that the server slept, by its own account.
    pub sleeps: u64,
    /// Times that it started.
    pub boots: u64,
    /// Faults that were put in.
    pub faults: u64,
    /// Kinds of faults among them.
    pub kinds: u32,
}

/// `h:mm:ss.mmm`.
pub(crate) struct Clock(pub(crate) Ms);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1_000, self.0 % 1_000);
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        write!(f, "{}:{:02}:{seconds:02}.{ms:03}", minutes / 60, minutes % 60)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { beats, sessions, paced_peak, beats_peak, plan_peak, hellos_peak, .. } = self;
        let Self { entries, suspects, unreachable, cut_off, alarms, sleeps, boots, .. } = self;
        let rate = self.simulated_ms as f64 / self.took.as_millis().max(1) as f64;
        write!(
            f,
            "{beats} beats (peak/s: {paced_peak} paced, {beats_peak} in all, {plan_peak} planned), {sessions} \
             sessions (peak/s {hellos_peak}), {suspects} suspect, {unreachable} unreachable ({cut_off} cut off), \
             {alarms} alarms, {sleeps} sleeps, {boots} boots, {faults} faults of {kinds} kinds, {entries} entries, trace {hash:016x}, \
             {took:.1} s, {rate:.0} times real time",
            faults = self.faults,
            kinds = self.kinds,
            hash = self.hash,
            took = self.took.as_secs_f64(),
        )
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { invariant, at, node, what } = &self.violation;
        writeln!(f, "{}: {invariant} is broken at {}", self.settings, Clock(*at))?;
        match node {
            Some(node) => writeln!(f, "  node {node}: {what}")?,
            None => writeln!(f, "  {what}")?,
        }
        if let Some(node) = node {
            writeln!(f, "the last that happened to node {node} or to the server:")?;
            write_facts(f, &self.of_node)?;
        }
        writeln!(f, "the last that happened at all:")?;
        write_facts(f, &self.of_all)?;
        write!(f, "again: {}", self.settings.command())
    }
}

fn write_facts(f: &mut fmt::Formatter<'_>, facts: &[(Ms, Fact)]) -> fmt::Result {
    facts.iter().try_for_each(|(at, fact)| writeln!(f, "  {:>13} {fact:?}", Clock(*at).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        assert_eq!(Clock(0).to_string(), "0:00:00.000");
        assert_eq!(Clock(90_061_007).to_string(), "25:01:01.007");
    }
}
