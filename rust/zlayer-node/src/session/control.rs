//! What the owner asks of a running session. Requests are kept by kind, the newest wins, so nothing can pile up.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use zlayer_wire::v1::Resources;

use super::identity::{Identity, Trust};

/// Speaks to a running session. Cheap to clone; any thread.
#[derive(Clone, Default)]
pub struct Control(Arc<Inner>);

#[derive(Default)]
struct Inner {
    asked: Mutex<Asked>,
    notify: Notify,
}

/// What was asked since the session looked last.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) resources: Option<Resources>,
    pub(crate) identity: Option<(Trust, Identity)>,
    pub(crate) leave: bool,
    pub(crate) stop: bool,
}

impl Control {
    /// Replaces the figures that the next report carries.
    pub fn set_resources(&self, resources: Resources) {
        self.ask(|asked| asked.resources = Some(resources));
    }

    /// Moves the session to a connection with this identity, then closes the old one.
    pub fn set_identity(&self, trust: Trust, identity: Identity) {
        self.ask(|asked| asked.identity = Some((trust, identity)));
    }

    /// Says goodbye, waits for the answer, ends.
    pub fn leave(&self) {
        self.ask(|asked| asked.leave = true);
    }

    /// Ends at once.
    pub fn stop(&self) {
        self.ask(|asked| asked.stop = true);
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.0.asked.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.notify.notify_one();
    }

    /// Waits until something is asked, and takes it.
    pub(crate) async fn asked(&self) -> Asked {
        self.0.notify.notified().await;
        std::mem::take(&mut *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
