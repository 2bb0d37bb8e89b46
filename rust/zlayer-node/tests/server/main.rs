//! The worker port of a real server, over loopback, against workers that behave and peers that don't.
//!
//! A test whose name begins with a row's number shows that row of the bad-input matrix (S1-S29).

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

#[path = "../session/pki.rs"]
mod pki;

mod cluster;
mod floods;
mod hello;
mod identity;
mod joins;
mod limits;
mod operations;
mod raw;
mod reports;
mod routes;
mod sessions;
mod tls;
mod wire;
mod worker;
