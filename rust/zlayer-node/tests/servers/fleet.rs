//! Servers that form a cluster, and workers with real sessions on them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tempfile::TempDir;
use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::{CertificateRecord, Labels, NodeId, Profile};
use zlayer_core::time::UnixMs;
use zlayer_core::ttl::AdaptiveTtlConfig;
use zlayer_node::clock::Clock;
use zlayer_node::session::{SessionOptions, Timing, WorkerSession};
use zlayer_node::{
    Answered, Asked, AskedError, MemberOptions, RaftOptions, ServerLimits, ServerNode,
    ServerOptions,
};

use crate::pki::{CLUSTER, Ca, Leaf};

/// Far beyond what anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const HOUR_MS: u64 = 3_600_000;

pub(crate) struct Fleet {
    pub(crate) ca: Ca,
    pub(crate) options: Vec<ServerOptions>,
    /// By position; `None` while it is down.
    pub(crate) servers: Vec<Option<ServerNode>>,
    numbers: u64,
    /// Answers that came while another one was waited for.
    kept: RefCell<HashMap<(usize, u64), Result<Answered, AskedError>>>,
    /// 0: the engine's own.
    heartbeat_ms: u64,
    dir: TempDir,
}

/// Asks until it is so. A look, not an event, so it is asked again.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Waits for the descriptor, and takes the answer with this ticket.
fn answer(node: &ServerNode, ticket: u64) -> Result<Answered, AskedError> {
    let end = Instant::now() + PATIENCE;
    loop {
        // SAFETY: the server outlives this call and owns the descriptor.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(node.wake_fd()) };
        let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
        if let Some(done) = node.drain(usize::MAX).into_iter().find(|done| done.ticket == ticket) {
            return done.result;
        }
        assert!(Instant::now() < end, "no answer");
    }
}

fn outcome(answered: Answered) -> Outcome {
    match answered {
        Answered::Outcome(outcome) => outcome,
        Answered::Document(document) => panic!("a document: {document}"),
    }
}

impl Fleet {
    /// `count` servers that know of nobody.
    pub(crate) fn new(count: u64) -> Self {
        Self::beating(count, 0)
    }

    /// As [`Fleet::new`], with another time between heartbeats.
    fn beating(count: u64, heartbeat_ms: u64) -> Self {
        let (ca, dir) = (Ca::new(), TempDir::new().unwrap());
        let mut fleet = Self {
            ca,
            options: Vec::new(),
            servers: Vec::new(),
            numbers: 0,
            kept: RefCell::default(),
            heartbeat_ms,
            dir,
        };
        for id in 1..=count {
            let options = fleet.options_of(id);
            let node = ServerNode::start(&options).unwrap();
            fleet.options.push(ServerOptions {
                listen: node.local_addr().to_string(),
                raft: Some(fleet.raft(&node.raft_addr().unwrap().to_string())),
                ..options
            });
            fleet.servers.push(Some(node));
        }
        fleet
    }

    /// `count` servers that have formed a cluster; one of them leads.
    pub(crate) fn formed(count: u64) -> Self {
        Self::new(count).form()
    }

    /// As [`Fleet::formed`], with another time between heartbeats; an election takes 2.5 to 4 times as long to begin.
    pub(crate) fn formed_beating(count: u64, heartbeat_ms: u64) -> Self {
        Self::beating(count, heartbeat_ms).form()
    }

    fn form(self) -> Self {
        let mut fleet = self;
        let members = (0..fleet.options.len()).map(|at| fleet.member(at)).collect();
        assert_eq!(fleet.ask(0, Asked::Form { members }), Ok(Outcome::Done));
        fleet.leader();
        fleet
    }

    fn raft(&self, listen: &str) -> RaftOptions {
        RaftOptions {
            listen: listen.into(),
            advertise: String::new(),
            api_addr: String::new(),
            members: Vec::new(),
            heartbeat_ms: self.heartbeat_ms,
        }
    }

