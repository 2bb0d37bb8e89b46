//! etcd's lease keepalive as a connection that beats in turn. The messages have etcd's public field numbers and
//! the fields that are needed; prost skips the others.

use std::time::Duration;

use futures_util::stream::poll_fn;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::{Request, Streaming};
use zlayer_node::session::{CarrierTask, Identity, Requests, Trust, dial};
use zlayer_wire::codec::SmallCodec;

use crate::turn::Turn;

/// Time to live that is asked for. Chosen: longer than a run.
const TTL_SECS: i64 = 3_600;
const USER_TIMEOUT: Duration = Duration::from_secs(12);

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl: i64,
    #[prost(string, tag = "4")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseKeepAliveRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseKeepAliveResponse {
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl: i64,
}

/// One lease, kept alive over a connection of its own.
pub(crate) struct EtcdTurn {
    lease: i64,
    asks: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
    _task: CarrierTask,
}

impl EtcdTurn {
    /// Dials, is granted a lease, and opens the keepalive stream.
    pub(crate) async fn open(
        address: String,
        trust: Trust,
        identity: Identity,
    ) -> Result<Self, String> {
        let (requests, carrier) = dial(&address, &trust, &identity, USER_TIMEOUT)
            .await
            .map_err(|failure| failure.to_string())?;
        let task = carrier.spawn();
        let mut client = Grpc::with_origin(requests, trust.origin());
        let lease = grant(&mut client).await?;
        let (asks, mut queue) = mpsc::channel(1);
        // Sent before the call: etcd answers a stream with its first message, not before.
        asks.try_send(LeaseKeepAliveRequest { id: lease }).map_err(|error| error.to_string())?;
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        client.ready().await.map_err(|error| error.to_string())?;
        let answers = client
            .streaming(
                Request::new(poll_fn(move |cx| queue.poll_recv(cx))),
                path,
                SmallCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::default(),
            )
            .await
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        let mut turn = Self { lease, asks, answers, _task: task };
        turn.answer().await?;
        Ok(turn)
    }

    async fn answer(&mut self) -> Result<(), String> {
        match self.answers.message().await {
            Ok(Some(answer)) if answer.id == self.lease && answer.ttl > 0 => Ok(()),
            Ok(Some(_)) => Err("the lease has expired".into()),
            Ok(None) => Err("the server ended the stream".into()),
            Err(status) => Err(status.message().to_owned()),
        }
    }
}

async fn grant(client: &mut Grpc<Requests>) -> Result<i64, String> {
    client.ready().await.map_err(|error| error.to_string())?;
    let granted = client
        .unary(
            Request::new(LeaseGrantRequest { ttl: TTL_SECS, id: 0 }),
            PathAndQuery::from_static("/etcdserverpb.Lease/LeaseGrant"),
            SmallCodec::<LeaseGrantRequest, LeaseGrantResponse>::default(),
        )
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    if granted.error.is_empty() { Ok(granted.id) } else { Err(granted.error) }
}

impl Turn for EtcdTurn {
    async fn beat(&mut self) -> Result<(), String> {
        let ask = LeaseKeepAliveRequest { id: self.lease };
        self.asks.send(ask).await.map_err(|_| "the connection is closed".to_owned())?;
        self.answer().await
    }
}
