//! Acting: run tasks again, start a run, pause, pools, and (where allowed) overwrite a state.
//!
//! Every act names its environment and is refused when it would reach another one. An act that was made already is
//! recognised and not made again: a run under way is waited for, a run id is started once.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::client::{As, Next, Request};
use super::error::{AirflowError, Code, Result};
use super::runs::{self, Run, RunSaid};
use super::{Airflow, cut};
use crate::servers::table::{Key, to_value};

/// Longest a call waits for a run.
const WAIT_S_MAX: u32 = 3_600;
/// Seconds between two looks at a run that is waited for.
const LOOK_EVERY_S: u32 = 1;
/// Most tasks that one call may clear.
const CLEARED_MAX: usize = 200;
/// Pause that a failed run suggests for each of its tries, and the longest.
const PAUSE_S: u32 = 4;
const PAUSE_S_MAX: u32 = 60;
/// Pause that a file which cannot be imported suggests: by then Airflow has read it again.
const PARSE_PAUSE_S: u32 = 15;
/// Hex digits of a key in the id of a run.
const KEY_DIGITS: usize = 12;
/// Longest note.
const NOTE_CHARS_MAX: usize = 500;
/// Most slots of a pool.
const SLOTS_MAX: u32 = 10_000;

/// What to run again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// DAG.
    pub dag_id: String,
    /// Run.
    pub dag_run_id: String,
    /// Environment that the run must belong to.
    pub environment: String,
    /// Only tell what would be cleared (the default).
    #[serde(default = "yes")]
    pub dry_run: bool,
    /// Only these tasks, and those after them.
    #[serde(default)]
    pub task_ids: Option<Vec<String>>,
    /// Only tasks that failed (the default); else all.
    #[serde(default = "yes")]
    pub only_failed: bool,
    /// Also the tasks after them (the default).
    #[serde(default = "yes")]
    pub include_downstream: bool,
    /// Why, for people.
    pub note: Option<String>,
    /// Seconds to wait for the end of the run; 0 does not wait.
    #[serde(default)]
    pub wait_s: u32,
}

fn yes() -> bool {
    true
}

/// What became of a clear.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Cleared {
    /// The run as it is now.
    pub run: Run,
    /// Tasks that run again, or would.
    pub task_ids: Vec<String>,
    /// Whether anything was cleared.
    pub cleared: bool,
    /// Whether the run was under way already, or this very call was made before.
    pub already: bool,
}

#[derive(Deserialize)]
struct ClearedSaid {
    task_instances: Vec<TaskName>,
}

#[derive(Deserialize)]
struct TaskName {
    task_id: String,
    note: Option<String>,
}

