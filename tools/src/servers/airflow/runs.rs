//! Reading about runs: which there are, which failed and stayed so, which hang, and why one failed.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{As, Request};
use super::error::Result;
use super::logs::{self, Exception, LogQuery};
use super::overview::{Page, list_pools};
use super::{Airflow, cut};

/// Runs of one answer when nobody says how many.
const LIMIT_DEFAULT: u32 = 50;
/// Pages of runs that are looked through for failed ones.
const PAGES_MAX: u32 = 10;
/// Failed runs whose error is read.
const FAILED_MAX: usize = 25;
/// Errors that are read at the same time.
const READS_MAX: usize = 4;
/// Tasks of one answer.
const TASKS_MAX: usize = 200;
/// Longest text of an error, and of a note.
const TEXT_CHARS_MAX: usize = 600;
/// Largest `conf` that is shown, in bytes.
const CONF_BYTES_MAX: usize = 2_000;
/// Unfinished runs that are looked at.
const STUCK_MAX: usize = 25;
/// When a run that is not finished counts as hanging, unless somebody says otherwise.
const STUCK_AFTER_S: i64 = 3_600;

/// A run as Airflow says it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RunSaid {
    dag_run_id: String,
    dag_id: String,
    pub(super) state: String,
    logical_date: Option<String>,
    run_after: Option<String>,
    start_date: Option<String>,
    end_date: Option<String>,
    duration: Option<f64>,
    run_type: Option<String>,
    triggering_user_name: Option<String>,
    note: Option<String>,
    #[serde(default)]
    pub(super) conf: Value,
    #[serde(default)]
    dag_versions: Vec<VersionSaid>,
}

#[derive(Debug, Clone, Deserialize)]
struct VersionSaid {
    version_number: Option<u32>,
}

#[derive(Deserialize)]
struct RunsSaid {
    dag_runs: Vec<RunSaid>,
    total_entries: Option<u64>,
}

/// A run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Run {
    /// DAG.
    pub dag_id: String,
    /// Run.
    pub dag_run_id: String,
    /// `queued`, `running`, `success` or `failed`.
    pub state: String,
    /// Environment it belongs to.
    pub environment: String,
    /// Day it processes, where one is named.
    pub business_date: Option<String>,
    /// When it may start.
    pub run_after: Option<String>,
    /// When it started.
    pub start_date: Option<String>,
    /// When it ended.
    pub end_date: Option<String>,
    /// How long it took.
    pub duration_s: Option<f64>,
    /// Schedule, manual, backfill.
    pub run_type: Option<String>,
    /// Who started it.
    pub started_by: Option<String>,
    /// Note, cut.
    pub note: Option<String>,
    /// Its parameters; null where they are too large to show.
    pub conf: Value,
    /// Version of the DAG's code.
    pub dag_version: Option<u32>,
}

impl Airflow {
    pub(super) fn run(&self, said: RunSaid) -> Run {
        Run {
            environment: self.config.environment_of(&said.conf).to_owned(),
            business_date: self.config.day_of(&said.conf, said.logical_date.as_deref()),
            conf: if said.conf.to_string().len() > CONF_BYTES_MAX { Value::Null } else { said.conf },
            note: said.note.map(|note| cut(&note, TEXT_CHARS_MAX)),
            dag_version: said.dag_versions.last().and_then(|version| version.version_number),
            dag_id: said.dag_id,
            dag_run_id: said.dag_run_id,
            state: said.state,
            run_after: said.run_after,
            start_date: said.start_date,
            end_date: said.end_date,
            duration_s: said.duration,
            run_type: said.run_type,
            started_by: said.triggering_user_name,
        }
    }

    pub(super) async fn said_run(&self, dag_id: &str, dag_run_id: &str) -> Result<RunSaid> {
        self.client.send(As::Reader, Request::get(&["dags", dag_id, "dagRuns", dag_run_id])).await
    }
}

/// Which runs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// Only of this DAG.
    pub dag_id: Option<String>,
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this environment.
    pub environment: Option<String>,
    /// Only of this day.
    pub business_date: Option<String>,
    /// Only since this moment.
    pub since: Option<String>,
    /// Most entries of Airflow that are looked at.
    pub limit: Option<u32>,
    /// Entries to skip.
    pub offset: Option<u32>,
}

/// Runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Runs {
    /// Newest first.
    pub runs: Vec<Run>,
    /// Runs in Airflow that fit DAG, state and moment.
    pub total_entries: Option<u64>,
    /// Where the next page begins; nothing at the end.
    pub next_offset: Option<u32>,
}

pub(super) async fn list_runs(airflow: Airflow, query: RunQuery) -> Result<Runs> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, airflow.config.page_limit);
    let offset = query.offset.unwrap_or(0);
    let said = page(&airflow, &query, (limit, offset)).await?;
    let n_said = u32::try_from(said.dag_runs.len()).unwrap_or(u32::MAX);
    let mut runs: Vec<Run> = said.dag_runs.into_iter().map(|run| airflow.run(run)).collect();
    runs.retain(|run| {
        query.environment.as_ref().is_none_or(|wanted| *wanted == run.environment)
            && query.business_date.as_ref().is_none_or(|wanted| Some(wanted) == run.business_date.as_ref())
    });
    let end = offset.saturating_add(n_said);
    let goes_on = n_said == limit && said.total_entries.is_none_or(|total| u64::from(end) < total);
    Ok(Runs { runs, total_entries: said.total_entries, next_offset: goes_on.then_some(end) })
}

async fn page(airflow: &Airflow, query: &RunQuery, (limit, offset): (u32, u32)) -> Result<RunsSaid> {
    let path = ["dags", query.dag_id.as_deref().unwrap_or("~"), "dagRuns"];
    let request = Request::get(&path)
        .with("order_by", "-run_after")
        .with_some("state", query.state.as_deref())
        .with_some("run_after_gte", query.since.as_deref());
    airflow.client.send(As::Reader, airflow.paged(request, limit, Some(offset))).await
}

/// Where to look for failed runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailedQuery {
    /// Environment; the live one if absent.
    pub environment: Option<String>,
    /// Only since this moment.
    pub since: Option<String>,
}

/// A run that failed and was not made good.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FailedRun {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Why, as far as the log tells.
    pub failure: Option<Failure>,
}

/// Failed runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FailedRuns {
    /// Newest first.
    pub runs: Vec<FailedRun>,
    /// Runs that were looked at.
    pub looked_at: usize,
    /// Failed runs that are not shown.
    pub more: usize,
    /// Newest day that any run of the environment processes.
    pub last_business_date: Option<String>,
}

pub(super) async fn list_failed(airflow: Airflow, query: FailedQuery) -> Result<FailedRuns> {
    let environment = query.environment.unwrap_or_else(|| airflow.config.live.clone());
    airflow.config.environment(&environment)?;
    let mut wanted = RunQuery { since: query.since, ..RunQuery::default() };
    wanted.limit = Some(airflow.config.page_limit);
    let (mut looked_at, mut failed, mut last_day) = (0, Vec::new(), None);
    // The first run that is met of a DAG and day is its latest.
    let mut met = BTreeSet::new();
    for number in 0..PAGES_MAX {
        let size = airflow.config.page_limit;
        let said = page(&airflow, &wanted, (size, number * size)).await?;
        let n_said = said.dag_runs.len();
        looked_at += n_said;
        for run in said.dag_runs.into_iter().map(|run| airflow.run(run)) {
            if run.environment != environment {
                continue;
            }
            last_day = last_day.max(run.business_date.clone());
            let subject = run.business_date.clone().unwrap_or_else(|| run.dag_run_id.clone());
            if met.insert((run.dag_id.clone(), subject)) && run.state == "failed" {
                failed.push(run);
            }
        }
        if n_said < size as usize {
            break;
        }
    }
    let more = failed.len().saturating_sub(FAILED_MAX);
    failed.truncate(FAILED_MAX);
    let explained = futures_util::stream::iter(failed.into_iter().map(|run| explained(airflow.clone(), run)));
    let runs = explained.buffered(READS_MAX).collect().await;
    Ok(FailedRuns { runs, looked_at, more, last_business_date: last_day })
}

