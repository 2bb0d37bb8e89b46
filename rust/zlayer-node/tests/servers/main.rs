//! Three real servers on loopback, with real certificates, and real workers' sessions on them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

#[path = "../session/pki.rs"]
mod pki;

mod failover;
mod fleet;
mod forwarding;
mod identity;
mod locks;
mod members;
mod partitions;
mod proxy;
mod relayed;
