//! A server of the worker tier: the worker port, the sessions on it, the leases and the control log.
//!
//! Of several servers one leads: its engine decides, the others relay their workers' reports to it.
//!
//! ```text
//!  zlayer-control thread                     zlayer-io threads
//!  accept ────────────── socket ───────────> serve: hello, TLS, identity
//!  ticker <── effects ── engine <── open, end ── drive: HTTP/2, report and watch streams
//!     └──> control log      └── leases <──── every beat (no lock in between)
//!            │ leadership                    seats ── relay ══ other servers ══ hosted ──> engine of the leader
//!            └──> lead: begins and ends a time in office
//! ```

mod completions;
mod connection;
mod control;
mod drive;
mod engine;
mod enrolled;
mod forward;
mod holder;
mod hosted;
mod lead;
mod lock_leases;
mod members;
mod meter;
mod metrics;
mod nudge;
mod peer_desk;
mod registry;
mod relay;
mod report;
mod seats;
mod serve;
mod service;
mod shards;
mod shared;
#[cfg(test)]
mod tests;
mod ticker;
mod tls_socket;
mod views;
mod watch;

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use zlayer_core::command::{Command, HeldLock};
use zlayer_core::record::NodeId;
use zlayer_raft::{
    ControlLog, LogOptions, Replicated, ReplicatedLimits, ReplicatedOptions, SingleVoter, Timers,
};

pub use completions::Completion;
pub use holder::Wanted;
pub use members::{Answered, Asked, AskedError};
pub use views::NodesQuery;

use crate::accept;
use crate::clock::Clock;
use crate::error::NodeError;
use crate::options::{RaftOptions, ServerOptions};
use crate::peers::PeerNet;
use crate::tls;
use crate::wake::Wake;
use completions::Completions;
use control::Control;
use engine::Engine;
use enrolled::Enrolled;
use forward::{Forwarder, Request};
use holder::Holder;
use peer_desk::PeerDesk;
use relay::Relay;
use shards::Shards;
use shared::Shared;
use ticker::Ticker;

/// Log bytes after which a snapshot replaces them. Chosen: a second to replay.
const SNAPSHOT_BYTES: u64 = 16 * 1024 * 1024;

/// Time that `drop` gives to what `shutdown` would do. Chosen.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// A running server. Dropping it shuts it down.
pub struct ServerNode {
    shared: Arc<Shared>,
    completions: Arc<Completions>,
    local_addr: SocketAddr,
    others: Option<Others>,
    forwarder: Arc<Forwarder>,
    holder: Arc<Holder>,
    control: Handle,
    running: Mutex<Option<Running>>,
    /// The process that the threads live in.
    process: u32,
}

/// The other servers, and what is agreed on with them.
struct Others {
    net: Arc<PeerNet>,
    replicated: Arc<Replicated>,
}

/// What has to be ended.
struct Running {
    thread: JoinHandle<()>,
    /// Disconnects when the thread has done its work.
    ended: Receiver<()>,
}

impl ServerNode {
    /// Starts a server; returns once the worker port listens.
    ///
    /// # Errors
    /// [`NodeError`] when an option, the identity, the address or the control log can't be used. Nothing runs
    /// then.
    pub fn start(options: &ServerOptions) -> Result<Self, NodeError> {
        options.check()?;
        let tls = tls::server_config(
            &options.cluster_id,
            &options.certificate_pem,
            &options.key_pem,
            &options.ca_pem,
        )?;
        let listener = accept::bind(&options.listen)?;
        let local_addr =
            listener.local_addr().map_err(|error| NodeError::io("read the address", error))?;
        let others =
            options.raft.as_ref().map(|raft| open_replicated(options, raft)).transpose()?;
        let log: Arc<dyn ControlLog> = match &others {
            Some(others) => Arc::clone(&others.replicated) as Arc<dyn ControlLog>,
            None => Arc::new(open_alone(options)?),
        };
        let clock = Clock::new();
        let (engine, effects) = Engine::new(clock, options.ttl);
        if others.is_some() {
            engine.freeze();
        }
        let wake = Arc::new(Wake::new()?);
        let completions = Completions::new(options.limits.commands_max, Arc::clone(&wake));
        let shared = Arc::new(Shared::new(options, clock, tls, engine, log, wake));
        let start = |error| NodeError::io("start threads", error);
        let shards = Shards::start(options.limits.threads).map_err(start)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(start)?;
        let control = runtime.handle().clone();
        let (ending, ended) = channel();
        let control_loop = Control {
            ticker: Ticker::new(Arc::clone(&shared), effects),
            shared: Arc::clone(&shared),
            shards,
            listener,
            net: others.as_ref().map(|others| Arc::clone(&others.net)),
        };
        let thread = std::thread::Builder::new()
            .name("zlayer-control".into())
            .spawn(move || {
                let _ending = ending;
                control_loop.run(&runtime);
            })
            .map_err(start)?;
        if let (Some(others), Some(raft)) = (&others, &options.raft) {
            others.begin(&shared, raft, options.node_id);
        }
        let forwarder = Arc::new(Forwarder {
            shared: Arc::clone(&shared),
            others: others
                .as_ref()
                .map(|others| (Arc::clone(&others.replicated), others.net.transport())),
        });
        let holder = Arc::new(Holder::new(Arc::clone(&shared), Arc::clone(&forwarder)));
        let running = Mutex::new(Some(Running { thread, ended }));
        let process = std::process::id();
        Ok(Self {
            shared,
            completions,
            local_addr,
            others,
            forwarder,
            holder,
            control,
            running,
            process,
        })
    }

