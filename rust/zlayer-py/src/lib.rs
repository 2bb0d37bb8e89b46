//! EXPOSES: the one crate that names pyo3; converts, never decides.
