//! The gRPC service of the other servers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status, Streaming};
use zlayer_raft::Requests;
use zlayer_wire::raft::peers_server::{Peers, PeersServer};
use zlayer_wire::raft::{Answer, Request as Asked, SessionAnswers, SessionNews};

use super::line::MESSAGE_BYTES_MAX;

/// What a stream answers.
pub(crate) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Whom requests are for. `from` is whom the caller's certificate names.
pub(crate) trait Answerer: Send + Sync + 'static {
    /// One question of the engine.
    fn call(
        &self,
        from: u64,
        request: Bytes,
    ) -> Pin<Box<dyn Future<Output = Bytes> + Send + 'static>>;

    /// A stream of entries.
    fn appends(&self, from: u64, requests: Requests) -> Streamed<Bytes>;

    /// A command or a question that another server passes on.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` where that is not a member.
    fn forward(
        &self,
        from: u64,
        request: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send + 'static>>;

    /// The sessions of a follower.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` where this server does not lead.
    fn sessions(
        &self,
        from: u64,
        news: Streaming<SessionNews>,
    ) -> Result<Streamed<SessionAnswers>, Status>;
}

/// The service of one connection.
pub(super) struct PeerService {
    from: u64,
    answerer: Arc<OnceLock<Arc<dyn Answerer>>>,
}

impl PeerService {
    pub(super) fn server(
        from: u64,
        answerer: Arc<OnceLock<Arc<dyn Answerer>>>,
    ) -> PeersServer<Self> {
        PeersServer::new(Self { from, answerer })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn answerer(&self) -> Result<&Arc<dyn Answerer>, Status> {
        self.answerer.get().ok_or_else(|| Status::unavailable("the server starts"))
    }
}

#[tonic::async_trait]
impl Peers for PeerService {
    async fn call(&self, request: Request<Asked>) -> Result<Response<Answer>, Status> {
        let body = self.answerer()?.call(self.from, request.into_inner().body).await;
        Ok(Response::new(Answer { body }))
    }

    async fn forward(&self, request: Request<Asked>) -> Result<Response<Answer>, Status> {
        let body = self.answerer()?.forward(self.from, request.into_inner().body).await?;
        Ok(Response::new(Answer { body }))
    }

    type AppendsStream = Streamed<Answer>;

    async fn appends(
        &self,
        request: Request<Streaming<Asked>>,
    ) -> Result<Response<Self::AppendsStream>, Status> {
        // A stream that breaks off ends: nothing behind the break is given to the engine.
        let requests = futures_util::stream::unfold(request.into_inner(), async |mut stream| {
            let asked = stream.message().await.ok().flatten()?;
            Some((asked.body, stream))
        });
        let answers = self.answerer()?.appends(self.from, Box::pin(requests));
        let answers = answers.map(|answer| answer.map(|body| Answer { body }));
        Ok(Response::new(Box::pin(answers)))
    }

    type SessionsStream = Streamed<SessionAnswers>;

    async fn sessions(
        &self,
        request: Request<Streaming<SessionNews>>,
    ) -> Result<Response<Self::SessionsStream>, Status> {
        let answers = self.answerer()?.sessions(self.from, request.into_inner())?;
        Ok(Response::new(answers))
    }
}

/// As hyper wants it.
pub(super) struct Served(pub(super) PeersServer<PeerService>);

type Answered = Result<HttpResponse<tonic::body::Body>, Infallible>;

impl hyper::service::Service<HttpRequest<Incoming>> for Served {
    type Response = HttpResponse<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answered> + Send>>;

    fn call(&self, request: HttpRequest<Incoming>) -> Self::Future {
        // The generated service is always ready.
        self.0.clone().call(request)
    }
}
