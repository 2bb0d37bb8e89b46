//! One life of a server's log: opened, written to, snapshotted, purged, until the disk fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::RaftLogReader;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tokio::sync::oneshot;
use zlayer_core::command::Entry;
use zlayer_core::state::State;
use zlayer_core::time::UnixMs;
use zlayer_wal::WalLimits;
use zlayer_wal::sim::SimFs;

use crate::replicated::image::{self, Applied};
use crate::replicated::load::{Loaded, load};
use crate::replicated::planted::{Bug, Planted};
use crate::replicated::shelf::Shelf;
use crate::replicated::store::LogStore;
use crate::replicated::tests::rig::{Cluster, redeem};
use crate::replicated::types::{
    Encoded, LogEntry, LogId, Membership, Payload, StoredMembership, Types, Vote, log_id,
};
use crate::{Machine, OpenError};

/// Segments of a few records, so that a short life has many.
const SMALL: WalLimits = WalLimits {
    segment_bytes: 4096 + 2048,
    prepare_bytes: 512,
    record_bytes_max: 1 << 20,
    batch_bytes_max: 1 << 20,
    queue_records_max: 1024,
    queue_bytes_max: 4 << 20,
};

/// What a step does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Saves a vote for a node in a term.
    Vote(u64, u64),
    /// Appends so many entries of a term behind the last one.
    Append(u64, u64),
    /// Appends two entries, and goes on before they are durable.
    AppendAhead(u64),
    /// Voids what is behind this index.
    Truncate(u64),
    /// Notes that the log is committed up to this index.
    Commit(u64),
    /// Makes a snapshot up to this index.
    Snapshot(u64),
    /// Purges up to this index.
    Purge(u64),
}

/// The life that every point of the matrix interrupts: two leaders, whose entries void each other's, over several
/// segments, with snapshots and purges.
pub(super) const LIFE: [Step; 34] = [
    Step::Vote(1, 1),
    Step::Append(1, 3),
    Step::Append(1, 2),
    Step::Commit(3),
    Step::AppendAhead(1),
    Step::Append(1, 2),
    Step::Vote(2, 2),
    Step::Truncate(5),
    Step::Append(2, 3),
    Step::Commit(7),
    Step::Append(2, 4),
    Step::Snapshot(7),
    Step::Append(2, 4),
    Step::Commit(14),
    Step::Vote(3, 1),
    Step::Append(3, 4),
    Step::Snapshot(14),
    Step::Purge(7),
    Step::Append(3, 4),
    Step::Truncate(18),
    Step::Vote(4, 2),
    Step::Append(4, 6),
    Step::Commit(22),
    Step::Append(4, 6),
    Step::Snapshot(22),
    Step::Purge(14),
    Step::AppendAhead(4),
    Step::Append(4, 2),
    Step::Append(4, 5),
    Step::Vote(5, 3),
    Step::Append(5, 1),
    Step::Commit(30),
    Step::Snapshot(30),
    Step::Purge(22),
];

/// What a log says: the vote, what was purged, and each entry's term by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: Vec<(u64, u64)>,
}

impl Said {
    fn next(&self) -> u64 {
        let purged = self.purged.map_or(0, |id| id.index + 1);
        self.entries.last().map_or(purged, |(index, _)| index + 1)
    }

    fn append(&mut self, term: u64, count: u64) {
        let next = self.next();
        self.entries.extend((next..next + count).map(|index| (index, term)));
    }

    /// What it says after a step.
    pub(super) fn after(&self, step: Step) -> Self {
        let mut said = self.clone();
        match step {
            Step::Vote(term, node) => said.vote = Some(Vote::new(term, node)),
            Step::Append(term, count) => said.append(term, count),
            Step::AppendAhead(term) => said.append(term, 2),
            Step::Truncate(after) => said.entries.retain(|(index, _)| *index <= after),
            Step::Purge(upto) => {
                let at = said.entries.iter().find(|(index, _)| *index == upto).copied();
                let (_, term) = at.expect("it purges what is there");
                said.purged = Some(log_id(term, 1, upto));
                said.entries.retain(|(index, _)| *index > upto);
            }
            Step::Commit(_) | Step::Snapshot(_) => {}
        }
        said
    }
}

/// What it says before the first step and after each.
pub(super) fn history() -> Vec<Said> {
    let mut all = vec![Said::default()];
    for step in LIFE {
        let before = all.last().unwrap().clone();
        all.push(before.after(step));
    }
    all
}

/// The entry of a term at an index. Its bytes follow from both; the first is a membership.
pub(super) fn entry(term: u64, index: u64) -> LogEntry {
    let id = log_id(term, 1, index);
    if index == 0 {
        return LogEntry::new_membership(id, members());
    }
    if index.is_multiple_of(4) {
        return LogEntry::new_blank(id);
    }
    let command = redeem(term, index);
    let encoded = Encoded::new(Entry { stamp_ms: UnixMs(index), command }).unwrap();
    LogEntry { log_id: id, payload: Payload::Normal(encoded) }
}

