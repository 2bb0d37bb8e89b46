//! A server that ran alone, as a single voter, becomes the first of a cluster.

use std::sync::Arc;

use tokio::time::{sleep, timeout};
use zlayer_core::time::UnixMs;
use zlayer_wal::sim::{Fault, SimFs, Survive};

use super::rig::{Cluster, LOOK, PATIENCE, Seat, create_token, hash, redeem};
use crate::{ControlLog, LogOptions, Machine, SingleVoter};

fn single_voter(fs: &SimFs) -> SingleVoter {
    let options = LogOptions {
        dir: "/log".into(),
        cluster_id: "zl-test".into(),
        node_id: 1,
        snapshot_bytes: 4 << 10,
    };
    let machine =
        Machine { fs: Arc::new(fs.clone()), clock: Arc::new(|| UnixMs(1)), ..Machine::default() };
    SingleVoter::open_on(options, machine).unwrap()
}

/// The disk of a server that ran alone, and the hash of its state.
async fn ran_alone(keys: u64) -> (SimFs, u64) {
    let fs = SimFs::default();
    for opening in 0..2 {
        let log = single_voter(&fs);
        log.propose(create_token(opening + 1)).await.unwrap();
        for key in 0..keys {
            log.propose(redeem(opening + 1, opening * 1_000 + key)).await.unwrap();
        }
    }
    let log = single_voter(&fs);
    let hash = log.state().with_state(zlayer_core::state::State::hash);
    drop(log);
    (fs, hash)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ran_alone_grows_to_three_with_all_it_knows() {
    // With snapshots and purges behind it, and without any.
    for keys in [100, 3] {
        let (fs, before) = ran_alone(keys).await;
        let mut cluster = Cluster::empty();
        cluster.seats.insert(1, Seat { fs, server: None });
        let server = cluster.start(1);
        assert_eq!(hash(&server), before);
        assert_eq!(server.members().voters, [1].into());
        cluster.leader().await;
        assert_eq!(hash(&server), before);
        // Again, as after a restart before anything else was done.
        cluster.kill(1);
        cluster.restart(1);
        cluster.leader().await;
        for id in [2, 3] {
            cluster.add(id).await.unwrap();
        }
        cluster.promote(&[2, 3]).await.unwrap();
        assert_eq!(cluster.converge().await, before);
        // Ids go on where they were.
        let id = cluster.enrol(1, 77_777).await;
        assert_eq!(id, zlayer_core::record::FIRST_WORKER_ID + 2 * keys);
        cluster.kill(1);
        cluster.enrol(1, 77_778).await;
        // There is no way back, and it is said.
        let disk = cluster.seats[&1].fs.copy();
        let options = LogOptions {
            dir: "/log".into(),
            cluster_id: "zl-test".into(),
            node_id: 1,
            snapshot_bytes: 4 << 10,
        };
        let machine = Machine { fs: Arc::new(disk), ..Machine::default() };
        let Err(error) = SingleVoter::open_on(options, machine) else { panic!("it went back") };
        assert!(error.to_string().contains("format"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_over_survives_a_power_cut_at_every_operation() {
    let (alone, before) = ran_alone(20).await;
    for operation in 0.. {
        let disk = alone.copy();
        let mut cluster = Cluster::empty();
        disk.set_fault(disk.operations() + operation, Fault::PowerCut);
        cluster.seats.insert(1, Seat { fs: disk.clone(), server: None });
        let mut is_done = false;
        if let Ok(server) = cluster.try_start(1) {
            let settled = async {
                while server.health().stopped.is_none() && server.confirm_leader().await.is_err() {
                    sleep(LOOK).await;
                }
            };
            timeout(PATIENCE, settled).await.unwrap();
            is_done = disk.operations() < alone.operations() + operation;
        }
        cluster.board.disconnect(1);
        if let Some(server) = cluster.seats.get_mut(&1).unwrap().server.take() {
            server.abort_for_test();
        }
        for survive in [Survive::Nothing, Survive::Everything, Survive::Coin(operation as u64)] {
            let mut cluster = Cluster::empty();
            let fs = disk.after_power_cut(survive);
            cluster.seats.insert(1, Seat { fs, server: None });
            let server = cluster.try_start(1).unwrap_or_else(|e| panic!("{operation}: {e}"));
            cluster.leader().await;
            server.confirm_leader().await.unwrap();
            assert_eq!(hash(&server), before, "{operation} {survive:?}");
        }
        if is_done {
            return;
        }
    }
}
