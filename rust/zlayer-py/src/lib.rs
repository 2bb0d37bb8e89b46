//! EXPOSES: the one crate that names pyo3; converts, never decides.
//!
//! Four kinds of crossing and no fifth: a *look* returns at once, a *batch* takes a buffer with the GIL released, a
//! *drain* empties a bounded queue after an eventfd woke the loop, and a long call goes through [`enter`]. Rust never
//! calls a Python function.

// PyO3's generated code and the buffer protocol are the `unsafe` of this crate; that of the others is in
// `zlayer_node::memory`.
#![allow(unsafe_code)]

mod backup;
mod enter;
mod errors;
mod lease;
mod load;
mod server;
mod session;

/// Of Rust's own memory; Python's is not touched by it.
#[global_allocator]
static ALLOCATOR: zlayer_node::memory::ConnectionAlloc = zlayer_node::memory::ConnectionAlloc;

/// The module `zlayer_native._native`; its twin is `_native.pyi`.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::backup::{inspect_backup, restore_backup};
    #[pymodule_export]
    use crate::lease::{AdaptiveTtlConfig, ExpiredLease, LeaseTable};
    #[pymodule_export]
    use crate::load::run_load;
    #[pymodule_export]
    use crate::server::ServerNode;
    #[pymodule_export]
    use crate::session::{WorkerSession, inherited_sockets};

    /// Version of the core, equal to the package's.
    #[pyo3::pyfunction]
    fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
