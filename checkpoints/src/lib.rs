//! The durable storage of threads: stored record forms, backends, encryption, checks, and the suite every store passes.

pub mod conformance;
mod dictionary;
pub mod envelope;
pub mod fuzz;
pub mod keys;
pub mod kv;
pub mod open;
pub mod store;
