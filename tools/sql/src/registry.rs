//! The tools as a table: name, words, effect and schemas.

use std::sync::{Arc, OnceLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Code, Result, SqlError};
use crate::tools::{App, Call, changes, inspect, migrate, parse, profile, quarantine, statements};

/// What a tool does to the estate; becomes its MCP annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// Changes nothing.
    Reads,
    /// Does whatever the statement says; repeating it may be a new effect.
    Executes,
    /// Sets a state that another tool takes away; repeating it changes nothing more.
    Sets,
    /// Replaces or takes away something; repeating it changes nothing more.
    Replaces,
}

/// One tool.
#[derive(Debug)]
pub struct ToolSpec {
    /// Name on the wire.
    pub name: &'static str,
    /// One sentence for people and models.
    pub description: &'static str,
    /// What it does to the estate.
    pub effect: ToolEffect,
    input: fn() -> JsonObject,
    output: fn() -> JsonObject,
}

impl ToolSpec {
    /// The tool as MCP lists it.
    pub fn describe(&self) -> Tool {
        let mut tool = Tool::new(self.name, self.description, Arc::new((self.input)()));
        tool.output_schema = Some(Arc::new((self.output)()));
        let (read_only, destructive, idempotent) = match self.effect {
            ToolEffect::Reads => (true, false, true),
            ToolEffect::Executes => (false, true, false),
            ToolEffect::Sets => (false, false, true),
            ToolEffect::Replaces => (false, true, true),
        };
        tool.annotations =
            Some(ToolAnnotations::from_raw(None, Some(read_only), Some(destructive), Some(idempotent), Some(false)));
        tool
    }
}

/// Some clients refuse an object schema that names no properties.
fn schema<T: JsonSchema>() -> JsonObject {
    let root = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
    let mut schema = root.as_object().cloned().unwrap_or_default();
    schema.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

fn spec<A: JsonSchema, O: JsonSchema>(name: &'static str, effect: ToolEffect, description: &'static str) -> ToolSpec {
    ToolSpec { name, description, effect, input: schema::<A>, output: schema::<O> }
}

/// Every tool.
pub fn tools() -> &'static [ToolSpec] {
    use ToolEffect::{Executes, Reads, Replaces, Sets};
    static TOOLS: OnceLock<Vec<ToolSpec>> = OnceLock::new();
    TOOLS.get_or_init(|| {
        vec![
            spec::<statements::Query, crate::wall::Rows>(
                "query",
                Reads,
                "Runs one SELECT in a read-only transaction, within the role's limits of rows, bytes and time.",
            ),
            spec::<statements::Execute, statements::Executed>(
                "execute",
                Executes,
                "Runs one statement that may write, if the role, the environment and an approval allow it.",
            ),
            spec::<statements::Explain, statements::Plan>(
                "explain",
                Reads,
                "The plan of a statement without running it, and what the guard says of the statement.",
            ),
            spec::<inspect::ListTables, inspect::Tables>(
                "list_tables",
                Reads,
                "Tables and views that the role may use, with about how many rows.",
            ),
            spec::<inspect::OfTable, inspect::Shape>(
                "describe_table",
                Reads,
                "Columns, keys, indexes and comment of a table.",
            ),
            spec::<inspect::OfTable, inspect::Privileges>(
                "table_privileges",
                Reads,
                "Owner of a table and who may do what with it. PostgreSQL only.",
            ),
            spec::<inspect::CompareSchema, inspect::Comparison>(
                "compare_schema",
                Reads,
                "Columns of a table beside those of another one, on this or another connection, or of a contract.",
            ),
            spec::<profile::ProfileTable, profile::Profile>(
                "profile_table",
                Reads,
                "Row count, nulls, distinct values, quantiles and freshness of a table, or of one day of it.",
            ),
            spec::<quarantine::Quarantine, quarantine::Quarantined>(
                "quarantine",
                Sets,
                "Holds bad records back from the next extract. Undone by release_quarantine. PostgreSQL only.",
            ),
            spec::<quarantine::ReleaseQuarantine, quarantine::Quarantined>(
                "release_quarantine",
                Sets,
                "Lets quarantined records through again. PostgreSQL only.",
            ),
            spec::<migrate::ApplyMigration, migrate::MigrationState>(
                "apply_migration",
                Replaces,
                "Applies a migration after proving that its down script undoes it; a repeat does nothing. PostgreSQL only.",
            ),
            spec::<migrate::RevertMigration, migrate::MigrationState>(
                "revert_migration",
                Replaces,
                "Runs the stored down script of an applied migration. PostgreSQL only.",
            ),
            spec::<changes::PrivilegeArgs, changes::PrivilegeState>(
                "grant_privilege",
                Sets,
                "Grants exactly one privilege on one table to one account. Undone by revoke_privilege. PostgreSQL only.",
            ),
            spec::<changes::PrivilegeArgs, changes::PrivilegeState>(
                "revoke_privilege",
                Replaces,
                "Revokes exactly one privilege on one table from one account. Undone by grant_privilege. PostgreSQL only.",
            ),
        ]
    })
}

fn answer(result: Result<impl Serialize>) -> Result<Value> {
    serde_json::to_value(result?).map_err(|e| SqlError::new(Code::Database, format!("result: {e}")))
}

impl App {
    /// Calls a tool by name, as an MCP client would.
    ///
    /// # Errors
    /// Whatever the tool reports.
    pub async fn call(&self, name: &str, arguments: Value, call: &Call) -> Result<Value> {
        match name {
            "query" => answer(statements::query(self, parse(name, arguments)?, call).await),
            "execute" => answer(statements::execute(self, parse(name, arguments)?, call).await),
            "explain" => answer(statements::explain(self, parse(name, arguments)?, call).await),
            "list_tables" => answer(inspect::list_tables(self, parse(name, arguments)?, call).await),
            "describe_table" => answer(inspect::describe_table(self, parse(name, arguments)?, call).await),
            "table_privileges" => answer(inspect::table_privileges(self, parse(name, arguments)?, call).await),
            "compare_schema" => answer(inspect::compare_schema(self, parse(name, arguments)?, call).await),
            "profile_table" => answer(profile::profile_table(self, parse(name, arguments)?, call).await),
            "quarantine" => answer(quarantine::quarantine(self, parse(name, arguments)?, call).await),
            "release_quarantine" => answer(quarantine::release_quarantine(self, parse(name, arguments)?, call).await),
            "apply_migration" => answer(migrate::apply_migration(self, parse(name, arguments)?, call).await),
            "revert_migration" => answer(migrate::revert_migration(self, parse(name, arguments)?, call).await),
            "grant_privilege" => answer(changes::grant_privilege(self, parse(name, arguments)?, call).await),
            "revoke_privilege" => answer(changes::revoke_privilege(self, parse(name, arguments)?, call).await),
            other => Err(SqlError::not_found(format!("no tool {other:?}"))),
        }
    }
}
