//! The thin async shell around the pure core.

pub mod ports;
