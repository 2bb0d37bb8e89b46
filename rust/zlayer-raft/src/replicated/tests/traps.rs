//! The traps of a log under openraft, one test each, named T1 to T19 as in the design notes.
//!
//! Two of them can't be stepped into here, and their tests are those of zlayer-wal: T15 (old frames in recycled
//! blocks: no block is recycled, and batches are chained, `a_block_of_an_older_batch_in_place_of_a_newer_one_is_no_record`)
//! and T17 (a sync that does nothing: the simulated disk keeps nothing else, `planted_bugs_are_found`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use openraft::{RaftLogReader, RaftSnapshotBuilder, StorageHelper};
use zlayer_core::state::State;
use zlayer_wal::Fs;
use zlayer_wal::sim::{Fault, SimFs, Survive};

use super::life::{Come, LIFE, Life, entry, history};
use super::rig::{Cluster, PATIENCE, create_token, hash, redeem};
use crate::replicated::book::Book;
use crate::replicated::image::{self, Applied};
use crate::replicated::load::load;
use crate::replicated::machine::{Core, Machine};
use crate::replicated::planted::{Bug, Planted};
use crate::replicated::record;
use crate::replicated::shelf::Handle;
use crate::replicated::store::LogStore;
use crate::replicated::types::{SnapshotMeta, StoredMembership, Types, Vote, log_id};
use crate::{ControlLog, Machine as Ground, OpenError, ProposeError, WalError};

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limit = std::time::Duration::from_secs(5);
    runtime.block_on(async { tokio::time::timeout(limit, test).await.expect("it hangs") })
}

/// Whether a check fails when the mistake is planted.
fn sees(bug: Bug, check: fn(Option<Bug>)) -> bool {
    catch_unwind(AssertUnwindSafe(|| check(Some(bug)))).is_err()
}

