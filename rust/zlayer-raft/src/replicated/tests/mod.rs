//! Tests of the replicated engine: clusters in one process, on simulated disks, over a network that can be cut.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod alone;
mod bytes;
mod cluster;
mod history;
mod life;
mod matrix;
mod members;
mod proposals;
mod rig;
mod strangers;
mod suite;
mod traps;
