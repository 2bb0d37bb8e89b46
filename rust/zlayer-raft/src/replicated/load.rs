//! What the disk holds when a server starts: its own log, that of a single voter, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zlayer_core::state::State;
use zlayer_wal::{LogDir, Owner, Snapshot, Snapshots, Wal, WalError};

use crate::codec::{self, SnapshotBody};
use crate::error::OpenError;
use crate::options::Machine;
use crate::replicated::book::Book;
use crate::replicated::image::{self, Applied, Image};
use crate::replicated::options::ReplicatedOptions;
use crate::replicated::peer::Peer;
use crate::replicated::planted::Planted;
use crate::replicated::record::{self, Head};
use crate::replicated::shelf::{Shelf, Stored};
use crate::replicated::types::{Membership, StoredMembership, Vote, log_id};

/// All that was found, ready to go on from.
pub(crate) struct Loaded {
    pub(crate) wal: Arc<Wal>,
    pub(crate) book: Book,
    pub(crate) image: Image,
    pub(crate) shelf: Arc<Shelf>,
}

/// The log of a single voter, as it is read back.
struct Single {
    state: State,
    term: u64,
    /// Its newest record.
    last: u64,
}

impl Single {
    fn replay(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        if index <= self.last {
            return Ok(());
        }
        if index != self.last + 1 {
            return Err(format!("records {} to {} are missing", self.last + 1, index - 1));
        }
        self.last = index;
        match codec::decode_record(bytes)? {
            codec::Record::Entry(entry) => {
                self.state.apply(index, &entry);
            }
            codec::Record::Elected { term } => self.term = self.term.max(term),
        }
        Ok(())
    }
}

/// A snapshot of either engine.
enum Found {
    Nothing,
    OfSingleVoter { term: u64, state: State },
    Replicated(Image),
}

fn find(snapshot: Option<&Snapshot>, cluster_id: &str) -> Result<Found, OpenError> {
    let Some(Snapshot { index, body, damaged }) = snapshot else { return Ok(Found::Nothing) };
    for damaged in damaged {
        tracing::warn!(damaged, "a snapshot is damaged; the one before it and the log stand in");
    }
    let unreadable = |why| OpenError::Snapshot { index: *index, why };
    if body.first() == Some(&record::SINGLE_VOTER) {
        let SnapshotBody { term, state } = codec::decode_snapshot(body).map_err(unreadable)?;
        if state.cluster_id() != cluster_id || state.applied_index() != *index {
            return Err(unreadable("it is the state of another index or cluster".into()));
        }
        return Ok(Found::OfSingleVoter { term, state });
    }
    let image = image::decode(body, cluster_id).map_err(unreadable)?;
    if image.applied.last.is_none_or(|last| last.index != *index) {
        return Err(unreadable("it is the state of another index".into()));
    }
    Ok(Found::Replicated(image))
}

/// Opens the directory and reads all of it.
pub(crate) fn load(
    options: &ReplicatedOptions,
    machine: &Machine,
    planted: Planted,
) -> Result<Loaded, OpenError> {
    let cluster_id = &options.cluster_id;
    let owner = Owner { cluster_id: cluster_id.clone(), node_id: options.node_id };
    let dir = LogDir::open(Arc::clone(&machine.fs), options.dir.clone(), owner)?;
    let snapshots = dir.snapshots();
    let newest = snapshots.newest()?;
    let bytes = newest.as_ref().map_or(0, |newest| newest.body.len() as u64);
    let found = find(newest.as_ref(), cluster_id)?;
    drop(newest);
    let mut single = match &found {
        Found::Nothing => Single { state: State::new(cluster_id.clone()), term: 0, last: 0 },
        Found::OfSingleVoter { term, state } => {
            Single { state: state.clone(), term: *term, last: state.applied_index() }
        }
        // Its own, or what becoming replicated left half done.
        Found::Replicated(Image { applied, state }) => {
            let last = applied.last.unwrap_or_else(|| log_id(0, 0, 0));
            Single { state: state.clone(), term: last.leader_id.term, last: last.index }
        }
    };
    let mut book = Book::default();
    let mut first = None;
    let wal = dir.recover_whole(machine.limits, &mut |number, bytes| {
        first.get_or_insert(number);
        if bytes.first() != Some(&record::SINGLE_VOTER) {
            book.replay(number, bytes)
        } else if book.is_begun() {
            Err("a record of a single voter behind those of a replicated log".into())
        } else {
            single.replay(number, bytes)
        }
    })?;
    let wal = Arc::new(wal);
    if book.is_begun() {
        book.check_whole().map_err(|why| OpenError::Missing { why })?;
        return of_replicated(options, wal, book, found, Shelving { snapshots, bytes, planted });
    }
    if book.len() > 0 || first.is_none() && wal.first_index() > 1 {
        let why = format!(
            "the log begins at record {}, and what stood before it is nowhere: records are missing",
            first.unwrap_or(wal.first_index())
        );
        return Err(OpenError::Missing { why });
    }
    if wal.first_index() != single.last + 1 {
        let why = format!(
            "the log ends at record {}, and the snapshot reaches {}: acknowledged records are missing",
            wal.first_index() - 1,
            single.last
        );
        return Err(OpenError::Missing { why });
    }
    if single.last == 0 {
        return new(wal, options, snapshots, planted);
    }
    take_over(wal, single, options, snapshots, planted)
}

