//! Backup files without a server. Twin of `_bridge/backup.py`.

use std::path::Path;

use pyo3::prelude::*;
use zlayer_node::backup;

use crate::errors::CoreError;

/// What a backup says of itself, as JSON; it is read whole and checked.
#[pyfunction]
pub(crate) fn inspect_backup(py: Python<'_>, path: &str) -> PyResult<Vec<u8>> {
    let read = py.detach(|| backup::read(Path::new(path)));
    let (header, _) = read.map_err(|error| CoreError::new_err(error.to_string()))?;
    serde_json::to_vec(&header).map_err(|error| CoreError::new_err(error.to_string()))
}

/// Makes the control directory of a new cluster's first server out of a backup.
#[pyfunction]
pub(crate) fn restore_backup(
    py: Python<'_>,
    path: &str,
    control_dir: &str,
    cluster_id: &str,
    node_id: u64,
) -> PyResult<()> {
    let (path, dir) = (Path::new(path), Path::new(control_dir));
    let restored = py.detach(|| backup::restore(path, dir, cluster_id, node_id));
    restored.map(drop).map_err(|error| CoreError::new_err(error.to_string()))
}
