//! Mistakes that can be put into a world on purpose, to show that the invariants see them.
//!
//! Some are the core's own ([`zlayer_core::liveness::Bug`], compiled in with the feature `planted-bugs`), some are in
//! how it is set up, some in the server or the worker around it.

#[cfg(feature = "planted-bugs")]
use zlayer_core::liveness::Bug;
use zlayer_core::liveness::LivenessLimits;

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// In the core.
    #[cfg(feature = "planted-bugs")]
    Core(Bug),
    /// A due lease expires at the first look.
    NoSecondLook,
    /// No gap between ticks counts as a sleep.
    SleepUnnoticed,
    /// The brake never holds.
    NoBrake,
    /// The brake holds for an hour.
    StuckBrake,
    /// Whoever is not back at once after a failover is Suspect.
    NoReconnectWindow,
    /// Workers that lost their connection all dial at once.
    NoReconnectSpread,
    /// The server does not tick often enough: it thinks that it sleeps all the time.
    SlowTicks,
    /// The server does not tell that a connection ended, one time out of five.
    CloseUntold,
    /// The server forgets what the engine wants recorded, one time out of twenty.
    ProposalForgotten,
    /// A worker waits for the answer to a beat for ever.
    AnswerAwaited,
    /// A worker counts the time to its next beat from the arrival of an answer, however late that is.
    LateAnswerTrusted,
    /// A worker takes it for final when a hello that it gave up has superseded its session.
    RefusalBelieved,
    /// What was acknowledged is not on disk, one time out of fifty.
    CommitLost,
}

/// All mistakes around the core.
const AROUND: [Flaw; 13] = [
    Flaw::NoSecondLook,
    Flaw::SleepUnnoticed,
    Flaw::NoBrake,
    Flaw::StuckBrake,
    Flaw::NoReconnectWindow,
    Flaw::NoReconnectSpread,
    Flaw::SlowTicks,
    Flaw::CloseUntold,
    Flaw::ProposalForgotten,
    Flaw::AnswerAwaited,
    Flaw::LateAnswerTrusted,
    Flaw::RefusalBelieved,
    Flaw::CommitLost,
];

/// All mistakes in the core.
#[cfg(feature = "planted-bugs")]
const IN_CORE: [Bug; 8] = [
    Bug::NoGrace,
    Bug::NoShift,
    Bug::NoDrainHold,
    Bug::OldDisconnectHonoured,
    Bug::PacerOff,
    Bug::PlainFailoverWindow,
    Bug::OldSessionRenews,
    Bug::RefusalTakenForCommit,
];

impl Flaw {
    /// Every mistake that this build can make.
    pub fn all() -> Vec<Self> {
        #[cfg(feature = "planted-bugs")]
        let in_core = IN_CORE.map(Self::Core);
        #[cfg(not(feature = "planted-bugs"))]
        let in_core = [];
        in_core.into_iter().chain(AROUND).collect()
    }

    /// As on the command line.
    pub fn name(self) -> String {
        match self {
            #[cfg(feature = "planted-bugs")]
            Self::Core(bug) => format!("{bug:?}"),
            around => format!("{around:?}"),
        }
    }

    /// The inverse of [`Self::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|flaw| flaw.name() == name)
    }

    /// What is planted in the core.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn in_core(self) -> Option<Bug> {
        match self {
            Self::Core(bug) => Some(bug),
            _ => None,
        }
    }

    /// The engine's limits with the mistake in them.
    pub(crate) fn spoil(self, limits: &mut LivenessLimits) {
        match self {
            Self::NoSecondLook => limits.confirm_ms = 0,
            Self::SleepUnnoticed => limits.late_tick_ms = u64::MAX,
            Self::NoBrake => limits.brake.leases_min = u64::MAX,
            Self::StuckBrake => limits.brake.hold_ms = 3_600_000,
            Self::NoReconnectWindow => limits.reconnect_window_ms = 0,
            Self::NoReconnectSpread => limits.reconnects_per_second = u32::MAX,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for flaw in Flaw::all() {
            assert_eq!(Flaw::named(&flaw.name()), Some(flaw));
        }
        assert_eq!(Flaw::named("Core"), None);
    }
}
