//! The log of a server with no engine on it, for programs that cut its power: entries, votes, truncations, snapshots
//! and purges, as openraft would ask for them.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use zlayer_core::command::{Command, Entry};
use zlayer_core::state::State;
use zlayer_core::time::UnixMs;
use zlayer_wal::Wal;

use super::image::{self, Applied};
use super::load::{Loaded, load};
use super::options::{ReplicatedLimits, ReplicatedOptions, Timers};
use super::planted::Planted;
use super::shelf::Shelf;
use super::store::LogStore;
use super::types::{Encoded, LogEntry, LogId, Payload, StoredMembership, Types, Vote, log_id};
use crate::error::OpenError;
use crate::options::{LogOptions, Machine};

/// An entry at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareEntry {
    /// From 1 on, without holes.
    pub index: u64,
    /// Of the leader that made it.
    pub term: u64,
    /// What it says.
    pub command: Command,
}

/// Resolves when what was appended is durable, or never will be.
pub type Flushed = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// See the module. One call at a time, each awaited, as openraft does it; within a tokio runtime with time.
pub struct BareLog {
    store: LogStore,
    shelf: Arc<Shelf>,
    wal: Arc<Wal>,
    cluster_id: String,
    node_id: u64,
}

fn failed(why: &impl ToString) -> io::Error {
    io::Error::other(why.to_string())
}

impl BareLog {
    /// Opens the log, making it if need be.
    ///
    /// # Errors
    /// [`OpenError`], naming the file and what is wrong with it.
    pub fn open(options: LogOptions, machine: &Machine) -> Result<Self, OpenError> {
        let LogOptions { dir, cluster_id, node_id, snapshot_bytes } = options;
        let options = ReplicatedOptions {
            dir,
            cluster_id: cluster_id.clone(),
            node_id,
            raft_addr: String::new(),
            api_addr: String::new(),
            snapshot_bytes,
            timers: Timers::default(),
            limits: ReplicatedLimits::default(),
        };
        let Loaded { wal, book, shelf, .. } = load(&options, machine, Planted::default())?;
        let bytes = options.limits.message_bytes;
        let store = LogStore::new(Arc::clone(&wal), book, bytes, Planted::default());
        Ok(Self { store, shelf, wal, cluster_id, node_id })
    }

    /// Term of the vote; 0 where there is none.
    ///
    /// # Errors
    /// None that is known: it is in memory.
    pub async fn vote(&mut self) -> io::Result<u64> {
        Ok(self.store.read_vote().await?.map_or(0, |vote| vote.leader_id.term))
    }

    /// Index of the last entry that was purged; 0 where none was.
    ///
    /// # Errors
    /// As [`BareLog::vote`].
    pub async fn purged(&mut self) -> io::Result<u64> {
        Ok(self.store.get_log_state().await?.last_purged_log_id.map_or(0, |id| id.index))
    }

    /// All entries.
    ///
    /// # Errors
    /// Where one is no command.
    pub async fn entries(&mut self) -> io::Result<Vec<BareEntry>> {
        let all = self.store.try_get_log_entries(0..u64::MAX).await?;
        let read = |entry: LogEntry| {
            let LogId { leader_id, index } = entry.log_id;
            let Payload::Normal(command) = entry.payload else {
                return Err(failed(&format!("entry {index} is no command")));
            };
            let Entry { command, .. } = command.take().map_err(|why| failed(&why))?;
            Ok(BareEntry { index, term: leader_id.term, command })
        };
        all.into_iter().map(read).collect()
    }

    /// Appends entries behind the last one.
    ///
    /// # Errors
    /// What ended the log.
    pub async fn append(&mut self, entries: Vec<BareEntry>) -> io::Result<Flushed> {
        let encode = |entry: BareEntry| {
            let BareEntry { index, term, command } = entry;
            let command = Encoded::new(Entry { stamp_ms: UnixMs(index), command })?;
            let log_id = log_id(term, self.node_id, index);
            Ok(LogEntry { log_id, payload: Payload::Normal(command) })
        };
        let entries: Result<Vec<_>, String> = entries.into_iter().map(encode).collect();
        let entries = entries.map_err(|why| failed(&why))?;
        let (sender, flushed) = Types::oneshot();
        self.store.append(entries, IOFlushed::signal(sender)).await?;
        Ok(Box::pin(async { flushed.await.map_err(|_| failed(&"it was not told"))? }))
    }

    /// Votes in a term; durable when it returns.
    ///
    /// # Errors
    /// As [`BareLog::append`].
    pub async fn save_vote(&mut self, term: u64) -> io::Result<()> {
        self.store.save_vote(&Vote::new(term, self.node_id)).await
    }

    /// Voids the entries behind `index`; durable when it returns.
    ///
    /// # Errors
    /// As [`BareLog::append`]; where there is no such entry.
    pub async fn truncate_after(&mut self, index: u64) -> io::Result<()> {
        let id = self.id_of(index).await?;
        self.store.truncate_after(Some(id)).await
    }

    /// Saves a snapshot that stands for the entries up to `index`, durably. Gives the index up to which two of them
    /// stand now; 0 where there is one. Blocks.
    ///
    /// # Errors
    /// What the disk said; where there is no such entry.
    pub async fn save_snapshot(&mut self, index: u64) -> io::Result<u64> {
        let last = self.id_of(index).await?;
        self.store.save_committed(Some(last)).await?;
        let members = StoredMembership::default();
        let applied = Applied { last: Some(last), members, retired: BTreeSet::new() };
        let body = image::encode(&applied, &State::new(self.cluster_id.clone()));
        let body = body.map_err(|why| failed(&why))?;
        self.shelf.save(applied.meta(), &body).map_err(|error| failed(&error))?;
        Ok(self.shelf.newest().map_or(0, |stored| stored.purge_to))
    }

    /// Lets go of the entries up to `index`, which two snapshots must stand for. Durable when what comes next is.
    ///
    /// # Errors
    /// As [`BareLog::append`]; where there is no such entry.
    pub async fn purge(&mut self, index: u64) -> io::Result<()> {
        let id = self.id_of(index).await?;
        self.store.purge(id).await
    }

    /// Writes what waits, and gives the directory back.
    pub fn stop(&self) {
        self.wal.stop();
    }

    async fn id_of(&mut self, index: u64) -> io::Result<LogId> {
        let found = self.store.try_get_log_entries(index..=index).await?;
        let found = found.first().map(|entry| entry.log_id);
        found.ok_or_else(|| failed(&format!("there is no entry {index}")))
    }
}