pub(super) async fn clear(airflow: Airflow, args: Clear, key: Key) -> Result<Cleared> {
    let said = own_run(&airflow, (&args.dag_id, &args.dag_run_id), &args.environment).await?;
    let mark = key.as_deref().map(|key| format!("interlock {}", digits(key)));
    let would = clear_tasks(&airflow, &args, None).await?;
    let task_ids: Vec<String> = would.iter().map(|task| task.task_id.clone()).collect();
    if args.dry_run {
        return Ok(Cleared { run: airflow.run(said), task_ids, cleared: false, already: false });
    }
    if matches!(said.state.as_str(), "running" | "queued") {
        let run = finished(&airflow, said, args.wait_s).await?;
        return Ok(Cleared { run, task_ids: Vec::new(), cleared: false, already: true });
    }
    // Tasks keep the note of the call that cleared them: a repeated call finds its own.
    let is_own = |task: &TaskName| mark.as_ref().is_some_and(|m| task.note.as_ref().is_some_and(|n| n.starts_with(m)));
    if said.state == "success" && !would.is_empty() && would.iter().all(is_own) {
        return Ok(Cleared { run: airflow.run(said), task_ids, cleared: false, already: true });
    }
    if would.is_empty() {
        let kind = if args.only_failed { "failed task" } else { "task" };
        let text = format!("run {} of {} is {} and has no {kind} to clear", args.dag_run_id, args.dag_id, said.state);
        return Err(AirflowError::conflict(text));
    }
    if would.len() > CLEARED_MAX {
        let text = format!("{} tasks would run again; at most {CLEARED_MAX} are allowed: name `task_ids`", would.len());
        return Err(AirflowError::new(Code::LimitExceeded, text));
    }
    let note = [mark, args.note.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ");
    clear_tasks(&airflow, &args, Some(cut(&note, NOTE_CHARS_MAX))).await?;
    let said = airflow.said_run(&args.dag_id, &args.dag_run_id).await?;
    let run = finished(&airflow, said, args.wait_s).await?;
    Ok(Cleared { run, task_ids, cleared: true, already: false })
}

/// Clears for real when there is a note, else only tells.
async fn clear_tasks(airflow: &Airflow, args: &Clear, note: Option<String>) -> Result<Vec<TaskName>> {
    let mut body = json!({
        "dry_run": note.is_none(),
        "dag_run_id": args.dag_run_id,
        "only_failed": args.only_failed,
        "include_downstream": args.include_downstream,
        "reset_dag_runs": true,
    });
    if let Some(tasks) = &args.task_ids {
        body["task_ids"] = json!(tasks);
    }
    if let Some(note) = note.filter(|note| !note.is_empty()) {
        body["note"] = note.into();
    }
    let said: ClearedSaid =
        airflow.client.send(As::Actor, Request::post(&["dags", &args.dag_id, "clearTaskInstances"], body)).await?;
    Ok(said.task_instances)
}

/// What to start.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// DAG.
    pub dag_id: String,
    /// Environment that the run shall belong to.
    pub environment: String,
    /// Id of the run: the same id is never started twice. Derived from the call when absent.
    pub dag_run_id: Option<String>,
    /// Day to process.
    pub business_date: Option<String>,
    /// Further parameters.
    #[serde(default)]
    pub conf: Map<String, Value>,
    /// Why, for people.
    pub note: Option<String>,
    /// Seconds to wait for the end of the run; 0 does not wait.
    #[serde(default)]
    pub wait_s: u32,
}

/// What became of a trigger.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Triggered {
    /// The run as it is now.
    pub run: Run,
    /// Whether the run was there already.
    pub already: bool,
}

pub(super) async fn trigger(airflow: Airflow, args: Trigger, key: Key) -> Result<Triggered> {
    #[derive(Deserialize)]
    struct DagSaid {
        is_paused: bool,
        #[serde(default)]
        has_import_errors: bool,
    }
    let conf = conf_of(&airflow, &args)?;
    let dag: DagSaid = airflow.client.send(As::Reader, Request::get(&["dags", &args.dag_id])).await?;
    if dag.is_paused {
        let text = format!("{} is paused, so its runs stay queued: let it run with set_dag_paused first", args.dag_id);
        return Err(AirflowError::conflict(text));
    }
    if dag.has_import_errors {
        let text = format!(
            "the file of {} could not be imported when Airflow last read it, so no run can start; it is read again every few seconds",
            args.dag_id
        );
        return Err(AirflowError::new(Code::NotImported, text).after(PARSE_PAUSE_S));
    }
    let run_id = match &args.dag_run_id {
        Some(id) => id.clone(),
        None => {
            let call = key.map_or_else(|| to_value(&args).map(|call| call.to_string()), Ok)?;
            let day = args.business_date.as_deref().unwrap_or("run");
            format!("{}__{day}__{}", args.environment, digits(&call))
        }
    };
    let body = json!({ "dag_run_id": run_id, "logical_date": null, "conf": conf,
                       "note": args.note.as_deref().map(|note| cut(note, NOTE_CHARS_MAX)) });
    let path = ["dags", args.dag_id.as_str(), "dagRuns"];
    match airflow.client.send::<RunSaid>(As::Actor, Request::post(&path, body)).await {
        Ok(said) => Ok(Triggered { run: finished(&airflow, said, args.wait_s).await?, already: false }),
        Err(error) if error.code == Code::Conflict => again(&airflow, &args, &run_id, &conf).await,
        Err(error) => Err(error),
    }
}