    /// Where the other servers reach this one; `None` where it is alone.
    pub fn raft_addr(&self) -> Option<SocketAddr> {
        self.others.as_ref().map(|others| others.net.local_addr())
    }

    /// Asks something of the cluster of servers; answered as [`ServerNode::submit`] is. The leader answers, whichever
    /// server is asked.
    pub fn ask(&self, ticket: u64, asked: Asked) {
        self.begin(ticket, Request::Asked(asked));
    }

    fn begin(&self, ticket: u64, request: Request) {
        if let Some(in_work) = self.completions.begin(ticket) {
            let forwarder = Arc::clone(&self.forwarder);
            self.control.spawn(async move {
                in_work.answer(forwarder.answer_anywhere(request).await);
            });
        }
    }

    /// The servers as this one knows them, as [`Asked::Members`] gives them; no items where it is alone.
    pub fn members_json(&self) -> Vec<u8> {
        members::show(self.others.as_ref().map(|others| &others.replicated))
    }

    /// Where the worker port listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Proposes a command, on the leader if that is another server. Its answer comes out of [`ServerNode::drain`]
    /// under the same ticket, once it is durable and applied, refused, or given up. Never blocks.
    pub fn submit(&self, ticket: u64, command: Command) {
        self.begin(ticket, Request::Command(command));
    }

    /// The control log itself, for a caller in Rust that awaits its proposals.
    pub fn log(&self) -> Arc<dyn ControlLog> {
        Arc::clone(&self.shared.log)
    }

    /// Acquires a lock and holds it from then on, renewing it by itself. Answered twice: under `ticket` when it is
    /// held, or why it is not; then under `ended` when it is held no more, by `{"lost": why}`, or null where it was
    /// let go of. A lock that is held takes no place of a command in work.
    pub fn hold(&self, ticket: u64, ended: u64, wanted: Wanted) {
        let Some(acquired) = self.completions.begin(ticket) else { return };
        let ended = self.completions.promise(ended);
        let abandoned = self.holder.begin(ticket);
        self.control.spawn(Arc::clone(&self.holder).hold(wanted, abandoned, acquired, ended));
    }

    /// Gives up waiting for a lock that was asked for under this ticket.
    pub fn abandon(&self, ticket: u64) {
        self.holder.abandon(ticket);
    }

    /// Lets go of a lock.
    pub fn release(&self, ticket: u64, lock: HeldLock) {
        if let Some(in_work) = self.completions.begin(ticket) {
            let holder = Arc::clone(&self.holder);
            self.control.spawn(async move { in_work.answer(holder.release(lock).await) });
        }
    }

    /// A descriptor that is readable while answers, new events or a terminal error wait. Lives as long as `self`.
    pub fn wake_fd(&self) -> RawFd {
        self.shared.wake.fd()
    }

    /// Takes at most `max` answers, and makes the descriptor unreadable unless more wait.
    pub fn drain(&self, max: usize) -> Vec<Completion> {
        self.shared.wake.clear();
        let (taken, more) = self.completions.take(max);
        if more {
            self.shared.wake.wake();
        }
        taken
    }

    /// A page of nodes, by id: `{"items": […], "revision": n}`.
    pub fn nodes_json(&self, query: &NodesQuery) -> Vec<u8> {
        views::nodes(&self.shared, query)
    }

    /// One node.
    pub fn node_json(&self, id: NodeId) -> Option<Vec<u8>> {
        views::node(&self.shared, id)
    }

    /// All tokens, without any secret: `{"items": […], "revision": n}`.
    pub fn tokens_json(&self) -> Vec<u8> {
        views::tokens(&self.shared)
    }

    /// One token.
    pub fn token_json(&self, jti: &str) -> Option<Vec<u8>> {
        views::token(&self.shared, jti)
    }

    /// A key's record, with its value in base64.
    pub fn value_json(&self, key: &str) -> Option<Vec<u8>> {
        views::value(&self.shared, key)
    }

    /// A page of the keys that begin with `prefix`, after `after`: `{"items": […], "revision": index}`.
    pub fn values_json(&self, prefix: &str, after: &str, limit: usize) -> Vec<u8> {
        views::values(&self.shared, prefix, after, limit)
    }

    /// The locks that are held: `{"items": […], "revision": index of the last change}`.
    pub fn locks_json(&self) -> Vec<u8> {
        views::locks(&self.shared)
    }

