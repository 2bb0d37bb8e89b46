//! The event log: a ring of what happened, with revisions that have no holes.

use std::collections::VecDeque;

use crate::record::EventRecord;

/// Events kept; older ones are dropped. Chosen: some 2 MiB, and weeks of a quiet fleet.
pub const EVENTS_KEPT: usize = 10_000;

/// A stretch of the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsPage {
    /// Oldest first.
    pub events: Vec<EventRecord>,
    /// Oldest revision that is still kept; one above the newest when there is none.
    pub first_kept: u64,
    /// Newest revision; 0 before the first event.
    pub last_revision: u64,
}

/// The newest [`EVENTS_KEPT`] events.
#[derive(Debug, Clone, Default)]
pub(super) struct EventLog {
    ring: VecDeque<EventRecord>,
    last_revision: u64,
}

impl EventLog {
    /// From a snapshot. `None` where the revisions have a hole or do not end at `last_revision`.
    pub(super) fn from_parts(events: Vec<EventRecord>, last_revision: u64) -> Option<Self> {
        let first = last_revision.checked_add(1)?.checked_sub(events.len() as u64)?;
        let dense = events.iter().zip(first..).all(|(event, revision)| event.revision == revision);
        (first > 0 && dense && events.len() <= EVENTS_KEPT)
            .then(|| Self { ring: events.into(), last_revision })
    }

    /// All that is kept, oldest first.
    pub(super) fn kept(&self) -> impl ExactSizeIterator<Item = &EventRecord> {
        self.ring.iter()
    }

    pub(super) fn last_revision(&self) -> u64 {
        self.last_revision
    }

    pub(super) fn first_kept(&self) -> u64 {
        self.last_revision + 1 - self.ring.len() as u64
    }

    /// Appends an event; its revision is set here.
    pub(super) fn push(&mut self, mut event: EventRecord) -> &EventRecord {
        self.last_revision += 1;
        event.revision = self.last_revision;
        if self.ring.len() == EVENTS_KEPT {
            self.ring.pop_front();
        }
        self.ring.push_back(event);
        &self.ring[self.ring.len() - 1]
    }

    pub(super) fn after(&self, revision: u64, max: usize) -> EventsPage {
        let first_kept = self.first_kept();
        let skipped = revision.saturating_add(1).saturating_sub(first_kept);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.ring.len());
        EventsPage {
            events: self.ring.range(skipped..).take(max).cloned().collect(),
            first_kept,
            last_revision: self.last_revision,
        }
    }
}
