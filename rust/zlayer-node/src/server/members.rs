//! What is asked of the cluster of servers: members, and who leads. Answered on this server; `forward` finds the one
//! that can.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;
use zlayer_core::command::{Command, HeldLock, Outcome};
use zlayer_core::record::ServerRecord;
use zlayer_raft::{
    ControlLog, LogHealth, MembershipError, PeerHealth, ProposeError, Replicated, Role, backup,
};

use super::shared::Shared;
use crate::clock::Clock;
use crate::options::MemberOptions;

/// Between two tries to form the cluster. Chosen: the others start within seconds.
const FORM_RETRY: Duration = Duration::from_millis(300);

/// Time without an answer after which a server counts as missing: it is not let vote, nor lead. Milliseconds.
const SILENT_MS_MAX: u64 = 5_000;

/// A question to [`super::ServerNode::ask`]. As JSON: `{"remove": {"id": 3}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked {
    /// Forms a cluster of these servers, this one among them. All others are up and new.
    Form {
        /// All of them.
        members: Vec<MemberOptions>,
    },
    /// Takes a new server in; it gets the log and does not vote. On the leader, as all below.
    Add(MemberOptions),
    /// Lets servers vote that were added, once they have caught up.
    Promote {
        /// Which.
        ids: Vec<u64>,
    },
    /// Removes a server for good.
    Remove {
        /// Which.
        id: u64,
    },
    /// Notes new addresses of a server.
    Move(MemberOptions),
    /// Hands the leadership over. Answered by a document: `leader` is the one that has it then.
    Transfer {
        /// To whom; without, to the voter that lacks least.
        #[serde(default)]
        to: Option<u64>,
    },
    /// Waits until what is read here holds all that was acknowledged anywhere before. On any server.
    Barrier {},
    /// Who is in the cluster, as the leader sees them. Answered by a document.
    Members {},
    /// Renews leases of locks. Answered by a document: `gone` are those that are held no more.
    RenewLocks {
        /// Which.
        items: Vec<HeldLock>,
    },
    /// Saves all that is acknowledged by now in a new file on this server's machine. Answered by a document.
    Snapshot {
        /// Where.
        path: PathBuf,
    },
}

impl Asked {
    /// Whether the server that is asked answers it, whoever leads.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Form { .. } | Self::Barrier {} | Self::Snapshot { .. })
    }
}

/// The answer to a command or a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// What applying the command answered; [`Outcome::Done`] for what was asked.
    Outcome(Outcome),
    /// What was asked for, as JSON.
    Document(Value),
}

