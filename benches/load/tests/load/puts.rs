//! etcd's puts, against as much of etcd as the driver talks to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use crate::cluster::runtime;

#[derive(Clone, PartialEq, Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Done {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
    #[prost(uint64, tag = "4")]
    raft_term: u64,
}

/// A store that answers each put, and has an election after so many.
#[derive(Clone)]
struct Store {
    puts: Arc<AtomicU64>,
    elects_after: u64,
    fails: bool,
}

impl UnaryService<Put> for Store {
    type Response = Done;
    type Future = BoxFuture<'static, Result<tonic::Response<Done>, Status>>;

    fn call(&mut self, request: tonic::Request<Put>) -> Self::Future {
        let put = request.into_inner();
        assert!(put.key.starts_with(b"key-") && put.value.len() == 100);
        let before = self.puts.fetch_add(1, Ordering::Relaxed);
        let raft_term = if before < self.elects_after { 7 } else { 8 };
        let header = Some(Header { cluster_id: 1, raft_term });
        let answer = if self.fails {
            Err(Status::unavailable("no leader"))
        } else {
            Ok(tonic::Response::new(Done { header }))
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Service<Request<Incoming>> for Store {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let store = self.clone();
        Box::pin(async move {
            assert_eq!(request.uri().path(), "/etcdserverpb.KV/Put");
            Ok(Grpc::new(ProstCodec::<Done, Put>::default()).unary(store, request).await)
        })
    }
}

fn serve(elects_after: u64, fails: bool) -> (Runtime, SocketAddr, Store) {
    let store = Store { puts: Arc::default(), elects_after, fails };
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = store.clone();
    runtime.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(serving.clone());
            tokio::spawn(
                Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    (runtime, address, store)
}

fn run(options: &Value) -> Result<Value, String> {
    let report = zlayer_load::run(options.to_string().as_bytes());
    report.map(|report| serde_json::from_slice(&report).unwrap()).map_err(|error| error.to_string())
}

fn commits(address: SocketAddr) -> Value {
    json!({
        "kind": "etcd_commits", "server": address.to_string(), "connections": 2,
        "load": {
            "in_flight": 8, "seconds": 0.2, "warm_up_seconds": 0.05, "threads": 1,
            "server_pids": [std::process::id()],
        },
    })
}

#[test]
fn puts_are_counted_as_the_server_counts_them() {
    let (runtime, address, store) = serve(u64::MAX, false);
    let report = run(&commits(address)).unwrap();
    runtime.shutdown_background();
    let seen = store.puts.load(Ordering::Relaxed);
    let measured = report["commits"].as_u64().unwrap();
    assert!(measured > 8 && measured < seen, "{measured} of {seen}: the warm-up does not count");
    assert_eq!((&report["in_flight"], &report["value_bytes"]), (&json!(8), &json!(100)));
    assert!(report["p50_ms"].as_f64() <= report["p99_ms"].as_f64());
    assert!(report["cpu_seconds_per_1000"].as_f64() > Some(0.0));
}

#[test]
fn a_put_that_fails_fails_the_run() {
    let (runtime, address, _) = serve(u64::MAX, true);
    let error = run(&commits(address)).unwrap_err();
    runtime.shutdown_background();
    assert!(error.ends_with("no leader"), "{error}");
}

#[test]
fn a_takeover_is_the_first_put_of_a_newer_term() {
    let takeover = |address: SocketAddr, timeout_seconds: f64| {
        let pace = json!({"every_ms": 1, "timeout_seconds": timeout_seconds});
        run(&json!({
            "kind": "etcd_takeover", "servers": [address.to_string()], "after_term": 7, "pace": pace
        }))
    };
    let (runtime, address, store) = serve(20, false);
    let acked = takeover(address, 20.0).unwrap();
    assert!(acked["acked_ns"].as_u64() > Some(0));
    assert!(store.puts.load(Ordering::Relaxed) > 20);
    runtime.shutdown_background();

    let (runtime, address, _) = serve(u64::MAX, false);
    let error = takeover(address, 0.1).unwrap_err();
    runtime.shutdown_background();
    assert!(error.contains("no newer term"), "{error}");
}
