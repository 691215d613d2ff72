//! Tools over MCP: the client hub, and the servers that ship with the runtime.

pub mod asking;
pub mod hub;
pub mod node;
pub mod policy;
pub mod servers;
pub mod toolbox;
