//! The control log of a cluster of servers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Instant as _, Raft, ReadPolicy, ServerState};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::unconstrained;
use zlayer_core::command::{Command, Entry, Outcome, Refusal};
use zlayer_core::time::UnixMs;
use zlayer_wal::Wal;

use crate::control_log::{
    ControlLog, LeaderId, Leadership, LogHealth, PeerHealth, ProposeFuture, Role,
};
use crate::error::{OpenError, ProposeError};
use crate::options::Machine as Ground;
use crate::replicated::arrival::Arrival;
use crate::replicated::change::MembershipError;
use crate::replicated::door::{Door, leader_of};
use crate::replicated::engine::Engine;
use crate::replicated::keeper::Keeper;
use crate::replicated::link::Link;
use crate::replicated::load::{Loaded, load};
use crate::replicated::machine::{Core, Machine};
use crate::replicated::network::Factory;
use crate::replicated::options::ReplicatedOptions;
use crate::replicated::pending::Pending;
use crate::replicated::planted::Planted;
use crate::replicated::refusal::PeerRefusal;
use crate::replicated::roster::{Members, Roster};
use crate::replicated::saving;
use crate::replicated::store::LogStore;
use crate::replicated::transport::{Kind, Requests, Transport};
use crate::replicated::types::{Encoded, LeaderOf, Reply, Types};
use crate::replicated::wire;
use crate::state_view::StateView;

/// What changing the members resolves to. Dropping it does not withdraw the change.
pub type ChangeFuture = Pin<Box<dyn Future<Output = Result<(), MembershipError>> + Send>>;

/// For the engine to end. Chosen: what a slow disk needs for its last records, and then some.
const END_WAIT: Duration = Duration::from_secs(10);

/// Between two looks at whether all proposals are answered.
const END_LOOK: Duration = Duration::from_millis(5);

/// The control log of a cluster of servers. Dropping it shuts it down.
///
/// Has a runtime of its own, so that whatever the rest of the process does, heartbeats go out and votes are
/// answered. Its futures need no runtime.
pub struct Replicated {
    engine: Arc<Engine>,
    wal: Arc<Wal>,
    clock: Arc<dyn Fn() -> UnixMs + Send + Sync>,
    entry_bytes_max: usize,
    handle: Handle,
    is_closing: AtomicBool,
    running: Mutex<Option<Running>>,
}

/// What ends with it.
struct Running {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    saver: JoinHandle<()>,
}