async fn explained(airflow: Airflow, run: Run) -> FailedRun {
    // A run whose log cannot be read is still a failed run.
    let tasks = tasks_of(&airflow, &run.dag_id, &run.dag_run_id).await.unwrap_or_default();
    let failure = failure_of(&airflow, &tasks, (&run.dag_id, &run.dag_run_id)).await;
    FailedRun { run, failure }
}

/// A task of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Its id.
    pub task_id: String,
    /// `success`, `failed`, `upstream_failed`, `scheduled`, `queued`, `running` …; nothing before it is looked at.
    pub state: Option<String>,
    /// Which try; 0 before the first.
    pub try_number: u32,
    /// Tries after the first that it may have.
    #[serde(default)]
    pub max_tries: i64,
    /// When it started.
    pub start_date: Option<String>,
    /// When it ended.
    pub end_date: Option<String>,
    /// Pool it takes a slot of.
    pub pool: Option<String>,
    /// When it was queued.
    pub queued_when: Option<String>,
    /// Part of a mapped task; -1 if it is not mapped.
    #[serde(default)]
    pub map_index: i64,
}

#[derive(Deserialize)]
struct TasksSaid {
    task_instances: Vec<Task>,
}

async fn tasks_of(airflow: &Airflow, dag_id: &str, dag_run_id: &str) -> Result<Vec<Task>> {
    let path = ["dags", dag_id, "dagRuns", dag_run_id, "taskInstances"];
    let mut tasks = Vec::new();
    let size = airflow.config.page_limit;
    for number in 0..PAGES_MAX {
        let request = airflow.paged(Request::get(&path), size, Some(number * size));
        let said: TasksSaid = airflow.client.send(As::Reader, request).await?;
        let n_said = said.task_instances.len();
        tasks.extend(said.task_instances);
        if n_said < size as usize || tasks.len() >= TASKS_MAX {
            break;
        }
    }
    tasks.truncate(TASKS_MAX);
    Ok(tasks)
}

/// Why a run failed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Failure {
    /// The task that failed first.
    pub task_id: String,
    /// Its last try.
    pub try_number: u32,
    /// `task: Exception: message`.
    pub text: String,
    /// The exception and what led to it.
    pub exceptions: Vec<Exception>,
    /// What Airflow says when the process was killed from outside.
    pub killed: Option<String>,
    /// Other tasks that failed by themselves.
    pub also_failed: Vec<String>,
}

async fn failure_of(airflow: &Airflow, tasks: &[Task], (dag_id, run_id): (&str, &str)) -> Option<Failure> {
    let mut failed: Vec<&Task> = tasks.iter().filter(|task| task.state.as_deref() == Some("failed")).collect();
    failed.sort_by(|a, b| a.end_date.cmp(&b.end_date));
    let first = failed.first()?;
    let query = LogQuery {
        dag_id: dag_id.to_owned(),
        dag_run_id: run_id.to_owned(),
        task_id: first.task_id.clone(),
        try_number: Some(first.try_number),
        tail: Some(1),
        limit: None,
        offset: None,
        errors_only: true,
    };
    let log = logs::read(airflow, &query, first.try_number.max(1)).await.ok();
    let (exceptions, killed) = log.map(|log| (log.exceptions, log.killed)).unwrap_or_default();
    // Of a chain the one that nobody caught is told; what led to it comes after.
    let told = exceptions.iter().rev().find(|exception| !exception.is_cause).or_else(|| exceptions.last());
    let why = match (told, &killed) {
        (Some(e), _) => format!("{}: {}", e.exc_type, e.exc_value),
        (None, Some(killed)) => format!("Killed: {killed}"),
        (None, None) => "NoException: the log tells no exception".to_owned(),
    };
    Some(Failure {
        text: cut(&format!("{}: {why}", first.task_id), TEXT_CHARS_MAX),
        task_id: first.task_id.clone(),
        try_number: first.try_number,
        exceptions,
        killed,
        also_failed: failed.iter().skip(1).map(|task| task.task_id.clone()).collect(),
    })
}

