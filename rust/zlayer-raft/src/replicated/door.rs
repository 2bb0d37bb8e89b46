//! What arrives from the other servers: checked, let in, answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, VoteRequest,
};
use openraft::{Raft, ReadPolicy, Snapshot};
use tokio::task::unconstrained;

use crate::codec::Why;
use crate::replicated::arrival::{Arrival, Taken};
use crate::replicated::form::{Get, Position, encode_named};
use crate::replicated::image;
use crate::replicated::link::Link;
use crate::replicated::machine::{Core, Machine};
use crate::replicated::refusal::PeerRefusal;
use crate::replicated::shelf::Handle;
use crate::replicated::transport::{Kind, Requests};
use crate::replicated::types::{LogId, Types};
use crate::replicated::wire::{self, Envelope, Hello, Piece, PieceAnswer};

/// Longest that a reader on another server waits for this one to confirm that it leads.
const READ_INDEX_WAIT: Duration = Duration::from_secs(2);

/// Appends of one stream that are worked on at once.
const PIPELINE: usize = 64;

/// Where requests of other servers come in.
pub(crate) struct Door {
    pub(crate) raft: Raft<Types, Machine>,
    pub(crate) link: Arc<Link>,
    pub(crate) core: Arc<Core>,
    pub(crate) arrival: Arrival,
    pub(crate) snapshot_bytes_max: u64,
}

type Refused<T> = Result<T, PeerRefusal>;

fn unreadable(why: Why) -> PeerRefusal {
    PeerRefusal::Unreadable { why }
}

fn stopped(error: &impl ToString) -> PeerRefusal {
    PeerRefusal::Stopped { why: error.to_string() }
}

