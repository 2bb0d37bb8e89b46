//! One file of the log: its name, its head.

use std::path::{Path, PathBuf};

use crate::batch::Link;
use crate::directory::{Owner, Place};
use crate::error::WalError;
use crate::head::Head;

const MAGIC: [u8; 8] = *b"ZLWAL\r\n\x1a";

/// Ending of a segment's name.
const ENDING: &str = ".wal";

/// A segment, by its name: `<number>-<first index>.wal`. Numbers are never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) first_index: u64,
}

impl Segment {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (number, first_index) = name.strip_suffix(ENDING)?.split_once('-')?;
        let segment = Self { number: number.parse().ok()?, first_index: first_index.parse().ok()? };
        (segment.name() == name).then_some(segment)
    }

    pub(crate) fn name(self) -> String {
        format!("{:010}-{:020}{ENDING}", self.number, self.first_index)
    }

    pub(crate) fn path(self, place: &Place) -> PathBuf {
        place.path(&self.name())
    }

    /// The head of a segment whose first batch comes behind `before`.
    pub(crate) fn head(self, before: u32, owner: &Owner) -> Vec<u8> {
        let numbers = [self.number, self.first_index, u64::from(before)];
        Head { magic: MAGIC, numbers }.encode(owner)
    }

    /// Reads the head of the segment at `path`: what its first batch must link to.
    ///
    /// # Errors
    /// As [`Head::decode`], and where name and head differ.
    pub(crate) fn decode(self, path: &Path, bytes: &[u8], owner: &Owner) -> Result<Link, WalError> {
        let [number, index, crc] = Head::decode(path, bytes, MAGIC, owner)?.numbers;
        if (number, index) != (self.number, self.first_index) {
            return Err(WalError::corrupt(path, 0, "the head is that of another segment"));
        }
        Ok(Link { index, crc: crc as u32 })
    }
}
