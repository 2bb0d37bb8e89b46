//! A worker that does what the test says.

use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Response, Status, Streaming};
use zlayer_node::refusal::Refusal;
use zlayer_node::session::{Failure, Requests, Trust, dial};
use zlayer_wire::v1::control_plane_client::ControlPlaneClient;
use zlayer_wire::v1::{AssignmentEvent, Hello, StatusAck, StatusReport, WatchAssignmentsRequest};

use crate::cluster::{Cluster, PATIENCE};
use crate::pki::{CLUSTER, Leaf};

/// A connection of a worker. Dropping it closes the socket.
pub(crate) struct Worker {
    client: ControlPlaneClient<Requests>,
    carrier: JoinHandle<()>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<Failure>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// A report stream.
#[derive(Debug)]
pub(crate) struct Session {
    reports: UnboundedSender<StatusReport>,
    acks: Streaming<StatusAck>,
    seq: u64,
}

pub(crate) fn hello(incarnation: u64) -> StatusReport {
    let hello = Hello { incarnation, version: "0".into(), required_features: Vec::new() };
    StatusReport { hello: Some(hello), ..StatusReport::default() }
}

/// Why the server refused, by the name in the status; the code must be the one that fits the name.
pub(crate) fn refusal(status: &Status) -> Refusal {
    let refusal = Refusal::of(status).unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(status.code(), refusal.status().code());
    refusal
}

/// What comes within the patience of a test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing came"))
}

impl Worker {
    pub(crate) async fn dial(cluster: &Cluster, leaf: &Leaf) -> Result<Self, Failure> {
        let trust = Trust::of_servers(CLUSTER, &cluster.ca.pem).unwrap();
        let identity = trust.client(&leaf.cert, &leaf.key).unwrap();
        let address = cluster.address().to_string();
        let dialling = dial(&address, &trust, &identity, Duration::from_secs(12));
        let (requests, carrier) = soon("a dial", dialling).await?;
        let client = ControlPlaneClient::with_origin(requests, trust.origin());
        let (end, ended) = watch::channel(None);
        let carrier = tokio::spawn(async move {
            let _ = end.send(Some(carrier.await));
        });
        Ok(Self { client, carrier, ended })
    }

    /// The answer to a call, or the end of the connection: a call that is made in the moment of it may never be
    /// answered.
    async fn answer<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Streaming<T>, Status> {
        let mut ended = self.ended.clone();
        tokio::select! {
            biased;
            answer = soon(what, call) => answer.map(Response::into_inner),
            failure = ended.wait_for(Option::is_some) => {
                let why = failure.ok().and_then(|failure| failure.clone());
                Err(Status::unavailable(why.map_or_else(String::new, |failure| failure.why)))
            }
        }
    }

    /// Dials and says hello.
    pub(crate) async fn join(cluster: &Cluster, leaf: &Leaf) -> (Self, Session) {
        let worker = Self::dial(cluster, leaf).await.unwrap();
        let mut session = worker.open().await.unwrap();
        session.ask(hello(7)).await.unwrap();
        (worker, session)
    }

    /// Opens a report stream. Nothing is said on it yet.
    pub(crate) async fn open(&self) -> Result<Session, Status> {
        let (reports, queue) = unbounded_channel();
        let queue = unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
        let acks = self.report(queue).await?;
        Ok(Session { reports, acks, seq: 0 })
    }

    pub(crate) async fn report(
        &self,
        reports: impl Stream<Item = StatusReport> + Send + 'static,
    ) -> Result<Streaming<StatusAck>, Status> {
        let mut client = self.client.clone();
        self.answer("a report stream", client.report_status(reports)).await
    }

    pub(crate) async fn watch(
        &self,
        last_revision: u64,
    ) -> Result<Streaming<AssignmentEvent>, Status> {
        let mut client = self.client.clone();
        let request = WatchAssignmentsRequest { last_revision };
        self.answer("a watch", client.watch_assignments(request)).await
    }

    /// Why the server serves nothing on this connection.
    pub(crate) async fn refused(&self) -> Refusal {
        let status = match self.open().await {
            Ok(mut session) => session.ask(hello(7)).await.unwrap_err(),
            Err(status) => status,
        };
        refusal(&status)
    }
}

impl Session {
    /// Sends a report.
    pub(crate) fn send(&mut self, report: StatusReport) {
        self.seq += 1;
        // The stream may have ended; what comes of it is what the test looks at.
        let _ = self.reports.send(StatusReport { seq: self.seq, ..report });
    }

    /// The next answer, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<StatusAck, Status> {
        match soon("an ack", self.acks.message()).await {
            Ok(Some(ack)) => Ok(ack),
            Ok(None) => Err(Status::new(Code::Ok, "the stream ended")),
            Err(status) => Err(status),
        }
    }

    /// Sends a report and waits for its answer.
    pub(crate) async fn ask(&mut self, report: StatusReport) -> Result<StatusAck, Status> {
        self.send(report);
        let ack = self.next().await?;
        assert_eq!(ack.seq, self.seq);
        Ok(ack)
    }

    pub(crate) async fn beat(&mut self) -> Result<StatusAck, Status> {
        self.ask(StatusReport::default()).await
    }

    pub(crate) async fn leave(&mut self) -> Result<StatusAck, Status> {
        self.ask(StatusReport { leaving: true, ..StatusReport::default() }).await
    }
}
