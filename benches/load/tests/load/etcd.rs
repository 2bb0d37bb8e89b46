//! As much of etcd's lease service as the driver talks to, with messages of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::{Request, Response};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Status, Streaming};
use zlayer_wire::codec::SmallCodec;

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct GrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GrantResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl: i64,
    #[prost(string, tag = "4")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct KeepAliveRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct KeepAliveResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl: i64,
}

/// Leases by id, and how often all of them were kept alive.
#[derive(Clone, Default)]
pub(crate) struct Leases {
    granted: Arc<Mutex<HashMap<i64, i64>>>,
    next: Arc<AtomicI64>,
    pub(crate) kept: Arc<AtomicU64>,
    /// Leases that have expired, from this id on.
    expired_from: Option<i64>,
}

impl Leases {
    pub(crate) fn expired_from(id: i64) -> Self {
        Self { expired_from: Some(id), ..Self::default() }
    }

    pub(crate) fn granted(&self) -> usize {
        self.granted.lock().unwrap().len()
    }

    fn keep(&self, id: i64) -> KeepAliveResponse {
        self.kept.fetch_add(1, Ordering::Relaxed);
        let expired = self.expired_from.is_some_and(|from| id >= from);
        let ttl = self.granted.lock().unwrap().get(&id).copied().filter(|_| !expired);
        // etcd answers an unknown lease with a TTL of 0.
        KeepAliveResponse { header: Some(Header { cluster_id: 7 }), id, ttl: ttl.unwrap_or(0) }
    }
}

impl UnaryService<GrantRequest> for Leases {
    type Response = GrantResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<GrantResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<GrantRequest>) -> Self::Future {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let ttl = request.into_inner().ttl;
        self.granted.lock().unwrap().insert(id, ttl);
        let header = Some(Header { cluster_id: 7 });
        let answer = GrantResponse { header, id, ttl, error: String::new() };
        Box::pin(std::future::ready(Ok(tonic::Response::new(answer))))
    }
}

impl StreamingService<KeepAliveRequest> for Leases {
    type Response = KeepAliveResponse;
    type ResponseStream = BoxStream<'static, Result<KeepAliveResponse, Status>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<KeepAliveRequest>>) -> Self::Future {
        let leases = self.clone();
        let answers = request.into_inner().map(move |ask| ask.map(|ask| leases.keep(ask.id)));
        Box::pin(std::future::ready(Ok(tonic::Response::new(answers.boxed()))))
    }
}

impl Service<Request<hyper::body::Incoming>> for Leases {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let leases = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/etcdserverpb.Lease/LeaseGrant" => {
                    let codec = SmallCodec::<GrantResponse, GrantRequest>::default();
                    Grpc::new(codec).unary(leases, request).await
                }
                "/etcdserverpb.Lease/LeaseKeepAlive" => {
                    let codec = SmallCodec::<KeepAliveResponse, KeepAliveRequest>::default();
                    Grpc::new(codec).streaming(leases, request).await
                }
                path => Status::unimplemented(path.to_owned()).into_http(),
            })
        })
    }
}
