//! Ports: what the engine needs from the world, one trait a file.

pub mod clock;
pub mod node;
pub mod store;