impl Replicated {
    /// Opens the log on this machine, making it if need be, and starts the engine. Blocks while it reads the disk.
    /// A new one is a member of nothing: [`Replicated::form`] it, or let a leader [`Replicated::add_learner`] it.
    ///
    /// # Errors
    /// [`OpenError`], naming the file and what is wrong with it. Nothing runs then.
    pub fn open(
        options: ReplicatedOptions,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, OpenError> {
        Self::open_on(options, transport, Ground::default())
    }

    /// Opens the log on a machine of the caller's.
    ///
    /// # Errors
    /// As [`Replicated::open`].
    pub fn open_on(
        options: ReplicatedOptions,
        transport: Arc<dyn Transport>,
        ground: Ground,
    ) -> Result<Self, OpenError> {
        Self::open_planted(options, transport, ground, Planted::default())
    }

    pub(crate) fn open_planted(
        options: ReplicatedOptions,
        transport: Arc<dyn Transport>,
        ground: Ground,
        planted: Planted,
    ) -> Result<Self, OpenError> {
        let config = Arc::new(options.timers.config(&options.cluster_id)?);
        let Loaded { wal, book, image, shelf } = load(&options, &ground, planted)?;
        let limits = options.limits;
        let store = LogStore::new(Arc::clone(&wal), book, limits.message_bytes, planted);
        // Servers apply the same; they need not all save it at the same time.
        let turn = options.snapshot_bytes / 20 * (options.node_id % 5);
        let snapshot_bytes = options.snapshot_bytes.saturating_add(turn);
        let (core, copies) = Core::new(image, shelf, snapshot_bytes, planted);
        let core = Arc::new(core);
        let link = Arc::new(Link::new(
            transport,
            (options.cluster_id.clone(), options.node_id, store.store()),
            Arc::new(Roster::default()),
            options.timers.append_timeout(),
            limits.piece_bytes,
        ));
        let runtime = Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_name("zlayer-raft")
            .enable_time()
            .build()
            .map_err(OpenError::Thread)?;
        let handle = runtime.handle().clone();
        let built = Raft::build(
            options.node_id,
            config,
            Factory(Arc::clone(&link)),
            store.clone(),
            Machine(Arc::clone(&core)),
        );
        let raft = wait_for(&handle, built)
            .ok_or_else(|| OpenError::Engine { why: "it ended while it was opened".into() })?
            .map_err(|error| OpenError::Engine { why: error.to_string() })?;
        let door = Arc::new(Door {
            raft: raft.clone(),
            link: Arc::clone(&link),
            core: Arc::clone(&core),
            arrival: Arrival::default(),
            snapshot_bytes_max: limits.snapshot_bytes_max,
        });
        let engine = Arc::new(Engine {
            raft: raft.clone(),
            core: Arc::clone(&core),
            link,
            door,
            store,
            pending: Arc::new(Pending::new(limits.proposals_max, limits.proposal_bytes_max)),
            leadership: watch::channel(Leadership::default()).0,
            elections: Arc::default(),
            changing: Arc::default(),
            ended: Arc::default(),
            timers: options.timers,
        });
        let (saved, to_note) = mpsc::unbounded_channel();
        let saver = saving::start(Arc::clone(&core), copies, saved).map_err(OpenError::Thread)?;
        let (stop, stopping) = watch::channel(false);
        let keeper = keeper(&engine, to_note, stopping);
        let begun = Arc::clone(&engine);
        // Who is in the cluster is known before anybody asks, or is asked.
        let begin = async move {
            begun.raft.run();
            let looked = begun.link.roster.look(&begun.raft).await;
            tokio::spawn(keeper.run());
            looked
        };
        wait_for(&handle, begin)
            .ok_or_else(|| OpenError::Engine { why: "it ended while it was opened".into() })?
            .map_err(|error| OpenError::Engine { why: error.to_string() })?;
        tracing::info!(node = options.node_id, "replicated control log open");
        Ok(Self {
            engine,
            wal,
            clock: ground.clock,
            entry_bytes_max: limits.entry_bytes_max,
            handle,
            is_closing: AtomicBool::new(false),
            running: Mutex::new(Some(Running { runtime, stop, saver })),
        })
    }

    /// Answers a request of another server. `from` is whom the sender's certificate names. The future needs no
    /// runtime; dropping it does not withdraw the request.
    pub fn handle(&self, from: u64, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> {
        let door = Arc::clone(&self.engine.door);
        let task = self.handle.spawn(async move { door.answer(from, request).await });
        Box::pin(async move { task.await.unwrap_or_else(|_| refused_for_good()) })
    }

    /// Answers a stream of entries of another server, in order; as [`Replicated::handle`]. Ends behind an answer
    /// that the other one must look at before it goes on.
    pub fn handle_appends(
        &self,
        from: u64,
        requests: Requests,
    ) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
        // openraft reads the requests in a task of its own.
        let _inside = self.handle.enter();
        Box::pin(Arc::clone(&self.engine.door).answers(from, requests))
    }

    /// What a request is about, for whoever counts or limits them; `None` where it can't be read.
    pub fn kind_of(request: &Bytes) -> Option<Kind> {
        wire::Envelope::open(request.clone()).ok().map(|(envelope, _)| envelope.kind)
    }

    /// Forms a cluster of these servers: node id, `raft_addr` and `api_addr` of each, this one among them. All
    /// others must be up and new. On one server, once; a directory taken over from a single voter is formed.
    pub fn form(&self, addresses: BTreeMap<u64, (String, String)>) -> ChangeFuture {
        self.change(|engine| async move { engine.form(addresses).await })
    }

    /// Takes a new server in as a learner: it gets the log and does not vote. It must be up, and new; its id must
    /// never have been a member's. On the leader.
    pub fn add_learner(&self, id: u64, raft_addr: String, api_addr: String) -> ChangeFuture {
        self.change(move |engine| async move { engine.add_learner(id, raft_addr, api_addr).await })
    }

    /// Lets learners vote, all at once, as soon as they have caught up. On the leader.
    pub fn promote(&self, ids: BTreeSet<u64>) -> ChangeFuture {
        self.change(|engine| async move { engine.promote(ids).await })
    }

    /// Removes a server for good: its id is never used again. A leader may remove itself, and hands over then. On
    /// the leader.
    pub fn remove(&self, id: u64) -> ChangeFuture {
        self.change(move |engine| async move { engine.remove(id).await })
    }

    /// Notes new addresses of a member. On the leader.
    pub fn move_member(&self, id: u64, raft_addr: String, api_addr: String) -> ChangeFuture {
        self.change(move |engine| async move { engine.move_to(id, raft_addr, api_addr).await })
    }

    /// Hands the leadership over to another voter; resolves once it leads. On the leader.
    pub fn transfer_leadership(&self, to: u64) -> ChangeFuture {
        self.change(move |engine| async move { engine.transfer(to).await })
    }

    /// Who is in the cluster, by the newest membership in this server's log.
    pub fn members(&self) -> Members {
        self.engine.link.roster.read().members.clone()
    }

    /// Ends it without a look at what waits.
    #[cfg(test)]
    pub(crate) fn abort_for_test(&self) {
        self.end(Duration::ZERO);
    }

    #[cfg(test)]
    pub(crate) fn engine_for_test(&self) -> &Engine {
        &self.engine
    }

    /// Runs something on the engine's runtime, polled or not.
    fn change<F: Future<Output = Result<(), MembershipError>> + Send + 'static>(
        &self,
        change: impl FnOnce(Arc<Engine>) -> F,
    ) -> ChangeFuture {
        let task = self.handle.spawn(change(Arc::clone(&self.engine)));
        Box::pin(async move {
            let ended = |_| Err(MembershipError::Stopped { error: "it was shut down".into() });
            task.await.unwrap_or_else(ended)
        })
    }

