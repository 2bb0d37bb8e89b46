//! The worker's session. Twin of `_bridge/session.py`.

use std::time::Duration;

use pyo3::prelude::*;
use zlayer_node::session::{self, Resources};

use crate::enter::Home;
use crate::errors::CoreError;

/// The worker's session: timer, reconnects and heartbeats on a Rust thread of this process.
#[pyclass(frozen, module = "zlayer_native._native")]
pub(crate) struct WorkerSession {
    home: Home,
    session: session::WorkerSession,
}

#[pymethods]
impl WorkerSession {
    #[staticmethod]
    fn start(py: Python<'_>, options_json: &[u8]) -> PyResult<Self> {
        let options = serde_json::from_slice(options_json)
            .map_err(|error| CoreError::new_err(format!("session options: {error}")))?;
        let home = Home::here();
        let session = py
            .detach(|| session::WorkerSession::start(options))
            .map_err(|error| CoreError::new_err(error.to_string()))?;
        Ok(Self { home, session })
    }

    fn set_resources(
        &self,
        cpu_millicores: u32,
        memory_bytes: u64,
        disk_bytes: u64,
    ) -> PyResult<()> {
        self.home.check()?;
        self.session.set_resources(Resources { cpu_millicores, memory_bytes, disk_bytes });
        Ok(())
    }

    fn set_identity(
        &self,
        py: Python<'_>,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> PyResult<()> {
        self.home.enter(py, || {
            self.session
                .set_identity(certificate_pem, key_pem, ca_pem)
                .map_err(|error| CoreError::new_err(error.to_string()))
        })
    }

    fn state(&self) -> PyResult<Vec<u8>> {
        self.home.check()?;
        Ok(self.session.state_json())
    }

    fn wake_fd(&self) -> i32 {
        self.session.wake_fd()
    }

    #[pyo3(signature = (max=256))]
    fn drain(&self, max: usize) -> PyResult<Vec<Vec<u8>>> {
        self.home.check()?;
        let events = self.session.drain(max);
        events
            .iter()
            .map(|event| {
                serde_json::to_vec(event).map_err(|error| CoreError::new_err(error.to_string()))
            })
            .collect()
    }

    fn leave(&self, py: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let timeout = duration(timeout_s)?;
        self.home.enter(py, || Ok::<_, PyErr>(self.session.leave(timeout)))
    }

    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.home.enter(py, || {
            self.session.stop();
            Ok::<_, PyErr>(())
        })
    }
}

/// Descriptors that a forked child must close.
#[pyfunction]
pub(crate) fn inherited_sockets() -> Vec<i32> {
    session::inherited_sockets()
}

/// Seconds as Python gives them.
pub(crate) fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(format!("timeout_s: {error}")))
}