    fn options_of(&self, id: u64) -> ServerOptions {
        let leaf = self.ca.member(id);
        let dir = self.dir.path().join(id.to_string());
        std::fs::create_dir(&dir).unwrap();
        ServerOptions {
            cluster_id: CLUSTER.into(),
            node_id: id,
            listen: "127.0.0.1:0".into(),
            join_socket: dir.join("join.sock"),
            control_dir: dir.join("control"),
            certificate_pem: leaf.cert,
            key_pem: leaf.key,
            ca_pem: self.ca.pem.clone(),
            ttl: AdaptiveTtlConfig {
                min_ttl_secs: 3,
                max_ttl_secs: 600,
                grace_secs: 3,
                max_heartbeats_per_second: 50,
                failover_ttl_secs: 300,
            },
            limits: ServerLimits::default(),
            raft: Some(self.raft("127.0.0.1:0")),
        }
    }

    pub(crate) fn member(&self, at: usize) -> MemberOptions {
        let node = self.servers[at].as_ref().unwrap();
        MemberOptions {
            id: self.options[at].node_id,
            raft_addr: node.raft_addr().unwrap().to_string(),
            api_addr: String::new(),
        }
    }

    pub(crate) fn server(&self, at: usize) -> &ServerNode {
        self.servers[at].as_ref().unwrap()
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = usize> + use<> {
        let up: Vec<_> = (0..self.servers.len()).filter(|at| self.servers[*at].is_some()).collect();
        up.into_iter()
    }

    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.server(at).local_addr()
    }

    /// All worker ports, of those that are down, too, beginning with one.
    pub(crate) fn addresses_from(&self, at: usize) -> Vec<String> {
        let count = self.options.len();
        (0..count).map(|n| self.options[(at + n) % count].listen.clone()).collect()
    }

    pub(crate) fn status(&self, at: usize) -> Value {
        json(&self.server(at).status_json())
    }

    pub(crate) fn metric(&self, at: usize, name: &str) -> u64 {
        json(&self.server(at).metrics_json())[name].as_u64().unwrap_or(0)
    }

    /// Waits until one decides; returns its position.
    pub(crate) fn leader(&self) -> usize {
        let mut leads = None;
        until("a leader", || {
            leads = self.up().find(|at| self.metric(*at, "raft_leads") == 1);
            leads.is_some()
        });
        leads.unwrap()
    }

