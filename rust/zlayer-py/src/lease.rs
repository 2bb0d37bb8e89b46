//! Leases and TTL. Twin of `_bridge/lease.py`.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use zlayer_core::lease::{LeaseHandle, LeaseSlots, LeaseTable as Table};
use zlayer_core::time::MonoMs;
use zlayer_core::ttl::AdaptiveTtlConfig as Config;

use crate::errors::{lease_error, ttl_error};

/// How long a worker may stay silent, as a function of how many there are. All durations in seconds.
#[pyclass(frozen, eq, hash, module = "zlayer_native")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct AdaptiveTtlConfig(Config);

#[pymethods]
impl AdaptiveTtlConfig {
    #[new]
    #[pyo3(signature = (min_ttl_secs=10, max_ttl_secs=600, grace_secs=10, max_heartbeats_per_second=50, failover_ttl_secs=300))]
    fn new(
        min_ttl_secs: u32,
        max_ttl_secs: u32,
        grace_secs: u32,
        max_heartbeats_per_second: u32,
        failover_ttl_secs: u32,
    ) -> PyResult<Self> {
        Config::new(
            min_ttl_secs,
            max_ttl_secs,
            grace_secs,
            max_heartbeats_per_second,
            failover_ttl_secs,
        )
        .map(Self)
        .map_err(|error| ttl_error(&error))
    }

    #[getter]
    fn min_ttl_secs(&self) -> u32 {
        self.0.min_ttl_secs
    }

    #[getter]
    fn max_ttl_secs(&self) -> u32 {
        self.0.max_ttl_secs
    }

    #[getter]
    fn grace_secs(&self) -> u32 {
        self.0.grace_secs
    }

    #[getter]
    fn max_heartbeats_per_second(&self) -> u32 {
        self.0.max_heartbeats_per_second
    }

    #[getter]
    fn failover_ttl_secs(&self) -> u32 {
        self.0.failover_ttl_secs
    }

    fn compute_ttl(&self, n_workers: u64) -> u32 {
        self.0.compute_ttl(n_workers)
    }

    fn __repr__(&self) -> String {
        let Config {
            min_ttl_secs,
            max_ttl_secs,
            grace_secs,
            max_heartbeats_per_second,
            failover_ttl_secs,
        } = self.0;
        format!(
            "AdaptiveTtlConfig(min_ttl_secs={min_ttl_secs}, max_ttl_secs={max_ttl_secs}, \
             grace_secs={grace_secs}, max_heartbeats_per_second={max_heartbeats_per_second}, \
             failover_ttl_secs={failover_ttl_secs})"
        )
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyAny>, (u32, u32, u32, u32, u32)) {
        let Config {
            min_ttl_secs,
            max_ttl_secs,
            grace_secs,
            max_heartbeats_per_second,
            failover_ttl_secs,
        } = slf.get().0;
        let fields =
            (min_ttl_secs, max_ttl_secs, grace_secs, max_heartbeats_per_second, failover_ttl_secs);
        (slf.get_type().into_any(), fields)
    }
}

/// A lease that ended: its handle, and how late that was noticed.
#[pyclass(frozen, get_all, module = "zlayer_native")]
pub(crate) struct ExpiredLease {
    handle: u64,
    deadline_ms: u64,
    overdue_ms: u64,
}

#[pymethods]
impl ExpiredLease {
    fn __repr__(&self) -> String {
        let Self { handle, deadline_ms, overdue_ms } = self;
        format!("ExpiredLease(handle={handle}, deadline_ms={deadline_ms}, overdue_ms={overdue_ms})")
    }
}

/// Leases with O(1) renewal and an exact expiry order. Time is an argument, in milliseconds.
///
/// Renewals are lock-free; everything else takes the table's lock, which no call holds across Python code.
#[pyclass(frozen, module = "zlayer_native")]
pub(crate) struct LeaseTable {
    slots: Arc<LeaseSlots>,
    table: Mutex<Table>,
}

