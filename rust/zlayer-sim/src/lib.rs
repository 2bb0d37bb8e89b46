//! PRETENDS: seeded worlds that drive the core and check its invariants.