    /// As [`Replicated::change`], for questions about the log.
    fn ask<F: Future<Output = Result<(), ProposeError>> + Send + 'static>(
        &self,
        ask: impl FnOnce(Arc<Engine>) -> F,
    ) -> ProposeFuture<()> {
        if let Some(error) = self.failure() {
            return answered(Err(ProposeError::stopped(&error)));
        }
        let task = self.handle.spawn(ask(Arc::clone(&self.engine)));
        Box::pin(async move {
            task.await.unwrap_or_else(|_| Err(ProposeError::stopped(&"it was shut down")))
        })
    }

    /// Why it stopped, if it did. The first cause is named: what openraft says is mostly a consequence.
    fn failure(&self) -> Option<String> {
        if let Some(error) = self.engine.core.failed.get() {
            return Some(error.clone());
        }
        if let Some(error) = self.engine.store.failure() {
            return Some(error);
        }
        if let Some(error) = self.wal.failure() {
            return Some(error.to_string());
        }
        self.engine.ended.get().cloned()
    }

    fn submit(&self, command: Command, only_as: Option<LeaderId>) -> ProposeFuture<Outcome> {
        let entry = Entry { stamp_ms: (self.clock)(), command };
        let encoded = match Encoded::new(entry) {
            Ok(encoded) => encoded,
            Err(why) => return refused(why),
        };
        let bytes = encoded.bytes().len();
        if bytes > self.entry_bytes_max {
            let max = self.entry_bytes_max;
            return refused(format!("a command of {bytes} bytes is longer than {max}"));
        }
        if self.is_closing.load(Ordering::Acquire) {
            return answered(Err(ProposeError::stopped(&"the log was shut down")));
        }
        let (slot, answer) = match self.engine.pending.begin(bytes as u64) {
            Ok(begun) => begun,
            Err(error) => return answered(Err(error)),
        };
        let reply = Reply::new({
            let slot = Arc::clone(&slot);
            move |result| slot.finish(outcome_of(result))
        });
        let mut write = self.engine.raft.write(encoded).responder(reply);
        if let Some(LeaderId { term, node }) = only_as {
            write = write.with_leader(LeaderOf { term, node_id: node });
        }
        // It is put into openraft's queue, or there is no room: one look tells, as long as no task's budget of
        // operations interferes.
        match unconstrained(write.into_future()).now_or_never() {
            Some(Ok(())) => {}
            Some(Err(error)) => slot.finish(Err(ProposeError::stopped(&error))),
            None => slot.finish(Err(self
                .failure()
                .map_or(ProposeError::Overloaded, |error| ProposeError::stopped(&error)))),
        }
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(ProposeError::stopped(&"nobody answered")))
        })
    }
}

