"""Cluster membership and dispatch with a Rust core."""
