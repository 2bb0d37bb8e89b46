//! One exhaustive map from the crates' errors to the classes of `zlayer_native.errors`. No `_ =>` arm: a new error
//! does not compile until somebody decides its Python face.

use pyo3::{import_exception, prelude::*};
use zlayer_core::lease;
use zlayer_core::ttl::TtlConfigError;

import_exception!(zlayer_native.errors, ConfigError);
import_exception!(zlayer_native.errors, CoreError);
import_exception!(zlayer_native.errors, CoreStopped);
import_exception!(zlayer_native.errors, ForkedProcess);
import_exception!(zlayer_native.errors, LeaseTableFull);
import_exception!(zlayer_native.errors, LoadError);
import_exception!(zlayer_native.errors, StaleLease);

/// The error of a lease call.
pub(crate) fn lease_error(py: Python<'_>, error: lease::LeaseError) -> PyErr {
    match error {
        lease::LeaseError::Full { .. } => LeaseTableFull::new_err(error.to_string()),
        lease::LeaseError::Stale(handle) => {
            let raised = StaleLease::new_err(error.to_string());
            // A field of an exception that was just made; failing to set it would hide the error itself.
            let _ = raised.value(py).setattr("handle", handle.as_u64());
            raised
        }
    }
}

/// The error of a TTL configuration.
pub(crate) fn ttl_error(error: &TtlConfigError) -> PyErr {
    ConfigError::new_err(error.to_string())
}
