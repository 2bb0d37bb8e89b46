//! What a backup becomes in another cluster.

use std::sync::Arc;

use super::{State, keys};
use crate::record::{FIRST_WORKER_ID, Liveness, Reason};

impl State {
    /// This state, as the beginning of another cluster's. Nodes are remembered and gone: their certificates are of the
    /// old cluster, and they enrol again. Tokens, locks and servers were the old cluster's, and are forgotten.
    #[must_use]
    pub fn restored(mut self, cluster_id: String) -> Self {
        self.digest.fold(&cluster_id);
        self.cluster_id = cluster_id;
        for node in self.nodes.values_mut() {
            if node.liveness != Liveness::Left {
                let node = Arc::make_mut(node);
                node.liveness = Liveness::Unreachable;
                node.reason = Reason::NotReconnected;
                node.epoch += 1;
            }
        }
        self.nodes.retain(|id, _| *id >= FIRST_WORKER_ID);
        self.peers_removed.clear();
        self.tokens.clear();
        self.locks.clear();
        self.locks_revision = self.applied_index;
        for (id, server) in std::mem::take(&mut self.servers) {
            if let Some(held) = &server.certificate
                && let Some(key) = keys::parse(&held.key_hash)
            {
                self.keys.release(key, id, held.not_after_ms);
            }
        }
        self
    }
}
