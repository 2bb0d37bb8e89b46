//! The rules of the engine, one a test.
