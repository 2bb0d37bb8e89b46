//! What the other servers ask of this one.

use std::pin::Pin;
use std::sync::Weak;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tonic::{Status, Streaming};
use zlayer_raft::{Replicated, Requests};
use zlayer_wire::raft::{SessionAnswers, SessionNews};

use super::forward::{Request, answer};
use super::hosted::host;
use super::shared::Shared;
use crate::peers::{Answerer, Streamed};

/// See the module. Holds neither the log nor the server: both end when they are told to, whoever still asks.
pub(super) struct PeerDesk {
    pub(super) replicated: Weak<Replicated>,
    pub(super) shared: Weak<Shared>,
}

impl Answerer for PeerDesk {
    fn call(
        &self,
        from: u64,
        request: Bytes,
    ) -> Pin<Box<dyn Future<Output = Bytes> + Send + 'static>> {
        match self.replicated.upgrade() {
            Some(replicated) => replicated.handle(from, request),
            // An empty answer can't be read, and the asker takes it for none.
            None => Box::pin(std::future::ready(Bytes::new())),
        }
    }

    fn appends(&self, from: u64, requests: Requests) -> Streamed<Bytes> {
        match self.replicated.upgrade() {
            Some(replicated) => Box::pin(replicated.handle_appends(from, requests).map(Ok)),
            None => Box::pin(stream::once(async { Err(Status::unavailable("the server stops")) })),
        }
    }

    fn forward(
        &self,
        from: u64,
        request: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send + 'static>> {
        let (shared, replicated) = (self.shared.upgrade(), self.replicated.upgrade());
        Box::pin(async move {
            let stops = || Status::unavailable("the server stops");
            let (shared, replicated) = (shared.ok_or_else(stops)?, replicated.ok_or_else(stops)?);
            if !replicated.members().peers.contains_key(&from) {
                return Err(Status::permission_denied("not a member"));
            }
            let request: Request = serde_json::from_slice(&request)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            // What it does on this machine is for whoever runs this machine.
            if request.is_local() {
                return Err(Status::invalid_argument("that is not asked of another server"));
            }
            // Whoever asked may go: what was begun is finished.
            let answered = tokio::spawn(answer(shared, Some(replicated), request)).await;
            let answered = answered.map_err(|error| Status::internal(error.to_string()))?;
            let body = serde_json::to_vec(&answered);
            body.map(Bytes::from).map_err(|error| Status::internal(error.to_string()))
        })
    }

    fn sessions(
        &self,
        from: u64,
        news: Streaming<SessionNews>,
    ) -> Result<Streamed<SessionAnswers>, Status> {
        let stops = || Status::unavailable("the server stops");
        let (shared, replicated) = (
            self.shared.upgrade().ok_or_else(stops)?,
            self.replicated.upgrade().ok_or_else(stops)?,
        );
        if shared.stopping.is_cancelled() {
            return Err(stops());
        }
        if !replicated.members().peers.contains_key(&from) {
            return Err(Status::permission_denied("not a member"));
        }
        host(shared, news)
    }
}
