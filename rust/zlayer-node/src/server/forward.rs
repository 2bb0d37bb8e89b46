//! Any server takes any command and any question: one that does not lead passes them on to the one that does.
//!
//! What was certainly not done is tried again, with whoever leads then. What may have been done is told as unknown, but
//! for commands that can be given twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};
use zlayer_core::command::Command;
use zlayer_core::record::NodeId;
use zlayer_raft::{MembershipError, ProposeError, Replicated, Target, TransportError};

use super::members::{Answered, Asked, AskedError, ask};
use super::shared::Shared;
use crate::peers::PeerTransport;

/// For a leader to be there. Chosen: several elections, and less than what a person waits for.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// Between two tries with a leader that says that it is none. Chosen: the next one is heard of within that.
const AGAIN: Duration = Duration::from_millis(50);

/// For the leader's answer to a command. The control log gives up earlier by itself.
const COMMAND_LIMIT: Duration = Duration::from_secs(12);

/// For its answer to a question: a server may have to get the whole log first.
const QUESTION_LIMIT: Duration = Duration::from_secs(70);

/// What is passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// To be proposed.
    Command(Command),
    /// To be answered.
    Asked(Asked),
}

impl Request {
    fn limit(&self) -> Duration {
        match self {
            Self::Command(_) => COMMAND_LIMIT,
            Self::Asked(_) => QUESTION_LIMIT,
        }
    }

    /// Whether the server that is asked answers it, whoever leads: it is never passed on.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Asked(asked) if asked.is_local())
    }

    /// Whether giving it twice does what giving it once does, and answers the same.
    fn is_repeatable(&self) -> bool {
        match self {
            Self::Command(command) => match command {
                // By key hash or holder, the first one's answer; a switch stays where it is.
                Command::Redeem { .. }
                | Command::RenewCertificate { .. }
                | Command::RevokeToken { .. }
                | Command::SetDraining { .. }
                | Command::RedeemServer { .. }
                | Command::NoteServer { .. }
                | Command::RemoveServer { .. }
                | Command::JoinPeer { .. }
                | Command::AcquireLock { .. }
                | Command::ReleaseLocks { .. } => true,
                // The second one would be refused, or be another event.
                Command::CreateToken { .. }
                | Command::RemoveNode { .. }
                | Command::Transition { .. }
                | Command::HoldExpiry { .. }
                | Command::Put { .. }
                | Command::Delete { .. } => false,
            },
            Self::Asked(asked) => {
                matches!(asked, Asked::Members {} | Asked::Barrier {} | Asked::RenewLocks { .. })
            }
        }
    }
}

/// See the module.
pub(super) struct Forwarder {
    pub(super) shared: Arc<Shared>,
    /// The other servers, and the way to them, where there are any.
    pub(super) others: Option<(Arc<Replicated>, Arc<PeerTransport>)>,
}

/// What another server made of a request.
enum Sent {
    /// It answered.
    Answered(Result<Answered, AskedError>),
    /// It never got it.
    Undelivered(String),
    /// It may have got it.
    Lost(String),
}

/// Answers a request on this server: another one passed it on, or this one leads.
pub(super) async fn answer(
    shared: Arc<Shared>,
    replicated: Option<Arc<Replicated>>,
    request: Request,
) -> Result<Answered, AskedError> {
    match request {
        Request::Command(command) => Ok(shared.log.propose(command).await?.into()),
        Request::Asked(asked) => ask(&shared, replicated.as_ref(), asked).await,
    }
}

impl Forwarder {
    async fn answer_here(&self, request: Request) -> Result<Answered, AskedError> {
        let replicated = self.others.as_ref().map(|(replicated, _)| Arc::clone(replicated));
        answer(Arc::clone(&self.shared), replicated, request).await
    }

    /// Answers a request here or wherever it can be answered.
    pub(super) async fn answer_anywhere(&self, request: Request) -> Result<Answered, AskedError> {
        let give_up = Instant::now() + LEADER_WAIT;
        // What may have been done stays so, whatever later tries say.
        let mut lost = None;
        let mut leadership = self.shared.log.leadership();
        loop {
            let leader = leadership.borrow_and_update().leader;
            let result = match leader {
                _ if self.is_answered_here(&request) => self.answer_here(request.clone()).await,
                Some(leader) if leader == self.shared.node_id => {
                    self.answer_here(request.clone()).await
                }
                Some(leader) => match self.send(leader, &request).await {
                    Sent::Answered(result) => result,
                    Sent::Lost(why) => Err(ProposeError::Unknown { why }.into()),
                    Sent::Undelivered(why) => {
                        tracing::debug!(leader, why, "a request did not reach the leader");
                        Err(ProposeError::NoLeader.into())
                    }
                },
                None => Err(ProposeError::NoLeader.into()),
            };
            let is_harmless =
                is_elsewhere(&result) || request.is_repeatable() && is_unknown(&result);
            if is_unknown(&result) {
                lost.get_or_insert_with(|| result.clone());
            }
            if !is_harmless || Instant::now() >= give_up {
                return if is_elsewhere(&result) { lost.unwrap_or(result) } else { result };
            }
            let again = (Instant::now() + AGAIN).min(give_up);
            match leader {
                None => drop(timeout_at(give_up, leadership.changed()).await),
                Some(_) => drop(timeout_at(again, leadership.changed()).await),
            }
        }
    }

    fn is_answered_here(&self, request: &Request) -> bool {
        self.others.is_none() || request.is_local()
    }

    async fn send(&self, leader: NodeId, request: &Request) -> Sent {
        let Some((replicated, transport)) = &self.others else {
            return Sent::Undelivered("there are no others".into());
        };
        let Some(addr) = replicated.members().peers.get(&leader).map(|peer| peer.raft_addr.clone())
        else {
            return Sent::Undelivered(format!("server {leader} is not a member"));
        };
        let body = match serde_json::to_vec(request) {
            Ok(body) => Bytes::from(body),
            Err(error) => return Sent::Undelivered(error.to_string()),
        };
        let target = Target { id: leader, addr };
        let answer = match timeout(request.limit(), transport.forward(&target, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(TransportError::Unreachable(why))) => return Sent::Undelivered(why),
            Ok(Err(error)) => return Sent::Lost(error.to_string()),
            Err(_) => return Sent::Lost(format!("server {leader} did not answer in time")),
        };
        match serde_json::from_slice(&answer) {
            // That one stopped, with or without having done it; this one goes on.
            Ok(Err(
                error @ (AskedError::Log(ProposeError::Stopped { .. })
                | AskedError::Members(MembershipError::Stopped { .. })),
            )) => Sent::Lost(format!("server {leader}: {error}")),
            Ok(result) => Sent::Answered(result),
            Err(error) => Sent::Lost(format!("the answer can't be read: {error}")),
        }
    }
}

/// Whether nothing was done, because this server does not lead.
fn is_elsewhere(result: &Result<Answered, AskedError>) -> bool {
    matches!(
        result,
        Err(AskedError::Log(ProposeError::NotLeader { .. } | ProposeError::NoLeader)
            | AskedError::Members(MembershipError::NotLeader { .. } | MembershipError::NoLeader))
    )
}

/// Whether it may have been done, or not.
fn is_unknown(result: &Result<Answered, AskedError>) -> bool {
    matches!(
        result,
        Err(AskedError::Log(ProposeError::Unknown { .. })
            | AskedError::Members(MembershipError::Unknown { .. }))
    )
}
