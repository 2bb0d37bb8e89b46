//! Whole runs against servers inside this process: the figures must be what the servers saw.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod cluster;
mod etcd;
mod peers;
mod pki;
mod puts;
mod swarm;
