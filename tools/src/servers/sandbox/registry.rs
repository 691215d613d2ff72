//! The tools as a table: name, words, effect, schemas from the types, and the function that runs.

use std::sync::{Arc, OnceLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::db::EnvDb;
use super::effects::{Call, Outcome, Reply};
use super::error::{Result, SandboxError};
use super::world::WorldStore;
use super::{Environment, Parts, Sandbox, grants, inspect, migrate, profile, query, repair};
use crate::servers::table::{self, Words, schema};

/// What a tool does to the estate; becomes its MCP annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// Changes nothing.
    Reads,
    /// Adds something that another tool takes away; repeating it is a new effect.
    Adds,
    /// Sets a state; repeating it changes nothing more.
    Sets,
    /// Replaces or takes away something; repeating it changes nothing more.
    Replaces,
    /// Does something over again, replacing its traces; repeating it is a new effect.
    Redoes,
}

type RunFn = Box<dyn Fn(&Sandbox, Value, Option<String>) -> Result<Reply> + Send + Sync>;

/// One tool.
pub struct ToolSpec {
    /// Name on the wire.
    pub name: &'static str,
    /// One sentence for people and models.
    pub description: &'static str,
    /// What it does to the estate.
    pub effect: ToolEffect,
    input: fn() -> JsonObject,
    output: fn() -> JsonObject,
    pub(crate) run: RunFn,
}

impl std::fmt::Debug for ToolSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolSpec").field("name", &self.name).field("effect", &self.effect).finish()
    }
}

impl ToolSpec {
    /// The tool as MCP lists it.
    pub fn describe(&self) -> Tool {
        let mut tool = Tool::new(self.name, self.description, Arc::new((self.input)()));
        tool.output_schema = Some(Arc::new((self.output)()));
        let (read_only, destructive, idempotent) = match self.effect {
            ToolEffect::Reads => (true, false, true),
            ToolEffect::Adds => (false, false, false),
            ToolEffect::Sets => (false, false, true),
            ToolEffect::Replaces => (false, true, true),
            ToolEffect::Redoes => (false, true, false),
        };
        tool.annotations =
            Some(ToolAnnotations::from_raw(None, Some(read_only), Some(destructive), Some(idempotent), Some(false)));
        tool
    }
}

/// Arguments of a writing tool.
pub(crate) trait WriteArgs {
    fn environment(&self) -> Environment;
    fn take_key(&mut self) -> Option<String>;
}

macro_rules! write_args {
    ($args:ty) => {
        impl $crate::servers::sandbox::registry::WriteArgs for $args {
            fn environment(&self) -> $crate::servers::sandbox::Environment {
                self.environment
            }

            fn take_key(&mut self) -> Option<String> {
                self.idempotency_key.take()
            }
        }
    };
}
pub(crate) use write_args;

/// Result of a writing tool's work.
pub(crate) enum Written<O> {
    /// Done.
    Done(O),
    /// A run was made and failed, with the reason.
    RunFailed(O, SandboxError),
}

/// A tool that works on all parts and leaves no effect in the books.
pub(crate) fn plain<A, O>((name, description): Words, effect: ToolEffect, f: fn(&mut Parts, A) -> Result<O>) -> ToolSpec
where
    A: DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
{
    let run = move |sandbox: &Sandbox, arguments: Value, _: Option<String>| {
        let args = parse(name, arguments)?;
        let value = to_value(&sandbox.with(|parts| f(parts, args))?)?;
        Ok(Reply { value, replayed: false, run_failed: None })
    };
    ToolSpec { name, description, effect, input: schema::<A>, output: schema::<O>, run: Box::new(run) }
}

type WriteFn<A, O> = fn(&A, &EnvDb, &mut WorldStore) -> Result<Written<O>>;

fn writes<A, O>((name, description): Words, effect: ToolEffect, f: WriteFn<A, O>) -> ToolSpec
where
    A: WriteArgs + Serialize + DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
{
    let run = move |sandbox: &Sandbox, arguments: Value, meta_key: Option<String>| {
        let mut args: A = parse(name, arguments)?;
        let key = args.take_key().or(meta_key);
        let call = Call { tool: name, arguments: to_value(&args)?, key };
        sandbox.with(|parts| {
            parts.execute(args.environment(), &call, |db, world| {
                Ok(match f(&args, db, world)? {
                    Written::Done(value) => Outcome::Done(to_value(&value)?),
                    Written::RunFailed(value, why) => Outcome::RunFailed(to_value(&value)?, why),
                })
            })
        })
    };
    ToolSpec { name, description, effect, input: schema::<A>, output: schema::<O>, run: Box::new(run) }
}

