//! The control log of a cluster of servers.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use openraft::Raft;
use openraft::errors::Fatal;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};
use zlayer_core::command::{Command, Outcome};

use crate::control_log::{ControlLog, LeaderId, Leadership, LogHealth, ProposeFuture};
use crate::error::{OpenError, ProposeError};
use crate::options::Machine as Ground;
use crate::replicated::arrival::Arrival;
use crate::replicated::door::Door;
use crate::replicated::engine::{Engine, Threads};
use crate::replicated::keeper::Keeper;
use crate::replicated::link::Link;
use crate::replicated::load::{Loaded, load};
use crate::replicated::machine::{Core, Machine};
use crate::replicated::membership_error::MembershipError;
use crate::replicated::network::Factory;
use crate::replicated::options::ReplicatedOptions;
use crate::replicated::pending::Pending;
use crate::replicated::planted::Planted;
use crate::replicated::propose::answered;
use crate::replicated::refusal::PeerRefusal;
use crate::replicated::roster::{Members, Roster};
use crate::replicated::saving;
use crate::replicated::store::LogStore;
use crate::replicated::transport::{Kind, Requests, Transport};
use crate::replicated::types::Types;
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
    handle: Handle,
    running: Mutex<Option<Running>>,
}

/// What ends with it.
struct Running {
    threads: Threads,
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
        let (limits, timers, node_id) = (options.limits, options.timers, options.node_id);
        let store = LogStore::new(Arc::clone(&wal), book, limits.message_bytes, planted);
        // Servers apply the same; they need not all save it at the same time.
        let turn = options.snapshot_bytes / 20 * (node_id % 5);
        let snapshot_bytes = options.snapshot_bytes.saturating_add(turn);
        let (core, copies) = Core::new(image, shelf, snapshot_bytes, planted);
        let core = Arc::new(core);
        let link = Arc::new(Link::new(
            transport,
            (options.cluster_id, node_id, store.store()),
            Arc::new(Roster::default()),
            timers.append_timeout(),
            limits.piece_bytes,
        ));
        let runtime = Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_name("zlayer-raft")
            .enable_time()
            .build()
            .map_err(OpenError::Thread)?;
        let handle = runtime.handle().clone();
        let threads = Threads::new(runtime);
        let (network, machine) = (Factory(Arc::clone(&link)), Machine(Arc::clone(&core)));
        let build = Raft::build(node_id, config, network, store.clone(), machine);
        let raft = wait_for(&handle, build)?;
        let door = Arc::new(Door {
            raft: raft.clone(),
            link: Arc::clone(&link),
            core: Arc::clone(&core),
            arrival: Arrival::default(),
            snapshot_bytes_max: limits.snapshot_bytes_max,
        });
        let engine = Arc::new(Engine {
            raft,
            core: Arc::clone(&core),
            link,
            door,
            store,
            wal,
            clock: ground.clock,
            pending: Pending::new(limits.proposals_max, limits.proposal_bytes_max),
            leadership: watch::channel(Leadership::default()).0,
            elections: AtomicU64::default(),
            changing: Arc::default(),
            is_closing: AtomicBool::default(),
            ended: OnceLock::default(),
            timers,
            entry_bytes_max: limits.entry_bytes_max,
        });
        let (saved, news) = mpsc::unbounded_channel();
        let thread = saving::start(core, copies, saved).map_err(OpenError::Thread)?;
        let (stop, stopping) = watch::channel(false);
        let running = Running { threads, stop, saver: thread };
        let replicated =
            Self { engine, handle: handle.clone(), running: Mutex::new(Some(running)) };
        let engine = Arc::clone(&replicated.engine);
        wait_for(&handle, async move {
            engine.raft.run();
            // Who is in the cluster is known before anybody asks, or is asked.
            engine.link.roster.look(&engine.raft).await?;
            if engine.link.roster.is_sole_voter(node_id) {
                // There is nobody whose leadership it could disturb, nor anybody to wait for.
                engine.raft.trigger().elect(false).await?;
            }
            tokio::spawn(Keeper::new(engine, news, stopping).run());
            Ok(())
        })?;
        tracing::info!(node_id, "replicated control log open");
        Ok(replicated)
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
        if let Some(error) = self.engine.failure() {
            return answered(Err(ProposeError::stopped(&error)));
        }
        let task = self.handle.spawn(ask(Arc::clone(&self.engine)));
        Box::pin(async move {
            task.await.unwrap_or_else(|_| Err(ProposeError::stopped(&"it was shut down")))
        })
    }
}

/// Runs a step of opening on the runtime, and waits for it; from any thread but the runtime's.
fn wait_for<T: Send + 'static>(
    handle: &Handle,
    step: impl Future<Output = Result<T, Fatal<Types>>> + Send + 'static,
) -> Result<T, OpenError> {
    let (done, result) = std_mpsc::channel();
    handle.spawn(async move {
        // Whoever waits below is there until it is answered.
        let _ = done.send(step.await);
    });
    let result = result.recv();
    result
        .map_err(|_| OpenError::Engine { why: "it ended while it was opened".into() })?
        .map_err(|error| OpenError::Engine { why: error.to_string() })
}

fn refused_for_good() -> Bytes {
    wire::refuse(&PeerRefusal::Stopped { why: "it was shut down".into() })
}

impl ControlLog for Replicated {
    fn propose(&self, command: Command) -> ProposeFuture<Outcome> {
        self.engine.submit(command, None)
    }

    fn propose_if_leader(&self, leader: LeaderId, command: Command) -> ProposeFuture<Outcome> {
        self.engine.submit(command, Some(leader))
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
        self.engine.health()
    }

    /// Waits for what was proposed as long as a leader is to be had, and not longer.
    fn shutdown(&self) {
        self.end(4 * self.engine.timers.election_max);
    }
}

impl Replicated {
    fn end(&self, patience: Duration) {
        let engine = Arc::clone(&self.engine);
        engine.is_closing.store(true, Ordering::Release);
        // Held while it ends, so that whoever else ends it waits, too.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Running { threads, stop, saver }) = running.take() else { return };
        let patience = Instant::now() + patience;
        while engine.pending.waiting() > 0
            && engine.failure().is_none()
            && Instant::now() < patience
        {
            std::thread::sleep(END_LOOK);
        }
        let (done, ended) = std_mpsc::channel();
        self.handle.spawn({
            let engine = Arc::clone(&engine);
            async move {
                if engine.raft.shutdown().await.is_err() {
                    tracing::debug!("the engine had ended by a panic");
                }
                engine.store.close().await;
                // Whoever waits below may have lost patience.
                let _ = done.send(());
            }
        });
        if ended.recv_timeout(END_WAIT).is_err() {
            tracing::warn!("the engine does not end; it is left behind");
        }
        // Those that look after it end by this.
        stop.send_replace(true);
        engine.leadership.send_replace(Leadership::default());
        engine.wal.stop();
        engine.core.close();
        // A panic there has ended the snapshots and nothing else.
        let _ = saver.join();
        drop(threads);
    }
}

impl Drop for Replicated {
    fn drop(&mut self) {
        self.shutdown();
    }
}
