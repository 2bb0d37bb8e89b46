//! REMEMBERS: the durable log, behind a file-system trait. Knows no consensus.
