//! Runs of the peers' kinds.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::ExtendedKeyUsagePurpose as Usage;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use crate::cluster::{Cluster, runtime};
use crate::etcd::Leases;
use crate::pki::{CLUSTER, Ca};

/// Serves one gRPC service over mutual TLS.
fn serve<S>(ca: &Ca, service: S) -> (Runtime, SocketAddr)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(ca.server_config("localhost", true));
    runtime.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                let socket = acceptor.accept(socket).await.ok()?;
                Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
                    .await
                    .ok()
            });
        }
    });
    (runtime, address)
}

fn options(kind: &str, address: SocketAddr, ca: &Ca) -> Value {
    let client = ca.leaf("client", Usage::ClientAuth);
    json!({
        "kind": kind, "server": address.to_string(), "server_name": "localhost", "ca_pem": ca.pem,
        "cert_pem": client.cert_pem, "key_pem": client.key_pem, "connections": 20, "in_flight": 8,
        "seconds": 0.3, "warm_up_seconds": 0.05, "server_pid": std::process::id(), "threads": 1,
        "timeout_seconds": 20,
    })
}

fn run(options: &Value) -> Result<Value, String> {
    let report = zlayer_load::run(options.to_string().as_bytes());
    report.map(|report| serde_json::from_slice(&report).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn etcds_leases_are_granted_and_kept_in_turn() {
    let (ca, leases) = (Ca::new(), Leases::default());
    let (runtime, address) = serve(&ca, leases.clone());
    let report = run(&options("etcd", address, &ca)).unwrap();
    runtime.shutdown_background();
    assert_eq!(leases.granted(), 20);
    let kept = leases.kept.load(Ordering::Relaxed);
    let measured = report["heartbeats"].as_u64().unwrap();
    assert!(measured > 20 && measured < kept, "{measured} of {kept}: the warm-up does not count");
    assert_eq!(report["workers"], 20);
    assert_eq!(report["in_turn"]["heartbeats"], measured);
    assert!(report["heartbeats_per_cpu_second"].as_f64() > Some(0.0));
}

#[test]
fn an_expired_lease_fails_the_run() {
    let ca = Ca::new();
    let (runtime, address) = serve(&ca, Leases::expired_from(20));
    let mut options = options("etcd", address, &ca);
    options["timeout_seconds"] = json!(0.5);
    options["connections"] = json!(30);
    let error = run(&options).unwrap_err();
    runtime.shutdown_background();
    assert!(error.ends_with("the lease has expired"), "{error}");
}

#[test]
fn a_plain_server_gets_the_same_reports() {
    let ca = Ca::new();
    let cluster = Cluster::start();
    let service = crate::cluster::Service(Arc::clone(&cluster.state));
    let service = zlayer_wire::v1::control_plane_server::ControlPlaneServer::new(service);
    let (runtime, address) = serve(&ca, service);
    let report = run(&options("grpcio", address, &ca)).unwrap();
    runtime.shutdown_background();
    let seen = cluster.state.seen();
    assert_eq!((seen.hellos, seen.watches), (20, 0));
    assert!(seen.beats > report["heartbeats"].as_u64().unwrap());
    assert_eq!(report["peak_beats_per_second"], Value::Null);
}

#[test]
fn the_name_in_the_certificate_counts() {
    let (ca, leases) = (Ca::new(), Leases::default());
    let (runtime, address) = serve(&ca, leases.clone());
    let mut options = options("etcd", address, &ca);
    options["server_name"] = json!(format!("server.{CLUSTER}.zlayer.internal"));
    options["timeout_seconds"] = json!(0.3);
    let error = run(&options).unwrap_err();
    runtime.shutdown_background();
    assert!(error.contains("the server's certificate is not for"), "{error}");
    assert_eq!(leases.granted(), 0);
}