/// The snapshots, and how long the newest one is.
struct Shelving {
    snapshots: Snapshots,
    bytes: u64,
    planted: Planted,
}

/// Goes on with a log of its own.
fn of_replicated(
    options: &ReplicatedOptions,
    wal: Arc<Wal>,
    book: Book,
    found: Found,
    Shelving { snapshots, bytes, planted }: Shelving,
) -> Result<Loaded, OpenError> {
    let image = match found {
        Found::Replicated(image) => Some(image),
        Found::Nothing => None,
        Found::OfSingleVoter { state, .. } => {
            let why = "it is of a single voter, and the log went on from a later one".into();
            return Err(OpenError::Snapshot { index: state.applied_index(), why });
        }
    };
    let reached = image.as_ref().and_then(|image| image.applied.last);
    if book.head.purged.map(|id| id.index) > reached.map(|id| id.index) {
        let why = format!(
            "the newest snapshot that is whole ends at {}, the log begins behind {}: what is between is missing",
            reached.map_or(0, |id| id.index),
            book.head.purged.map_or(0, |id| id.index),
        );
        return Err(OpenError::Missing { why });
    }
    let stored = image.as_ref().map(|image| Stored {
        meta: image.applied.meta(),
        index: reached.map_or(0, |id| id.index),
        bytes,
        // The one before it is not read, and the next one lets go of what it stands for.
        purge_to: 0,
    });
    let image = image.unwrap_or_else(|| empty(&options.cluster_id));
    let shelf = Arc::new(Shelf::new(snapshots, stored, planted));
    Ok(Loaded { wal, book, image, shelf })
}

fn empty(cluster_id: &str) -> Image {
    Image { applied: Applied::default(), state: State::new(cluster_id.to_owned()) }
}

/// Begins a log.
fn new(
    wal: Arc<Wal>,
    options: &ReplicatedOptions,
    snapshots: Snapshots,
    planted: Planted,
) -> Result<Loaded, OpenError> {
    let head = Head { store: random_store()?, vote: None, purged: None };
    let mut book = Book::default();
    begin(&wal, &mut book, head)?;
    let shelf = Arc::new(Shelf::new(snapshots, None, planted));
    Ok(Loaded { wal, book, image: empty(&options.cluster_id), shelf })
}

/// Makes the log of a single voter that of a cluster of one, at the same positions: a snapshot of all that it
/// holds, then the record that goes on from it. A crash between the two leaves a snapshot that is made again.
fn take_over(
    wal: Arc<Wal>,
    single: Single,
    options: &ReplicatedOptions,
    snapshots: Snapshots,
    planted: Planted,
) -> Result<Loaded, OpenError> {
    let Single { state, term, last } = single;
    let store = random_store()?;
    let node = options.node_id;
    let last = log_id(term.max(1), node, last);
    let peer =
        Peer { raft_addr: options.raft_addr.clone(), api_addr: options.api_addr.clone(), store };
    let members = Membership::new(vec![[node].into()], BTreeMap::from([(node, peer)]))
        .map_err(|error| OpenError::Engine { why: error.to_string() })?;
    let applied = Applied {
        last: Some(last),
        members: StoredMembership::new(Some(last), members),
        retired: BTreeSet::new(),
    };
    let body = image::encode(&applied, &state).map_err(|why| OpenError::Record { why })?;
    let shelf = Arc::new(Shelf::new(snapshots, None, planted));
    shelf.save(applied.meta(), &body)?;
    let vote = Vote::new_committed(last.leader_id.term, node);
    let mut book = Book::default();
    book.committed = Some(last);
    book.purge(last).map_err(|why| OpenError::Record { why })?;
    begin(&wal, &mut book, Head { store, vote: Some(vote), purged: Some(last) })?;
    wal.purge(book.dead_up_to());
    tracing::info!(
        index = last.index,
        "the log of a single voter is a replicated one from here on"
    );
    Ok(Loaded { wal, book, image: Image { applied, state }, shelf })
}

/// Writes the first head of a log, durably.
fn begin(wal: &Wal, book: &mut Book, head: Head) -> Result<(), OpenError> {
    book.head = head;
    let record = record::encode_head(&book.head, book.committed.as_ref());
    book.note_head(append_durably(wal, record)?);
    Ok(())
}

/// Appends a record and waits for it. Gives its number.
fn append_durably(wal: &Wal, record: Vec<u8>) -> Result<u64, WalError> {
    let (done, written) = std::sync::mpsc::channel();
    let appended = wal.append(record, move |result| {
        // Whoever waits below is there until it is answered.
        let _ = done.send(result);
    });
    let failure = || wal.failure().unwrap_or(WalError::ShutDown);
    appended.map_err(|_| failure())?;
    written.recv().map_err(|_| failure())?
}

/// A number that no other disk has. Never 0, which is no number.
fn random_store() -> Result<u64, OpenError> {
    let number = getrandom::u64()
        .map_err(|error| OpenError::Engine { why: format!("no random number: {error}") })?;
    Ok(number.max(1))
}
