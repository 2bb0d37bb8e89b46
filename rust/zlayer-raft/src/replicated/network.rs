//! openraft's network, over a [`Transport`](crate::Transport).

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_core::Stream;
use futures_util::{StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkV2, Snapshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::replicated::link::{Link, LinkError};
use crate::replicated::peer::Peer;
use crate::replicated::shelf::Handle;
use crate::replicated::transport::{Answers, Kind, TransportError};
use crate::replicated::types::{LeaderOf, Types, Vote};
use crate::replicated::wire::{self, Piece, PieceAnswer};

type Failure = RPCError<Types>;

/// Makes clients.
pub(crate) struct Factory(pub(crate) Arc<Link>);

/// The way to one server.
pub(crate) struct Network {
    link: Arc<Link>,
    to: u64,
    peer: Peer,
    /// Asks for each append by itself rather than open a stream: a heartbeat does not wait behind entries.
    is_heartbeat: bool,
}

impl Factory {
    fn client(&self, to: u64, peer: &Peer, is_heartbeat: bool) -> Network {
        Network { link: Arc::clone(&self.0), to, peer: peer.clone(), is_heartbeat }
    }
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.client(target, peer, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.client(target, peer, true)
    }
}

impl Network {
    fn failure(&self, error: &LinkError, action: RPCTypes, waited: Duration) -> Failure {
        match error {
            LinkError::Transport(TransportError::TimedOut) => RPCError::Timeout(Timeout {
                action,
                id: self.link.id,
                target: self.to,
                timeout: waited,
            }),
            LinkError::Transport(TransportError::Broken(_)) => {
                RPCError::Network(NetworkError::new(error))
            }
            LinkError::Transport(TransportError::Unreachable(_))
            | LinkError::Refused(_)
            | LinkError::Unreadable(_) => RPCError::Unreachable(Unreachable::new(error)),
        }
    }

    async fn votes(
        &self,
        kind: Kind,
        request: &VoteRequest<Types>,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, Failure> {
        let put = |put: &mut _| {
            wire::put_vote(put, request);
            Ok(())
        };
        let deadline = option.soft_ttl();
        let asked =
            self.link.ask((self.to, &self.peer), kind, put, wire::get_voted, deadline).await;
        asked.map_err(|error| self.failure(&error, RPCTypes::Vote, deadline))
    }

    /// Sends a snapshot, piece by piece, from where the other one says that it is.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<LeaderOf, u64, Peer, Handle>,
        deadline: Duration,
    ) -> Result<SnapshotResponse<Types>, LinkError> {
        let Snapshot { meta, snapshot: handle } = snapshot;
        // One that was dropped for a newer one meanwhile is asked for again.
        let broken = |why: String| LinkError::Transport(TransportError::Broken(why));
        let read = spawn_blocking(move || handle.read()).await;
        let body = read.map_err(|error| broken(error.to_string()))?;
        let body = body.map_err(|error| broken(error.to_string()))?;
        let (length, crc) = (body.len() as u64, crc32c::crc32c(&body));
        let mut offset = 0;
        loop {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
            let end = (start + self.link.piece_bytes).min(body.len());
            let data = body.slice(start..end);
            let piece = Piece { vote, meta: meta.clone(), length, crc, offset: start as u64, data };
            let put = |put: &mut _| wire::put_piece(put, &piece);
            let to = (self.to, &self.peer);
            let answer =
                self.link.ask(to, Kind::Snapshot, put, wire::get_piece_answer, deadline).await?;
            match answer {
                PieceAnswer::Want(next) => offset = next,
                PieceAnswer::Done(response) => return Ok(response),
            }
        }
    }
}

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = Handle;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Failure> {
        let put = |put: &mut _| wire::put_append(put, &request);
        let deadline = option.soft_ttl();
        let to = (self.to, &self.peer);
        let asked = self.link.ask(to, Kind::Append, put, wire::get_appended, deadline).await;
        let result =
            asked.map_err(|error| self.failure(&error, RPCTypes::AppendEntries, deadline))?;
        Ok(match result {
            // All of a request is taken or nothing, so that this is all of it.
            Ok(_) => AppendEntriesResponse::Success,
            Err(error) => AppendEntriesResponse::from(Err(error)),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, Failure>>, Failure>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if self.is_heartbeat {
            return openraft::network::stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let envelope = self.link.envelope(Kind::Append, self.to, self.peer.store);
            let sent = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&sent);
            let requests = input.scan((), move |(), request| {
                let sealed = envelope.seal(|put| wire::put_append(put, &request));
                counter.fetch_add(1, Ordering::AcqRel);
                ready(sealed.inspect_err(|why| tracing::error!(why, "entries can't be sent")).ok())
            });
            let target = self.link.target(self.to, &self.peer);
            let answers = self.link.transport.appends(&target, Box::pin(requests));
            let reading = Reading { network: self, answers: Some(answers), sent, answered: 0 };
            let results: BoxStream<'s, _> = Box::pin(stream::unfold(reading, Reading::next));
            Ok(results)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failure> {
        self.votes(Kind::Vote, &request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failure> {
        self.votes(Kind::PreVote, &request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderOf, u64, Peer, Handle>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let deadline = option.soft_ttl();
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot, deadline) => sent.map_err(|error| {
                self.failure(&error, RPCTypes::InstallSnapshot, deadline).into()
            }),
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Failure> {
        let put = |put: &mut _| {
            wire::put_transfer(put, &request);
            Ok(())
        };
        let deadline = option.soft_ttl();
        let to = (self.to, &self.peer);
        let asked =
            self.link.ask(to, Kind::TransferLeader, put, wire::get_transferred, deadline).await;
        asked.map_err(|error| self.failure(&error, RPCTypes::TransferLeader, deadline))
    }
}

/// Answers of a stream that are waited for.
struct Reading<'s> {
    network: &'s Network,
    answers: Option<Answers>,
    sent: Arc<AtomicU64>,
    answered: u64,
}

impl Reading<'_> {
    async fn next(mut self) -> Option<(Result<StreamAppendResult<Types>, Failure>, Self)> {
        let answers = self.answers.as_mut()?;
        let limit = self.network.link.append_timeout;
        let answer = loop {
            let waiting_for = self.sent.load(Ordering::Acquire);
            match timeout(limit, pin!(answers.next())).await {
                Ok(answer) => break answer?,
                // Nothing was asked that long ago, or nothing at all.
                Err(_) if waiting_for <= self.answered => {}
                Err(_) => break Err(TransportError::TimedOut),
            }
        };
        self.answered += 1;
        let network = self.network;
        let result = answer
            .map_err(LinkError::Transport)
            .and_then(|answer| network.link.read(network.to, &answer, wire::get_appended))
            .map_err(|error| network.failure(&error, RPCTypes::AppendEntries, limit));
        if !matches!(result, Ok(Ok(_))) {
            self.answers = None;
        }
        Some((result, self))
    }
}
