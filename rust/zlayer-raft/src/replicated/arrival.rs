//! A snapshot that is arriving, piece by piece.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::replicated::refusal::PeerRefusal;
use crate::replicated::types::{LogId, Vote};
use crate::replicated::wire::Piece;

/// One at a time: there is one leader.
#[derive(Debug, Default)]
pub(crate) struct Arrival(Mutex<Option<Part>>);

/// What makes two pieces of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    vote: Vote,
    last: Option<LogId>,
    length: u64,
    crc: u32,
}

#[derive(Debug)]
struct Part {
    name: Name,
    bytes: Vec<u8>,
}

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The next one begins here.
    Want(u64),
    /// It is whole.
    Whole(Bytes),
}

impl Arrival {
    /// Takes a piece. Those of another snapshot before are forgotten.
    pub(crate) fn take(&self, piece: &Piece, bytes_max: u64) -> Result<Taken, PeerRefusal> {
        if piece.length > bytes_max {
            return Err(PeerRefusal::TooLong { bytes: piece.length, max: bytes_max });
        }
        let name = Name {
            vote: piece.vote,
            last: piece.meta.last_log_id,
            length: piece.length,
            crc: piece.crc,
        };
        let mut arriving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if arriving.as_ref().is_none_or(|part| part.name != name) {
            *arriving = Some(Part { name, bytes: Vec::new() });
        }
        let Some(part) = arriving.as_mut() else { return Ok(Taken::Want(0)) };
        let here = part.bytes.len() as u64;
        if piece.offset == here {
            let room = usize::try_from(piece.length - here).unwrap_or(usize::MAX);
            part.bytes.extend(piece.data.iter().take(room));
        }
        let here = part.bytes.len() as u64;
        if here < piece.length {
            return Ok(Taken::Want(here));
        }
        let whole = arriving.take().map(|part| part.bytes).unwrap_or_default();
        if crc32c::crc32c(&whole) != piece.crc {
            // From the start again, by whoever sends it.
            return Err(PeerRefusal::Unreadable { why: "the snapshot's checksum is wrong".into() });
        }
        Ok(Taken::Whole(whole.into()))
    }
}
