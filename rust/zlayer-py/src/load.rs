//! The load swarm. Twin of `_bridge/load.py`.

use pyo3::prelude::*;

use crate::errors::LoadError;

/// Runs the load that the options' `kind` names until it is done, with the GIL released.
#[pyfunction]
pub(crate) fn run_load(py: Python<'_>, options_json: &[u8]) -> PyResult<Vec<u8>> {
    py.detach(|| zlayer_load::run(options_json))
        .map_err(|error| LoadError::new_err(error.to_string()))
}
