//! One connection to a server: the report stream and, once the session stands, the watch.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tonic::{Status, Streaming};
use zlayer_wire::v1::control_plane_client::ControlPlaneClient;
use zlayer_wire::v1::{AssignmentEvent, StatusAck, StatusReport, WatchAssignmentsRequest};

use super::carrier::{Carrier, Requests};
use super::dial::dial;
use super::failure::Failure;
use super::identity::{Identity, Trust};
use super::outbox::{Outbox, outbox};

/// Bytes of one message from a server.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

type Client = ControlPlaneClient<Requests>;
type Opening<T> = Pin<Box<dyn Future<Output = Result<Streaming<T>, Status>> + Send>>;

/// What a link reports.
#[derive(Debug)]
pub enum LinkEvent {
    /// An answer to a report.
    Ack(StatusAck),
    /// From the watch.
    Assignments(AssignmentEvent),
    /// The watch ended while the session goes on.
    WatchEnded(Failure),
    /// The session is over. The link says no more.
    Ended(Failure),
}

/// A dialled connection.
pub struct Link {
    client: Client,
    outbox: Outbox<StatusReport>,
    acks: Inbound<StatusAck>,
    watch: Inbound<AssignmentEvent>,
    carrier: Carrier,
}

/// The answer to one request.
enum Inbound<T> {
    Closed,
    Opening(Opening<T>),
    Open(Box<Streaming<T>>),
}

impl<T> Inbound<T> {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Failure>> {
        loop {
            match self {
                Self::Closed => return Poll::Pending,
                Self::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(stream) => *self = Self::Open(Box::new(stream)),
                    Err(status) => return self.fail(Failure::of_status(&status)),
                },
                Self::Open(stream) => match ready!(Pin::new(stream.as_mut()).poll_next(cx)) {
                    Some(Ok(message)) => return Poll::Ready(Ok(message)),
                    Some(Err(status)) => return self.fail(Failure::of_status(&status)),
                    None => return self.fail(Failure::lost("the server ended the stream")),
                },
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Poll<Result<T, Failure>> {
        *self = Self::Closed;
        Poll::Ready(Err(failure))
    }
}

impl Link {
    /// Dials a server and opens the report stream. Nothing is said on it yet.
    ///
    /// # Errors
    /// [`Failure`] in plain words, without the address.
    pub async fn open(
        address: &str,
        trust: &Trust,
        identity: &Identity,
        user_timeout: Duration,
    ) -> Result<Self, Failure> {
        let (requests, carrier) = dial(address, trust, identity, user_timeout).await?;
        let client = ControlPlaneClient::with_origin(requests, trust.origin())
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (outbox, reports) = outbox();
        let mut calling = client.clone();
        let opening =
            async move { calling.report_status(reports).await.map(tonic::Response::into_inner) };
        let acks = Inbound::Opening(Box::pin(opening));
        Ok(Self { client, outbox, acks, watch: Inbound::Closed, carrier })
    }

    /// Sends a report.
    pub fn send(&self, report: StatusReport) {
        self.outbox.put(report);
    }

    /// Opens the watch, or opens it anew.
    pub fn watch(&mut self, last_revision: u64) {
        let mut client = self.client.clone();
        let request = WatchAssignmentsRequest { last_revision };
        let opening =
            async move { client.watch_assignments(request).await.map(tonic::Response::into_inner) };
        self.watch = Inbound::Opening(Box::pin(opening));
    }

    /// What comes next. Acks go before assignments.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        let ended = Pin::new(&mut self.carrier).poll(cx);
        match self.acks.poll_message(cx) {
            Poll::Ready(Ok(ack)) => return Poll::Ready(LinkEvent::Ack(ack)),
            Poll::Ready(Err(failure)) => {
                return Poll::Ready(LinkEvent::Ended(self.explain(failure)));
            }
            Poll::Pending => {}
        }
        match self.watch.poll_message(cx) {
            Poll::Ready(Ok(event)) => return Poll::Ready(LinkEvent::Assignments(event)),
            Poll::Ready(Err(failure)) => return Poll::Ready(LinkEvent::WatchEnded(failure)),
            Poll::Pending => {}
        }
        ended.map(LinkEvent::Ended)
    }

    /// What the socket has seen says more than what the streams made of it, unless the server itself said why.
    fn explain(&self, failure: Failure) -> Failure {
        match self.carrier.reason() {
            Some(why) if !failure.said => Failure::lost(why),
            _ => failure,
        }
    }

    /// Ends both streams and the connection, with a goodbye if the server takes it quickly.
    pub async fn close(self) {
        let Self { client, outbox, acks, watch, carrier } = self;
        drop((client, outbox, acks, watch));
        carrier.finish().await;
    }
}
