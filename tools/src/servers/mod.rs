//! MCP servers that ship with Interlock. Each is a library here and is started over stdio by the binary.

pub mod airflow;
pub mod sandbox;
