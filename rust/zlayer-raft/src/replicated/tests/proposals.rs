//! Proposing: from anywhere, within limits, and what is said when it is not known what became of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use zlayer_core::command::{Command, Outcome, Refusal};

use super::rig::{Cluster, PATIENCE, create_token, is_refused, jti, redeem};
use crate::{ControlLog, LeaderId, ProposeError, Role};

#[test]
fn it_needs_no_runtime_and_is_on_its_way_unpolled() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::of(3));
    let (_, leader) = runtime.block_on(cluster.leader());
    let mut revisions = leader.watch();
    drop(leader.propose(create_token(1)));
    runtime.block_on(async {
        timeout(PATIENCE, revisions.wait_for(|revision| *revision > 0)).await.unwrap().unwrap();
    });
    // On threads that have never heard of tokio.
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let leader = Arc::clone(&leader);
            std::thread::spawn(move || {
                let proposals: Vec<_> =
                    (0..50).map(|key| leader.propose(redeem(1, thread * 50 + key))).collect();
                let answers = futures_util::future::join_all(proposals);
                let answers = block_on(answers);
                assert!(answers.into_iter().all(|one| matches!(one, Ok(Outcome::Redeemed { .. }))));
                block_on(leader.confirm_leader()).unwrap();
                block_on(leader.read_barrier()).unwrap();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let uses = leader.state().with_state(|state| state.token(&jti(1)).unwrap().uses.len());
    assert_eq!(uses, 200);
    runtime.block_on(cluster.converge());
    // The end, too, within and without a runtime.
    leader.shutdown();
    leader.shutdown();
    assert_eq!(leader.health().role, Role::Stopped);
    runtime.block_on(async { cluster.server(1).shutdown() });
}

/// Waits for a future with nothing but a thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_limits_and_over_them_nothing_is_done() {
    let mut cluster = Cluster::empty();
    cluster.limits.proposals_max = 4;
    let cluster = cluster.formed(1).await;
    let token = cluster.token().await;
    let (_, leader) = cluster.leader().await;
    // A reader that stays stalls the state machine, so that what is proposed must wait.
    let state = leader.state();
    let proposals: Vec<_> =
        state.with_state(|_| (0..64).map(|key| leader.propose(redeem(token, key))).collect());
    let (mut admitted, mut overloaded) = (0, 0);
    for proposal in proposals {
        match proposal.await {
            Ok(Outcome::Redeemed { first: true, .. }) => admitted += 1,
            Err(ProposeError::Overloaded) => overloaded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted + overloaded, 64);
    assert!(overloaded > 0, "there is no limit");
    let uses = leader.state().with_state(|state| state.token(&jti(token)).unwrap().uses.len());
    assert_eq!(uses, admitted);
    let mut long = create_token(90);
    if let Command::CreateToken { name, .. } = &mut long {
        *name = "x".repeat(2 << 20);
    }
    match leader.propose(long).await.unwrap() {
        Outcome::Refused { refusal: Refusal::Invalid { field, .. } } => {
            assert_eq!(field, "command");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(leader.health().proposals_waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_quorum_answers_is_unknown_in_time() {
    let cluster = Cluster::of(3).await;
    cluster.token().await;
    let (_, leader) = cluster.leader().await;
    // Every one by itself.
    for island in cluster.ids() {
        cluster.board.isolate(&[island], &cluster.ids());
    }
    let began = Instant::now();
    let answer = timeout(PATIENCE, leader.propose(create_token(5))).await.unwrap();
    assert!(matches!(answer, Err(ProposeError::Unknown { .. })), "{answer:?}");
    assert!(began.elapsed() >= cluster.timers.propose);
    assert!(began.elapsed() < cluster.timers.propose + Duration::from_secs(1));
    // Nothing more is taken by then, and nothing waits.
    let refused = leader.propose(create_token(6)).await.unwrap_err();
    assert!(is_refused(&refused), "{refused:?}");
    assert_eq!(leader.health().proposals_waiting, 0);
    cluster.board.heal();
    cluster.converge().await;
    // It is there now, or not: everywhere the same. What was refused is not.
    let there = |number| {
        cluster
            .running()
            .map(|(_, server)| server.state().with_state(|s| s.token(&jti(number)).is_some()))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(there(5).len(), 1);
    assert_eq!(there(6), [false].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_of_an_earlier_time_in_office_is_void() {
    let mut cluster = Cluster::of(1).await;
    let token = cluster.token().await;
    let (_, leader) = cluster.leader().await;
    let own = leader.leadership().borrow().own.unwrap();
    assert_eq!(own.node, 1);
    leader.propose_if_leader(own, redeem(token, 1)).await.unwrap();
    drop(leader);
    cluster.kill(1);
    cluster.restart(1);
    let (_, leader) = cluster.leader().await;
    let newest = leader.leadership().borrow().own.unwrap();
    assert!(newest.term > own.term);
    for wrong in [own, LeaderId { term: newest.term + 1, ..newest }, LeaderId { node: 2, ..newest }]
    {
        let refused = leader.propose_if_leader(wrong, redeem(token, 2)).await.unwrap_err();
        assert!(is_refused(&refused), "{refused:?}");
    }
    leader.propose_if_leader(newest, redeem(token, 3)).await.unwrap();
    let uses = leader.state().with_state(|state| state.token(&jti(token)).unwrap().uses.len());
    assert_eq!(uses, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_applying_ends_one_server_by_name() {
    let cluster = Cluster::of(3).await;
    cluster.token().await;
    let (id, leader) = cluster.leader().await;
    // An entry out of order is a bug of the log that apply would panic on.
    let newest = leader.health().last_index;
    leader.state().apply_for_test(newest + 100);
    let answer = leader.propose(create_token(7)).await.unwrap_err();
    assert!(matches!(answer, ProposeError::Stopped { .. }), "{answer:?}");
    let stopped = leader.health().stopped.unwrap();
    assert!(stopped.contains("panicked"), "{stopped}");
    let rest: Vec<_> = cluster.ids().into_iter().filter(|other| *other != id).collect();
    let (_, new) = cluster.leader_among(&rest).await;
    new.propose(create_token(8)).await.unwrap();
}
