//! Mistakes that tests make on purpose, to see that they are seen.

/// See the module.
#[allow(dead_code, reason = "only tests plant them")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Reports entries as durable when they are handed over to be written.
    AckBeforeDurable,
    /// Reports entries as durable in another order than they were given.
    AckOutOfOrder,
    /// Says nothing about entries that could not be written.
    AckLost,
    /// Returns from saving a vote before it is durable.
    VoteNotAwaited,
    /// Writes a vote behind the entries that come after it.
    VoteBehindEntries,
    /// Does not write truncations.
    TruncateNotWritten,
    /// Returns from truncating before that is durable.
    TruncateNotAwaited,
    /// Lets a part of the stream go whose vote is written nowhere else.
    HeadWithoutVote,
    /// Lets a part of the stream go, and does not write what was purged.
    PurgeNotWritten,
    /// Lets a part of the stream go before what stands for it is durable.
    PurgeBeforeHead,
    /// Purges what only the newest snapshot stands for.
    PurgeToNewest,
    /// Reports a snapshot that is not saved.
    SnapshotNotSaved,
    /// Leaves the membership out of a snapshot.
    SnapshotWithoutMembers,
    /// Gives nothing where the first entry is longer than a message.
    LongEntryNotRead,
    /// Takes the log for committed as far as it is elsewhere.
    CommittedBelieved,
}

/// The mistake that is made, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Planted {
    #[cfg(test)]
    pub(crate) bug: Option<Bug>,
}

impl Planted {
    #[cfg(test)]
    pub(crate) fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests look at it")]
    pub(crate) const fn has(self, _: Bug) -> bool {
        false
    }
}
