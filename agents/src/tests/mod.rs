//! Tests of the crate: the harness they share, and one module per area.

mod airflow;
mod answers;
mod assistant;
mod batched;
mod deploys;
mod faults;
mod library;
mod mcp;
mod noted;
mod notices;
mod reasoning;
mod recollection;
mod roles;
mod sampling;
mod statistics;
mod tool_node;
mod track_record;
mod world;
