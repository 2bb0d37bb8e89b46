//! The worker's session against servers that behave, fail and lie.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod pki;
mod refusals;
mod server;
mod sessions;
mod worker;
