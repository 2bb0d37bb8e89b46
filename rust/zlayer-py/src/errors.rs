//! One exhaustive map from the crates' errors to the classes of `zlayer_native.errors`. No `_ =>` arm: a new error
//! does not compile until somebody decides its Python face.

use pyo3::{import_exception, prelude::*};
use zlayer_core::lease;
use zlayer_core::ttl::TtlConfigError;
use zlayer_node::{AskedError, MembershipError, ProposeError};

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

/// The error of a command or a question, as JSON: a code, a text, and who leads where that is known.
pub(crate) fn asked_error(error: &AskedError) -> serde_json::Value {
    let (code, leader) = match error {
        AskedError::Alone => ("alone", None),
        AskedError::Backup { .. } => ("backup", None),
        AskedError::Log(error) => match error {
            ProposeError::Overloaded => ("overloaded", None),
            ProposeError::NotLeader { leader } => ("not_leader", Some(leader)),
            ProposeError::NoLeader => ("no_leader", None),
            ProposeError::Unknown { .. } => ("unknown", None),
            ProposeError::Stopped { .. } => ("stopped", None),
        },
        AskedError::Members(error) => match error {
            MembershipError::NotLeader { leader } => ("not_leader", Some(leader)),
            MembershipError::NoLeader => ("no_leader", None),
            MembershipError::AlreadyFormed => ("already_formed", None),
            MembershipError::NoServerId { .. } => ("no_server_id", None),
            MembershipError::Retired { .. } => ("server_retired", None),
            MembershipError::AlreadyMember { .. } => ("already_member", None),
            MembershipError::NotMember { .. } => ("not_member", None),
            MembershipError::NoLearner { .. } => ("no_learner", None),
            MembershipError::NoVoter { .. } => ("no_voter", None),
            MembershipError::LastVoter => ("last_voter", None),
            MembershipError::Unreachable { .. } => ("server_unreachable", None),
            MembershipError::Refused { .. } => ("server_refuses", None),
            MembershipError::Elsewhere { .. } => ("server_elsewhere", None),
            MembershipError::Behind { .. } => ("server_behind", None),
            MembershipError::InProgress => ("change_in_progress", None),
            MembershipError::Unknown { .. } => ("unknown", None),
            MembershipError::Stopped { .. } => ("stopped", None),
        },
    };
    serde_json::json!({"code": code, "message": error.to_string(), "leader_id": leader})
}
