//! The one door for long calls: checks that the process did not fork, releases the GIL, maps errors.

use pyo3::prelude::*;

use crate::errors::ForkedProcess;

/// Remembers the process that made a handle. A fork kills every thread but the caller's, so a handle that was
/// copied into a child would wait for threads that do not exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home(u32);

impl Home {
    /// This process.
    pub(crate) fn here() -> Self {
        Self(std::process::id())
    }

    /// Fails in a forked child.
    pub(crate) fn check(self) -> PyResult<()> {
        let here = std::process::id();
        if here == self.0 {
            return Ok(());
        }
        Err(ForkedProcess::new_err(format!(
            "this handle was made in process {} and used in its child {here}: make it after the fork",
            self.0
        )))
    }

    /// Runs `work` with the GIL released.
    pub(crate) fn enter<T, E>(
        self,
        py: Python<'_>,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> PyResult<T>
    where
        T: Send,
        E: Into<PyErr> + Send,
    {
        self.check()?;
        py.detach(work).map_err(Into::into)
    }
}
