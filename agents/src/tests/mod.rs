//! Tests of the crate: the harness they share, and one module per area.

mod airflow;
mod assistant;
mod faults;
mod library;
mod mcp;
mod notices;
mod reasoning;
mod roles;
mod sampling;
mod tool_node;
mod world;
