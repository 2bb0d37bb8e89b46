//! What is written and sent is read back as it was, and whatever else comes is refused without a panic.

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, VoteRequest};
use proptest::prelude::*;

use super::life::{entry, members};
use crate::replicated::form::{Get, Put};
use crate::replicated::image;
use crate::replicated::record::{self, Head, Record};
use crate::replicated::transport::Kind;
use crate::replicated::types::{SnapshotMeta, StoredMembership, Types, Vote, log_id};
use crate::replicated::wire::{self, Envelope, Piece};

fn append_request(count: u64) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest {
        vote: Vote::new_committed(7, 3),
        prev_log_id: None,
        leader_commit: Some(log_id(6, 2, 5)),
        entries: (0..count).map(|index| entry(2, index)).collect(),
    }
}

#[test]
fn records_are_read_back() {
    let committed = Some(log_id(3, 2, 9));
    let entries: Vec<_> = (0..40).map(|index| entry(5, index)).collect();
    let records = record::encode_entries(&entries, committed.as_ref(), 1_000).unwrap();
    assert!(records.len() > 3, "{} records", records.len());
    let mut read = Vec::new();
    for bytes in &records {
        let (Record::Entries(some), at) = record::decode(bytes).unwrap() else { panic!("others") };
        assert_eq!(at, committed);
        read.extend(some);
    }
    assert_eq!(read, entries);
    let head = Head { store: 77, vote: Some(Vote::new(4, 1)), purged: Some(log_id(1, 1, 3)) };
    let bytes = record::encode_head(&head, None);
    assert_eq!(record::decode(&bytes).unwrap(), (Record::Head(head), None));
    let vote = Vote::new_committed(9, 2);
    let bytes = record::encode_vote(&vote, committed.as_ref());
    assert_eq!(record::decode(&bytes).unwrap(), (Record::Vote(vote), committed));
    for after in [None, Some(log_id(1, 2, 3))] {
        let bytes = record::encode_truncate(after.as_ref(), None);
        assert_eq!(record::decode(&bytes).unwrap(), (Record::Truncate(after), None));
    }
}

#[test]
fn messages_are_read_back() {
    let envelope = Envelope {
        kind: Kind::Append,
        cluster_id: "zl-test".into(),
        from: 3,
        from_store: 30,
        to: 1,
        to_store: 10,
    };
    let request = append_request(9);
    let sealed = envelope.seal(|put| wire::put_append(put, &request)).unwrap();
    let (opened, body) = Envelope::open(sealed).unwrap();
    assert_eq!(opened, envelope);
    let read = wire::get_append(&mut Get(&body)).unwrap();
    assert_eq!((read.vote, read.prev_log_id), (request.vote, request.prev_log_id));
    assert_eq!((read.leader_commit, read.entries), (request.leader_commit, request.entries));
    let results = [
        Ok(None),
        Ok(Some(log_id(1, 2, 3))),
        Err(StreamAppendError::Conflict(log_id(3, 2, 1))),
        Err(StreamAppendError::HigherVote(Vote::new(8, 8))),
    ];
    for result in results {
        let answer = wire::answer(|put| wire::put_appended(put, &result));
        assert_eq!(wire::read_answer(&answer, wire::get_appended), Ok(result));
    }
    // Without it, a leadership is never handed over.
    for transfer in [true, false] {
        let mut request = VoteRequest::<Types>::new(Vote::new(5, 4), Some(log_id(4, 4, 4)));
        request.leadership_transfer = transfer;
        let mut put = Put::default();
        wire::put_vote(&mut put, &request);
        assert_eq!(wire::get_vote(&mut Get(&put.0)).unwrap(), request);
    }
    let last = Some(log_id(2, 1, 50));
    let meta =
        SnapshotMeta { last_log_id: last, last_membership: StoredMembership::new(last, members()) };
    let data = Bytes::from_static(b"piece");
    let piece = Piece { vote: Vote::new_committed(2, 1), meta, length: 5, crc: 9, offset: 0, data };
    let mut put = Put::default();
    wire::put_piece(&mut put, &piece).unwrap();
    let read = wire::get_piece(&put.0.into()).unwrap();
    assert_eq!((read.meta, read.data, read.crc), (piece.meta, piece.data, piece.crc));
}

#[test]
fn a_hole_in_the_entries_is_refused() {
    let mut request = append_request(5);
    request.entries.remove(2);
    let mut put = Put::default();
    wire::put_append(&mut put, &request).unwrap();
    assert!(wire::get_append(&mut Get(&put.0)).is_err());
}

/// Reads bytes as all that they might be.
fn read_as_anything(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    let _ = record::decode(bytes);
    let _ = image::decode(bytes, "zl-test");
    let _ = Envelope::open(shared.clone());
    let _ = wire::get_append(&mut Get(bytes));
    let _ = wire::get_vote(&mut Get(bytes));
    let _ = wire::get_transfer(&mut Get(bytes));
    let _ = wire::get_piece(&shared);
    let _ = wire::read_answer(bytes, wire::get_appended);
    let _ = wire::read_answer(bytes, wire::get_voted);
    let _ = wire::read_answer(bytes, wire::get_transferred);
    let _ = wire::read_answer(bytes, wire::get_piece_answer);
    let _ = wire::read_answer(bytes, wire::get_read_index);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nonsense_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_as_anything(&bytes);
    }

    #[test]
    fn what_was_right_but_for_a_byte_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        length in any::<prop::sample::Index>(),
    ) {
        let entries: Vec<_> = (0..6).map(|index| entry(1, index)).collect();
        let mut all = record::encode_entries(&entries, None, 1 << 20).unwrap();
        let mut put = Put::default();
        wire::put_append(&mut put, &append_request(6)).unwrap();
        all.push(put.0);
        for mut bytes in all {
            let place = at.index(bytes.len());
            bytes[place] = byte;
            read_as_anything(&bytes);
            bytes.truncate(length.index(bytes.len()));
            read_as_anything(&bytes);
        }
    }
}
