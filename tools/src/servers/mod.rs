//! MCP servers that ship with Interlock. Each is a library here and is started by the binary, over stdio or HTTP.

pub mod airflow;
pub mod git;
pub mod http;
#[cfg(test)]
mod reference;
pub mod sandbox;
mod table;
