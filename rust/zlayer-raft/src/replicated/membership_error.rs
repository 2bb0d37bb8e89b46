//! Why members were not changed.

use std::collections::BTreeSet;

use openraft::errors::{ChangeMembershipError, ClientWriteError, LinearizableReadError, RaftError};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zlayer_core::record::FIRST_WORKER_ID;

use crate::replicated::door::leader_of;
use crate::replicated::link::LinkError;
use crate::replicated::refusal::PeerRefusal;
use crate::replicated::types::Types;

/// Why the members were not changed. Crosses between servers by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
pub enum MembershipError {
    /// Another server leads; ask there.
    #[error("server {leader} leads")]
    NotLeader {
        /// Who does.
        leader: u64,
    },
    /// Nobody leads just now.
    #[error("no server leads just now")]
    NoLeader,
    /// The cluster was formed already.
    #[error("the cluster was formed already")]
    AlreadyFormed,
    /// Ids of servers are 1 to 999.
    #[error("{id} is no id of a server; those are 1 to {}", FIRST_WORKER_ID - 1)]
    NoServerId {
        /// Which.
        id: u64,
    },
    /// A server with this id was removed once; it joins under a new one.
    #[error("server {id} was removed; its id is not used again")]
    Retired {
        /// Who.
        id: u64,
    },
    /// A member has this id already, at another address.
    #[error("server {id} is a member already, at {addr}")]
    AlreadyMember {
        /// Who.
        id: u64,
        /// Where.
        addr: String,
    },
    /// There is no such member.
    #[error("server {id} is not a member")]
    NotMember {
        /// Who.
        id: u64,
    },
    /// It votes already, or does not vote.
    #[error("server {id} is no learner")]
    NoLearner {
        /// Who.
        id: u64,
    },
    /// It does not vote, so that it can't lead.
    #[error("server {id} does not vote")]
    NoVoter {
        /// Who.
        id: u64,
    },
    /// Nobody would be left to vote, or to lead.
    #[error("there is no other server that votes")]
    LastVoter,
    /// The server could not be asked who it is.
    #[error("server {id} can't be reached: {why}")]
    Unreachable {
        /// Who.
        id: u64,
        /// Why.
        why: String,
    },
    /// The server does not listen, by name.
    #[error("server {id} refuses: {refusal}")]
    Refused {
        /// Who.
        id: u64,
        /// Why.
        refusal: PeerRefusal,
    },
    /// The server has a log with other members in it.
    #[error("server {id} is in a cluster of its own, with the voters {voters:?}")]
    Elsewhere {
        /// Who.
        id: u64,
        /// With whom.
        voters: BTreeSet<u64>,
    },
    /// The server does not catch up.
    #[error("server {id} is {lag} entries behind")]
    Behind {
        /// Who.
        id: u64,
        /// How far.
        lag: u64,
    },
    /// Another change is on its way.
    #[error("the members are being changed already")]
    InProgress,
    /// The change was begun, and it is not known what became of it. A leader finishes it.
    #[error("it is unknown what became of the change: {why}")]
    Unknown {
        /// Why.
        why: String,
    },
    /// The log ended.
    #[error("the control log has stopped: {error}")]
    Stopped {
        /// Why.
        error: String,
    },
}

impl MembershipError {
    pub(crate) fn elsewhere(leader: Option<u64>) -> Self {
        leader.map_or(Self::NoLeader, |leader| Self::NotLeader { leader })
    }

    pub(crate) fn stopped(error: &impl ToString) -> Self {
        Self::Stopped { error: error.to_string() }
    }

    pub(crate) fn of_link(id: u64, error: LinkError) -> Self {
        match error {
            LinkError::Refused(refusal) => Self::Refused { id, refusal },
            error => Self::Unreachable { id, why: error.to_string() },
        }
    }

    pub(crate) fn of_read(error: RaftError<Types, LinearizableReadError<Types>>) -> Self {
        match error {
            RaftError::APIError(error) => Self::elsewhere(leader_of(&error)),
            RaftError::Fatal(error) => Self::stopped(&error),
        }
    }

    pub(crate) fn of_write(error: RaftError<Types, ClientWriteError<Types>>) -> Self {
        let error = match error {
            RaftError::APIError(error) => error,
            RaftError::Fatal(error) => return Self::stopped(&error),
        };
        match error {
            ClientWriteError::ForwardToLeader(forward) => Self::elsewhere(forward.leader_id),
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(
                missing,
            )) => Self::NotMember { id: missing.node_id },
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::EmptyMembership(_)) => {
                Self::LastVoter
            }
            ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_) => Self::InProgress,
            ClientWriteError::LogEntryDiscarded(_) => {
                Self::Unknown { why: "another server leads now".into() }
            }
        }
    }
}
