//! The records of the log: one stream for entries, votes, truncations and what a purge leaves.
//!
//! ```text
//! kind 1 │ version 1 │ committed 1 or 25 │ by kind: ENTRIES count 4, entries │ VOTE │ TRUNCATE up to which │
//! HEAD store 8, vote, purged
//! ```
//!
//! What is first written is first durable, so that a vote never is behind an entry that came after it. Each record
//! carries how far the log was known to be committed when it was written: so that costs no write of its own, and is
//! never ahead of the entries that it speaks of.
//!
//! The kinds begin above the format byte of the single voter's records, which may stand in the same stream before
//! these: that is how a cluster of one becomes the first server of three.

use crate::codec::Why;
use crate::replicated::form::{Get, Put};
use crate::replicated::types::{LogEntry, LogId, Vote};

/// First byte of a record of the single voter.
pub(crate) const SINGLE_VOTER: u8 = 1;

const ENTRIES: u8 = 0x11;
const VOTE: u8 = 0x12;
const TRUNCATE: u8 = 0x13;
const HEAD: u8 = 0x14;

const VERSION: u8 = 1;

/// What a record says, beside how far the log was committed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// These come next.
    Entries(Vec<LogEntry>),
    /// Who is voted for, or followed.
    Vote(Vote),
    /// Entries behind this one are void; behind none: all are.
    Truncate(Option<LogId>),
    /// All that stands before it in the stream and is still valid, but for the entries behind `purged`. Begins a
    /// stream, and is written again before a part of it is let go.
    Head(Head),
}

/// See [`Record::Head`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// [`crate::replicated::peer::Peer::store`] of this directory.
    pub(crate) store: u64,
    pub(crate) vote: Option<Vote>,
    /// The last entry that was let go; a snapshot stands for all up to it.
    pub(crate) purged: Option<LogId>,
}

fn begin(kind: u8, committed: Option<&LogId>) -> Put {
    let mut put = Put::default();
    put.u8(kind);
    put.u8(VERSION);
    put.optional_log_id(committed);
    put
}

/// Encodes entries into records of about `bytes_max`, at least one entry each.
pub(crate) fn encode_entries(
    entries: &[LogEntry],
    committed: Option<&LogId>,
    bytes_max: usize,
) -> Result<Vec<Vec<u8>>, Why> {
    let mut records = Vec::with_capacity(1);
    let mut rest = entries;
    while !rest.is_empty() {
        let mut put = begin(ENTRIES, committed);
        let count_at = put.0.len();
        put.u32(0);
        let mut count: u32 = 0;
        while let Some((entry, behind)) = rest.split_first() {
            let before = put.0.len();
            put.entry(entry)?;
            if put.0.len() > bytes_max && count > 0 {
                put.0.truncate(before);
                break;
            }
            count += 1;
            rest = behind;
        }
        put.0[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
        records.push(put.0);
    }
    Ok(records)
}

pub(crate) fn encode_vote(vote: &Vote, committed: Option<&LogId>) -> Vec<u8> {
    let mut put = begin(VOTE, committed);
    put.vote(vote);
    put.0
}

pub(crate) fn encode_truncate(after: Option<&LogId>, committed: Option<&LogId>) -> Vec<u8> {
    let mut put = begin(TRUNCATE, committed);
    put.optional_log_id(after);
    put.0
}

pub(crate) fn encode_head(head: &Head, committed: Option<&LogId>) -> Vec<u8> {
    let mut put = begin(HEAD, committed);
    put.u64(head.store);
    put.optional(head.vote.as_ref(), Put::vote);
    put.optional_log_id(head.purged.as_ref());
    put.0
}

/// Reads a record, and how far the log was committed when it was written.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Record, Option<LogId>), Why> {
    let mut get = Get(bytes);
    let kind = get.u8()?;
    if !(ENTRIES..=HEAD).contains(&kind) {
        return Err(format!("this version knows no record of kind {kind}"));
    }
    match get.u8()? {
        VERSION => {}
        other => return Err(format!("version {other} of its kind; this version reads {VERSION}")),
    }
    let committed = get.optional_log_id()?;
    let record = match kind {
        ENTRIES => {
            let count = get.u32()?;
            Record::Entries((0..count).map(|_| get.entry()).collect::<Result<_, _>>()?)
        }
        VOTE => Record::Vote(get.vote()?),
        TRUNCATE => Record::Truncate(get.optional_log_id()?),
        _ => Record::Head(Head {
            store: get.u64()?,
            vote: get.optional(Get::vote)?,
            purged: get.optional_log_id()?,
        }),
    };
    get.end()?;
    Ok((record, committed))
}
