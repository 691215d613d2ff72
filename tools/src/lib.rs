//! Tools over MCP: the client hub, and the servers that ship with the runtime.

pub mod asking;
pub mod hub;
pub mod lock;
mod marked;
pub mod node;
pub mod pinned;
pub mod policy;
pub mod sampling;
pub mod scan;
pub mod servers;
pub mod tasking;
pub mod toolbox;
pub mod untrusted;
