//! Proposing: into openraft's queue at once, and back with an answer that says what is known.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::task::unconstrained;
use zlayer_core::command::{Command, Entry, Outcome, Refusal};

use crate::control_log::{LeaderId, ProposeFuture};
use crate::error::ProposeError;
use crate::replicated::engine::Engine;
use crate::replicated::types::{Encoded, LeaderOf, Reply, Types};

impl Engine {
    /// Proposes a command; to be taken only in one time in office, if that is given.
    pub(crate) fn submit(
        &self,
        command: Command,
        only_as: Option<LeaderId>,
    ) -> ProposeFuture<Outcome> {
        let entry = Entry { stamp_ms: (self.clock)(), command };
        let encoded = match Encoded::new(entry) {
            Ok(encoded) => encoded,
            Err(why) => return refused(why),
        };
        let bytes = encoded.bytes().len();
        if bytes > self.entry_bytes_max {
            let max = self.entry_bytes_max;
            return refused(format!("a command of {bytes} bytes is longer than {max}"));
        }
        if self.is_closing.load(Ordering::Acquire) {
            return answered(Err(ProposeError::stopped(&"the log was shut down")));
        }
        let (slot, answer) = match self.pending.begin(bytes as u64) {
            Ok(begun) => begun,
            Err(error) => return answered(Err(error)),
        };
        let reply = Reply::new({
            let slot = Arc::clone(&slot);
            move |result| slot.finish(outcome_of(result))
        });
        let raft = self.raft.clone();
        // One look puts it into openraft's queue, as long as no task's budget of operations interferes.
        let mut write = Box::pin(unconstrained(async move {
            let mut write = raft.write(encoded).responder(reply);
            if let Some(LeaderId { term, node }) = only_as {
                write = write.with_leader(LeaderOf { term, node_id: node });
            }
            write.await
        }));
        match write.as_mut().now_or_never() {
            Some(Ok(())) => {}
            Some(Err(error)) => slot.finish(Err(ProposeError::stopped(&error))),
            // The queue is full, or openraft ends just now: it must be seen through, since a future that is dropped
            // while it waits for openraft's end takes all others with it.
            None => drop(self.handle.spawn(async move {
                if let Err(error) = write.await {
                    slot.finish(Err(ProposeError::stopped(&error)));
                }
            })),
        }
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(ProposeError::stopped(&"nobody answered")))
        })
    }
}

pub(crate) fn answered<T: Send + 'static>(result: Result<T, ProposeError>) -> ProposeFuture<T> {
    Box::pin(ready(result))
}

/// A command that never gets into the log.
fn refused(why: String) -> ProposeFuture<Outcome> {
    let field = "command".into();
    answered(Ok(Outcome::Refused { refusal: Refusal::Invalid { field, why } }))
}

fn outcome_of(result: Option<ClientWriteResult<Types>>) -> Result<Outcome, ProposeError> {
    match result {
        Some(Ok(response)) => Ok(response.data),
        Some(Err(ClientWriteError::ForwardToLeader(forward))) => {
            Err(ProposeError::elsewhere(forward.leader_id))
        }
        Some(Err(ClientWriteError::LogEntryDiscarded(_))) => {
            Err(ProposeError::Unknown { why: "another server leads now".into() })
        }
        Some(Err(error)) => Err(ProposeError::Unknown { why: error.to_string() }),
        None => Err(ProposeError::stopped(&"the engine ended before it was answered")),
    }
}