/// Appends entries and waits until they are durable.
async fn append(life: &mut Life, term: u64, range: std::ops::Range<u64>) {
    let (sender, flushed) = Types::oneshot();
    let entries: Vec<_> = range.map(|index| entry(term, index)).collect();
    life.store.append(entries, IOFlushed::signal(sender)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

fn vote_is_durable(bug: Option<Bug>) {
    let fs = SimFs::default();
    let mut life = Life::open(&fs, bug).unwrap();
    for term in 1..20 {
        run(life.store.save_vote(&Vote::new(term, 1))).unwrap();
        let disk = fs.after_power_cut(Survive::Nothing);
        assert_eq!(Life::open(&disk, None).unwrap().said.vote, Some(Vote::new(term, 1)));
    }
}

#[test]
fn t1_a_vote_is_durable_when_it_is_saved() {
    vote_is_durable(None);
    assert!(sees(Bug::VoteNotAwaited, vote_is_durable));
    assert!(sees(Bug::VoteBehindEntries, vote_is_durable));
}

fn entries_are_durable(bug: Option<Bug>) {
    let fs = SimFs::default();
    let mut life = Life::open(&fs, bug).unwrap();
    let mut index = 0;
    // Over several segments.
    while fs.list(Path::new("/log")).unwrap().iter().filter(|name| name.contains('-')).count() < 4 {
        run(append(&mut life, 1, index..index + 3));
        index += 3;
        let disk = fs.after_power_cut(Survive::Nothing);
        let there = Life::open(&disk, None).unwrap().said.entries.len() as u64;
        assert_eq!(there, index);
    }
}

#[test]
fn t2_entries_are_durable_when_it_is_said_also_over_a_new_segment() {
    entries_are_durable(None);
    assert!(sees(Bug::AckBeforeDurable, entries_are_durable));
}

/// Several appends at once, of which a disk that fails takes some: each is told, in order, once.
fn all_are_told_in_order(bug: Option<Bug>) {
    for fault_at in [3, 5, usize::MAX] {
        let fs = SimFs::default();
        let mut life = Life::open(&fs, bug).unwrap();
        fs.set_fault(fs.operations().saturating_add(fault_at), Fault::Io);
        run(async {
            let (order, mut told) = tokio::sync::mpsc::unbounded_channel();
            let mut waiting = Vec::new();
            for index in 0..8 {
                let (sender, flushed) = Types::oneshot();
                // A log that has ended says so at once, and to the callback.
                let _ = life.store.append(vec![entry(1, index)], IOFlushed::signal(sender)).await;
                let order = order.clone();
                waiting.push(tokio::spawn(async move {
                    let is_ok = flushed.await.expect("somebody is never told").is_ok();
                    order.send((index, is_ok)).unwrap();
                }));
                if index % 3 == 2 {
                    for one in waiting.drain(..) {
                        one.await.expect("somebody is never told");
                    }
                }
            }
            for one in waiting {
                one.await.expect("somebody is never told");
            }
            drop(order);
            let mut last_ok = true;
            for expected in 0..8 {
                let (index, is_ok) = told.recv().await.unwrap();
                assert_eq!(index, expected, "out of order");
                assert!(last_ok || !is_ok, "a success behind a failure");
                last_ok = is_ok;
            }
            assert_eq!(last_ok, fault_at == usize::MAX);
        });
    }
}

#[test]
fn t3_callbacks_come_once_and_in_order_with_the_error_at_the_end() {
    all_are_told_in_order(None);
    assert!(sees(Bug::AckLost, all_are_told_in_order));
    assert!(sees(Bug::AckOutOfOrder, all_are_told_in_order));
}

fn ground(fs: &SimFs) -> Ground {
    Ground { fs: Arc::new(fs.clone()), ..Ground::default() }
}

/// The log and the state machine of a server without openraft.
fn halves(fs: &SimFs, bug: Option<Bug>) -> (LogStore, Machine) {
    let planted = Planted { bug };
    let loaded = load(&Cluster::empty().options(1), &ground(fs), planted).unwrap();
    let (core, _) = Core::new(loaded.image, loaded.shelf, u64::MAX, planted);
    (LogStore::new(loaded.wal, loaded.book, 1 << 20, planted), Machine(Arc::new(core)))
}

/// A snapshot of nothing, up to an entry.
fn snapshot(term: u64, index: u64) -> (SnapshotMeta, Handle) {
    let last = Some(log_id(term, 1, index));
    let members = StoredMembership::new(last, super::life::members());
    let applied = Applied { last, members, ..Applied::default() };
    let body = image::encode(&applied, &State::new("zl-test".into())).unwrap();
    (applied.meta(), Handle::Received(body))
}

fn snapshots_are_durable(bug: Option<Bug>) {
    let fs = SimFs::default();
    let (_store, mut machine) = halves(&fs, bug);
    let (meta, handle) = snapshot(1, 7);
    run(machine.install_snapshot(&meta, handle)).unwrap();
    let read = |fs: &SimFs| {
        let (_store, mut machine) = halves(&fs.after_power_cut(Survive::Nothing), None);
        run(machine.applied_state()).unwrap()
    };
    let expected = (meta.last_log_id, meta.last_membership.clone());
    assert_eq!(read(&fs), expected, "one that was installed");
    run(async { machine.get_snapshot_builder().await.build_snapshot().await }).unwrap();
    assert_eq!(read(&fs), expected, "one that was made");
}

#[test]
fn t4_a_snapshot_is_durable_when_it_is_installed_or_made() {
    snapshots_are_durable(None);
    assert!(sees(Bug::SnapshotNotSaved, snapshots_are_durable));
    assert!(sees(Bug::SnapshotWithoutMembers, snapshots_are_durable));
}

/// A server alone that makes snapshots and purges; then the newest of them is damaged.
fn the_older_snapshot_stands_in(bug: Option<Bug>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::empty();
        cluster.snapshot_bytes = 8 << 10;
        cluster.planted = Planted { bug };
        let mut cluster = cluster.formed(1).await;
        let token = cluster.token().await;
        let mut key = 0;
        let is_purged = |cluster: &Cluster| {
            let metrics = cluster.server(1).engine_for_test().raft.metrics();
            let purged = metrics.borrow_watched().purged;
            purged.is_some_and(|id| id.index > 60)
        };
        while !is_purged(&cluster) {
            cluster.enrol(token, key).await;
            key += 1;
        }
        let server = cluster.server(1);
        let before = hash(&server);
        server.shutdown();
        cluster.kill(1);
        let fs = cluster.seats[&1].fs.clone();
        let mut names = fs.list(Path::new("/log")).unwrap();
        names.retain(|name| name.contains("snap"));
        names.sort();
        fs.damage(&Path::new("/log").join(names.last().unwrap()), 5_000);
        cluster.restart(1);
        assert_eq!(cluster.converge().await, before);
    });
}