fn keeper(
    engine: &Arc<Engine>,
    saved: mpsc::UnboundedReceiver<()>,
    stopping: watch::Receiver<bool>,
) -> Keeper {
    Keeper {
        raft: engine.raft.clone(),
        link: Arc::clone(&engine.link),
        core: Arc::clone(&engine.core),
        pending: Arc::clone(&engine.pending),
        leadership: engine.leadership.clone(),
        elections: Arc::clone(&engine.elections),
        changing: Arc::clone(&engine.changing),
        ended: Arc::clone(&engine.ended),
        saved,
        stopping,
        election_max: engine.timers.election_max,
        propose_limit: engine.timers.propose,
        seen: None,
    }
}

/// Runs a future on a runtime and waits for it; from any thread but the runtime's.
fn wait_for<T: Send + 'static>(
    handle: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (done, result) = std_mpsc::channel();
    handle.spawn(async move {
        // Whoever waits below is there until it is answered.
        let _ = done.send(future.await);
    });
    result.recv().ok()
}

fn refused_for_good() -> Bytes {
    wire::refuse(&PeerRefusal::Stopped { why: "it was shut down".into() })
}

fn answered<T: Send + 'static>(result: Result<T, ProposeError>) -> ProposeFuture<T> {
    Box::pin(ready(result))
}

/// A command that never gets into the log.
fn refused(why: String) -> ProposeFuture<Outcome> {
    let field = "command".into();
    answered(Ok(Outcome::Refused { refusal: Refusal::Invalid { field, why } }))
}

fn outcome_of(
    result: Option<Result<openraft::raft::ClientWriteResponse<Types>, ClientWriteError<Types>>>,
) -> Result<Outcome, ProposeError> {
    match result {
        Some(Ok(response)) => Ok(response.data),
        Some(Err(ClientWriteError::ForwardToLeader(forward))) => {
            Err(ProposeError::elsewhere(forward.leader_id))
        }
        Some(Err(ClientWriteError::LogEntryDiscarded(_))) => {
            Err(ProposeError::Unknown { why: "another server leads now".into() })
        }
        Some(Err(error)) => Err(ProposeError::Unknown { why: error.to_string() }),
        None => Err(ProposeError::stopped(&"the engine ended before it was answered")),
    }
}

impl Engine {
    /// Confirms that this server leads, and waits until all that is committed is applied.
    async fn confirm(&self) -> Result<(), ProposeError> {
        let asked = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let linearizer = asked.map_err(|error| match error {
            RaftError::APIError(error) => ProposeError::elsewhere(leader_of(&error)),
            RaftError::Fatal(error) => ProposeError::stopped(&error),
        })?;
        let limit = Some(self.timers.propose);
        match linearizer.try_await_ready(&self.raft, limit).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::NoLeader),
            Err(error) => Err(ProposeError::stopped(&error)),
        }
    }

    /// Waits until all that was acknowledged before is applied here, whoever leads.
    async fn read_barrier(&self) -> Result<(), ProposeError> {
        let leader = match self.confirm().await {
            Err(ProposeError::NotLeader { leader }) => leader,
            confirmed => return confirmed,
        };
        let Some(peer) = self.link.roster.peer(leader) else { return Err(ProposeError::NoLeader) };
        let nothing = |_: &mut _| Ok(());
        let deadline = self.timers.propose;
        let to = (leader, &peer);
        let asked =
            self.link.ask(to, Kind::ReadIndex, nothing, wire::get_read_index, deadline).await;
        let index = match asked {
            Ok(Ok(at)) => at.index,
            Ok(Err(leader)) => return Err(ProposeError::elsewhere(leader)),
            Err(error) => {
                tracing::debug!(%error, leader, "the leader did not say how far to read");
                return Err(ProposeError::NoLeader);
            }
        };
        let waited = self.raft.wait(Some(deadline));
        match waited.applied_index_at_least(Some(index), "a read").await {
            Ok(_) => Ok(()),
            Err(_) => Err(ProposeError::NoLeader),
        }
    }
}

impl ControlLog for Replicated {
    fn propose(&self, command: Command) -> ProposeFuture<Outcome> {
        self.submit(command, None)
    }

    fn propose_if_leader(&self, leader: LeaderId, command: Command) -> ProposeFuture<Outcome> {
        self.submit(command, Some(leader))
    }