/// The run is there. If it is this one, it is waited for; if it has failed, it is made to run again.
async fn again(airflow: &Airflow, args: &Trigger, run_id: &str, conf: &Value) -> Result<Triggered> {
    let said = own_run(airflow, (&args.dag_id, run_id), &args.environment).await?;
    if said.conf != *conf {
        return Err(AirflowError::conflict(format!(
            "run {run_id} of {} exists with other parameters: choose another `dag_run_id`",
            args.dag_id
        )));
    }
    let said = if said.state == "failed" {
        let all = Clear {
            dag_id: args.dag_id.clone(),
            dag_run_id: run_id.to_owned(),
            environment: args.environment.clone(),
            dry_run: false,
            task_ids: None,
            only_failed: false,
            include_downstream: true,
            note: None,
            wait_s: 0,
        };
        clear_tasks(airflow, &all, Some(args.note.clone().unwrap_or_default())).await?;
        airflow.said_run(&args.dag_id, run_id).await?
    } else {
        said
    };
    Ok(Triggered { run: finished(airflow, said, args.wait_s).await?, already: true })
}

/// The parameters of a run: what the caller gives, the day, and what marks the environment.
fn conf_of(airflow: &Airflow, args: &Trigger) -> Result<Value> {
    let mut conf = args.conf.clone();
    if let (Some(pointer), Some(day)) = (&airflow.config.business_date, &args.business_date) {
        conf.insert(pointer.trim_start_matches('/').to_owned(), day.clone().into());
    }
    for (name, value) in &airflow.config.environment(&args.environment)?.conf {
        if let Some(other) = conf.get(name).filter(|other| *other != value) {
            return Err(AirflowError::denied(format!(
                "conf.{name} is {other}, and runs of `{}` have {value}",
                args.environment
            )));
        }
        conf.insert(name.clone(), value.clone());
    }
    let conf = Value::Object(conf);
    let belongs = airflow.config.environment_of(&conf);
    if belongs != args.environment {
        return Err(AirflowError::denied(format!("with this conf the run would belong to `{belongs}`")));
    }
    Ok(conf)
}

/// A run that belongs to the environment of the call.
async fn own_run(airflow: &Airflow, (dag_id, run_id): (&str, &str), environment: &str) -> Result<RunSaid> {
    airflow.config.environment(environment)?;
    let said = airflow.said_run(dag_id, run_id).await?;
    let belongs = airflow.config.environment_of(&said.conf);
    if belongs != environment {
        return Err(AirflowError::denied(format!(
            "run {run_id} of {dag_id} belongs to `{belongs}`, and the call is for `{environment}`"
        )));
    }
    Ok(said)
}

/// Waits for the end of a run. A failed run is an error with the run in it; one that goes on is an error too.
async fn finished(airflow: &Airflow, said: RunSaid, wait_s: u32) -> Result<Run> {
    let run = airflow.run(said);
    if wait_s == 0 {
        return Ok(run);
    }
    let path = ["dags", run.dag_id.as_str(), "dagRuns", run.dag_run_id.as_str(), "wait"];
    let request = Request::get(&path).with("interval", LOOK_EVERY_S);
    let waiting = airflow.client.lines(As::Reader, request, |_| Next::More);
    let limit = Duration::from_secs(wait_s.min(WAIT_S_MAX).into());
    // How the wait ends does not matter: the run itself is asked afterwards.
    let _ = tokio::time::timeout(limit, waiting).await;
    let said = airflow.said_run(&run.dag_id, &run.dag_run_id).await?;
    let place = format!("run {} of {}", run.dag_run_id, run.dag_id);
    match said.state.clone().as_str() {
        "success" => Ok(airflow.run(said)),
        "failed" => {
            let detail = runs::detail(airflow, said).await?;
            let tries = detail.failure.as_ref().map_or(1, |failure| failure.try_number);
            let why = detail.failure.as_ref().map_or("no task tells why", |failure| failure.text.as_str());
            let error = AirflowError::new(Code::RunFailed, format!("{place} failed: {why}"));
            Err(error.after(tries.saturating_mul(PAUSE_S).min(PAUSE_S_MAX)).about(to_value(&detail)?))
        }
        state => {
            let text = format!("{place} is still {state} after {wait_s} s; it goes on, and the same call waits for it");
            Err(AirflowError::new(Code::StillRunning, text).about(to_value(&airflow.run(said))?))
        }
    }
}

/// A DAG and whether it shall be paused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPaused {
    /// DAG.
    pub dag_id: String,
    /// Pause it, or let it run.
    pub paused: bool,
    /// The live environment: a DAG is shared by all of them.
    pub environment: String,
}

