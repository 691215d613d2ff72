//! The tools as a table: name, words, effect, schemas from the types, and the function that runs.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{AirflowError, Code, Result};
use super::{Airflow, act, logs, look, overview, runs, variable};

/// What a tool does to the installation; becomes its MCP annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// Changes nothing.
    Reads,
    /// Adds a run; repeating the call with the same id or key adds nothing more.
    Adds,
    /// Sets a state; repeating it changes nothing more.
    Sets,
    /// Replaces what was there: tasks run again, a state is overwritten. Repeating it with the same key changes nothing more.
    Replaces,
}

/// Stable key of a call, the same when the runtime makes it again.
pub(super) type Key = Option<String>;

type Run = Box<dyn Fn(Airflow, Value, Key) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// One tool.
pub struct ToolSpec {
    /// Name on the wire.
    pub name: &'static str,
    /// One sentence for people and models.
    pub description: &'static str,
    /// What it does.
    pub effect: ToolEffect,
    input: fn() -> JsonObject,
    output: fn() -> JsonObject,
    pub(super) run: Run,
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
        let (read_only, destructive) = match self.effect {
            ToolEffect::Reads => (true, false),
            ToolEffect::Adds | ToolEffect::Sets => (false, false),
            ToolEffect::Replaces => (false, true),
        };
        // What a DAG says and logs comes from anywhere.
        let open_world = Some(true);
        tool.annotations =
            Some(ToolAnnotations::from_raw(None, Some(read_only), Some(destructive), Some(true), open_world));
        tool
    }
}

type Words = (&'static str, &'static str);

fn reads<A, O, F, R>((name, description): Words, f: F) -> ToolSpec
where
    A: DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
    F: Fn(Airflow, A) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O>> + Send + 'static,
{
    acts((name, description), ToolEffect::Reads, move |airflow, args, _: Key| f(airflow, args))
}

fn acts<A, O, F, R>((name, description): Words, effect: ToolEffect, f: F) -> ToolSpec
where
    A: DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
    F: Fn(Airflow, A, Key) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O>> + Send + 'static,
{
    let run = move |airflow: Airflow, arguments: Value, key: Key| match parse::<A>(name, arguments) {
        Err(error) => std::future::ready(Err(error)).boxed(),
        Ok(args) => {
            let work = f(airflow, args, key);
            async move { to_value(&work.await?) }.boxed()
        }
    };
    ToolSpec { name, description, effect, input: schema::<A>, output: schema::<O>, run: Box::new(run) }
}

fn parse<A: DeserializeOwned>(tool: &str, arguments: Value) -> Result<A> {
    serde_json::from_value(arguments).map_err(|error| AirflowError::invalid(format!("arguments of {tool}: {error}")))
}

pub(super) fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| AirflowError::new(Code::Protocol, format!("result: {error}")))
}

/// Some clients refuse an object schema that names no properties.
fn schema<T: JsonSchema>() -> JsonObject {
    let root = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
    let mut schema = root.as_object().cloned().unwrap_or_default();
    schema.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

/// Every tool there is.
pub fn all_tools() -> &'static [ToolSpec] {
    static TOOLS: OnceLock<Vec<ToolSpec>> = OnceLock::new();
    TOOLS.get_or_init(|| reading().into_iter().chain(acting()).collect())
}

fn reading() -> Vec<ToolSpec> {
    vec![
        reads(
            ("list_dags", "DAGs with tags, owners, whether they are paused, and whether they can be imported."),
            look::list_dags,
        ),
        reads(
            ("list_runs", "Runs, newest first, of one DAG or all, by state, environment, day or since a moment."),
            runs::list_runs,
        ),
        reads(
            (
                "list_failed",
                "Runs that failed and were not made good since: the latest run of its DAG, environment and day, with the failed task and its exception.",
            ),
            runs::list_failed,
        ),
        reads(("get_run", "One run with its tasks and the exception of the task that failed."), runs::get_run),
        reads(
            (
                "get_log",
                "A part of a task's log: the last lines, or a page, or only errors; exceptions parsed. Never a whole long log.",
            ),
            logs::get_log,
        ),
        reads(("get_source", "A part of a DAG's source code, with its version."), look::get_source),
        reads(
            (
                "list_import_errors",
                "DAG files that cannot be imported, with the DAGs in them. No run fails because of that.",
            ),
            look::list_import_errors,
        ),
        reads(
            ("stuck_runs", "Runs that are queued or running for longer than they should, with their unfinished tasks."),
            runs::stuck_runs,
        ),
        reads(
            ("health", "Health of scheduler, database, triggerer and DAG processor, and the version."),
            overview::health,
        ),
        reads(("list_pools", "Pools with their slots."), overview::list_pools),
        reads(("list_variables", "Variables; values with a secret's name are hidden."), overview::list_variables),
        reads(
            (
                "get_variable",
                "One variable, and whether it is the number that is expected; a secret's name hides both.",
            ),
            variable::get_variable,
        ),
        reads(("list_assets", "Assets with the DAGs that write and read them."), overview::list_assets),
        reads(
            ("event_log", "Who did what, newest first. An entry shows an attempt, also one that was refused."),
            overview::event_log,
        ),
    ]
}

fn acting() -> Vec<ToolSpec> {
    use ToolEffect::{Adds, Replaces, Sets};
    vec![
        acts(
            (
                "clear",
                "Runs tasks of a run again (a retry). Without `dry_run: false` it only tells which. Waits for the end if asked; a failed run is an error with the run in it.",
            ),
            Replaces,
            act::clear,
        ),
        acts(
            (
                "trigger",
                "Starts a run under an id of its own, derived from the call when absent; the same id is never started twice. Waits for the end if asked.",
            ),
            Adds,
            act::trigger,
        ),
        acts(("set_dag_paused", "Pauses a DAG or lets it run."), Sets, act::set_dag_paused),
        acts(("set_pool", "Sets the number of slots of a pool."), Replaces, act::set_pool),
        acts(
            (
                "set_variable",
                "Sets a variable if it still is what the caller saw, or removes it. Offered only for variables that the installation names, within their bounds.",
            ),
            Replaces,
            variable::set_variable,
        ),
        acts(
            (
                "mark",
                "Overwrites the state of a run or task without any work. Offered only where the installation allows it.",
            ),
            Replaces,
            act::mark,
        ),
    ]
}