    /// Events after a revision: `{"items": […], "revision": newest, "first_kept": oldest}`.
    pub fn events_json(&self, after: u64, limit: usize) -> Vec<u8> {
        views::events(&self.shared, after, limit)
    }

    /// Newest event revision.
    pub fn revision(&self) -> u64 {
        self.shared.state.with_state(zlayer_core::state::State::revision)
    }

    /// Why the server ended by itself for good, or `None` while it runs.
    pub fn stopped(&self) -> Option<String> {
        self.shared.failure()
    }

    /// The cluster at a glance.
    pub fn status_json(&self) -> Vec<u8> {
        views::status(&self.shared, env!("CARGO_PKG_VERSION"), &self.local_addr.to_string())
    }

    /// Counters and gauges by name, flat.
    pub fn metrics_json(&self) -> Vec<u8> {
        views::metrics(&self.shared)
    }

    /// Gives new connections a new identity or CA; open ones go on.
    ///
    /// # Errors
    /// [`NodeError::Identity`]; nothing has changed then.
    pub fn set_identity(
        &self,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> Result<(), NodeError> {
        let cluster_id = &self.shared.cluster_id;
        let config = tls::server_config(cluster_id, certificate_pem, key_pem, ca_pem)?;
        if let Some(others) = &self.others {
            others.net.set_identity(certificate_pem, key_pem, ca_pem)?;
        }
        self.shared.tls.store(config);
        Ok(())
    }

    /// Hands the leadership to the voter that lacks least, if this server has it; says whether another one leads
    /// then. Before an orderly end, so that nobody has to notice it. Blocks for `timeout` at most.
    pub fn hand_over(&self, timeout: Duration) -> bool {
        let Some(others) = &self.others else { return false };
        let (done, handed) = channel();
        let task = members::hand_over(Arc::clone(&others.replicated), timeout);
        self.control.spawn(async move {
            // Who waits may have gone.
            let _ = done.send(task.await);
        });
        handed.recv_timeout(timeout).unwrap_or(false)
    }

    /// Closes the port, ends the sessions, flushes the log and ends the threads. Workers are told to try another
    /// server; none is recorded as lost. Idempotent; waits at most about `timeout`.
    pub fn shutdown(&self, timeout: Duration) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        self.shared.stopping.cancel();
        // Disconnects when the thread is done, also by a panic; only the time being up is another error.
        let late = running.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
        if late {
            tracing::warn!("the server's threads are still busy");
        } else {
            let _ = running.thread.join();
        }
    }
}

impl Others {
    /// Answers the others, relays to them, and forms the cluster where that is this server's part.
    fn begin(&self, shared: &Arc<Shared>, raft: &RaftOptions, node_id: u64) {
        self.net.serve(Arc::new(PeerDesk {
            replicated: Arc::downgrade(&self.replicated),
            shared: Arc::downgrade(shared),
        }));
        let relay = Relay {
            shared: Arc::clone(shared),
            replicated: Arc::clone(&self.replicated),
            transport: self.net.transport(),
        };
        self.net.spawn(relay.run());
        let enrolled =
            Enrolled { shared: Arc::clone(shared), replicated: Arc::clone(&self.replicated) };
        self.net.spawn(enrolled.run());
        if raft.forms(node_id) {
            self.net.spawn(members::form(Arc::clone(&self.replicated), raft.members.clone()));
        }
    }
}

fn open_alone(options: &ServerOptions) -> Result<SingleVoter, NodeError> {
    SingleVoter::open(LogOptions {
        dir: options.control_dir.clone(),
        cluster_id: options.cluster_id.clone(),
        node_id: options.node_id,
        snapshot_bytes: SNAPSHOT_BYTES,
    })
    .map_err(|error| NodeError::Log(error.to_string()))
}

fn open_replicated(options: &ServerOptions, raft: &RaftOptions) -> Result<Others, NodeError> {
    let net = Arc::new(PeerNet::start(options, &raft.listen)?);
    let raft_addr = match raft.advertise.as_str() {
        "" => net.local_addr().to_string(),
        named => named.to_owned(),
    };
    let mut timers = Timers::default();
    if raft.heartbeat_ms != 0 {
        timers.heartbeat = Duration::from_millis(raft.heartbeat_ms);
        timers.election_min = timers.heartbeat * 5 / 2;
        timers.election_max = timers.heartbeat * 4;
    }
    let log = ReplicatedOptions {
        dir: options.control_dir.clone(),
        cluster_id: options.cluster_id.clone(),
        node_id: options.node_id,
        raft_addr,
        api_addr: raft.api_addr.clone(),
        snapshot_bytes: SNAPSHOT_BYTES,
        timers,
        limits: ReplicatedLimits::default(),
    };
    let replicated = Replicated::open(log, net.transport())
        .map_err(|error| NodeError::Log(error.to_string()))?;
    Ok(Others { net, replicated: Arc::new(replicated) })
}

impl Drop for ServerNode {
    fn drop(&mut self) {
        // A fork copies the handle but not the threads: to wait for them there would be in vain.
        if std::process::id() == self.process {
            self.shutdown(DROP_TIMEOUT);
        }
    }
}
