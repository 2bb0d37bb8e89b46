//! Opening a log that exists: reading it through, telling a torn tail from damage.
//!
//! The newest segment is synced before it is read: a process that was killed may have written what is not durable
//! yet, and from here on it is relied on. Its batches are then followed along their chain to where it ends:
//!
//! * zeros from there on: a clean end;
//! * something else, and no whole batch behind it: a crash tore the last write, of which nothing was
//!   acknowledged. It is cut off, durably;
//! * a whole batch behind it, or a further segment: what was synced before is damaged. Refused.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{self, Link};
use crate::directory::{Bug, Place};
use crate::error::WalError;
use crate::fs::File;
use crate::head::HEAD_LEN;
use crate::segment::Segment;
use crate::stats::Meters;
use crate::wal::WalLimits;
use crate::writer::{Sealed, Tail, Writer, create};

/// Gets each record with its index; says why it can't be read.
pub type Replay<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;

/// From where on the records are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    /// Those behind this index; those up to it may be missing.
    Behind(u64),
    /// All that are there, whatever was purged before.
    Oldest,
}

/// Reads the records in order, and makes the writer that goes on behind them.
pub(crate) fn recover(
    place: Place,
    limits: WalLimits,
    from: From,
    meters: Arc<Meters>,
    replay: &mut Replay<'_>,
) -> Result<Writer, WalError> {
    let mut segments: Vec<Segment> =
        place.list()?.iter().filter_map(|name| Segment::parse(name)).collect();
    segments.sort_unstable();
    let Some(&first) = segments.first() else {
        let after = if let From::Behind(after) = from { after } else { 0 };
        return begin(place, limits, after, meters);
    };
    let after = match from {
        From::Behind(after) => after,
        From::Oldest => first.first_index.saturating_sub(1),
    };
    let Some(start) = segments.iter().rposition(|one| one.first_index <= after + 1) else {
        let why = format!(
            "records {} to {} are missing: the snapshot ends before them, the log begins behind them",
            after + 1,
            first.first_index - 1
        );
        return Err(WalError::missing(&place.dir, why));
    };
    let mut sealed = VecDeque::new();
    for segment in &segments[..start] {
        // A snapshot stands for these, and the next purge takes them.
        let path = segment.path(&place);
        let bytes = place.fs.len(&path).map_err(|error| WalError::io("measure", &path, error))?;
        sealed.push_back((*segment, bytes));
    }
    let mut chain = Chain { place: &place, after, replay, end: None };
    let (last, full) = segments[start..].split_last().unwrap_or((&first, &[]));
    for segment in full {
        chain.follow(*segment)?;
        let bytes = chain.end.as_ref().map_or(0, |end| end.offset);
        sealed.push_back((*segment, bytes as u64));
    }
    let tail = chain.follow_last(*last)?;
    let link = chain.end.map_or(Link { index: 1, crc: 0 }, |end| end.link);
    if link.index <= after {
        let why = format!(
            "the log ends at record {}, and the snapshot reaches {after}: acknowledged records are missing",
            link.index - 1
        );
        return Err(WalError::missing(&place.dir, why));
    }
    Ok(Writer::new(place, limits, meters, sealed, tail, link))
}

/// A new log.
fn begin(
    place: Place,
    limits: WalLimits,
    after: u64,
    meters: Arc<Meters>,
) -> Result<Writer, WalError> {
    if after > 0 {
        let why = format!("there is a snapshot up to record {after} and no log");
        return Err(WalError::missing(&place.dir, why));
    }
    let link = Link { index: 1, crc: 0 };
    let tail = create(&place, Segment { number: 1, first_index: 1 }, link.crc)?;
    Ok(Writer::new(place, limits, meters, VecDeque::<Sealed>::new(), tail, link))
}

/// Where the chain has been followed to.
struct End {
    segment: Segment,
    path: PathBuf,
    offset: usize,
    link: Link,
}

/// Follows the chain of batches over the segments.
struct Chain<'a, 'b> {
    place: &'a Place,
    after: u64,
    replay: &'a mut Replay<'b>,
    end: Option<End>,
}

impl Chain<'_, '_> {
    /// Reads a segment through to where its batches end. Gives its bytes.
    fn follow(&mut self, segment: Segment) -> Result<Vec<u8>, WalError> {
        let path = segment.path(self.place);
        let read = self.place.fs.read(&path);
        let bytes = read.map_err(|error| WalError::io("read", &path, error))?;
        let mut link = segment.decode(&path, &bytes, &self.place.owner)?;
        self.check_joint(segment, link)?;
        let mut offset = HEAD_LEN;
        while let Some(batch) = batch::decode(&bytes[offset..], segment.number) {
            if batch.before != link && !self.place.has(Bug::ChainNotChecked) {
                break;
            }
            for record in batch.records() {
                let Some((index, record)) = record else {
                    return Err(WalError::corrupt(
                        &path,
                        offset,
                        "a record is cut in a whole batch",
                    ));
                };
                self.replay(&path, index, record)?;
            }
            link = batch.after;
            offset = bytes.len().min(offset + batch.len);
        }
        self.end = Some(End { segment, path, offset, link });
        Ok(bytes)
    }

    fn replay(&mut self, file: &Path, index: u64, record: &[u8]) -> Result<(), WalError> {
        if index <= self.after {
            return Ok(());
        }
        (self.replay)(index, record).map_err(|why| {
            let file = file.to_owned();
            WalError::Unreadable { file, index, why }
        })
    }

    /// A segment must begin where the one before ended: a segment is begun only when all before it is durable.
    fn check_joint(&self, segment: Segment, link: Link) -> Result<(), WalError> {
        let Some(before) = &self.end else { return Ok(()) };
        if segment.number != before.segment.number + 1 {
            let why = format!(
                "segments {} to {} are missing",
                before.segment.number + 1,
                segment.number - 1
            );
            return Err(WalError::missing(&self.place.dir, why));
        }
        if before.link == link {
            return Ok(());
        }
        let why = format!(
            "its records end before {}, and the next segment begins at {}",
            before.link.index, link.index
        );
        Err(WalError::corrupt(&before.path, before.offset, why))
    }

    /// Reads the newest segment, and makes it ready to be written to.
    fn follow_last(&mut self, segment: Segment) -> Result<Tail, WalError> {
        let path = segment.path(self.place);
        let doing = |doing| {
            let path = &path;
            move |error| WalError::io(doing, path, error)
        };
        let mut file = self.place.fs.open(&path).map_err(doing("open"))?;
        if !self.place.has(Bug::RecoveredNotSynced) {
            file.sync_data().map_err(doing("sync"))?;
        }
        let bytes = self.follow(segment)?;
        let end = self.end.as_ref().map_or(HEAD_LEN, |end| end.offset);
        let rest = &bytes[end..];
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(Tail { segment, file, end, prepared: bytes.len() });
        }
        if let Some(later) = batch::find_whole(rest, segment.number)
            && !self.place.has(Bug::DamageCut)
        {
            let why = format!("a later batch, at {}, is whole: this is no torn tail", end + later);
            return Err(WalError::corrupt(&path, end, why));
        }
        if self.place.has(Bug::TailNotCut) {
            return Ok(Tail { segment, file, end: bytes.len(), prepared: bytes.len() });
        }
        cut(file.as_mut(), end).map_err(doing("cut"))?;
        Ok(Tail { segment, file, end, prepared: end })
    }
}

/// Cuts a torn tail, durably, before anything is served.
fn cut(file: &mut dyn File, end: usize) -> std::io::Result<()> {
    file.cut(end as u64)?;
    file.sync_data()
}