impl LeaseTable {
    /// Runs `work` on the table with the GIL released: a holder of the lock never waits for the GIL.
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Table) -> T + Send) -> T {
        py.detach(|| work(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl LeaseTable {
    #[new]
    #[pyo3(signature = (capacity_max=1_000_000))]
    fn new(capacity_max: u32) -> PyResult<Self> {
        if capacity_max == 0 {
            return Err(PyValueError::new_err("capacity_max must be at least 1, got 0"));
        }
        let table = Table::new(capacity_max);
        Ok(Self { slots: table.slots(), table: Mutex::new(table) })
    }

    #[pyo3(signature = (*, now_ms, window_ms))]
    fn grant(&self, py: Python<'_>, now_ms: u64, window_ms: u64) -> PyResult<u64> {
        self.with(py, |table| table.grant(MonoMs(now_ms), window_ms))
            .map(LeaseHandle::as_u64)
            .map_err(|error| lease_error(py, error))
    }

    /// All or nothing: when the table can't hold `count` more, none is granted.
    #[pyo3(signature = (count, *, now_ms, window_ms))]
    fn grant_many<'py>(
        &self,
        py: Python<'py>,
        count: usize,
        now_ms: u64,
        window_ms: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let granted = self.with(py, |table| {
            let mut handles = Vec::new();
            table.grant_many(count, MonoMs(now_ms), window_ms, &mut handles)?;
            Ok(handles.iter().flat_map(|handle| handle.as_u64().to_ne_bytes()).collect::<Vec<_>>())
        });
        granted.map(|bytes| PyBytes::new(py, &bytes)).map_err(|error| lease_error(py, error))
    }

    #[pyo3(signature = (handle, *, now_ms, window_ms))]
    fn renew(&self, py: Python<'_>, handle: u64, now_ms: u64, window_ms: u64) -> PyResult<u64> {
        self.slots
            .renew(LeaseHandle::from_u64(handle), MonoMs(now_ms), window_ms)
            .map(|deadline| deadline.0)
            .map_err(|error| lease_error(py, error))
    }

    #[pyo3(signature = (handles, *, now_ms, window_ms))]
    fn renew_many(
        &self,
        py: Python<'_>,
        handles: &Bound<'_, PyAny>,
        now_ms: u64,
        window_ms: u64,
    ) -> PyResult<Vec<u64>> {
        let handles = handles_of(handles)?;
        Ok(py.detach(|| {
            let mut stale = Vec::new();
            self.slots.renew_many(&handles, MonoMs(now_ms), window_ms, &mut stale);
            stale
        }))
    }

    fn revoke(&self, py: Python<'_>, handle: u64) -> PyResult<()> {
        self.with(py, |table| table.revoke(LeaseHandle::from_u64(handle)))
            .map_err(|error| lease_error(py, error))
    }

    #[pyo3(signature = (*, now_ms, max=1000))]
    fn expire(&self, py: Python<'_>, now_ms: u64, max: usize) -> Vec<ExpiredLease> {
        let expired = self.with(py, |table| {
            let mut out = Vec::new();
            table.expire(MonoMs(now_ms), max, &mut out);
            out
        });
        expired
            .into_iter()
            .map(|lease| ExpiredLease {
                handle: lease.handle.as_u64(),
                deadline_ms: lease.deadline.0,
                overdue_ms: lease.overdue_ms,
            })
            .collect()
    }

    fn next_deadline_ms(&self, py: Python<'_>) -> Option<u64> {
        self.with(py, |table| table.next_deadline().map(|deadline| deadline.0))
    }

    fn deadline_ms(&self, handle: u64) -> Option<u64> {
        self.slots.deadline(LeaseHandle::from_u64(handle)).map(|deadline| deadline.0)
    }

    fn shift_by(&self, py: Python<'_>, ms: u64) {
        self.with(py, |table| table.shift_by(ms));
    }

    #[pyo3(signature = (*, now_ms, window_ms, spread_ms=0))]
    fn promote(&self, py: Python<'_>, now_ms: u64, window_ms: u64, spread_ms: u64) {
        self.with(py, |table| table.promote(MonoMs(now_ms), |_| window_ms, spread_ms));
    }

    #[pyo3(signature = (*, now_ms))]
    fn freeze(&self, py: Python<'_>, now_ms: u64) {
        self.with(py, |table| table.freeze(MonoMs(now_ms)));
    }

    #[pyo3(signature = (*, now_ms))]
    fn thaw(&self, py: Python<'_>, now_ms: u64) {
        self.with(py, |table| table.thaw(MonoMs(now_ms)));
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.with(py, |table| table.stats());
        let dict = PyDict::new(py);
        dict.set_item("live", stats.live)?;
        dict.set_item("granted", stats.granted)?;
        dict.set_item("expired", stats.expired)?;
        dict.set_item("revoked", stats.revoked)?;
        dict.set_item("rearmed", stats.rearmed)?;
        Ok(dict)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.with(py, |table| table.len())
    }
}

/// Reads a buffer of native 64-bit handles: `array("Q")`, a numpy array of `uint64`, or the `bytes` that
/// `grant_many` gave.
fn handles_of(buffer: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    let py = buffer.py();
    if let Ok(words) = PyBuffer::<u64>::get(buffer) {
        return words.to_vec(py);
    }
    let bytes = PyBuffer::<u8>::get(buffer)?.to_vec(py)?;
    if bytes.len() % 8 != 0 {
        return Err(PyValueError::new_err(format!(
            "a buffer of handles holds 8 bytes for each, and {} is no multiple of 8",
            bytes.len()
        )));
    }
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|word| u64::from_ne_bytes(*word)).collect())
}
