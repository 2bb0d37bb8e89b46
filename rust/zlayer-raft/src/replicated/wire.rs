//! What servers say to each other.
//!
//! ```text
//! request: version 1 │ kind 1 │ cluster id │ from 8 │ its store 8 │ to 8 │ its store 8 │ body
//! answer:  version 1 │ 0 and a body, or 1 and a refusal
//! ```

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::codec::Why;
use crate::replicated::form::{Get, Position, Put, StoredMembers, decode_named, encode_named};
use crate::replicated::refusal::PeerRefusal;
use crate::replicated::transport::Kind;
use crate::replicated::types::{LogId, SnapshotMeta, Types, Vote};

const VERSION: u8 = 1;

const DONE: u8 = 0;
const REFUSED: u8 = 1;

/// Who says something to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) kind: Kind,
    pub(crate) cluster_id: String,
    pub(crate) from: u64,
    pub(crate) from_store: u64,
    pub(crate) to: u64,
    /// 0 where the sender does not know it.
    pub(crate) to_store: u64,
}

impl Envelope {
    pub(crate) fn seal(
        &self,
        body: impl FnOnce(&mut Put) -> Result<(), Why>,
    ) -> Result<Bytes, Why> {
        let mut put = Put::default();
        put.u8(VERSION);
        put.u8(self.kind.number());
        put.bytes(self.cluster_id.as_bytes());
        for number in [self.from, self.from_store, self.to, self.to_store] {
            put.u64(number);
        }
        body(&mut put)?;
        Ok(put.0.into())
    }

    /// Reads an envelope, and gives the body behind it.
    pub(crate) fn open(mut bytes: Bytes) -> Result<(Self, Bytes), Why> {
        let mut get = Get(&bytes);
        match get.u8()? {
            VERSION => {}
            other => return Err(format!("protocol {other}; this version speaks {VERSION}")),
        }
        let number = get.u8()?;
        let kind = Kind::of_number(number);
        let kind = kind.ok_or_else(|| format!("this version knows no request of kind {number}"))?;
        let cluster_id = get.text()?;
        let [from, from_store, to, to_store] = [get.u64()?, get.u64()?, get.u64()?, get.u64()?];
        let read = bytes.len() - get.0.len();
        bytes.advance(read);
        Ok((Self { kind, cluster_id, from, from_store, to, to_store }, bytes))
    }
}

pub(crate) fn answer(body: impl FnOnce(&mut Put)) -> Bytes {
    let mut put = Put::default();
    put.u8(VERSION);
    put.u8(DONE);
    body(&mut put);
    put.0.into()
}

pub(crate) fn refuse(refusal: &PeerRefusal) -> Bytes {
    let mut bytes = vec![VERSION, REFUSED];
    bytes.extend(encode_named(refusal).unwrap_or_default());
    bytes.into()
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Refused(PeerRefusal),
    Unreadable(Why),
}

/// Reads an answer's body.
pub(crate) fn read_answer<T>(
    bytes: &[u8],
    read: impl FnOnce(&mut Get<'_>) -> Result<T, Why>,
) -> Result<T, NoAnswer> {
    let mut get = Get(bytes);
    let body = || {
        let version = get.u8()?;
        if version != VERSION {
            return Err(format!("protocol {version}; this version speaks {VERSION}"));
        }
        match get.u8()? {
            DONE => {
                let body = read(&mut get)?;
                get.end()?;
                Ok(Ok(body))
            }
            _ => Ok(Err(decode_named(get.0)?)),
        }
    };
    match body() {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(refusal)) => Err(NoAnswer::Refused(refusal)),
        Err(why) => Err(NoAnswer::Unreadable(why)),
    }
}

pub(crate) fn put_append(put: &mut Put, request: &AppendEntriesRequest<Types>) -> Result<(), Why> {
    put.vote(&request.vote);
    put.optional_log_id(request.prev_log_id.as_ref());
    put.optional_log_id(request.leader_commit.as_ref());
    put.u32(request.entries.len() as u32);
    request.entries.iter().try_for_each(|entry| put.entry(entry))
}

