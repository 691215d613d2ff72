//! The tools as a table.

use std::sync::OnceLock;

use super::error::AirflowError;
use super::{Airflow, act, logs, look, overview, runs, variable};
use crate::servers::table::{self, acts, reads};

pub use crate::servers::table::ToolEffect;

/// One tool.
pub type ToolSpec = table::ToolSpec<Airflow, AirflowError>;

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