impl From<Outcome> for Answered {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

/// Why a command or a question has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum AskedError {
    /// The control log says why.
    #[error(transparent)]
    Log(#[from] ProposeError),
    /// The members were not changed.
    #[error(transparent)]
    Members(#[from] MembershipError),
    /// The backup was not made.
    #[error("{why}")]
    Backup {
        /// Which file, and why.
        why: String,
    },
    /// This server has no others.
    #[error("this server is alone: it was started without the others")]
    Alone,
}

/// Asks this server, which leads where that matters.
pub(super) async fn ask(
    shared: &Shared,
    replicated: Option<&Arc<Replicated>>,
    asked: Asked,
) -> Result<Answered, AskedError> {
    let log = &shared.log;
    match asked {
        Asked::Barrier {} => {
            log.read_barrier().await?;
            return Ok(Outcome::Done.into());
        }
        Asked::Snapshot { path } => return save(log, path).await,
        Asked::RenewLocks { items } => return renew(shared, &items).await,
        _ => {}
    }
    let Some(replicated) = replicated else { return Err(AskedError::Alone) };
    match asked {
        Asked::Form { members } => replicated.form(addresses(members)),
        Asked::Add(MemberOptions { id, raft_addr, api_addr }) => {
            // Also one that was removed before it ever was a member, which the engine can't know.
            let is_struck = |server: &ServerRecord| server.removed;
            if log.state().with_state(|state| state.server(id).is_some_and(is_struck)) {
                return Err(MembershipError::Retired { id }.into());
            }
            replicated.add_learner(id, raft_addr, api_addr)
        }
        Asked::Promote { ids } => replicated.promote(ids.into_iter().collect()),
        Asked::Remove { id } => {
            strike(log, replicated, id).await?;
            return match replicated.remove(id).await {
                // It was not taken in yet, or `enrolled` was quicker.
                Ok(()) | Err(MembershipError::NotMember { .. }) => Ok(Outcome::Done.into()),
                Err(error) => Err(error.into()),
            };
        }
        Asked::Move(MemberOptions { id, raft_addr, api_addr }) => {
            replicated.move_member(id, raft_addr, api_addr)
        }
        Asked::Transfer { to } => {
            let to = to.map_or_else(|| heir(&replicated.health()), Ok)?;
            replicated.transfer_leadership(to).await?;
            return Ok(Answered::Document(json!({"leader": to})));
        }
        Asked::Members {} => {
            replicated.confirm_leader().await?;
            return Ok(Answered::Document(document(Some(replicated))));
        }
        Asked::Barrier {} | Asked::Snapshot { .. } | Asked::RenewLocks { .. } => {
            return Ok(Outcome::Done.into());
        }
    }
    .await?;
    Ok(Outcome::Done.into())
}

/// Renews on the leader, which confirms that it is before it says so.
async fn renew(shared: &Shared, items: &[HeldLock]) -> Result<Answered, AskedError> {
    let renewed =
        shared.state.with_state(|state| shared.lock_leases.renew(items, state, shared.clock.now()));
    let Some(gone) = renewed else { return Err(ProposeError::NoLeader.into()) };
    shared.log.confirm_leader().await?;
    Ok(Answered::Document(json!({"gone": gone})))
}

/// Saves a backup of the state as it is once all that was acknowledged before is in it.
async fn save(log: &Arc<dyn ControlLog>, path: PathBuf) -> Result<Answered, AskedError> {
    log.read_barrier().await?;
    let state = log.state();
    let saved = tokio::task::spawn_blocking(move || {
        let copy = state.with_state(zlayer_core::state::State::clone);
        backup::save(&path, &copy, Clock::unix())
    });
    let failed = |why: String| AskedError::Backup { why };
    let header = saved.await.map_err(|error| failed(error.to_string()))?;
    let header = header.map_err(|error| failed(error.to_string()))?;
    Ok(Answered::Document(serde_json::to_value(&header).unwrap_or_default()))
}

/// Notes that a server is to go, so that it is not taken in again, whatever becomes of the change of members.
async fn strike(
    log: &Arc<dyn ControlLog>,
    replicated: &Replicated,
    id: u64,
) -> Result<(), AskedError> {
    let members = replicated.members();
    let is_recorded = log.state().with_state(|state| state.server(id).is_some());
    if !members.peers.contains_key(&id) && !is_recorded {
        return Err(MembershipError::NotMember { id }.into());
    }
    if members.voters.len() == 1 && members.voters.contains(&id) {
        return Err(MembershipError::LastVoter.into());
    }
    log.propose(Command::RemoveServer { id }).await?;
    Ok(())
}

fn addresses(members: Vec<MemberOptions>) -> BTreeMap<u64, (String, String)> {
    members.into_iter().map(|member| (member.id, (member.raft_addr, member.api_addr))).collect()
}

/// Forms the cluster that the options name, once all of it is up; nothing where there are members already.
pub(super) async fn form(replicated: Arc<Replicated>, members: Vec<MemberOptions>) {
    let addresses = addresses(members);
    let mut before = None;
    while replicated.members().peers.is_empty() {
        match replicated.form(addresses.clone()).await {
            Ok(()) => return tracing::info!(servers = addresses.len(), "the cluster is formed"),
            Err(MembershipError::AlreadyFormed | MembershipError::Stopped { .. }) => return,
            Err(error) => {
                if before.as_ref() != Some(&error) {
                    tracing::info!(%error, "the cluster is not formed yet");
                    before = Some(error);
                }
            }
        }
        tokio::time::sleep(FORM_RETRY).await;
    }
}

/// Hands the leadership to the voter that lacks least; whether another server leads then.
pub(super) async fn hand_over(replicated: Arc<Replicated>, limit: Duration) -> bool {
    let Ok(to) = heir(&replicated.health()) else { return false };
    match timeout(limit, replicated.transfer_leadership(to)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(to, %error, "the leadership was not handed over");
            false
        }
        Err(_) => false,
    }
}

/// The voter to hand the leadership to: of those that answer, the one that lacks least.
fn heir(health: &LogHealth) -> Result<u64, MembershipError> {
    if health.role != Role::Leader {
        return Err(MembershipError::NoLeader);
    }
    let voters = health.peers.iter().filter(|peer| peer.is_voter);
    // A dead one lacks nothing either where nothing is written.
    let heir = voters.min_by_key(|peer| (!answers(peer), peer.lag, peer.silent_ms, peer.id));
    heir.map(|peer| peer.id).ok_or(MembershipError::LastVoter)
}

/// Whether a server has answered the leader of late.
pub(super) fn answers(peer: &PeerHealth) -> bool {
    peer.silent_ms.is_some_and(|silent| silent < SILENT_MS_MAX)
}

/// Who is in the cluster, as JSON.
pub(super) fn show(replicated: Option<&Arc<Replicated>>) -> Vec<u8> {
    serde_json::to_vec(&document(replicated)).unwrap_or_default()
}

/// What a member does, as far as others see it.
fn role(votes: bool, leads: bool) -> &'static str {
    match (votes, leads) {
        (_, true) => "leader",
        (true, false) => "voter",
        (false, false) => "learner",
    }
}

