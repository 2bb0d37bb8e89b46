//! The server's core. Twin of `_bridge/server.py`.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zlayer_core::command::{Command, HeldLock, Outcome};
use zlayer_node::{
    Answered, Asked, AskedError, Completion, NodesQuery, ServerNode as Node, ServerOptions, Wanted,
};

use crate::enter::Home;
use crate::errors::{CoreError, LoadError, asked_error};
use crate::session::duration;

/// The server's core: worker port, sessions, leases and control log, all on Rust threads.
#[pyclass(frozen, module = "zlayer_native._native")]
pub(crate) struct ServerNode {
    home: Home,
    node: Node,
}

/// (ticket, outcome as JSON, error as JSON): exactly one of the two is there.
type Finished<'py> = (u64, Option<Bound<'py, PyBytes>>, Option<String>);

#[pymethods]
impl ServerNode {
    #[staticmethod]
    fn start(py: Python<'_>, options_json: &[u8]) -> PyResult<Self> {
        let options: ServerOptions = serde_json::from_slice(options_json)
            .map_err(|error| CoreError::new_err(format!("server options: {error}")))?;
        let home = Home::here();
        let node = py
            .detach(|| Node::start(&options))
            .map_err(|error| CoreError::new_err(error.to_string()))?;
        Ok(Self { home, node })
    }

    fn local_addr(&self) -> String {
        self.node.local_addr().to_string()
    }

    fn submit(&self, ticket: u64, command_json: &[u8]) -> PyResult<()> {
        self.home.check()?;
        let command: Command = serde_json::from_slice(command_json)
            .map_err(|error| CoreError::new_err(format!("command: {error}")))?;
        self.node.submit(ticket, command);
        Ok(())
    }

    fn raft_addr(&self) -> Option<String> {
        self.node.raft_addr().map(|address| address.to_string())
    }

    fn ask(&self, ticket: u64, question_json: &[u8]) -> PyResult<()> {
        self.home.check()?;
        let asked: Asked = serde_json::from_slice(question_json)
            .map_err(|error| CoreError::new_err(format!("question: {error}")))?;
        self.node.ask(ticket, asked);
        Ok(())
    }

    fn hold(&self, ticket: u64, ended: u64, wanted_json: &[u8]) -> PyResult<()> {
        self.home.check()?;
        let wanted: Wanted = serde_json::from_slice(wanted_json)
            .map_err(|error| CoreError::new_err(format!("lock: {error}")))?;
        self.node.hold(ticket, ended, wanted);
        Ok(())
    }

    fn abandon(&self, ticket: u64) -> PyResult<()> {
        self.home.check()?;
        self.node.abandon(ticket);
        Ok(())
    }

    fn release(&self, ticket: u64, name: String, fence: u64) -> PyResult<()> {
        self.home.check()?;
        self.node.release(ticket, HeldLock { name, fence });
        Ok(())
    }

    fn members(&self) -> PyResult<Vec<u8>> {
        self.home.check()?;
        Ok(self.node.members_json())
    }

    fn wake_fd(&self) -> i32 {
        self.node.wake_fd()
    }

    #[pyo3(signature = (max=1024))]
    fn drain<'py>(&self, py: Python<'py>, max: usize) -> PyResult<Vec<Finished<'py>>> {
        self.home.check()?;
        self.node
            .drain(max)
            .into_iter()
            .map(|Completion { ticket, result }| finished(py, ticket, result))
            .collect()
    }

    fn nodes(&self, py: Python<'_>, query_json: &[u8]) -> PyResult<Vec<u8>> {
        let query: NodesQuery = serde_json::from_slice(query_json)
            .map_err(|error| CoreError::new_err(format!("query: {error}")))?;
        self.home.enter(py, || Ok::<_, PyErr>(self.node.nodes_json(&query)))
    }

    fn node(&self, node_id: u64) -> PyResult<Option<Vec<u8>>> {
        self.home.check()?;
        Ok(self.node.node_json(node_id))
    }

    fn tokens(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.home.enter(py, || Ok::<_, PyErr>(self.node.tokens_json()))
    }

    fn token(&self, jti: &str) -> PyResult<Option<Vec<u8>>> {
        self.home.check()?;
        Ok(self.node.token_json(jti))
    }

    fn value(&self, key: &str) -> PyResult<Option<Vec<u8>>> {
        self.home.check()?;
        Ok(self.node.value_json(key))
    }

    fn values(&self, py: Python<'_>, prefix: &str, after: &str, limit: usize) -> PyResult<Vec<u8>> {
        self.home.enter(py, || Ok::<_, PyErr>(self.node.values_json(prefix, after, limit)))
    }

    fn locks(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.home.enter(py, || Ok::<_, PyErr>(self.node.locks_json()))
    }

    fn events(&self, py: Python<'_>, after: u64, limit: usize) -> PyResult<Vec<u8>> {
        self.home.enter(py, || Ok::<_, PyErr>(self.node.events_json(after, limit)))
    }

    fn revision(&self) -> PyResult<u64> {
        self.home.check()?;
        Ok(self.node.revision())
    }

    fn stopped(&self) -> PyResult<Option<String>> {
        self.home.check()?;
        Ok(self.node.stopped())
    }

    fn status(&self) -> PyResult<Vec<u8>> {
        self.home.check()?;
        Ok(self.node.status_json())
    }

    fn metrics(&self) -> PyResult<Vec<u8>> {
        self.home.check()?;
        Ok(self.node.metrics_json())
    }

    fn load_commits(&self, py: Python<'_>, options_json: &[u8]) -> PyResult<Vec<u8>> {
        let log = self.node.log();
        self.home.enter(py, || {
            zlayer_load::run_commits(&log, options_json)
                .map_err(|error| LoadError::new_err(error.to_string()))
        })
    }

    fn set_identity(
        &self,
        py: Python<'_>,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> PyResult<()> {
        self.home.enter(py, || {
            self.node
                .set_identity(certificate_pem, key_pem, ca_pem)
                .map_err(|error| CoreError::new_err(error.to_string()))
        })
    }

    fn hand_over(&self, py: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let timeout = duration(timeout_s)?;
        self.home.enter(py, || Ok::<_, PyErr>(self.node.hand_over(timeout)))
    }

    fn shutdown(&self, py: Python<'_>, timeout_s: f64) -> PyResult<()> {
        let timeout = duration(timeout_s)?;
        self.home.enter(py, || {
            self.node.shutdown(timeout);
            Ok::<_, PyErr>(())
        })
    }
}

fn finished(
    py: Python<'_>,
    ticket: u64,
    result: Result<Answered, AskedError>,
) -> PyResult<Finished<'_>> {
    let json = |error: serde_json::Error| CoreError::new_err(error.to_string());
    let error = match result {
        Ok(Answered::Outcome(Outcome::Refused { refusal })) => {
            let mut error = serde_json::to_value(&refusal).map_err(json)?;
            if let Some(fields) = error.as_object_mut() {
                fields.insert("message".into(), refusal.to_string().into());
            }
            error
        }
        Ok(Answered::Outcome(outcome)) => {
            let bytes = serde_json::to_vec(&outcome).map_err(json)?;
            return Ok((ticket, Some(PyBytes::new(py, &bytes)), None));
        }
        Ok(Answered::Document(document)) => {
            return Ok((ticket, Some(PyBytes::new(py, &document.to_string().into_bytes())), None));
        }
        Err(error) => asked_error(&error),
    };
    Ok((ticket, None, Some(error.to_string())))
}
