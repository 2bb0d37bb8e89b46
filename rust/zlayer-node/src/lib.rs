//! ACTS: sockets, TLS, sessions, clock; the worker session client.