pub(crate) fn get_append(get: &mut Get<'_>) -> Result<AppendEntriesRequest<Types>, Why> {
    let vote = get.vote()?;
    let prev_log_id = get.optional_log_id()?;
    let leader_commit = get.optional_log_id()?;
    let count = get.u32()?;
    let mut entries = Vec::new();
    let mut next = prev_log_id.map(|id| id.index + 1);
    for _ in 0..count {
        let entry = get.entry()?;
        if next.is_some_and(|next| next != entry.log_id.index) {
            return Err("the entries have a hole".into());
        }
        next = Some(entry.log_id.index + 1);
        entries.push(entry);
    }
    get.end()?;
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn put_appended(put: &mut Put, result: &StreamAppendResult<Types>) {
    match result {
        Ok(matched) => {
            put.u8(0);
            put.optional_log_id(matched.as_ref());
        }
        Err(StreamAppendError::Conflict(at)) => {
            put.u8(1);
            put.log_id(at);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            put.u8(2);
            put.vote(vote);
        }
    }
}

pub(crate) fn get_appended(get: &mut Get<'_>) -> Result<StreamAppendResult<Types>, Why> {
    match get.u8()? {
        0 => Ok(Ok(get.optional_log_id()?)),
        1 => Ok(Err(StreamAppendError::Conflict(get.log_id()?))),
        2 => Ok(Err(StreamAppendError::HigherVote(get.vote()?))),
        other => Err(format!("{other} is no result of an append")),
    }
}

pub(crate) fn put_vote(put: &mut Put, request: &VoteRequest<Types>) {
    put.vote(&request.vote);
    put.optional_log_id(request.last_log_id.as_ref());
    put.u8(u8::from(request.leadership_transfer));
}

pub(crate) fn get_vote(get: &mut Get<'_>) -> Result<VoteRequest<Types>, Why> {
    let mut request = VoteRequest::new(get.vote()?, get.optional_log_id()?);
    request.leadership_transfer = get.flag()?;
    get.end()?;
    Ok(request)
}

pub(crate) fn put_voted(put: &mut Put, answer: &VoteResponse<Types>) {
    put.vote(&answer.vote);
    put.u8(u8::from(answer.vote_granted));
    put.optional_log_id(answer.last_log_id.as_ref());
}

pub(crate) fn get_voted(get: &mut Get<'_>) -> Result<VoteResponse<Types>, Why> {
    let (vote, granted) = (get.vote()?, get.flag()?);
    Ok(VoteResponse::new(vote, get.optional_log_id()?, granted))
}

pub(crate) fn put_transfer(put: &mut Put, request: &TransferLeaderRequest<Types>) {
    put.vote(request.from_leader());
    put.u64(*request.to_node_id());
    put.optional_log_id(request.last_log_id());
}

pub(crate) fn get_transfer(get: &mut Get<'_>) -> Result<TransferLeaderRequest<Types>, Why> {
    let request = TransferLeaderRequest::new(get.vote()?, get.u64()?, get.optional_log_id()?);
    get.end()?;
    Ok(request)
}

pub(crate) fn put_transferred(put: &mut Put, answer: &TransferLeaderResponse<Types>) {
    match answer {
        Ok(()) => put.u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            put.u8(1);
            put.vote(expected);
            put.vote(actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            put.u8(2);
            put.optional_log_id(expected.as_ref());
            put.optional_log_id(actual.as_ref());
        }
    }
}

pub(crate) fn get_transferred(get: &mut Get<'_>) -> Result<TransferLeaderResponse<Types>, Why> {
    match get.u8()? {
        0 => Ok(Ok(())),
        1 => {
            let (expected, actual) = (get.vote()?, get.vote()?);
            Ok(Err(TransferLeaderError::VoteChanged { expected, actual }))
        }
        2 => {
            let (expected, actual) = (get.optional_log_id()?, get.optional_log_id()?);
            Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
        }
        other => Err(format!("{other} is no result of a transfer")),
    }
}

/// A piece of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    /// Of the whole snapshot.
    pub(crate) length: u64,
    pub(crate) crc: u32,
    /// Where these bytes belong.
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
}

pub(crate) fn put_piece(put: &mut Put, piece: &Piece) -> Result<(), Why> {
    put.vote(&piece.vote);
    put.optional_log_id(piece.meta.last_log_id.as_ref());
    put.bytes(&encode_named(&StoredMembers::of(&piece.meta.last_membership))?);
    put.u64(piece.length);
    put.u32(piece.crc);
    put.u64(piece.offset);
    put.bytes(&piece.data);
    Ok(())
}

pub(crate) fn get_piece(body: &Bytes) -> Result<Piece, Why> {
    let mut get = Get(body);
    let vote = get.vote()?;
    let last_log_id = get.optional_log_id()?;
    let members: StoredMembers = decode_named(get.bytes()?)?;
    let last_membership = members.into_stored()?;
    let (length, crc, offset) = (get.u64()?, get.u32()?, get.u64()?);
    let data = body.slice_ref(get.bytes()?);
    get.end()?;
    let meta = SnapshotMeta { last_log_id, last_membership };
    Ok(Piece { vote, meta, length, crc, offset, data })
}

/// What a piece is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PieceAnswer {
    /// Go on from here.
    Want(u64),
    /// It was installed, or the vote is too old for that.
    Done(SnapshotResponse<Types>),
}

pub(crate) fn put_piece_answer(put: &mut Put, answer: &PieceAnswer) {
    match answer {
        PieceAnswer::Want(offset) => {
            put.u8(0);
            put.u64(*offset);
        }
        PieceAnswer::Done(response) => {
            put.u8(1);
            put.vote(&response.vote);
        }
    }
}

pub(crate) fn get_piece_answer(get: &mut Get<'_>) -> Result<PieceAnswer, Why> {
    match get.u8()? {
        0 => Ok(PieceAnswer::Want(get.u64()?)),
        1 => Ok(PieceAnswer::Done(SnapshotResponse::new(get.vote()?))),
        other => Err(format!("{other} is no answer to a piece")),
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// See [`crate::replicated::peer::Peer::store`].
    pub(crate) store: u64,
    /// Last entry of its log; none before it is a member of anything.
    pub(crate) last: Option<Position>,
    /// The voters that it knows of.
    #[serde(default)]
    pub(crate) voters: BTreeSet<u64>,
}

/// How far to apply, or who may know.
pub(crate) type ReadIndex = Result<LogId, Option<u64>>;

pub(crate) fn put_read_index(put: &mut Put, answer: &ReadIndex) {
    match answer {
        Ok(at) => {
            put.u8(0);
            put.log_id(at);
        }
        Err(leader) => {
            put.u8(1);
            put.optional(leader.as_ref(), |put, leader| put.u64(*leader));
        }
    }
}

pub(crate) fn get_read_index(get: &mut Get<'_>) -> Result<ReadIndex, Why> {
    match get.u8()? {
        0 => Ok(Ok(get.log_id()?)),
        1 => Ok(Err(get.optional(Get::u64)?)),
        other => Err(format!("{other} is no answer to a read")),
    }
}
