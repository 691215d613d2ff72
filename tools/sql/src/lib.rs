//! `interlock mcp sql`: PostgreSQL and SQLite as MCP tools, behind two walls.
//!
//! ```text
//!  statement ──▶ guard (pure) ──allow──▶ wall ──▶ database
//!                whole parse tree         own account, one short transaction, read only unless a write was allowed,
//!                against allow-lists      time, row and byte limits, cancelled on the server
//! ```
//!
//! A configuration names connections; each has a role, and an environment that no call can change. `TOOLS.md` beside this
//! file shows every tool with real answers; a test writes it. `docs/design/0003-sql-guard.md` has the reasons.

pub mod config;
pub mod error;
pub mod guard;
pub mod registry;
pub mod server;
pub mod tools;
pub mod wall;

#[cfg(test)]
mod tests;
