//! Servers in one process, each with a disk of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::{CertificateRecord, Labels, NodeId, Profile};
use zlayer_core::time::UnixMs;
use zlayer_wal::WalLimits;
use zlayer_wal::sim::{SimFs, Survive};

use crate::replicated::planted::Planted;
use crate::replicated::switchboard::Switchboard;
use crate::{
    ControlLog, LogHealth, Machine, MembershipError, OpenError, ProposeError, Replicated,
    ReplicatedLimits, ReplicatedOptions, Timers,
};

/// Longest that anything is waited for. Busy machines are slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// A disk, and the server that runs on it.
#[derive(Default)]
pub(super) struct Seat {
    pub(super) fs: SimFs,
    pub(super) server: Option<Arc<Replicated>>,
}

/// See the module.
pub(super) struct Cluster {
    pub(super) board: Arc<Switchboard>,
    pub(super) seats: BTreeMap<u64, Seat>,
    pub(super) snapshot_bytes: u64,
    pub(super) timers: Timers,
    pub(super) limits: ReplicatedLimits,
    pub(super) wal: WalLimits,
    pub(super) planted: Planted,
    next_token: AtomicU64,
}

pub(super) fn addresses(id: u64) -> (String, String) {
    (format!("server-{id}:3671"), format!("server-{id}:3669"))
}

impl Cluster {
    /// Servers that are not started.
    pub(super) fn empty() -> Self {
        Self {
            board: Arc::default(),
            seats: BTreeMap::new(),
            snapshot_bytes: u64::MAX,
            timers: Timers { propose: Duration::from_secs(2), ..Timers::default() },
            limits: ReplicatedLimits::default(),
            wal: WalLimits { segment_bytes: 64 << 10, ..WalLimits::default() },
            planted: Planted::default(),
            next_token: AtomicU64::new(1),
        }
    }

    /// Servers 1 to `count`, formed.
    pub(super) async fn of(count: u64) -> Self {
        Self::empty().formed(count).await
    }

    /// Starts servers 1 to `count` and forms a cluster of them.
    pub(super) async fn formed(mut self, count: u64) -> Self {
        for id in 1..=count {
            self.start(id);
        }
        let all = (1..=count).map(|id| (id, addresses(id))).collect();
        self.server(1).form(all).await.unwrap();
        self
    }

    pub(super) fn options(&self, id: u64) -> ReplicatedOptions {
        let (raft_addr, api_addr) = addresses(id);
        ReplicatedOptions {
            dir: "/log".into(),
            cluster_id: "zl-test".into(),
            node_id: id,
            raft_addr,
            api_addr,
            snapshot_bytes: self.snapshot_bytes,
            timers: self.timers,
            limits: self.limits,
        }
    }

    pub(super) fn try_start(&mut self, id: u64) -> Result<Arc<Replicated>, OpenError> {
        let options = self.options(id);
        let seat = self.seats.entry(id).or_default();
        let machine = Machine {
            fs: Arc::new(seat.fs.clone()),
            clock: Arc::new(|| UnixMs(1)),
            limits: self.wal,
        };
        let plug = self.board.plug(id);
        let server = Arc::new(Replicated::open_planted(options, plug, machine, self.planted)?);
        self.board.connect(id, &server);
        seat.server = Some(Arc::clone(&server));
        Ok(server)
    }

    pub(super) fn start(&mut self, id: u64) -> Arc<Replicated> {
        self.try_start(id).unwrap_or_else(|error| panic!("server {id}: {error}"))
    }

    pub(super) fn server(&self, id: u64) -> Arc<Replicated> {
        Arc::clone(self.seats[&id].server.as_ref().unwrap_or_else(|| panic!("{id} is down")))
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (u64, &Arc<Replicated>)> {
        self.seats.iter().filter_map(|(id, seat)| Some((*id, seat.server.as_ref()?)))
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.seats.keys().copied().collect()
    }

    /// Ends a server as `kill -9` does: what it had written is there, also what was not synced.
    pub(super) fn kill(&mut self, id: u64) {
        self.end(id, SimFs::after_kill);
    }

    /// Ends a server as a power cut does.
    pub(super) fn cut_power(&mut self, id: u64, survive: Survive) {
        self.end(id, |fs| fs.after_power_cut(survive));
    }

    /// From that moment on nothing of it counts, whatever it still does: nobody hears it any more, and then its disk
    /// is taken away. In this order, so that whatever it has promised to anybody is on the disk.
    fn end(&mut self, id: u64, leave: impl FnOnce(&SimFs) -> SimFs) {
        let all = self.ids();
        self.board.isolate(&[id], &all);
        self.board.disconnect(id);
        let seat = self.seats.get_mut(&id).unwrap();
        seat.fs = leave(&seat.fs);
        if let Some(server) = seat.server.take() {
            std::thread::spawn(move || server.abort_for_test());
        }
    }

    /// Starts a server again that was ended, with its wires mended.
    pub(super) fn restart(&mut self, id: u64) -> Arc<Replicated> {
        for other in self.ids() {
            self.board.set(id, other, crate::replicated::switchboard::Wire::default());
            self.board.set(other, id, crate::replicated::switchboard::Wire::default());
        }
        self.start(id)
    }

    /// The server that leads, once one does.
    pub(super) async fn leader(&self) -> (u64, Arc<Replicated>) {
        self.leader_among(&self.ids()).await
    }

    pub(super) async fn leader_among(&self, ids: &[u64]) -> (u64, Arc<Replicated>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (id, server) in self.running().filter(|(id, _)| ids.contains(id)) {
                if server.leadership().borrow().own.is_some() {
                    return (id, Arc::clone(server));
                }
            }
            assert!(Instant::now() < deadline, "nobody leads: {:?}", self.healths());
            sleep(LOOK).await;
        }
    }

