//! openraft's own suite for storages, on ours.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

use crate::replicated::load::load;
use crate::replicated::machine::{Core, Machine};
use crate::replicated::planted::Planted;
use crate::replicated::store::LogStore;
use crate::replicated::tests::rig::Cluster;
use crate::replicated::types::Types;
use crate::{Machine as Ground, ReplicatedOptions};

/// Keeps the log's directory, and what must outlive the store.
struct Guard {
    _dir: TempDir,
    _copies: std::sync::Mutex<std::sync::mpsc::Receiver<crate::replicated::machine::Copy>>,
}

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let options =
            ReplicatedOptions { dir: dir.path().join("log"), ..Cluster::empty().options(1) };
        let loaded = load(&options, &Ground::default(), Planted::default()).unwrap();
        let bytes = options.limits.message_bytes;
        let store = LogStore::new(loaded.wal, loaded.book, bytes, Planted::default());
        let (core, copies) = Core::new(loaded.image, loaded.shelf, u64::MAX, Planted::default());
        let guard = Guard { _dir: dir, _copies: std::sync::Mutex::new(copies) };
        Ok((guard, store, Machine(Arc::new(core))))
    }
}

#[test]
fn openrafts_suite_for_storages_passes() {
    Types::run(async { Suite::test_all(Builder).await.unwrap() });
}
