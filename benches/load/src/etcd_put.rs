//! etcd's `Put` as its users call it: gRPC over plain HTTP/2, some connections, many calls on each. The messages
//! have etcd's public field numbers and the fields that are needed; prost skips the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::clock::monotonic_ns;
use crate::commit_options::{EtcdCommitOptions, EtcdTakeoverOptions};
use crate::commit_report::{Acked, CommitReport};
use crate::error::LoadError;
use crate::process::Process;
use crate::turn::{Turn, in_turn};

/// Keys that are written to, in turn.
const KEYS: u64 = 100;
/// Time for a put whose answer may never come. Chosen: longer than etcd's elections with its default timeouts.
const PUT_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "4")]
    raft_term: u64,
}

/// One put after another.
struct EtcdPut {
    client: Grpc<Channel>,
    numbers: Arc<AtomicU64>,
    value_bytes: usize,
}

impl EtcdPut {
    async fn open(
        server: &str,
        numbers: &Arc<AtomicU64>,
        value_bytes: usize,
    ) -> Result<Self, LoadError> {
        let fail = |error: tonic::transport::Error| LoadError::Connect {
            connected: 0,
            wanted: 1,
            why: format!("{server}: {error}"),
        };
        let endpoint = Endpoint::from_shared(format!("http://{server}")).map_err(fail)?;
        let channel = endpoint.tcp_nodelay(true).connect().await.map_err(fail)?;
        Ok(Self { client: Grpc::new(channel), numbers: Arc::clone(numbers), value_bytes })
    }

    /// Shares the connection.
    fn again(&self) -> Self {
        let (client, numbers) = (self.client.clone(), Arc::clone(&self.numbers));
        Self { client, numbers, value_bytes: self.value_bytes }
    }

    /// Returns the term that the answer names.
    async fn put(&mut self) -> Result<u64, String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let key = format!("key-{}", number % KEYS).into_bytes();
        let value = format!("{number:0>width$}", width = self.value_bytes).into_bytes();
        let codec = ProstCodec::<PutRequest, PutResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        self.client.ready().await.map_err(|error| error.to_string())?;
        let request = Request::new(PutRequest { key, value });
        let answer = self.client.unary(request, path, codec).await;
        let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
        Ok(answer.header.map_or(0, |header| header.raft_term))
    }
}

impl Turn for EtcdPut {
    async fn beat(&mut self) -> Result<(), String> {
        self.put().await.map(drop)
    }
}

/// So many puts in flight at one server.
pub(crate) async fn put_in_flight(options: &EtcdCommitOptions) -> Result<CommitReport, LoadError> {
    let processes = Process::all(&options.load.server_pids)?;
    let numbers = Arc::default();
    let mut connections = Vec::new();
    for _ in 0..options.connections.min(options.load.in_flight) {
        connections.push(EtcdPut::open(&options.server, &numbers, options.load.value_bytes).await?);
    }
    let turns = connections.iter().cycle().take(options.load.in_flight).map(EtcdPut::again);
    let (figures, _) = in_turn(turns.collect(), options.load.plan(), &processes).await?;
    Ok(CommitReport::new(&options.load, &figures))
}

/// Puts at a pace at each server until one is acknowledged in a newer term.
pub(crate) async fn take_over(options: &EtcdTakeoverOptions) -> Result<Acked, LoadError> {
    let (seen, mut answers) = mpsc::unbounded_channel();
    let numbers = Arc::default();
    for server in &options.servers {
        let put = EtcdPut::open(server, &numbers, options.pace.value_bytes).await?;
        tokio::spawn(put_at_pace(put, options.pace.every(), seen.clone()));
    }
    drop(seen);
    let newer = async {
        while let Some((term, acked_ns)) = answers.recv().await {
            if term > options.after_term {
                return Ok(Acked { acked_ns });
            }
        }
        Err(LoadError::Turn("the load ended".into()))
    };
    let late =
        || LoadError::Turn(format!("no newer term within {} s", options.pace.timeout_seconds));
    timeout(options.pace.timeout(), newer).await.unwrap_or_else(|_| Err(late()))
}

/// Whatever became of those before: a put that an old leader took has no answer for seconds.
async fn put_at_pace(put: EtcdPut, every: Duration, seen: mpsc::UnboundedSender<(u64, u64)>) {
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !seen.is_closed() {
        pace.tick().await;
        let (mut put, seen) = (put.again(), seen.clone());
        tokio::spawn(async move {
            if let Ok(Ok(term)) = timeout(PUT_TIMEOUT, put.put()).await {
                // Nobody listens any more once the load is over.
                let _ = seen.send((term, monotonic_ns()));
            }
        });
    }
}
