//! gRPC by hand over HTTP/2, for messages that no client library would send.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;

use crate::cluster::Cluster;
use crate::pki::Leaf;
use crate::tls::{config, server_name};
use crate::worker::soon;

/// A message as gRPC frames it.
pub(crate) fn message(flag: u8, body: &[u8]) -> Vec<u8> {
    [&[flag], &(body.len() as u32).to_be_bytes()[..], body].concat()
}

/// A worker's TLS connection that is through, as far as a client can tell.
pub(crate) async fn socket(cluster: &Cluster, leaf: &Leaf) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(std::sync::Arc::new(config(&cluster.ca.pem, Some(leaf))));
    let socket = TcpStream::connect(cluster.address()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from(server_name()).unwrap();
    soon("TLS", connector.connect(name, socket)).await.unwrap()
}

/// An HTTP/2 connection of a worker.
pub(crate) struct Frames {
    send: SendRequest<Bytes>,
}

fn request(path: &str) -> Request<()> {
    let uri = format!("https://{}/zlayer.cluster.v1.{path}", server_name());
    let request = Request::post(uri).header("content-type", "application/grpc");
    request.header("te", "trailers").body(()).unwrap()
}

fn status_in(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// Reads to the end, and how that was.
async fn end_of(mut body: RecvStream) -> Status {
    while let Some(data) = soon("data", body.data()).await {
        match data {
            Ok(data) => body.flow_control().release_capacity(data.len()).unwrap(),
            Err(error) => panic!("the stream broke: {error}"),
        }
    }
    let trailers = soon("trailers", body.trailers()).await.unwrap().expect("no status");
    status_in(&trailers).expect("no status")
}

impl Frames {
    pub(crate) async fn open(cluster: &Cluster, leaf: &Leaf) -> Self {
        let socket = socket(cluster, leaf).await;
        let (send, connection) = soon("HTTP/2", h2::client::handshake(socket)).await.unwrap();
        // Carries it, and ends with it.
        tokio::spawn(connection);
        Self { send }
    }

    async fn start(&mut self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        poll_fn(|cx| self.send.poll_ready(cx)).await.unwrap();
        self.send.send_request(request, false).unwrap()
    }

    /// Makes a call with this body, and returns how it ended.
    pub(crate) async fn call(&mut self, path: &str, body: &[u8]) -> Status {
        let (response, mut stream) = self.start(request(path)).await;
        // Refused before all was sent, it may be reset.
        let _ = stream.send_data(Bytes::copy_from_slice(body), true);
        let response = soon("a response", response).await.unwrap();
        match status_in(response.headers()) {
            Some(status) => status,
            None => end_of(response.into_body()).await,
        }
    }

    pub(crate) async fn report(&mut self, body: &[u8]) -> Status {
        self.call("ControlPlane/ReportStatus", body).await
    }

    /// Opens a report stream with this body, and waits for the first ack.
    pub(crate) async fn first_ack(&mut self, body: &[u8]) -> (SendStream<Bytes>, RecvStream) {
        let (response, mut stream) = self.start(request("ControlPlane/ReportStatus")).await;
        stream.send_data(Bytes::copy_from_slice(body), false).unwrap();
        let mut body = soon("a response", response).await.unwrap().into_body();
        let ack = soon("an ack", body.data()).await.unwrap().unwrap();
        assert!(ack.len() > 5 && ack[0] == 0, "{ack:?}");
        (stream, body)
    }
}
