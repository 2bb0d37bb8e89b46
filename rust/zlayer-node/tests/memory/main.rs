//! What a connected worker costs the server: resident memory, measured from outside a worker's process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.
#![allow(clippy::print_stdout, reason = "the child tells the parent over it")]

#[allow(dead_code, reason = "shared with the tests of the worker port")]
#[path = "../server/cluster.rs"]
mod cluster;
#[path = "../session/pki.rs"]
mod pki;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::runtime::Runtime;
use zlayer_core::command::Outcome;
use zlayer_node::Answered;
use zlayer_node::memory::ConnectionAlloc;
use zlayer_node::session::{Link, LinkEvent, Trust};
use zlayer_wire::v1::{Hello, StatusReport};

use cluster::Cluster;
use pki::{CLUSTER, Leaf};

/// Tells the child where its papers are.
const PAPERS: &str = "ZLAYER_MEMORY_TEST_PAPERS";

/// Connections that warm the server up: threads, buffers and the allocator's own pages.
const WARM_UP: usize = 100;
const MEASURED: usize = 500;

/// Times that the whole fleet connects anew: memory that was used before is not as cheap as fresh memory.
const GENERATIONS: usize = 3;

/// As the Python package has it.
#[global_allocator]
static ALLOCATOR: ConnectionAlloc = ConnectionAlloc;

/// The bar of the design: with mutual TLS and both streams open.
const BYTES_MAX: u64 = 30 * 1024;

#[test]
fn a_connected_worker_costs_at_most_30_kib() {
    if let Ok(papers) = std::env::var(PAPERS) {
        return swarm(Path::new(&papers));
    }
    let cluster = Cluster::start();
    write_papers(&cluster, &enrol(&cluster, WARM_UP + MEASURED));
    let mut swarm = start_swarm(&cluster);
    let mut said = BufReader::new(swarm.stdout.take().unwrap()).lines();
    let mut ask = swarm.stdin.take().unwrap();
    let mut open = |connections: usize| {
        writeln!(ask, "go").unwrap();
        while !said.next().unwrap().unwrap().contains("connections are open") {}
        cluster.wait("all are connected, and no more", |cluster| {
            let counts = ["connected_workers", "open_connections"].map(|name| cluster.metric(name));
            counts == [connections as u64; 2]
        });
        resident_bytes()
    };
    let before = open(WARM_UP);
    let each: Vec<u64> = (0..GENERATIONS)
        .map(|_| open(WARM_UP + MEASURED).saturating_sub(before) / MEASURED as u64)
        .collect();
    drop(ask);
    assert!(swarm.wait().unwrap().success());
    println!("bytes for each connected worker: {each:?}");
    assert!(each.iter().all(|bytes| *bytes <= BYTES_MAX), "{each:?} for each connected worker");
}

/// Makes so many nodes at once, and their certificates.
fn enrol(cluster: &Cluster, nodes: usize) -> Vec<Leaf> {
    let jti = cluster.token_of(nodes as u32);
    for _ in 0..nodes {
        cluster.node.submit(cluster.number(), cluster.redeem(jti.clone()));
    }
    let mut leaves = Vec::new();
    while leaves.len() < nodes {
        leaves.extend(cluster.drain(cluster::PATIENCE).into_iter().map(|done| match done.result {
            Ok(Answered::Outcome(Outcome::Redeemed { node_id, .. })) => cluster.ca.worker(node_id),
            other => panic!("{other:?}"),
        }));
    }
    leaves
}

fn write_papers(cluster: &Cluster, leaves: &[Leaf]) {
    let leaves: Vec<_> = leaves.iter().map(|leaf| (&leaf.cert, &leaf.key)).collect();
    let papers = serde_json::json!({
        "address": cluster.address().to_string(), "ca": cluster.ca.pem, "leaves": leaves,
    });
    std::fs::write(cluster.path("papers"), papers.to_string()).unwrap();
}

fn start_swarm(cluster: &Cluster) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_connected_worker_costs_at_most_30_kib", "--nocapture"])
        .env(PAPERS, cluster.path("papers"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib * 1024
}

/// The child: opens as many as it is asked for, and keeps them until nobody asks any more.
fn swarm(papers: &Path) {
    let papers: serde_json::Value =
        serde_json::from_slice(&std::fs::read(papers).unwrap()).unwrap();
    let leaves: Vec<(String, String)> = serde_json::from_value(papers["leaves"].clone()).unwrap();
    let address = papers["address"].as_str().unwrap();
    let trust = Trust::of_servers(CLUSTER, papers["ca"].as_str().unwrap()).unwrap();
    let runtime = Runtime::new().unwrap();
    let mut links = Vec::new();
    let mut asked = std::io::stdin().lines();
    for leaves in std::iter::once(&leaves[..WARM_UP]).chain([&leaves[..]; GENERATIONS]) {
        asked.next().unwrap().unwrap();
        links.clear();
        let opening = stream::iter(leaves).map(|leaf| connect(address, &trust, leaf));
        links = runtime.block_on(opening.buffer_unordered(4).collect::<Vec<_>>());
        println!("{} connections are open", links.len());
    }
    // Ends with the parent, or when it asks for the end.
    assert!(asked.next().is_none());
}

/// A worker's connection with both streams, after a few beats.
async fn connect(address: &str, trust: &Trust, (certificate, key): &(String, String)) -> Link {
    let identity = trust.client(certificate, key).unwrap();
    let timeout = Duration::from_secs(12);
    let mut link = Link::open(address, trust, &identity, timeout).await.unwrap();
    let hello = Hello { incarnation: 7, version: "0".into(), required_features: Vec::new() };
    let mut watched = false;
    for seq in 1..=4 {
        let hello = (seq == 1).then(|| hello.clone());
        link.send(StatusReport { seq, hello, ..StatusReport::default() });
        loop {
            match std::future::poll_fn(|cx| link.poll_event(cx)).await {
                LinkEvent::Ack(ack) if ack.seq == seq => break,
                LinkEvent::Assignments(_) => watched = true,
                LinkEvent::Ack(_) => {}
                LinkEvent::WatchEnded(failure) | LinkEvent::Ended(failure) => panic!("{failure}"),
            }
        }
        if seq == 1 {
            link.watch(0);
        }
    }
    assert!(watched, "no snapshot came");
    link
}