/// One run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneRun {
    /// DAG.
    pub dag_id: String,
    /// Run.
    pub dag_run_id: String,
}

/// A run with its tasks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunDetail {
    /// The run.
    pub run: Run,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

pub(super) async fn get_run(airflow: Airflow, query: OneRun) -> Result<RunDetail> {
    let said = airflow.said_run(&query.dag_id, &query.dag_run_id).await?;
    detail(&airflow, said).await
}

/// A run with its tasks and, when it failed, the reason.
pub(super) async fn detail(airflow: &Airflow, said: RunSaid) -> Result<RunDetail> {
    let run = airflow.run(said);
    let tasks = tasks_of(airflow, &run.dag_id, &run.dag_run_id).await?;
    let failure = match run.state.as_str() {
        "failed" => failure_of(airflow, &tasks, (&run.dag_id, &run.dag_run_id)).await,
        _ => None,
    };
    Ok(RunDetail { run, tasks, failure })
}

/// What counts as hanging.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StuckQuery {
    /// Environment; the live one if absent.
    pub environment: Option<String>,
    /// Seconds since a run could start after which it counts as hanging; an hour if absent.
    pub older_than_s: Option<i64>,
}

/// A run that hangs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StuckRun {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Seconds since it could start.
    pub waiting_s: i64,
    /// Pool without any slot that a task of it waits for: it cannot get on, however young it is.
    pub blocked_by_pool: Option<String>,
    /// Tasks that are not finished: where it hangs.
    pub unfinished: Vec<Task>,
}

/// Runs that hang.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StuckRuns {
    /// Oldest last.
    pub runs: Vec<StuckRun>,
    /// Runs that are not finished at all.
    pub unfinished_runs: usize,
}

pub(super) async fn stuck_runs(airflow: Airflow, query: StuckQuery) -> Result<StuckRuns> {
    let environment = query.environment.unwrap_or_else(|| airflow.config.live.clone());
    let older = query.older_than_s.unwrap_or(STUCK_AFTER_S);
    let now = Timestamp::now();
    let (mut runs, mut unfinished_runs) = (Vec::new(), 0);
    let mut closed: Option<Vec<String>> = None;
    for state in ["running", "queued"] {
        let wanted = RunQuery { state: Some(state.to_owned()), ..RunQuery::default() };
        let said = page(&airflow, &wanted, (airflow.config.page_limit, 0)).await?;
        for run in said.dag_runs.into_iter().map(|run| airflow.run(run)) {
            if run.environment != environment {
                continue;
            }
            unfinished_runs += 1;
            if unfinished_runs > STUCK_MAX {
                continue;
            }
            let since = run.run_after.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
            let waiting_s = since.map_or(0, |since| now.as_second() - since.as_second());
            let mut unfinished = tasks_of(&airflow, &run.dag_id, &run.dag_run_id).await?;
            unfinished.retain(|task| !matches!(task.state.as_deref(), Some("success" | "skipped" | "removed")));
            let blocked_by_pool = match closed.as_ref() {
                Some(closed) => blocking(&unfinished, closed),
                None => blocking(&unfinished, closed.insert(closed_pools(&airflow).await?)),
            };
            if waiting_s >= older || blocked_by_pool.is_some() {
                runs.push(StuckRun { run, waiting_s, blocked_by_pool, unfinished });
            }
        }
    }
    Ok(StuckRuns { runs, unfinished_runs })
}

/// Pools that let nobody in.
async fn closed_pools(airflow: &Airflow) -> Result<Vec<String>> {
    let page = Page { limit: Some(airflow.config.page_limit), offset: None };
    let pools = list_pools(airflow.clone(), page).await?.pools;
    Ok(pools.into_iter().filter(|pool| pool.slots == 0).map(|pool| pool.name).collect())
}

/// The closed pool that a task waits for.
fn blocking(unfinished: &[Task], closed: &[String]) -> Option<String> {
    let waiting = unfinished.iter().filter(|task| matches!(task.state.as_deref(), Some("scheduled" | "queued")));
    let mut pools = waiting.filter_map(|task| task.pool.clone());
    pools.find(|pool| closed.contains(pool))
}