#[test]
fn t5_the_snapshot_before_stands_until_the_new_one_does_and_after() {
    the_older_snapshot_stands_in(None);
    assert!(sees(Bug::PurgeToNewest, the_older_snapshot_stands_in));
}

/// A tail of another leader is voided, a snapshot in its place is installed, and the power goes.
fn starts_after_truncating(bug: Option<Bug>) {
    let fs = SimFs::default();
    let (mut store, mut machine) = halves(&fs, bug);
    run(async {
        store.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
        let (sender, flushed) = Types::oneshot();
        let entries: Vec<_> = (0..13).map(|index| entry(1, index)).collect();
        store.append(entries, IOFlushed::signal(sender)).await.unwrap();
        flushed.await.unwrap().unwrap();
        store.truncate_after(Some(log_id(1, 1, 3))).await.unwrap();
        let (meta, handle) = snapshot(2, 10);
        machine.install_snapshot(&meta, handle).await.unwrap();
    });
    let (mut store, mut machine) = halves(&fs.after_power_cut(Survive::Nothing), None);
    let helper =
        async { StorageHelper::new(&mut store, &mut machine).with_id(1).get_initial_state().await };
    run(helper).expect("it never starts again");
}

#[test]
fn t6_a_truncation_is_durable_before_a_snapshot_takes_its_place() {
    starts_after_truncating(None);
    assert!(sees(Bug::TruncateNotWritten, starts_after_truncating));
}

/// A mark that is ahead of the entries, as one in a file of its own may be.
fn committed_is_not_believed(bug: Option<Bug>) {
    let mut book = Book::default();
    let head = record::encode_head(&record::Head { store: 7, ..record::Head::default() }, None);
    book.replay(1, &head).unwrap();
    let entries: Vec<_> = (0..4).map(|index| entry(1, index)).collect();
    for (number, bytes) in
        record::encode_entries(&entries, None, 1 << 20).unwrap().iter().enumerate()
    {
        book.replay(number as u64 + 2, bytes).unwrap();
    }
    // As far as it is here, and further; and one of another leader at the same index.
    for (committed, expected) in [(log_id(1, 1, 2), 2), (log_id(1, 1, 9), 2), (log_id(2, 1, 3), 2)]
    {
        let vote = record::encode_vote(&Vote::new(2, 1), Some(&committed));
        book.replay(9, &vote).unwrap();
        assert_eq!(book.committed_here().map(|id| id.index), Some(expected));
    }
    let fs = SimFs::default();
    let mut life = Life::open(&fs, bug).unwrap();
    let read = run(async {
        append(&mut life, 1, 0..4).await;
        life.store.save_committed(Some(log_id(1, 1, 9))).await.unwrap();
        life.store.read_committed().await.unwrap()
    });
    assert_eq!(read, None);
}

#[test]
fn t7_nothing_is_committed_that_is_not_here() {
    committed_is_not_believed(None);
    assert!(sees(Bug::CommittedBelieved, committed_is_not_believed));
}

fn an_old_tail_stays_void(bug: Option<Bug>) {
    // Short, so that the old tail is in the same segment; long, so that it is in others.
    for length in [10, 400] {
        let fs = SimFs::default();
        let mut life = Life::open(&fs, bug).unwrap();
        run(async {
            for at in 0..length / 10 {
                append(&mut life, 1, at * 10..at * 10 + 10).await;
            }
            life.store.truncate_after(Some(log_id(1, 1, 5))).await.unwrap();
            append(&mut life, 2, 6..9).await;
        });
        drop(life);
        let said = Life::open(&fs.after_power_cut(Survive::Nothing), None).unwrap().said;
        let expected: Vec<_> = (0..9).map(|index| (index, if index < 6 { 1 } else { 2 })).collect();
        assert_eq!(said.entries, expected);
    }
}

