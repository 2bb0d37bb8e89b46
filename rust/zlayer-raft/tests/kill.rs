//! A process that commits is killed, again and again: what it had acknowledged is there, and nothing twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "the child tells the parent over it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use zlayer_core::command::{Command, Outcome, Refusal};
use zlayer_core::record::{CertificateRecord, Labels, NodeId, Profile};
use zlayer_core::time::UnixMs;
use zlayer_raft::{ControlLog, LogOptions, SingleVoter};

/// Tells the child where its log is, and which key it begins with.
const DIR: &str = "ZLAYER_KILL_TEST_DIR";
const FIRST_KEY: &str = "ZLAYER_KILL_TEST_FIRST_KEY";

/// Commands that the child has in flight.
const IN_FLIGHT: usize = 16;
const USES_MAX: u32 = 3_000;
const ROUNDS: u64 = 8;

/// Acknowledgements after which a round's child is killed, at least. Every round another, so that the kill falls into
/// batches, snapshots and new segments alike.
fn patience(round: u64) -> usize {
    (40 + round * 67) as usize
}

fn jti() -> String {
    format!("{:032x}", 1)
}

fn key_hash(key: u64) -> String {
    format!("{key:064x}")
}

fn open(dir: &Path) -> SingleVoter {
    SingleVoter::open(LogOptions {
        dir: dir.to_owned(),
        cluster_id: "zl-kill".into(),
        node_id: 1,
        snapshot_bytes: 32 << 10,
    })
    .unwrap()
}

fn redeem(key: u64) -> Command {
    Command::Redeem {
        jti: jti(),
        name: String::new(),
        labels: Labels::new(),
        profile: Profile::default(),
        certificate: CertificateRecord {
            serial: format!("{key:x}"),
            key_hash: key_hash(key),
            not_after_ms: UnixMs(u64::MAX),
        },
    }
}

/// Commits and says so, for ever.
async fn commit_until_killed(dir: &Path, first_key: u64) {
    let log = open(dir);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let created = log.propose(Command::CreateToken {
        jti: jti(),
        name: String::new(),
        expires_ms: UnixMs(now + 3_600_000),
        role: zlayer_core::record::TokenRole::Worker,
        uses_max: USES_MAX,
        labels: Labels::new(),
        labels_allowed: Vec::new(),
    });
    let created = created.await.unwrap();
    let exists = Outcome::Refused { refusal: Refusal::TokenExists { jti: jti() } };
    assert!(created == Outcome::Done || created == exists, "{created:?}");
    let mut in_flight = VecDeque::new();
    for key in first_key.. {
        in_flight.push_back((key, log.propose(redeem(key))));
        if in_flight.len() < IN_FLIGHT {
            continue;
        }
        let (key, proposal) = in_flight.pop_front().unwrap();
        match proposal.await.unwrap() {
            Outcome::Redeemed { node_id, .. } => {
                println!("\nack {key} {node_id} .");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Starts a child, reads what it acknowledges, kills it when that is enough. What it wrote before the kill counts.
fn round(dir: &Path, round: u64, first_key: u64) -> BTreeMap<u64, NodeId> {
    let mut child = Process::new(env::current_exe().unwrap())
        .args(["--exact", "acknowledged_commits_survive_kill", "--nocapture"])
        .env(DIR, dir)
        .env(FIRST_KEY, first_key.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(words) = line.strip_prefix("ack ") else { continue };
        // The last line may be cut where the kill fell; a whole one ends in a dot.
        let [key, node, "."] = words.split(' ').collect::<Vec<_>>()[..] else { continue };
        acknowledged.insert(key.parse().unwrap(), node.parse().unwrap());
        if acknowledged.len() == patience(round) && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself after {} commits", acknowledged.len());
    acknowledged
}

#[test]
fn acknowledged_commits_survive_kill() {
    if let Some(dir) = env::var_os(DIR) {
        let first_key = env::var(FIRST_KEY).unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        return runtime.block_on(commit_until_killed(&PathBuf::from(dir), first_key));
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("control");
    let mut all: BTreeMap<u64, NodeId> = BTreeMap::new();
    for number in 0..ROUNDS {
        // Begins before the last acknowledgement: keys come again that were answered, and such that were not.
        let first_key = all.keys().last().map_or(0, |last| last.saturating_sub(5));
        for (key, node) in round(&dir, number, first_key) {
            let before = all.insert(key, node);
            assert!(before.is_none_or(|before| before == node), "key {key} got another id");
        }
    }
    let log = open(&dir);
    assert_eq!(log.health().term, ROUNDS + 1);
    log.state().with_state(|state| {
        state.check_invariants();
        let uses = &state.token(&jti()).unwrap().uses;
        for (key, node) in &all {
            assert_eq!(uses.get(&key_hash(*key)), Some(node), "a use of key {key} is lost");
            assert!(state.node(*node).is_some(), "node {node} is lost");
        }
        let ids: BTreeSet<_> = uses.values().collect();
        assert_eq!(ids.len(), uses.len(), "an id was given twice");
        assert_eq!(
            state.nodes().count(),
            uses.len(),
            "a node without a use, or a use without a node"
        );
        assert!(uses.len() <= USES_MAX as usize);
        let page = state.events_after(0, usize::MAX);
        // One event each, and one for the token.
        assert_eq!(page.last_revision, uses.len() as u64 + 1);
    });
}