    pub(super) fn healths(&self) -> BTreeMap<u64, LogHealth> {
        self.running().map(|(id, server)| (id, server.health())).collect()
    }

    /// Proposes to whoever leads until it is answered. Only for commands that may come twice.
    pub(super) async fn write(&self, command: &Command) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, leader) = self.leader().await;
            match leader.propose(command.clone()).await {
                Ok(outcome) => return outcome,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(LOOK).await;
        }
    }

    /// A token with room for many.
    pub(super) async fn token(&self) -> u64 {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        self.write(&create_token(token)).await;
        token
    }

    pub(super) async fn enrol(&self, token: u64, key: u64) -> NodeId {
        match self.write(&redeem(token, key)).await {
            Outcome::Redeemed { node_id, .. } => node_id,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until all that run have applied the same, and hold the same.
    pub(super) async fn converge(&self) -> u64 {
        self.converge_on(&self.running().map(|(id, _)| id).collect::<BTreeSet<_>>()).await
    }

    pub(super) async fn converge_on(&self, ids: &BTreeSet<u64>) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, leader) = self.leader_among(&ids.iter().copied().collect::<Vec<_>>()).await;
            if leader.confirm_leader().await.is_ok() {
                let hashes: BTreeSet<_> = ids.iter().map(|id| hash(&self.server(*id))).collect();
                if hashes.len() == 1 {
                    return hashes.into_iter().next().unwrap();
                }
            }
            assert!(Instant::now() < deadline, "they do not converge: {:?}", self.healths());
            sleep(LOOK).await;
        }
    }
}

impl Cluster {
    /// Starts a new server and takes it in as a learner.
    pub(super) async fn add(&mut self, id: u64) -> Result<(), MembershipError> {
        self.start(id);
        let (raft_addr, api_addr) = addresses(id);
        let (_, leader) = self.leader().await;
        leader.add_learner(id, raft_addr, api_addr).await
    }

    pub(super) async fn promote(&self, ids: &[u64]) -> Result<(), MembershipError> {
        let (_, leader) = self.leader().await;
        leader.promote(ids.iter().copied().collect()).await
    }

    pub(super) async fn voters(&self) -> BTreeSet<u64> {
        self.leader().await.1.members().voters
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // None waits for another to end.
        for seat in self.seats.values_mut() {
            if let Some(server) = seat.server.take() {
                std::thread::spawn(move || server.abort_for_test());
            }
        }
    }
}

pub(super) fn hash(server: &Replicated) -> u64 {
    server.state().with_state(|state| {
        state.check_invariants();
        state.hash()
    })
}

pub(super) fn jti(number: u64) -> String {
    format!("{number:032x}")
}

pub(super) fn create_token(number: u64) -> Command {
    Command::CreateToken {
        jti: jti(number),
        name: String::new(),
        expires_ms: UnixMs(3_600_000),
        role: zlayer_core::record::TokenRole::Worker,
        uses_max: 10_000,
        labels: Labels::new(),
        labels_allowed: Vec::new(),
    }
}

pub(super) fn redeem(token: u64, key: u64) -> Command {
    Command::Redeem {
        jti: jti(token),
        name: String::new(),
        labels: Labels::new(),
        profile: Profile::default(),
        certificate: CertificateRecord {
            serial: format!("{key:x}"),
            key_hash: format!("{key:064x}"),
            not_after_ms: UnixMs(86_400_000),
        },
    }
}

/// Nothing was done, for certain.
pub(super) fn is_refused(error: &ProposeError) -> bool {
    matches!(
        error,
        ProposeError::NotLeader { .. } | ProposeError::NoLeader | ProposeError::Overloaded
    )
}