#[test]
fn t8_an_old_tail_does_not_come_again() {
    an_old_tail_stays_void(None);
    assert!(sees(Bug::TruncateNotWritten, an_old_tail_stays_void));
}

fn reads_are_never_empty(bug: Option<Bug>) {
    let fs = SimFs::default();
    let planted = Planted { bug };
    let loaded = load(&Cluster::empty().options(1), &ground(&fs), planted).unwrap();
    // A message takes less than one entry.
    let mut store = LogStore::new(loaded.wal, loaded.book, 16, planted);
    run(async {
        let (sender, flushed) = Types::oneshot();
        let entries: Vec<_> = (0..20).map(|index| entry(1, index)).collect();
        store.append(entries, IOFlushed::signal(sender)).await.unwrap();
        flushed.await.unwrap().unwrap();
        for start in 0..20 {
            let read = store.limited_get_log_entries(start, 20).await.unwrap();
            assert_eq!(read.first().map(|entry| entry.log_id.index), Some(start));
            let all = store.try_get_log_entries(start..20).await.unwrap();
            assert_eq!(all.len() as u64, 20 - start);
        }
        store.purge(log_id(1, 1, 9)).await.unwrap();
        assert!(store.limited_get_log_entries(5, 20).await.is_err(), "a hole was not said");
        assert!(store.limited_get_log_entries(20, 20).await.unwrap().is_empty());
    });
}

#[test]
fn t9_a_read_gives_something_and_leaves_nothing_out() {
    reads_are_never_empty(None);
    assert!(sees(Bug::LongEntryNotRead, reads_are_never_empty));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_a_failed_sync_is_final_and_said_by_name() {
    let mut cluster = Cluster::of(1).await;
    cluster.token().await;
    let (_, server) = cluster.leader().await;
    let fs = cluster.seats[&1].fs.clone();
    // The next batch is a write and a sync.
    fs.set_fault(fs.operations() + 1, Fault::Io);
    let error = server.propose(create_token(77)).await.unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { .. }), "{error:?}");
    let stopped = server.health().stopped.unwrap();
    assert!(stopped.starts_with("sync /log/0000000001-"), "{stopped}");
    assert!(server.propose(create_token(78)).await.is_err());
    assert!(server.confirm_leader().await.is_err());
    server.shutdown();
    // This process can't trust what it would read back.
    let again = cluster.try_start(1);
    assert!(matches!(again, Err(OpenError::Log(WalError::Locked { .. }))));
    cluster.kill(1);
    cluster.restart(1);
    let (_, server) = cluster.leader().await;
    // Who has just won has not applied yet what it may count as committed.
    server.confirm_leader().await.unwrap();
    assert!(server.state().with_state(|state| state.token(&super::rig::jti(1)).is_some()));
}

#[test]
fn t11_names_of_segments_and_snapshots_are_durable() {
    let fs = SimFs::default();
    let mut come = Come::default();
    assert!(Life::open(&fs, None).unwrap().live(0, &mut come));
    let names = |fs: &SimFs| {
        let mut names = fs.list(Path::new("/log")).unwrap();
        names.retain(|name| name.contains('-'));
        names.sort();
        names
    };
    let there = names(&fs);
    assert!(there.len() >= 4, "{there:?}");
    let after = names(&fs.after_power_cut(Survive::Nothing));
    // What was removed may come back, and nothing else may differ.
    assert!(there.iter().all(|name| after.contains(name)), "{there:?} {after:?}");
}

