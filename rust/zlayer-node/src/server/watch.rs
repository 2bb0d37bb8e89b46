//! The stream that answers `WatchAssignments`: an empty snapshot, and then nothing until work can be assigned.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tonic::Status;
use zlayer_wire::v1::{AssignmentEvent, AssignmentSnapshot, assignment_event::Kind};

use super::connection::Connection;

/// Desired state of one worker.
pub(crate) struct AssignmentStream {
    connection: Arc<Connection>,
    snapshot_sent: bool,
    done: bool,
}

impl AssignmentStream {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        connection.hold_open();
        Self { connection, snapshot_sent: false, done: false }
    }
}

impl Stream for AssignmentStream {
    type Item = Result<AssignmentEvent, Status>;

    /// Needs no waker of its own: whoever ends the connection wakes the task that polls this.
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(why) = self.connection.ending() {
            self.done = true;
            return Poll::Ready(Some(Err(why.status())));
        }
        if self.snapshot_sent {
            return Poll::Pending;
        }
        self.snapshot_sent = true;
        let kind = Some(Kind::Snapshot(AssignmentSnapshot {}));
        Poll::Ready(Some(Ok(AssignmentEvent { revision: 0, kind })))
    }
}

impl Drop for AssignmentStream {
    fn drop(&mut self) {
        self.connection.let_go();
    }
}