fn parse<A: DeserializeOwned>(tool: &str, arguments: Value) -> Result<A> {
    table::parse(tool, arguments)
}

fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    table::to_value(value)
}

/// The tools that agents get.
pub fn agent_tools() -> &'static [ToolSpec] {
    static TOOLS: OnceLock<Vec<ToolSpec>> = OnceLock::new();
    TOOLS.get_or_init(|| reading().into_iter().chain(writing()).collect())
}

fn reading() -> Vec<ToolSpec> {
    use ToolEffect::Reads;
    vec![
        plain(
            ("list_pipelines", "Pipelines with their tasks, schedule, owner and last scheduled business date."),
            Reads,
            inspect::list_pipelines,
        ),
        plain(
            ("list_runs", "Pipeline runs, newest first, optionally only failed ones or those since a business date."),
            Reads,
            inspect::list_runs,
        ),
        plain(
            ("get_run", "One run with its tasks: state, attempts, row counts, exception and message."),
            Reads,
            inspect::get_run,
        ),
        plain(("get_log", "Log lines of a run or of one of its tasks."), Reads, inspect::get_log),
        plain(
            ("list_tables", "Tables and views of an environment with layer and row count."),
            Reads,
            inspect::list_tables,
        ),
        plain(("describe_table", "Columns, keys, dates and definition of a table."), Reads, inspect::describe_table),
        plain(
            ("compare_schema", "Columns of the latest delivery beside those the pipeline maps, with likely renames."),
            Reads,
            inspect::compare_schema,
        ),
        plain(
            (
                "profile_table",
                "Row count, measures, null rates and freshness of a table on a day, beside the same weekdays before.",
            ),
            Reads,
            profile::profile_table,
        ),
        plain(("query", "Runs one SELECT statement on a read-only connection."), Reads, query::query),
        plain(
            (
                "check_upstream",
                "Recent requests to the upstream feed and its manifest for a day: rows expected and delivered.",
            ),
            Reads,
            inspect::check_upstream,
        ),
        plain(
            (
                "table_privileges",
                "Privileges granted on a table, those the access policy declares but are missing, and recent changes.",
            ),
            Reads,
            grants::table_privileges,
        ),
        plain(
            ("effect_status", "Whether a writing call with an idempotency key was executed, and its stored result."),
            Reads,
            repair::effect_status,
        ),
    ]
}

fn writing() -> Vec<ToolSpec> {
    use ToolEffect::{Adds, Redoes, Replaces, Sets};
    vec![
        writes(
            (
                "rerun_pipeline",
                "Runs a pipeline again for a day, replacing that day's rows. A failed run is an error with the run in it.",
            ),
            Redoes,
            repair::rerun_pipeline,
        ),
        writes(
            (
                "quarantine",
                "Holds rows of the landing table back from the next stage task, by rule. Undone by release_quarantine.",
            ),
            Adds,
            repair::quarantine,
        ),
        writes(("release_quarantine", "Lets quarantined rows through again."), Sets, repair::release_quarantine),
        writes(
            ("hold_partition", "Marks a day of a fact table as suspect for its readers. Undone by release_hold."),
            Adds,
            repair::hold_partition,
        ),
        writes(("release_hold", "Takes the mark of hold_partition away."), Sets, repair::release_hold),
        writes(
            ("request_redelivery", "Asks the upstream to deliver a day in full; the next extract gets it."),
            Sets,
            repair::request_redelivery,
        ),
        writes(
            (
                "apply_migration",
                "Applies a migration after proving that its down script undoes it. Undone by revert_migration.",
            ),
            Replaces,
            migrate::apply_migration,
        ),
        writes(
            ("revert_migration", "Runs the stored down script of an applied migration."),
            Replaces,
            migrate::revert_migration,
        ),
        writes(
            (
                "grant_privilege",
                "Grants exactly one privilege on one table to one account. Undone by revoke_privilege.",
            ),
            Sets,
            grants::grant_privilege,
        ),
        writes(
            (
                "revoke_privilege",
                "Revokes exactly one privilege on one table from one account. Undone by grant_privilege.",
            ),
            Replaces,
            grants::revoke_privilege,
        ),
    ]
}