#[test]
fn t12_a_short_write_is_written_on() {
    let clean = SimFs::default();
    assert!(Life::open(&clean, None).unwrap().live(0, &mut Come::default()));
    for operation in 0..clean.operations() {
        let fs = SimFs::default();
        fs.set_fault(operation, Fault::Short);
        let mut come = Come::default();
        let lived = Life::open(&fs, None).unwrap().live(0, &mut come);
        assert!(lived, "a short write at {operation} was an error");
        assert_eq!(Life::open(&fs.after_kill(), None).unwrap().said, history()[LIFE.len()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t13_a_full_disk_ends_one_server_and_no_more() {
    let mut cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    let (full, server) = cluster.leader().await;
    let fs = cluster.seats[&full].fs.clone();
    fs.set_fault(fs.operations(), Fault::Full);
    // Whatever becomes of this one: it was not acknowledged, or it is there.
    let first = server.propose(redeem(token, 1)).await;
    let rest: Vec<_> = cluster.ids().into_iter().filter(|id| *id != full).collect();
    cluster.seats.get_mut(&full).unwrap().server = None;
    cluster.leader_among(&rest).await;
    if let Ok(outcome) = first {
        assert_eq!(cluster.write(&redeem(token, 1)).await, {
            let mut again = outcome;
            if let zlayer_core::command::Outcome::Redeemed { first, .. } = &mut again {
                *first = false;
            }
            again
        });
    }
    cluster.enrol(token, 2).await;
    let stopped = server.health().stopped.unwrap();
    assert!(stopped.contains("/log/"), "{stopped}");
    drop(server);
    // With room again it goes on.
    cluster.kill(full);
    cluster.restart(full);
    cluster.converge().await;
}

#[test]
fn t14_zeros_are_no_record() {
    assert!(record::decode(&[0; 64]).is_err());
    assert!(record::decode(&[]).is_err());
}

#[test]
fn t16_a_directory_has_one_owner() {
    let fs = SimFs::default();
    let options = Cluster::empty().options(1);
    let loaded = load(&options, &ground(&fs), Planted::default()).unwrap();
    let again = load(&options, &ground(&fs), Planted::default());
    assert!(matches!(again, Err(OpenError::Log(WalError::Locked { .. }))));
    drop(loaded);
    let mut other = Cluster::empty().options(2);
    let refused = load(&other, &ground(&fs), Planted::default());
    assert!(matches!(refused, Err(OpenError::Log(WalError::WrongOwner { .. }))));
    other.node_id = 1;
    other.cluster_id = "zl-other".into();
    let refused = load(&other, &ground(&fs), Planted::default());
    assert!(matches!(refused, Err(OpenError::Log(WalError::WrongOwner { .. }))));
}

#[test]
fn t18_noting_what_is_committed_costs_nothing() {
    let fs = SimFs::default();
    let mut life = Life::open(&fs, None).unwrap();
    run(async {
        append(&mut life, 1, 0..100).await;
        let before = fs.operations();
        for index in 0..100 {
            life.store.save_committed(Some(log_id(1, 1, index))).await.unwrap();
        }
        assert_eq!(fs.operations(), before);
        // The next record carries it.
        append(&mut life, 1, 100..101).await;
    });
    drop(life);
    let mut life = Life::open(&fs.after_power_cut(Survive::Nothing), None).unwrap();
    assert_eq!(run(life.store.read_committed()).unwrap(), Some(log_id(1, 1, 99)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t19_a_server_alone_forms_itself_and_comes_back() {
    let mut cluster = Cluster::of(1).await;
    let token = cluster.token().await;
    for key in 0..10 {
        cluster.enrol(token, key).await;
    }
    let before = hash(&cluster.server(1));
    for survive in [Survive::Nothing, Survive::Everything] {
        cluster.cut_power(1, survive);
        cluster.restart(1);
        assert_eq!(cluster.converge().await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_voter_waits_for_no_election_timeout_when_it_comes_back() {
    let mut cluster = Cluster::of(1).await;
    let token = cluster.token().await;
    cluster.enrol(token, 1).await;
    let before = hash(&cluster.server(1));
    cluster.cut_power(1, Survive::Nothing);
    // By its timers it would not ask to be elected before the test has lost patience.
    cluster.timers.election_min = 4 * PATIENCE;
    cluster.timers.election_max = 8 * PATIENCE;
    cluster.timers.heartbeat = PATIENCE;
    cluster.restart(1);
    let (_, server) = cluster.leader().await;
    server.confirm_leader().await.unwrap();
    assert_eq!(hash(&server), before);
}