/// The members; how far each is, and when it was heard, where this server leads.
fn document(replicated: Option<&Arc<Replicated>>) -> Value {
    let members = replicated.map(|replicated| replicated.members()).unwrap_or_default();
    let health = replicated.map(|replicated| replicated.health()).unwrap_or_default();
    let items: Vec<_> = members
        .peers
        .iter()
        .map(|(id, peer)| {
            let seen = health.peers.iter().find(|seen| seen.id == *id);
            let votes = members.voters.contains(id);
            json!({
                "id": id,
                "raft_addr": peer.raft_addr,
                "api_addr": peer.api_addr,
                "voter": votes,
                "role": role(votes, health.leader == Some(*id)),
                "matched": seen.map(|seen| seen.matched),
                "lag": seen.map(|seen| seen.lag),
                "silent_ms": seen.and_then(|seen| seen.silent_ms),
                "refused": seen.and_then(|seen| seen.refused.clone()),
            })
        })
        .collect();
    json!({
        "items": items,
        "is_changing": members.is_changing,
        "leader": health.leader,
        "term": health.term,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zlayer_raft::Peer;

    fn peer(id: u64, lag: u64, silent_ms: Option<u64>) -> PeerHealth {
        let peer = Peer { raft_addr: String::new(), api_addr: String::new(), store: 1 };
        PeerHealth { id, peer, is_voter: true, matched: 9, lag, silent_ms, refused: None }
    }

    fn leader(peers: Vec<PeerHealth>) -> LogHealth {
        LogHealth { role: Role::Leader, peers, ..LogHealth::default() }
    }

    #[test]
    fn the_heir_answers_and_lacks_least() {
        let learner = PeerHealth { is_voter: false, ..peer(5, 0, Some(1)) };
        let quick = peer(3, 4, Some(20));
        let others = vec![peer(2, 0, Some(60_000)), quick, peer(4, 9, Some(1)), learner.clone()];
        assert_eq!(heir(&leader(others)), Ok(3), "the dead one lacks nothing, and can't lead");
        assert_eq!(heir(&leader(vec![peer(2, 0, None), peer(3, 7, Some(1))])), Ok(3));
        assert_eq!(heir(&leader(vec![peer(3, 0, Some(9)), peer(2, 0, Some(9))])), Ok(2));
        assert_eq!(heir(&leader(vec![learner])), Err(MembershipError::LastVoter));
        assert_eq!(heir(&LogHealth::default()), Err(MembershipError::NoLeader));
    }
}
