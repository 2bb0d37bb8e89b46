//! Counters of the worker port. They only grow; rates are the reader's business.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by reason. For what is rare; behind a lock that no beat takes.
#[derive(Debug, Default)]
pub(crate) struct ByReason(Mutex<BTreeMap<&'static str, u64>>);

impl ByReason {
    pub(crate) fn add(&self, reason: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    fn read(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the worker port counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Reports that renewed a lease.
    pub(crate) beats: Counter,
    /// Reports that were answered.
    pub(crate) acks: Counter,
    /// Accepted sockets.
    pub(crate) accepted: Counter,
    /// Finished handshakes of workers.
    pub(crate) connections_opened: Counter,
    /// Ended worker connections.
    pub(crate) connections_closed: Counter,
    /// Sessions that got their first ack.
    pub(crate) sessions_opened: Counter,
    /// Sessions that ended.
    pub(crate) sessions_closed: Counter,
    /// Connections that went to the Enrollment service.
    pub(crate) join_connections: Counter,
    /// Sockets closed before a handshake, by limit.
    pub(crate) refused_connections: ByReason,
    /// Handshakes that failed, by cause.
    pub(crate) handshakes_failed: ByReason,
    /// Join connections, by how they ended.
    pub(crate) joins_ended: ByReason,
    /// Requests and sessions refused, by [`crate::refusal::Refusal::name`].
    pub(crate) sessions_refused: ByReason,
    /// Sessions closed because another process uses the same identity.
    pub(crate) duplicate_sessions: Counter,
    /// Transitions that were committed.
    pub(crate) transitions: Counter,
    /// Batches of transitions that could not be committed.
    pub(crate) transitions_failed: Counter,
}

impl Metrics {
    /// Every counter by its metric name; those by reason carry it as a suffix.
    pub(crate) fn read(&self) -> BTreeMap<String, u64> {
        let mut all: BTreeMap<String, u64> = [
            ("beats_total", &self.beats),
            ("acks_total", &self.acks),
            ("accepted_connections_total", &self.accepted),
            ("connections_opened_total", &self.connections_opened),
            ("connections_closed_total", &self.connections_closed),
            ("sessions_opened_total", &self.sessions_opened),
            ("sessions_closed_total", &self.sessions_closed),
            ("join_connections_total", &self.join_connections),
            ("duplicate_sessions_total", &self.duplicate_sessions),
            ("transitions_total", &self.transitions),
            ("transitions_failed_total", &self.transitions_failed),
        ]
        .into_iter()
        .map(|(name, counter)| (name.to_owned(), counter.get()))
        .collect();
        for (name, counters) in [
            ("refused_connections_total", &self.refused_connections),
            ("handshakes_failed_total", &self.handshakes_failed),
            ("joins_ended_total", &self.joins_ended),
            ("sessions_refused_total", &self.sessions_refused),
        ] {
            let by_reason = counters.read();
            all.insert(name.to_owned(), by_reason.values().sum());
            all.extend(by_reason.into_iter().map(|(why, n)| (format!("{name}_{why}"), n)));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_summed_and_named() {
        let metrics = Metrics::default();
        metrics.handshakes_failed.add("timeout");
        metrics.handshakes_failed.add("timeout");
        metrics.handshakes_failed.add("server_name");
        metrics.beats.add(3);
        let all = metrics.read();
        assert_eq!(all["handshakes_failed_total"], 3);
        assert_eq!(all["handshakes_failed_total_timeout"], 2);
        assert_eq!(all["beats_total"], 3);
    }
}
