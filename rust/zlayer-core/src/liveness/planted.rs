//! Bugs put in on purpose, to prove that the simulator sees them. Without the cargo feature `planted-bugs`
//! nothing of it is compiled in: [`Planted`] is then empty and every question is answered no.

/// One deliberate mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "planted-bugs"),
    expect(unreachable_pub, reason = "public only where the bugs can be planted")
)]
pub enum Bug {
    /// A renewed lease ends after the TTL, without the grace.
    NoGrace,
    /// A late tick moves no deadline.
    NoShift,
    /// Leases expire at the first look, also right after a pause: nothing waits for the sockets.
    NoDrainHold,
    /// `Disconnected` is believed whatever session it names.
    OldDisconnectHonoured,
    /// Every worker is told to come back after exactly the TTL.
    PacerOff,
    /// Loaded nodes get the TTL of the present count, as if they had just beaten.
    PlainFailoverWindow,
    /// A replaced session keeps the node's lease, so that it can still renew it.
    OldSessionRenews,
    /// A failed condition is taken for a commit.
    RefusalTakenForCommit,
}

/// The bug that is in, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
}

impl Planted {
    /// Puts one in.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn new(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn is(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "same call as with the feature")]
    pub(super) const fn is(self, _bug: Bug) -> bool {
        false
    }
}
