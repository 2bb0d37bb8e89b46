//! Reading the state while the log applies to it.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use zlayer_core::command::{Entry, Outcome};
use zlayer_core::state::State;

/// Shared access to the control state: any number of readers, and the log as the one writer.
#[derive(Debug)]
pub struct StateView {
    state: RwLock<State>,
}

impl StateView {
    pub(crate) fn new(state: State) -> Self {
        Self { state: RwLock::new(state) }
    }

    /// Looks at the state. The log can't apply meanwhile: copy out what is needed and return soon; never call
    /// back into the log from within.
    pub fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.read())
    }

    /// A copy, which shares its records with the state.
    pub(crate) fn copy(&self) -> State {
        self.read().clone()
    }

    /// Applies one entry. Also gives the newest event's revision after it.
    pub(crate) fn apply(&self, index: u64, entry: &Entry) -> (Outcome, u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = state.apply(index, entry);
        (outcome, state.revision())
    }

    /// Puts another state in its place.
    pub(crate) fn replace(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Moves the applied position on, so that the next entry is out of order.
    #[cfg(test)]
    pub(crate) fn apply_for_test(&self, index: u64) {
        use zlayer_core::command::Command;
        let command = Command::HoldExpiry { due: 0, leases: 0 };
        self.apply(index, &Entry { stamp_ms: zlayer_core::time::UnixMs(0), command });
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while applying stops the log, so what is read is the last that will ever be there.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
