//! Snapshots: one body of bytes each, that stands for all records up to an index.
//!
//! The two newest are kept: should the newest be found damaged, the one before it and the log since stand in.
//! So the log may be purged only up to the older one ([`Saved::purge_to`]).

use std::path::{Path, PathBuf};

use crate::directory::{Bug, Place};
use crate::error::WalError;
use crate::head::{HEAD_LEN, Head, field};

const MAGIC: [u8; 8] = *b"ZLSNAP\r\n";
const ENDING: &str = ".snap";

/// Snapshots kept.
const KEPT: usize = 2;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Index of the last record that it stands for.
    pub index: u64,
    /// As it was saved.
    pub body: Vec<u8>,
    /// Newer ones that were passed over as damaged: each says which file and why.
    pub damaged: Vec<String>,
}

/// What was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Records up to this index are not needed any more.
    pub purge_to: u64,
}

/// The snapshots in a log's directory. One thread at a time may save.
#[derive(Clone)]
pub struct Snapshots {
    place: Place,
}

impl Snapshots {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }

    fn path(&self, index: u64) -> PathBuf {
        self.place.path(&format!("snap-{index:020}{ENDING}"))
    }

    /// Indexes of the snapshots, newest first.
    fn indexes(&self) -> Result<Vec<u64>, WalError> {
        let parse =
            |name: &String| name.strip_prefix("snap-")?.strip_suffix(ENDING)?.parse::<u64>().ok();
        let mut indexes: Vec<u64> = self.place.list()?.iter().filter_map(parse).collect();
        indexes.sort_unstable_by(|a, b| b.cmp(a));
        Ok(indexes)
    }

    /// Saves a snapshot durably, then drops all but the two newest.
    ///
    /// # Errors
    /// [`WalError::Io`]. The older ones are still there then, and it may be tried again: nothing is left
    /// half made, since it is made under another name and from the start.
    pub fn save(&self, index: u64, body: &[u8]) -> Result<Saved, WalError> {
        let path = self.path(index);
        let numbers = [index, body.len() as u64, 0];
        let head = Head { magic: MAGIC, numbers }.encode(&self.place.owner);
        let crc = crc32c::crc32c(body).to_le_bytes();
        if let Err(error) = self.place.publish(&path, &[&head, body, &crc]) {
            // What a full disk left of it is given back; at the next opening it would be, too.
            let _ = self.place.remove(&path.with_extension("tmp"));
            return Err(error);
        }
        if self.place.has(Bug::PurgeToUnsynced) {
            return Ok(Saved { purge_to: index });
        }
        self.place.sync_names()?;
        let indexes = self.indexes()?;
        for old in indexes.iter().skip(KEPT) {
            self.place.remove(&self.path(*old))?;
        }
        let purge_to = if indexes.len() < KEPT { 0 } else { indexes[KEPT - 1] };
        Ok(Saved { purge_to })
    }

    /// Reads the newest snapshot that is whole. `None` where there is none at all.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] where there are some and none is whole; [`WalError::WrongOwner`],
    /// [`WalError::Unsupported`], [`WalError::Io`] at the first that is found.
    pub fn newest(&self) -> Result<Option<Snapshot>, WalError> {
        let mut damaged = Vec::new();
        let mut first = None;
        for index in self.indexes()? {
            match self.read(&self.path(index), index) {
                Ok(body) => return Ok(Some(Snapshot { index, body, damaged })),
                Err(error @ WalError::Corrupt { .. }) => {
                    damaged.push(error.to_string());
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// Reads the snapshot that reaches this index.
    ///
    /// # Errors
    /// [`WalError::Io`] where it was dropped for a newer one; [`WalError::Corrupt`] and the others of
    /// [`Snapshots::newest`].
    pub fn load(&self, index: u64) -> Result<Vec<u8>, WalError> {
        self.read(&self.path(index), index)
    }

    fn read(&self, path: &Path, index: u64) -> Result<Vec<u8>, WalError> {
        let mut bytes =
            self.place.fs.read(path).map_err(|error| WalError::io("read", path, error))?;
        let [named, length, _] = Head::decode(path, &bytes, MAGIC, &self.place.owner)?.numbers;
        let end = bytes.len().saturating_sub(4);
        if named != index || HEAD_LEN as u64 + length != end as u64 {
            return Err(WalError::corrupt(path, end, "the length or the index does not match"));
        }
        let crc = u32::from_le_bytes(field(&bytes, end));
        bytes.truncate(end);
        bytes.drain(..HEAD_LEN);
        if crc32c::crc32c(&bytes) != crc {
            return Err(WalError::corrupt(path, end, "the checksum does not match"));
        }
        Ok(bytes)
    }
}
