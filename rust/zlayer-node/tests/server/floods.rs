//! S19: peers without a certificate that come in numbers, and the workers that must not notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::tls::{
    answer, client, connect, connect_from, first_words, join_name, server_name, shake,
};
use crate::worker::{Session, Worker};

/// Established workers that beat until they are asked to stop.
struct Fleet {
    stop: Arc<AtomicBool>,
    ids: Vec<u64>,
    beating: Vec<JoinHandle<(u64, Worker, Session)>>,
}

impl Fleet {
    async fn of(cluster: &Cluster, workers: usize) -> Self {
        let mut fleet = Self { stop: Arc::default(), ids: vec![], beating: vec![] };
        for _ in 0..workers {
            let (id, leaf) = cluster.enrol();
            let (worker, mut session) = Worker::join(cluster, &leaf).await;
            let stop = Arc::clone(&fleet.stop);
            fleet.ids.push(id);
            fleet.beating.push(tokio::spawn(async move {
                let mut beats = 0;
                while !stop.load(Ordering::SeqCst) {
                    session.beat().await.unwrap();
                    beats += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                (beats, worker, session)
            }));
        }
        fleet
    }

    /// Every beat was answered, and nobody was in doubt.
    async fn was_well(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::SeqCst);
        let mut open = Vec::new();
        for (id, beating) in self.ids.into_iter().zip(self.beating) {
            let (beats, worker, session) = beating.await.unwrap();
            assert!(beats > 0);
            cluster.wait_story(id, &["joined"]);
            open.push((worker, session));
        }
        assert_eq!(cluster.metric("suspects_total"), 0);
    }
}

fn busy_cluster() -> Cluster {
    Cluster::limited(|limits| {
        limits.handshakes_max = 12;
        limits.handshakes_per_source_max = 8;
        // No place becomes free by itself while a test looks.
        limits.handshake_timeout_ms = 60_000;
        limits.beats_per_second_per_worker = 0;
    })
}

/// Whether a peer from this address gets through.
fn gets_in(cluster: &Cluster, leaf: &crate::pki::Leaf, last: u8) -> bool {
    let mut stream = connect_from([127, 0, 0, last], cluster.address());
    let mut client = client(&cluster.ca.pem, Some(leaf), &server_name());
    shake(&mut client, &mut stream).is_ok()
}

fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_nonblocking(false).unwrap();
    match read {
        Ok(n) => n == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s19_unfinished_handshakes_of_one_source_are_shed_and_the_fleet_beats_on() {
    let cluster = busy_cluster();
    let (_, leaf) = cluster.enrol();
    let fleet = Fleet::of(&cluster, 5).await;
    let hellos = [
        vec![],
        first_words(client(&cluster.ca.pem, None, &server_name())).1,
        first_words(client(&cluster.ca.pem, None, &server_name())).1[..50].to_vec(),
        first_words(client(&cluster.ca.pem, None, &join_name())).1[..50].to_vec(),
    ];
    for words in hellos {
        cluster.wait("nobody is half in", |cluster| cluster.metric("handshakes_in_flight") == 0);
        let shed = cluster.metric("refused_connections_total_handshakes");
        let flood: Vec<TcpStream> = (0..100)
            .map(|_| {
                let mut stream = connect(cluster.address());
                // The server may have closed it by now.
                let _ = stream.write_all(&words);
                stream
            })
            .collect();
        cluster.wait_metric("refused_connections_total_handshakes", shed + 92);
        assert!(cluster.metric("handshakes_in_flight") <= 8);
        assert!(!gets_in(&cluster, &leaf, 1), "the source of the flood has no more room");
        assert!(gets_in(&cluster, &leaf, 2), "another source has");
        let closed = flood.iter().filter(|stream| is_closed(stream)).count();
        assert!(closed >= 92, "{closed} of 100 are closed");
        drop(flood);
        cluster.wait("the flood is over", |cluster| cluster.metric("handshakes_in_flight") == 0);
        assert!(gets_in(&cluster, &leaf, 1), "after the flood");
    }
    fleet.was_well(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s19_garbage_and_half_hellos_by_the_thousand_do_not_stop_the_fleet() {
    let cluster = busy_cluster();
    let fleet = Fleet::of(&cluster, 5).await;
    let hello = first_words(client(&cluster.ca.pem, None, &server_name())).1;
    for n in 0..1_000_usize {
        let mut stream = connect(cluster.address());
        let words = match n % 3 {
            0 => &b"GET / HTTP/1.1\r\n\r\n"[..],
            1 => &hello,
            _ => &hello[..n % hello.len()],
        };
        let _ = stream.write_all(words);
    }
    cluster.wait_metric("accepted_connections_total", 1_005);
    cluster.wait("all are gone", |cluster| cluster.metric("handshakes_in_flight") == 0);
    fleet.was_well(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn s10_certificates_of_another_ca_by_the_hundred_do_not_stop_the_fleet() {
    let cluster = busy_cluster();
    let fleet = Fleet::of(&cluster, 5).await;
    let wrong = crate::pki::Ca::named("other CA").worker(1_000);
    for _ in 0..200 {
        let mut stream = connect(cluster.address());
        let mut client = client(&cluster.ca.pem, Some(&wrong), &server_name());
        let _ = shake(&mut client, &mut stream);
        answer(&mut stream);
    }
    cluster.wait_metric("handshakes_failed_total_tls", 200);
    fleet.was_well(&cluster).await;
}
