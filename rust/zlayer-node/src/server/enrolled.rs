//! Makes the members of the cluster what the control state says of servers: who enrolled is taken in and votes once it
//! has caught up, who was removed goes. On the leader; what another one left half done is finished here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use zlayer_core::command::{Command, Outcome};
use zlayer_core::record::{NodeId, ServerRecord};
use zlayer_raft::{ControlLog, LogHealth, Members, MembershipError, Replicated, VOTER_LAG_MAX};

use super::members::answers;
use super::shared::Shared;

/// Between two looks. Chosen: what a person does not mind to wait.
const LOOK: Duration = Duration::from_millis(500);

/// Wait after the first failed try with a server; doubles up to [`REST_MAX`].
const REST_FIRST: Duration = Duration::from_millis(500);

/// See [`REST_FIRST`]. Chosen: a server that starts late is found soon, and one that never does costs nothing.
const REST_MAX: Duration = Duration::from_secs(15);

/// What is to be done about one server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It is a member, and the control state does not know it, or not where it is.
    Note { raft_addr: String, api_addr: String },
    /// It enrolled, and is no member.
    Add { raft_addr: String, api_addr: String },
    /// It enrolled, and does not vote.
    Promote,
    /// It was removed, and is a member.
    Remove,
}

/// A server that something failed with.
struct Resting {
    until: Instant,
    next: Duration,
    why: String,
}

/// See the module.
pub(super) struct Enrolled {
    pub(super) shared: Arc<Shared>,
    pub(super) replicated: Arc<Replicated>,
}

impl Enrolled {
    /// Runs until the server stops.
    pub(super) async fn run(self) {
        let stopping = self.shared.stopping.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut resting: HashMap<NodeId, Resting> = HashMap::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = looks.tick() => {}
            }
            if !self.shared.engine.leads() {
                resting.clear();
                continue;
            }
            let health = self.replicated.health();
            for (id, step) in steps(&self.replicated.members(), &self.records()) {
                // Looked at again and again rather than waited for: no other change is let in meanwhile.
                if step == Step::Promote && !is_near(&health, id) {
                    continue;
                }
                if resting.get(&id).is_some_and(|rest| Instant::now() < rest.until) {
                    continue;
                }
                let taken = tokio::select! {
                    () = stopping.cancelled() => return,
                    taken = self.take(id, step.clone()) => taken,
                };
                match taken {
                    Ok(()) => {
                        tracing::info!(
                            server = id,
                            ?step,
                            "the members are as the control state says"
                        );
                        resting.remove(&id);
                    }
                    Err(why) => rest(&mut resting, id, &step, why),
                }
            }
        }
    }

    fn records(&self) -> BTreeMap<NodeId, ServerRecord> {
        self.shared
            .state
            .with_state(|state| state.servers().map(|server| (server.id, server.clone())).collect())
    }

    async fn take(&self, id: NodeId, step: Step) -> Result<(), String> {
        let done: Result<(), MembershipError> = match step {
            Step::Note { raft_addr, api_addr } => {
                let note = Command::NoteServer { id, raft_addr, api_addr };
                return match self.shared.log.propose(note).await {
                    Ok(Outcome::Refused { refusal }) => Err(refusal.to_string()),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.to_string()),
                };
            }
            Step::Add { raft_addr, api_addr } => {
                self.replicated.add_learner(id, raft_addr, api_addr).await
            }
            Step::Promote => self.replicated.promote(BTreeSet::from([id])).await,
            Step::Remove => self.replicated.remove(id).await,
        };
        done.map_err(|error| error.to_string())
    }
}

fn rest(resting: &mut HashMap<NodeId, Resting>, id: NodeId, step: &Step, why: String) {
    let rest = resting.entry(id).or_insert_with(|| Resting {
        until: Instant::now(),
        next: REST_FIRST,
        why: String::new(),
    });
    if rest.why != why {
        tracing::warn!(server = id, ?step, why, "a server is not as the control state says yet");
        rest.why = why;
    }
    rest.until = Instant::now() + rest.next;
    rest.next = (rest.next * 2).min(REST_MAX);
}