/// Whether a DAG is paused.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    /// DAG.
    pub dag_id: String,
    /// Whether it is paused now.
    pub is_paused: bool,
}

pub(super) async fn set_dag_paused(airflow: Airflow, args: SetPaused, _: Key) -> Result<Paused> {
    shared(&airflow, &args.environment, "a DAG")?;
    let path = ["dags", args.dag_id.as_str()];
    let request = Request::patch(&path, json!({ "is_paused": args.paused })).with("update_mask", "is_paused");
    airflow.client.send(As::Actor, request).await
}

/// A pool and its slots.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPool {
    /// Pool.
    pub pool: String,
    /// Slots it shall have.
    pub slots: u32,
    /// The live environment: a pool is shared by all of them.
    pub environment: String,
}

/// A pool before and after.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PoolSet {
    /// Pool.
    pub pool: String,
    /// Slots before.
    pub slots_before: i64,
    /// Slots now.
    pub slots: i64,
}

pub(super) async fn set_pool(airflow: Airflow, args: SetPool, _: Key) -> Result<PoolSet> {
    #[derive(Deserialize)]
    struct PoolSaid {
        slots: i64,
        #[serde(default)]
        include_deferred: bool,
    }
    shared(&airflow, &args.environment, "a pool")?;
    if args.slots > SLOTS_MAX {
        return Err(AirflowError::invalid(format!("slots: {} is more than {SLOTS_MAX}", args.slots)));
    }
    let path = ["pools", args.pool.as_str()];
    let before: PoolSaid = airflow.client.send(As::Actor, Request::get(&path)).await?;
    let body = json!({ "name": args.pool, "slots": args.slots, "include_deferred": before.include_deferred });
    let request = Request::patch(&path, body).with("update_mask", "slots");
    let after: PoolSaid = airflow.client.send(As::Actor, request).await?;
    Ok(PoolSet { pool: args.pool, slots_before: before.slots, slots: after.slots })
}

/// Which state to overwrite with which.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// DAG.
    pub dag_id: String,
    /// Run.
    pub dag_run_id: String,
    /// Task; the whole run if absent.
    pub task_id: Option<String>,
    /// The new state.
    pub state: MarkState,
    /// Environment that the run must belong to.
    pub environment: String,
    /// Why; it is kept as the note.
    pub reason: String,
}

/// A state that can be written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkState {
    /// As if it had succeeded.
    Success,
    /// As if it had failed.
    Failed,
}

/// What was marked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Marked {
    /// The run as it is now.
    pub run: Run,
    /// The state before.
    pub state_before: String,
}

pub(super) async fn mark(airflow: Airflow, args: Mark, _: Key) -> Result<Marked> {
    if !airflow.config.allow_mark {
        return Err(AirflowError::denied("this installation does not allow states to be overwritten (`allow_mark`)"));
    }
    let before = own_run(&airflow, (&args.dag_id, &args.dag_run_id), &args.environment).await?;
    let (dag, run) = (args.dag_id.as_str(), args.dag_run_id.as_str());
    let note = cut(&args.reason, NOTE_CHARS_MAX);
    let _: Value = match &args.task_id {
        Some(task) => {
            let body = json!({ "new_state": args.state, "note": note });
            let path = ["dags", dag, "dagRuns", run, "taskInstances", task.as_str()];
            airflow.client.send(As::Actor, Request::patch(&path, body)).await?
        }
        None => {
            let body = json!({ "state": args.state, "note": note });
            airflow.client.send(As::Actor, Request::patch(&["dags", dag, "dagRuns", run], body)).await?
        }
    };
    let said = airflow.said_run(dag, run).await?;
    Ok(Marked { run: airflow.run(said), state_before: before.state })
}

/// What all environments share is changed as part of the live one, where the most is asked of a caller.
pub(super) fn shared(airflow: &Airflow, environment: &str, what: &str) -> Result<()> {
    if environment == airflow.config.live {
        return Ok(());
    }
    let live = &airflow.config.live;
    Err(AirflowError::denied(format!("{what} is shared by all environments: name `{live}`, not `{environment}`")))
}

/// The head of a digest: the same key always gives the same one.
fn digits(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes())).chars().take(KEY_DIGITS).collect()
}
