//! The gRPC service of workers, and the step that gives each request its connection's identity.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Map;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tonic::codegen::Service as _;
use tonic::{Code, Status, Streaming};
use zlayer_core::liveness::SessionId;
use zlayer_wire::v1::control_plane_server::{ControlPlane, ControlPlaneServer};
use zlayer_wire::v1::{StatusReport, WatchAssignmentsRequest};

use super::connection::{Connection, NodeLedger};
use super::report::ReportStream;
use super::shared::Shared;
use super::watch::AssignmentStream;
use crate::refusal::Refusal;

/// `ReportStatus` and `WatchAssignments`, for every connection.
pub(crate) struct WorkerService {
    shared: Arc<Shared>,
}

/// The service with the limits on messages.
pub(crate) fn control_plane(shared: &Arc<Shared>) -> ControlPlaneServer<WorkerService> {
    let limit = shared.limits.message_bytes_max;
    ControlPlaneServer::new(WorkerService { shared: Arc::clone(shared) })
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit)
}

/// Whom a request comes from: put into its extensions by [`ConnectionService`].
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) connection: Arc<Connection>,
    pub(crate) ledger: Arc<NodeLedger>,
}

impl WorkerService {
    /// The caller, if its connection still goes on.
    fn caller<T>(&self, request: &mut tonic::Request<T>) -> Result<Caller, Status> {
        let caller = request
            .extensions_mut()
            .remove::<Caller>()
            .ok_or_else(|| Status::internal("a request without its connection"))?;
        match caller.connection.refused() {
            None => Ok(caller),
            Some(why) => Err(self.refuse(why)),
        }
    }

    fn refuse(&self, why: Refusal) -> Status {
        self.shared.metrics.sessions_refused.add(why.name());
        why.status()
    }
}

#[tonic::async_trait]
impl ControlPlane for WorkerService {
    type ReportStatusStream = ReportStream;

    async fn report_status(
        &self,
        mut request: tonic::Request<Streaming<StatusReport>>,
    ) -> Result<tonic::Response<ReportStream>, Status> {
        let caller = self.caller(&mut request)?;
        let session = SessionId(self.shared.registry.next_id());
        if !caller.connection.take_session(session) {
            return Err(self.refuse(Refusal::Protocol));
        }
        let shared = Arc::clone(&self.shared);
        Ok(tonic::Response::new(ReportStream::new(shared, caller, session, request.into_inner())))
    }

    type WatchAssignmentsStream = AssignmentStream;

    async fn watch_assignments(
        &self,
        mut request: tonic::Request<WatchAssignmentsRequest>,
    ) -> Result<tonic::Response<AssignmentStream>, Status> {
        let caller = self.caller(&mut request)?;
        Ok(tonic::Response::new(AssignmentStream::new(caller.connection)))
    }
}

/// The service of one connection.
pub(crate) struct ConnectionService {
    inner: ControlPlaneServer<WorkerService>,
    caller: Caller,
}

impl ConnectionService {
    pub(crate) fn new(inner: ControlPlaneServer<WorkerService>, caller: Caller) -> Self {
        Self { inner, caller }
    }
}

type Answer = Result<Response<tonic::body::Body>, Infallible>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Gives the statuses that tonic makes of a request that can't be read the codes that the contract names.
fn named(answer: Answer) -> Answer {
    answer.map(|mut response| {
        let code = response.headers_mut().get_mut(Status::GRPC_STATUS);
        if let Some(code) = code
            && let Some(named) = match Code::from_bytes(code.as_bytes()) {
                // Larger than the limit.
                Code::OutOfRange => Some("8"),
                // Not decodable: nothing of ours answers with this code.
                Code::Internal => Some("3"),
                _ => None,
            }
        {
            *code = HeaderValue::from_static(named);
        }
        response
    })
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Map<BoxFuture<Answer>, fn(Answer) -> Answer>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.caller.clone());
        // The generated service is always ready.
        self.inner.clone().call(request).map(named)
    }
}
