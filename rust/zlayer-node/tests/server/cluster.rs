//! A server under test, with its CA, and how to wait for what it says.

use std::cell::Cell;
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
use zlayer_node::{Answered, Completion, ServerLimits, ServerNode, ServerOptions};

use crate::pki::{CLUSTER, Ca, Leaf};

/// Far beyond what anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const HOUR_MS: u64 = 3_600_000;

pub(crate) struct Cluster {
    pub(crate) ca: Ca,
    pub(crate) node: ServerNode,
    pub(crate) options: ServerOptions,
    /// Counts commands, tokens and keys: none is used twice.
    numbers: Cell<u64>,
    dir: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With limits that suit the test.
    pub(crate) fn limited(set: impl FnOnce(&mut ServerLimits)) -> Self {
        Self::with(|options| set(&mut options.limits))
    }

    pub(crate) fn with(set: impl FnOnce(&mut ServerOptions)) -> Self {
        let (ca, dir) = (Ca::new(), TempDir::new().unwrap());
        let server = ca.server();
        let mut options = ServerOptions {
            cluster_id: CLUSTER.into(),
            node_id: 1,
            listen: "127.0.0.1:0".into(),
            join_socket: dir.path().join("join.sock"),
            control_dir: dir.path().join("control"),
            certificate_pem: server.cert,
            key_pem: server.key,
            ca_pem: ca.pem.clone(),
            ttl: AdaptiveTtlConfig {
                min_ttl_secs: 10,
                max_ttl_secs: 600,
                grace_secs: 10,
                max_heartbeats_per_second: 50,
                failover_ttl_secs: 300,
            },
            limits: ServerLimits::default(),
            raft: None,
        };
        set(&mut options);
        std::fs::create_dir(&options.control_dir).unwrap();
        let node = ServerNode::start(&options).unwrap();
        Self { ca, node, options, numbers: Cell::new(0), dir }
    }

    /// Shuts it down and starts it anew, on the same data and the same port.
    pub(crate) fn restart(mut self) -> Self {
        self.options.listen = self.address().to_string();
        self.node.shutdown(PATIENCE);
        self.node = ServerNode::start(&self.options).unwrap();
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.node.local_addr()
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// Waits for the descriptor, and takes the answers.
    pub(crate) fn drain(&self, patience: Duration) -> Vec<Completion> {
        // SAFETY: the server outlives this call and owns the descriptor.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(self.node.wake_fd()) };
        let timeout = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
        self.node.drain(usize::MAX)
    }

    pub(crate) fn propose(&self, command: Command) -> Outcome {
        let ticket = self.number();
        self.node.submit(ticket, command);
        let until = Instant::now() + PATIENCE;
        loop {
            let mine = self.drain(PATIENCE).into_iter().find(|done| done.ticket == ticket);
            if let Some(done) = mine {
                let Answered::Outcome(outcome) = done.result.unwrap() else {
                    panic!("a command is answered by an outcome");
                };
                return outcome;
            }
            assert!(Instant::now() < until, "no answer to a command");
        }
    }

    /// Makes a token with one use; returns its id.
    pub(crate) fn token(&self) -> String {
        self.token_of(1)
    }

    pub(crate) fn token_of(&self, uses_max: u32) -> String {
        let jti = format!("{:032x}", self.number());
        let token = Command::CreateToken {
            jti: jti.clone(),
            name: String::new(),
            expires_ms: UnixMs(Clock::unix().0 + HOUR_MS),
            role: zlayer_core::record::TokenRole::Worker,
            uses_max,
            labels: Labels::new(),
            labels_allowed: Vec::new(),
        };
        assert_eq!(self.propose(token), Outcome::Done);
        jti
    }

    /// Asks for a new node of a token, as the Enrollment service does.
    pub(crate) fn redeem(&self, jti: String) -> Command {
        let certificate = CertificateRecord {
            serial: "1".into(),
            key_hash: format!("{:064x}", self.number()),
            not_after_ms: UnixMs(Clock::unix().0 + 24 * HOUR_MS),
        };
        let (name, labels, profile) = (String::new(), Labels::new(), Profile::default());
        Command::Redeem { jti, name, labels, profile, certificate }
    }

    /// A new node, and its certificate.
    pub(crate) fn enrol(&self) -> (NodeId, Leaf) {
        match self.propose(self.redeem(self.token())) {
            Outcome::Redeemed { node_id, .. } => (node_id, self.ca.worker(node_id)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn remove(&self, node_id: NodeId) {
        assert_eq!(self.propose(Command::RemoveNode { node_id }), Outcome::Done);
    }

    pub(crate) fn show(&self, id: NodeId) -> Value {
        serde_json::from_slice(&self.node.node_json(id).unwrap()).unwrap()
    }

    /// A counter; one that has never counted is 0.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let all: Value = serde_json::from_slice(&self.node.metrics_json()).unwrap();
        all[name].as_u64().unwrap_or(0)
    }

    /// What happened to a node, after its enrolment.
    pub(crate) fn story(&self, id: NodeId) -> Vec<String> {
        let page: Value = serde_json::from_slice(&self.node.events_json(0, usize::MAX)).unwrap();
        let of_node = page["items"].as_array().unwrap().iter().filter(|e| e["node_id"] == id);
        of_node.skip(1).map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until this has happened to a node, in this order, and nothing else.
    pub(crate) fn wait_story(&self, id: NodeId, story: &[&str]) {
        self.wait(&format!("{story:?}"), |cluster| cluster.story(id) == story);
    }

    /// Waits until it is so. A look, not an event, so it is asked again.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            let metrics = String::from_utf8(self.node.metrics_json()).unwrap();
            assert!(Instant::now() < until, "{what}: {metrics}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn wait_metric(&self, name: &str, at_least: u64) {
        self.wait(name, |cluster| cluster.metric(name) >= at_least);
    }

    pub(crate) fn wait_state(&self, id: NodeId, state: &str) {
        self.wait(state, |cluster| cluster.show(id)["state"] == state);
    }
}