pub(super) fn members() -> Membership {
    let peers: std::collections::BTreeMap<_, _> = (1..=3)
        .map(|id| (id, crate::Peer { raft_addr: format!("{id}"), ..Default::default() }))
        .collect();
    Membership::new(vec![[1, 2, 3].into()], peers).unwrap()
}

/// An open log.
pub(super) struct Life {
    pub(super) store: LogStore,
    shelf: Arc<Shelf>,
    /// What [`Step::AppendAhead`] has not waited for.
    ahead: Option<oneshot::Receiver<Result<(), std::io::Error>>>,
    pub(super) said: Said,
}

/// How far a life came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Come {
    /// Steps that were acknowledged, or read back and served.
    pub(super) promised: usize,
    /// Steps that were begun.
    pub(super) begun: usize,
}

impl Life {
    /// Opens the log, and reads what it says.
    pub(super) fn open(fs: &SimFs, bug: Option<Bug>) -> Result<Self, OpenError> {
        let machine =
            Machine { fs: Arc::new(fs.clone()), clock: Arc::new(|| UnixMs(1)), limits: SMALL };
        let options = Cluster::empty().options(1);
        let planted = Planted { bug };
        let Loaded { wal, book, shelf, .. } = load(&options, &machine, planted)?;
        let said = Said {
            vote: book.head.vote,
            purged: book.head.purged,
            entries: book
                .range(0..u64::MAX)
                .map(|read| {
                    let (index, term) = (read.log_id.index, read.log_id.leader_id.term);
                    assert_eq!(*read, entry(term, index), "an entry is not what was appended");
                    (index, term)
                })
                .collect(),
        };
        if let Some(committed) = book.committed_here() {
            assert!(
                committed.index < said.next(),
                "committed beyond the log: {committed:?} of {said:?}"
            );
        }
        let store = LogStore::new(wal, book, 1 << 20, planted);
        Ok(Self { store, shelf, ahead: None, said })
    }

    /// Takes the steps of the life from one on, until an error. Says whether it came to the end.
    pub(super) fn live(&mut self, from: usize, come: &mut Come) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for (at, step) in LIFE.iter().enumerate().skip(from) {
                come.begun = come.begun.max(at + 1);
                match self.step(*step).await {
                    Ok(true) => come.promised = at + 1,
                    // Durable when a later step is.
                    Ok(false) => {}
                    Err(_) => return false,
                }
            }
            true
        })
    }

    /// Takes one step. Whether it is durable now.
    async fn step(&mut self, step: Step) -> Result<bool, std::io::Error> {
        let next = self.said.next();
        let taken = match step {
            Step::Vote(term, node) => {
                self.store.save_vote(&Vote::new(term, node)).await?;
                true
            }
            Step::Append(term, count) => {
                let flushed = self.append(term, next..next + count).await?;
                flushed.await.expect("a callback was dropped")?;
                if let Some(mut ahead) = self.ahead.take() {
                    ahead.try_recv().expect("a later entry was durable before an earlier one")?;
                }
                true
            }
            Step::AppendAhead(term) => {
                self.ahead = Some(self.append(term, next..next + 2).await?);
                false
            }
            Step::Truncate(after) => {
                let term = self.said.entries.iter().find(|(index, _)| *index == after).unwrap().1;
                self.store.truncate_after(Some(log_id(term, 1, after))).await?;
                true
            }
            Step::Commit(index) => {
                let term = self.said.entries.iter().find(|(at, _)| *at == index).unwrap().1;
                self.store.save_committed(Some(log_id(term, 1, index))).await?;
                false
            }
            Step::Snapshot(index) => {
                let term = self.said.entries.iter().find(|(at, _)| *at == index).unwrap().1;
                let applied = Applied {
                    last: Some(log_id(term, 1, index)),
                    members: StoredMembership::new(Some(log_id(1, 1, 0)), members()),
                    retired: BTreeSet::new(),
                };
                let body = image::encode(&applied, &State::new("zl-test".into())).unwrap();
                // One that fails is no end: it would be tried again, and nothing is purged until then.
                self.shelf
                    .save(applied.meta(), &body)
                    .map_err(|error| std::io::Error::other(error.to_string()))?;
                false
            }
            Step::Purge(index) => {
                let saved = self.shelf.newest().map_or(0, |stored| stored.index);
                assert!(index <= saved, "the script purges what a snapshot stands for");
                let term = self.said.entries.iter().find(|(at, _)| *at == index).unwrap().1;
                self.store.purge(log_id(term, 1, index)).await?;
                false
            }
        };
        self.said = self.said.after(step);
        Ok(taken)
    }

    async fn append(
        &mut self,
        term: u64,
        range: std::ops::Range<u64>,
    ) -> Result<oneshot::Receiver<Result<(), std::io::Error>>, std::io::Error> {
        let (sender, flushed) = Types::oneshot();
        let entries: Vec<_> = range.clone().map(|index| entry(term, index)).collect();
        self.store.append(entries, IOFlushed::signal(sender)).await?;
        let readable = self.store.try_get_log_entries(range.clone()).await?;
        assert_eq!(readable.len() as u64, range.end - range.start, "not readable at once");
        Ok(flushed)
    }
}
