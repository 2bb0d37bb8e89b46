//! Reads that are not stale: on the leader, and on any other server.

use openraft::ReadPolicy;
use openraft::errors::RaftError;

use crate::error::ProposeError;
use crate::replicated::door::leader_of;
use crate::replicated::engine::Engine;
use crate::replicated::transport::Kind;
use crate::replicated::wire;

impl Engine {
    /// Confirms that this server leads, and waits until all that is committed is applied.
    pub(crate) async fn confirm(&self) -> Result<(), ProposeError> {
        let asked = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        let linearizer = asked.map_err(|error| match error {
            RaftError::APIError(error) => ProposeError::elsewhere(leader_of(&error)),
            RaftError::Fatal(error) => ProposeError::stopped(&error),
        })?;
        let limit = Some(self.timers.propose);
        match linearizer.try_await_ready(&self.raft, limit).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::NoLeader),
            Err(error) => Err(ProposeError::stopped(&error)),
        }
    }

    /// Waits until all that was acknowledged before is applied here, whoever leads.
    pub(crate) async fn read_barrier(&self) -> Result<(), ProposeError> {
        let leader = match self.confirm().await {
            Err(ProposeError::NotLeader { leader }) => leader,
            confirmed => return confirmed,
        };
        let Some(peer) = self.link.roster.peer(leader) else { return Err(ProposeError::NoLeader) };
        let nothing = |_: &mut _| Ok(());
        let deadline = self.timers.propose;
        let to = (leader, &peer);
        let asked =
            self.link.ask(to, Kind::ReadIndex, nothing, wire::get_read_index, deadline).await;
        let index = match asked {
            Ok(Ok(at)) => at.index,
            Ok(Err(leader)) => return Err(ProposeError::elsewhere(leader)),
            Err(error) => {
                tracing::debug!(%error, leader, "the leader did not say how far to read");
                return Err(ProposeError::NoLeader);
            }
        };
        let waited = self.raft.wait(Some(deadline));
        match waited.applied_index_at_least(Some(index), "a read").await {
            Ok(_) => Ok(()),
            Err(_) => Err(ProposeError::NoLeader),
        }
    }
}
