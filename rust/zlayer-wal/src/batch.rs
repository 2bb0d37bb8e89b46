//! Batches: what one write puts into a segment, under one checksum.
//!
//! ```text
//! 0 magic 4 │ 4 records 4 │ 8 length of the payload 4 │ 12 checksum of the batch before 4 │ 16 first index 8 │
//! 24 segment 4 │ 28 crc32c of all other bytes 4 │ 32 payload: records, each with its length 4 before it │ zeros up
//! to a multiple of 8
//! ```
//!
//! A batch is the unit that a crash can tear: the next one is written only once it is durable. So behind a torn
//! batch there is never a whole one, and a whole one behind a broken one is proof of damage. The checksum before
//! chains them, also over segments; the segment's number keeps the remains of another file from passing.

use crate::head::field;

/// Bytes before the payload.
pub(crate) const BATCH_HEAD: usize = 32;

/// Batches begin at multiples of this.
const ALIGN: usize = 8;

/// Not zero in any byte, as an unwritten block is.
const MAGIC: [u8; 4] = *b"ZLB1";

/// Where the next batch is written: what it must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Index of the next record.
    pub(crate) index: u64,
    /// Checksum of the batch before.
    pub(crate) crc: u32,
}

/// One batch in a segment's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) before: Link,
    pub(crate) after: Link,
    payload: &'a [u8],
    /// Bytes with head and padding.
    pub(crate) len: usize,
}

/// Bytes of a batch of this payload.
pub(crate) fn padded_len(payload: usize) -> usize {
    (BATCH_HEAD + payload).next_multiple_of(ALIGN)
}

/// Appends a batch of these records to `out`. Gives the link for the next one.
pub(crate) fn encode<'a>(
    out: &mut Vec<u8>,
    segment: u64,
    link: Link,
    records: impl Iterator<Item = &'a [u8]>,
) -> Link {
    let start = out.len();
    out.extend([0; BATCH_HEAD]);
    let mut count: u32 = 0;
    for record in records {
        out.extend((record.len() as u32).to_le_bytes());
        out.extend(record);
        count += 1;
    }
    let payload = (out.len() - start - BATCH_HEAD) as u32;
    let head = &mut out[start..start + BATCH_HEAD];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&count.to_le_bytes());
    head[8..12].copy_from_slice(&payload.to_le_bytes());
    head[12..16].copy_from_slice(&link.crc.to_le_bytes());
    head[16..24].copy_from_slice(&link.index.to_le_bytes());
    head[24..28].copy_from_slice(&(segment as u32).to_le_bytes());
    let crc = checksum(&out[start..]);
    out[start + 28..start + 32].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + padded_len(payload as usize), 0);
    Link { index: link.index + u64::from(count), crc }
}

/// Of a batch without its padding: all but the checksum itself.
fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&batch[..28]), &batch[BATCH_HEAD..])
}

/// Reads the batch at the start of `bytes`, if a whole one of this segment is there, whatever its chain.
pub(crate) fn decode(bytes: &[u8], segment: u64) -> Option<Batch<'_>> {
    if bytes.len() < BATCH_HEAD || bytes[..4] != MAGIC {
        return None;
    }
    let number = |at| u32::from_le_bytes(field(bytes, at));
    let payload = number(8) as usize;
    let whole = bytes.get(..BATCH_HEAD.checked_add(payload)?)?;
    if number(24) != segment as u32 || number(28) != checksum(whole) {
        return None;
    }
    let before = Link { index: u64::from_le_bytes(field(bytes, 16)), crc: number(12) };
    let index = before.index.checked_add(u64::from(number(4)))?;
    let after = Link { index, crc: number(28) };
    let payload = &whole[BATCH_HEAD..];
    Some(Batch { before, after, payload, len: padded_len(payload.len()) })
}

/// Where a whole batch of this segment begins in `bytes`, if one does, whatever its chain.
pub(crate) fn find_whole(bytes: &[u8], segment: u64) -> Option<usize> {
    (0..bytes.len()).step_by(ALIGN).find(|&at| decode(&bytes[at..], segment).is_some())
}

impl<'a> Batch<'a> {
    /// The records with their indexes. `None` in place of one that its batch does not hold whole, which a
    /// matching checksum all but rules out.
    pub(crate) fn records(&self) -> impl Iterator<Item = Option<(u64, &'a [u8])>> + use<'a> {
        let mut rest = self.payload;
        (self.before.index..self.after.index).map(move |index| {
            let length = u32::from_le_bytes(field(rest, 0)) as usize;
            let record = rest.get(4..)?.get(..length)?;
            rest = &rest[4 + length..];
            Some((index, record))
        })
    }
}