    fn state(&self) -> Arc<StateView> {
        Arc::clone(&self.engine.core.view)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.engine.core.revision.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.engine.leadership.subscribe()
    }

    fn confirm_leader(&self) -> ProposeFuture<()> {
        self.ask(|engine| async move { engine.confirm().await })
    }

    fn read_barrier(&self) -> ProposeFuture<()> {
        self.ask(|engine| async move { engine.read_barrier().await })
    }

    fn health(&self) -> LogHealth {
        let engine = &self.engine;
        let metrics = engine.raft.metrics().borrow_watched().clone();
        let stats = self.wal.stats();
        let stopped = self.failure();
        let refused = engine.link.refused();
        let known = engine.link.roster.read();
        let log_index = metrics.last_log_index.unwrap_or(0);
        let others = known.members.peers.iter().filter(|(id, _)| **id != metrics.id);
        let peers = others.map(|(id, peer)| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id).copied());
            let matched = matched.flatten().map_or(0, |id| id.index);
            let acked = metrics.heartbeat.as_ref().and_then(|all| all.get(id).copied());
            let silent = acked.flatten().map(|acked| acked.elapsed().as_millis() as u64);
            let is_leader = metrics.state == ServerState::Leader;
            PeerHealth {
                id: *id,
                peer: peer.clone(),
                is_voter: known.members.voters.contains(id),
                matched,
                lag: if is_leader { log_index.saturating_sub(matched) } else { 0 },
                silent_ms: silent,
                refused: refused.get(id).cloned(),
            }
        });
        let (commit_p50_us, commit_p99_us) = engine.pending.latency_us();
        LogHealth {
            role: match metrics.state {
                _ if stopped.is_some() => Role::Stopped,
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Stopped,
            },
            stopped,
            term: metrics.current_term,
            leader: engine.leadership.borrow().leader,
            is_retired: engine.link.is_retired() || engine.core.is_retired(metrics.id),
            last_index: engine.core.last_index.load(Ordering::Acquire),
            log_index,
            commit_index: metrics.cluster_committed.map_or(0, |id| id.index),
            elections: engine.elections.load(Ordering::Relaxed),
            peers: peers.collect(),
            appended: stats.appended,
            entries_kept: engine.store.entries_kept() as u64,
            log_bytes: stats.log_bytes,
            fsync_count: stats.fsync_count,
            fsync_p50_us: stats.fsync_p50_us,
            fsync_p99_us: stats.fsync_p99_us,
            commit_p50_us,
            commit_p99_us,
            proposals_waiting: engine.pending.waiting(),
            records_waiting: stats.waiting,
            snapshots: engine.core.shelf.saved.load(Ordering::Relaxed),
            snapshots_failed: engine.core.shelf.failed.load(Ordering::Relaxed),
        }
    }

    /// Waits for what was proposed as long as a leader is to be had, and not longer.
    fn shutdown(&self) {
        self.end(4 * self.engine.timers.election_max);
    }
}

impl Replicated {
    fn end(&self, patience: Duration) {
        self.is_closing.store(true, Ordering::Release);
        // Held while it ends, so that whoever else ends it waits, too.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Running { runtime, stop, saver }) = running.take() else { return };
        let patience = Instant::now() + patience;
        while self.engine.pending.waiting() > 0
            && self.failure().is_none()
            && Instant::now() < patience
        {
            std::thread::sleep(END_LOOK);
        }
        let engine = Arc::clone(&self.engine);
        let (done, ended) = std_mpsc::channel();
        runtime.spawn(async move {
            if engine.raft.shutdown().await.is_err() {
                tracing::debug!("the engine had ended by a panic");
            }
            engine.store.close().await;
            // Whoever waits below may have lost patience.
            let _ = done.send(());
        });
        if ended.recv_timeout(END_WAIT).is_err() {
            tracing::warn!("the engine does not end; it is left behind");
        }
        // Those that look after it end by this.
        stop.send_replace(true);
        self.engine.leadership.send_replace(Leadership::default());
        self.wal.stop();
        self.engine.core.close();
        // A panic there has ended the snapshots and nothing else.
        let _ = saver.join();
        runtime.shutdown_background();
    }
}

impl Drop for Replicated {
    fn drop(&mut self) {
        self.shutdown();
    }
}