/// Whether a server answers, and has nearly all of the log.
fn is_near(health: &LogHealth, id: NodeId) -> bool {
    health
        .peers
        .iter()
        .filter(|peer| peer.id == id)
        .any(|peer| answers(peer) && peer.matched > 0 && peer.lag <= VOTER_LAG_MAX)
}

/// What is to be done, by id.
fn steps(members: &Members, records: &BTreeMap<NodeId, ServerRecord>) -> Vec<(NodeId, Step)> {
    let mut steps = Vec::new();
    for (id, peer) in &members.peers {
        let (raft_addr, api_addr) = (peer.raft_addr.clone(), peer.api_addr.clone());
        let is_noted = |known: &ServerRecord| {
            known.removed || known.raft_addr == raft_addr && known.api_addr == api_addr
        };
        if !records.get(id).is_some_and(is_noted) {
            steps.push((*id, Step::Note { raft_addr, api_addr }));
        }
    }
    for (id, record) in records {
        // Who was a member before tokens were is added and promoted by whoever made it one.
        let enrolled = record.certificate.is_some();
        match members.peers.contains_key(id) {
            true if record.removed => steps.push((*id, Step::Remove)),
            true if enrolled && !members.voters.contains(id) => steps.push((*id, Step::Promote)),
            false if enrolled => {
                let (raft_addr, api_addr) = (record.raft_addr.clone(), record.api_addr.clone());
                steps.push((*id, Step::Add { raft_addr, api_addr }));
            }
            true | false => {}
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;
    use zlayer_core::record::CertificateRecord;
    use zlayer_core::time::UnixMs;
    use zlayer_raft::Peer;

    fn record(id: NodeId, enrolled: bool, removed: bool) -> (NodeId, ServerRecord) {
        let certificate = CertificateRecord {
            serial: "1".into(),
            key_hash: String::new(),
            not_after_ms: UnixMs(1),
        };
        let record = ServerRecord {
            id,
            name: String::new(),
            raft_addr: format!("h{id}:1"),
            api_addr: format!("h{id}:2"),
            token_jti: String::new(),
            certificate: (enrolled && !removed).then_some(certificate),
            enrolled_ms: UnixMs(0),
            removed,
        };
        (id, record)
    }

    fn members(ids: &[NodeId], voters: &[NodeId]) -> Members {
        let peer =
            |id| Peer { raft_addr: format!("h{id}:1"), api_addr: format!("h{id}:2"), store: 1 };
        Members {
            voters: voters.iter().copied().collect(),
            peers: ids.iter().map(|id| (*id, peer(*id))).collect(),
            is_changing: false,
        }
    }

    #[test]
    fn who_enrolled_is_added_then_promoted_and_who_was_removed_goes() {
        let (raft_addr, api_addr) = ("h2:1".to_owned(), "h2:2".to_owned());
        let add = Step::Add { raft_addr, api_addr };
        let records = |all: &[(NodeId, ServerRecord)]| all.iter().cloned().collect();
        let known = [record(1, false, false), record(2, true, false)];
        assert_eq!(steps(&members(&[1], &[1]), &records(&known)), [(2, add)]);
        assert_eq!(steps(&members(&[1, 2], &[1]), &records(&known)), [(2, Step::Promote)]);
        assert_eq!(steps(&members(&[1, 2], &[1, 2]), &records(&known)), []);
        let gone = [record(1, false, false), record(2, true, true)];
        assert_eq!(steps(&members(&[1, 2], &[1, 2]), &records(&gone)), [(2, Step::Remove)]);
        assert_eq!(steps(&members(&[1], &[1]), &records(&gone)), []);
        // A learner that nobody enrolled stays one.
        let learner = [record(1, false, false), record(3, false, false)];
        assert_eq!(steps(&members(&[1, 3], &[1]), &records(&learner)), []);
    }

    #[test]
    fn members_are_noted_where_they_are() {
        let (raft_addr, api_addr) = ("h1:1".to_owned(), "h1:2".to_owned());
        let note = Step::Note { raft_addr, api_addr };
        assert_eq!(steps(&members(&[1], &[1]), &BTreeMap::new()), [(1, note.clone())]);
        let mut elsewhere = record(1, false, false);
        elsewhere.1.raft_addr = "before:1".into();
        assert_eq!(steps(&members(&[1], &[1]), &BTreeMap::from([elsewhere])), [(1, note)]);
    }
}