impl Door {
    /// Answers one request; `from` is whom the sender's certificate names.
    pub(crate) async fn answer(&self, from: u64, request: Bytes) -> Bytes {
        let opened = Envelope::open(request).map_err(unreadable);
        let answered = match opened {
            Ok((envelope, body)) => match self.check(from, &envelope) {
                Ok(()) => self.let_in(&envelope, body).await,
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        answered.unwrap_or_else(|refusal| wire::refuse(&refusal))
    }

    /// Whether the sender is who it says, means this server, and may speak at all.
    fn check(&self, from: u64, envelope: &Envelope) -> Refused<()> {
        let link = &self.link;
        if envelope.cluster_id != link.cluster_id {
            return Err(PeerRefusal::WrongCluster {
                expected: link.cluster_id.clone(),
                found: envelope.cluster_id.clone(),
            });
        }
        if envelope.to != link.id {
            return Err(PeerRefusal::WrongTarget { expected: link.id, found: envelope.to });
        }
        if envelope.from != from {
            return Err(PeerRefusal::WrongSender { expected: from, found: envelope.from });
        }
        if envelope.to_store != 0 && envelope.to_store != link.store {
            return Err(PeerRefusal::WrongStore { id: link.id });
        }
        if self.core.is_retired(from) && !self.hands_over(from, envelope.kind) {
            return Err(PeerRefusal::Retired { id: from });
        }
        let known = link.roster.peer(from);
        if known.is_some_and(|peer| peer.store != 0 && peer.store != envelope.from_store) {
            return Err(PeerRefusal::WrongStore { id: from });
        }
        Ok(())
    }

    /// A leader that removed itself leads on until it has handed over.
    fn hands_over(&self, from: u64, kind: Kind) -> bool {
        let leader = self.raft.server_metrics().borrow_watched().current_leader;
        matches!(kind, Kind::Append | Kind::TransferLeader) && leader == Some(from)
    }

    /// A server that is not in the newest membership here, and was never removed, may be in one that has not come
    /// here yet. As a leader it has been elected by a quorum; as a candidate it must have a longer log than that
    /// membership. Before there is any, whoever has the cluster's certificate may speak: that is how one joins.
    fn check_stranger(&self, from: u64, last: Option<&LogId>) -> Refused<()> {
        let known = self.link.roster.read();
        let is_known = known.members.peers.contains_key(&from);
        if is_known || known.at.is_none() || last > known.at.as_ref() {
            return Ok(());
        }
        Err(PeerRefusal::NotMember { id: from })
    }

    fn check_member(&self, from: u64) -> Refused<()> {
        self.check_stranger(from, None)
    }

    async fn let_in(&self, envelope: &Envelope, body: Bytes) -> Refused<Bytes> {
        let mut get = Get(&body);
        match envelope.kind {
            Kind::Append => {
                let request = wire::get_append(&mut get).map_err(unreadable)?;
                self.append(request).await.map(|(answer, _)| answer)
            }
            Kind::Vote | Kind::PreVote => {
                let request = wire::get_vote(&mut get).map_err(unreadable)?;
                self.vote(envelope, request).await
            }
            Kind::Snapshot => {
                let piece = wire::get_piece(&body).map_err(unreadable)?;
                let answer = self.take_piece(piece).await?;
                Ok(wire::answer(|put| wire::put_piece_answer(put, &answer)))
            }
            Kind::TransferLeader => {
                if !self.hands_over(envelope.from, envelope.kind) {
                    self.check_member(envelope.from)?;
                }
                let request = wire::get_transfer(&mut get).map_err(unreadable)?;
                let answer = self.raft.handle_transfer_leader(request).await;
                let answer = answer.map_err(|error| stopped(&error))?;
                Ok(wire::answer(|put| wire::put_transferred(put, &answer)))
            }
            Kind::ReadIndex => {
                self.check_member(envelope.from)?;
                get.end().map_err(unreadable)?;
                self.read_index().await
            }
            Kind::Hello => {
                get.end().map_err(unreadable)?;
                self.hello().await
            }
        }
    }

    /// Appends, and answers once that is durable. Also says whether a stream goes on behind it.
    async fn append(&self, request: AppendEntriesRequest<Types>) -> Refused<(Bytes, bool)> {
        let before = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(before);
        let answer = self.raft.append_entries(request).await.map_err(|error| stopped(&error))?;
        let result = match (answer, before) {
            (AppendEntriesResponse::Success, _) => Ok(last),
            (AppendEntriesResponse::PartialSuccess(matched), _) => Ok(matched),
            (AppendEntriesResponse::HigherVote(vote), _) => {
                Err(StreamAppendError::HigherVote(vote))
            }
            (AppendEntriesResponse::Conflict, Some(at)) => Err(StreamAppendError::Conflict(at)),
            (AppendEntriesResponse::Conflict, None) => {
                return Err(stopped(&"entries with nothing before them conflict"));
            }
        };
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            self.link.note_leader();
        }
        Ok((wire::answer(|put| wire::put_appended(put, &result)), result.is_ok()))
    }

    async fn vote(&self, envelope: &Envelope, request: VoteRequest<Types>) -> Refused<Bytes> {
        self.check_stranger(envelope.from, request.last_log_id.as_ref())?;
        if request.vote.leader_id().node_id != envelope.from {
            return Err(unreadable("a vote for somebody else".into()));
        }
        let answer = match envelope.kind {
            Kind::PreVote => self.raft.pre_vote(request).await,
            _ => self.raft.vote(request).await,
        };
        let answer = answer.map_err(|error| stopped(&error))?;
        Ok(wire::answer(|put| wire::put_voted(put, &answer)))
    }

    /// Takes a piece of a snapshot; installs it once it is whole.
    async fn take_piece(&self, piece: Piece) -> Refused<PieceAnswer> {
        let own = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        let own = own.map_err(|error| stopped(&error))?;
        if piece.vote < own {
            return Ok(PieceAnswer::Done(SnapshotResponse::new(own)));
        }
        let body = match self.arrival.take(&piece, self.snapshot_bytes_max)? {
            Taken::Want(offset) => return Ok(PieceAnswer::Want(offset)),
            Taken::Whole(body) => body,
        };
        // openraft ends at a snapshot that contradicts what was announced, so it is looked at before.
        let read = image::decode(&body, &self.link.cluster_id).map_err(unreadable)?;
        if read.applied.meta() != piece.meta {
            return Err(unreadable("the snapshot is not the one that was announced".into()));
        }
        if read.applied.last.is_none_or(|last| last.leader_id > *piece.vote.leader_id()) {
            return Err(unreadable("the snapshot is newer than its leader".into()));
        }
        let snapshot = Snapshot { meta: piece.meta, snapshot: Handle::Received(body) };
        let installed = self.raft.install_full_snapshot(piece.vote, snapshot).await;
        installed.map(PieceAnswer::Done).map_err(|error| stopped(&error))
    }

    async fn read_index(&self) -> Refused<Bytes> {
        let asked = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        let answer = match tokio::time::timeout(READ_INDEX_WAIT, asked).await {
            Ok(Ok(linearizer)) => Ok(*linearizer.read_log_id().log_id()),
            Ok(Err(RaftError::APIError(error))) => Err(leader_of(&error)),
            Ok(Err(RaftError::Fatal(error))) => return Err(stopped(&error)),
            Err(_) => Err(None),
        };
        Ok(wire::answer(|put| wire::put_read_index(put, &answer)))
    }

    async fn hello(&self) -> Refused<Bytes> {
        self.link.roster.look(&self.raft).await.map_err(|error| stopped(&error))?;
        let known = self.link.roster.read();
        let hello = Hello {
            store: self.link.store,
            last: known.at.as_ref().map(Position::of),
            voters: known.members.voters.clone(),
        };
        let body = encode_named(&hello).map_err(unreadable)?;
        Ok(wire::answer(|put| put.bytes(&body)))
    }

    /// Answers a stream of appends, in order; the next ones are taken while one is still written. Ends behind a
    /// refusal, or what the sender must look at first.
    pub(crate) fn answers(
        self: Arc<Self>,
        from: u64,
        requests: Requests,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        let answers = requests.map(move |request| {
            let door = Arc::clone(&self);
            // openraft gets the requests in the order in which they are first looked at: nothing may come between.
            unconstrained(async move {
                let (envelope, body) = Envelope::open(request).map_err(unreadable)?;
                door.check(from, &envelope)?;
                if envelope.kind != Kind::Append {
                    return Err(unreadable("the stream is for entries".into()));
                }
                let request = wire::get_append(&mut Get(&body)).map_err(unreadable)?;
                door.append(request).await
            })
        });
        stream::unfold(Some(answers.buffered(PIPELINE)), |answers| async move {
            let mut answers = answers?;
            match answers.next().await? {
                Ok((answer, goes_on)) => Some((answer, goes_on.then_some(answers))),
                Err(refusal) => Some((wire::refuse(&refusal), None)),
            }
        })
    }
}

/// Who leads, as far as the error says.
pub(crate) fn leader_of(error: &LinearizableReadError<Types>) -> Option<u64> {
    match error {
        LinearizableReadError::ForwardToLeader(forward) => forward.leader_id,
        LinearizableReadError::QuorumNotEnough(_) => None,
    }
}