    pub(crate) fn follower(&self) -> usize {
        let leader = self.leader();
        self.up().find(|at| *at != leader).unwrap()
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn ask(&mut self, at: usize, asked: Asked) -> Result<Outcome, AskedError> {
        let ticket = self.number();
        self.server(at).ask(ticket, asked);
        answer(self.server(at), ticket).map(outcome)
    }

    pub(crate) fn ask_document(&mut self, at: usize, asked: Asked) -> Result<Value, AskedError> {
        let ticket = self.number();
        self.server(at).ask(ticket, asked);
        answer(self.server(at), ticket).map(|answered| match answered {
            Answered::Document(document) => document,
            Answered::Outcome(outcome) => panic!("an outcome: {outcome:?}"),
        })
    }

    /// The answer under a ticket, whatever comes first; what comes meanwhile is kept.
    pub(crate) fn answered(&self, at: usize, ticket: u64) -> Result<Answered, AskedError> {
        let mut answer = None;
        until("an answer", || {
            self.collect(at);
            answer = self.kept.borrow_mut().remove(&(at, ticket));
            answer.is_some()
        });
        answer.unwrap()
    }

    pub(crate) fn has_answer(&self, at: usize, ticket: u64) -> bool {
        self.collect(at);
        self.kept.borrow().contains_key(&(at, ticket))
    }

    fn collect(&self, at: usize) {
        let drained = self.server(at).drain(usize::MAX).into_iter();
        self.kept.borrow_mut().extend(drained.map(|one| ((at, one.ticket), one.result)));
    }

    /// Names of the locks that are held, as a server knows it.
    pub(crate) fn locks(&self, at: usize) -> Vec<String> {
        let page = json(&self.server(at).locks_json());
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Proposes at one server, and does not wait.
    pub(crate) fn submit(&mut self, at: usize, command: Command) -> u64 {
        let ticket = self.number();
        self.server(at).submit(ticket, command);
        ticket
    }

    /// The answers to what was submitted at a server, in that order.
    pub(crate) fn answers(&self, at: usize, tickets: &[u64]) -> Vec<Result<Outcome, AskedError>> {
        let (end, mut done) = (Instant::now() + PATIENCE, HashMap::new());
        while !tickets.iter().all(|ticket| done.contains_key(ticket)) {
            assert!(Instant::now() < end, "{} of {} answers", done.len(), tickets.len());
            let drained = self.server(at).drain(usize::MAX).into_iter();
            done.extend(drained.map(|one| (one.ticket, one.result.map(outcome))));
            std::thread::sleep(Duration::from_millis(5));
        }
        tickets.iter().map(|ticket| done.remove(ticket).unwrap()).collect()
    }

    /// Proposes at one server, whoever leads.
    pub(crate) fn propose_at(
        &mut self,
        at: usize,
        command: Command,
    ) -> Result<Outcome, AskedError> {
        let ticket = self.submit(at, command);
        self.answers(at, &[ticket]).remove(0)
    }

    /// Proposes on whoever leads, and again where it is certain that nothing was done.
    pub(crate) fn propose(&mut self, command: &Command) -> Outcome {
        let end = Instant::now() + PATIENCE;
        loop {
            let (at, ticket) = (self.leader(), self.number());
            self.server(at).submit(ticket, command.clone());
            match answer(self.server(at), ticket) {
                Ok(answered) => return outcome(answered),
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        }
    }

    pub(crate) fn token(&mut self) -> String {
        let jti = format!("{:032x}", self.number());
        let token = Command::CreateToken {
            jti: jti.clone(),
            name: String::new(),
            expires_ms: UnixMs(Clock::unix().0 + HOUR_MS),
            role: zlayer_core::record::TokenRole::Worker,
            uses_max: 1_000,
            labels: Labels::new(),
            labels_allowed: Vec::new(),
        };
        assert_eq!(self.propose(&token), Outcome::Done);
        jti
    }

    pub(crate) fn enrol(&mut self, jti: &str) -> (NodeId, Leaf) {
        let certificate = CertificateRecord {
            serial: "1".into(),
            key_hash: format!("{:064x}", self.number()),
            not_after_ms: UnixMs(Clock::unix().0 + 24 * HOUR_MS),
        };
        let (name, labels, profile) = (String::new(), Labels::new(), Profile::default());
        let jti = jti.to_owned();
        match self.propose(&Command::Redeem { jti, name, labels, profile, certificate }) {
            Outcome::Redeemed { node_id, .. } => (node_id, self.ca.worker(node_id)),
            other => panic!("{other:?}"),
        }
    }

    /// A worker whose servers are these.
    pub(crate) fn worker(
        &self,
        node_id: NodeId,
        leaf: &Leaf,
        servers: Vec<String>,
    ) -> WorkerSession {
        WorkerSession::start(SessionOptions {
            cluster_id: CLUSTER.into(),
            servers,
            node_id,
            certificate_pem: leaf.cert.clone(),
            key_pem: leaf.key.clone(),
            ca_pem: self.ca.pem.clone(),
            incarnation: node_id,
            version: "0".into(),
            timing: Timing::default(),
        })
        .unwrap()
    }

    /// Kinds of the events of a node, as a server knows them, after its enrolment.
    pub(crate) fn story(&self, at: usize, id: NodeId) -> Vec<String> {
        let page = json(&self.server(at).events_json(0, usize::MAX));
        let of_node = page["items"].as_array().unwrap().iter().filter(|e| e["node_id"] == id);
        of_node.skip(1).map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn state(&self, at: usize, id: NodeId) -> String {
        let Some(node) = self.server(at).node_json(id) else { return "unknown".into() };
        json(&node)["state"].as_str().unwrap().to_owned()
    }

    /// Ends a server at once.
    pub(crate) fn kill(&mut self, at: usize) {
        self.servers[at].take().unwrap().shutdown(PATIENCE);
    }

    /// Starts it anew, on its data and its ports.
    pub(crate) fn start(&mut self, at: usize) {
        self.servers[at] = Some(ServerNode::start(&self.options[at]).unwrap());
    }
}

/// What a session says of itself.
pub(crate) fn session(worker: &WorkerSession) -> Value {
    json(&worker.state_json())
}
