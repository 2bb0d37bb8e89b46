//! The load swarm.
