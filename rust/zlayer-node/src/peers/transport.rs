//! [`Transport`] over mTLS: three lanes a peer for the consensus engine, and one for the sessions of workers.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use zlayer_raft::{
    Answers, Kind, Lane, Requests as Entries, Target, Transport, TransportError, TransportFuture,
};
use zlayer_wire::raft::Request;
use zlayer_wire::raft::peers_client::PeersClient;

use super::credentials::Credentials;
use super::line::Line;
use crate::session::Requests;

/// A connection of its own for each; `None` is that of the sessions.
type Way = Option<Lane>;

/// A line, and where it leads.
type Addressed = (String, Arc<Line>);

/// See the module.
pub(crate) struct PeerTransport {
    handle: Handle,
    credentials: Arc<Credentials>,
    /// By server, with the address that each is dialled at.
    lines: Mutex<HashMap<(u64, Way), Addressed>>,
}

impl PeerTransport {
    pub(super) fn new(handle: Handle, credentials: Arc<Credentials>) -> Self {
        Self { handle, credentials, lines: Mutex::default() }
    }

    /// The line to a server. One that has another address now gets a new one.
    fn line(&self, target: &Target, way: Way) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (target.id, way);
        match lines.get(&key) {
            Some((addr, line)) if *addr == target.addr => Arc::clone(line),
            _ => {
                let credentials = Arc::clone(&self.credentials);
                let line = Arc::new(Line::new(target.clone(), self.handle.clone(), credentials));
                lines.insert(key, (target.addr.clone(), Arc::clone(&line)));
                line
            }
        }
    }

    /// Passes a command or a question on. [`TransportError::Unreachable`]: nothing was sent.
    pub(crate) async fn forward(
        &self,
        target: &Target,
        request: Bytes,
    ) -> Result<Bytes, TransportError> {
        let mut client = self.sessions(target).await?;
        let answer = client.forward(Request { body: request }).await;
        answer.map(|answer| answer.into_inner().body).map_err(|status| match status.code() {
            // It was looked at, and nothing was done.
            Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => {
                TransportError::Unreachable(status.message().to_owned())
            }
            _ => broken(&status),
        })
    }

    /// A client on the connection for sessions.
    pub(crate) async fn sessions(
        &self,
        target: &Target,
    ) -> Result<PeersClient<Requests>, TransportError> {
        self.line(target, None).client().await
    }
}

/// The engine's requests, as messages.
struct Asked(Entries);

impl Stream for Asked {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        self.0.as_mut().poll_next(cx).map(|request| request.map(|body| Request { body }))
    }
}

/// Sends entries, and hands the answers on as they come.
async fn pass_on(
    line: Arc<Line>,
    requests: Asked,
    answered: mpsc::UnboundedSender<Result<Bytes, TransportError>>,
) -> Result<(), TransportError> {
    let mut client = line.client().await?;
    let stream = client.appends(requests).await.map_err(|status| broken(&status))?;
    let mut stream = stream.into_inner();
    while let Some(answer) = stream.message().await.map_err(|status| broken(&status))? {
        if answered.send(Ok(answer.body)).is_err() {
            break;
        }
    }
    Ok(())
}

fn broken(status: &Status) -> TransportError {
    TransportError::Broken(status.message().to_owned())
}

impl Transport for PeerTransport {
    fn call(
        &self,
        target: &Target,
        kind: Kind,
        request: Bytes,
        deadline: Duration,
    ) -> TransportFuture {
        let line = self.line(target, Some(kind.lane()));
        let asked = async move {
            let mut client = line.client().await?;
            let answer = client.call(Request { body: request }).await;
            answer.map(|answer| answer.into_inner().body).map_err(|status| broken(&status))
        };
        let task = self.handle.spawn(timeout(deadline, asked));
        let task = AbortOnDropHandle::new(task);
        Box::pin(async move {
            match task.await {
                Ok(in_time) => in_time.unwrap_or(Err(TransportError::TimedOut)),
                Err(_) => Err(TransportError::Broken("the server stops".into())),
            }
        })
    }

    fn appends(&self, target: &Target, requests: Entries) -> Answers {
        let line = self.line(target, Some(Lane::Bulk));
        // Not bounded by itself, but by the requests: the engine has few on their way.
        let (answered, answers) = mpsc::unbounded_channel();
        let requests = Asked(requests);
        let task = self.handle.spawn(async move {
            if let Err(error) = pass_on(line, requests, answered.clone()).await {
                // Nobody may be there to hear it.
                let _ = answered.send(Err(error));
            }
        });
        let task = AbortOnDropHandle::new(task);
        Box::pin(stream::unfold((answers, task), |(mut answers, task)| async move {
            let answer = answers.recv().await?;
            Some((answer, (answers, task)))
        }))
    }
}
