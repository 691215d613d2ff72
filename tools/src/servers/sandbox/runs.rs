//! How a run is recorded: tasks, log lines, row counts, and the sandbox time that passes meanwhile.

use jiff::{SignedDuration, Timestamp};
use rusqlite::params;
use schemars::JsonSchema;
use serde::Serialize;

use super::db::EnvDb;
use super::error::{Result, SandboxError};
use super::etl::{PIPELINE, RunRequest, TASKS, run_id};
use super::{Environment, Trigger};

/// Seconds that one task takes in sandbox time.
const TASK_SECONDS: i64 = 4;
/// Seconds between the end of one run and the start of the next.
const RUN_GAP_SECONDS: i64 = 60;

/// State of one task of a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TaskRecord {
    /// Name of the task.
    pub task: String,
    /// `success`, `failed`, `skipped` (not asked for) or `upstream_failed` (an earlier task failed).
    pub state: String,
    /// Attempts made.
    pub attempts: i64,
    /// Rows read.
    pub rows_in: i64,
    /// Rows written.
    pub rows_out: i64,
    /// Type of the exception, if it failed.
    pub exception: Option<String>,
    /// Text of the exception, if it failed.
    pub message: Option<String>,
}

/// One recorded run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunRecord {
    /// Id, unique over both environments.
    pub run_id: String,
    /// Pipeline.
    pub pipeline: String,
    /// Environment it ran in.
    pub environment: Environment,
    /// Day that was processed.
    pub business_date: String,
    /// `schedule`, `rerun` or `person`.
    pub trigger: String,
    /// 1 for the first run of the day in this environment.
    pub attempt: i64,
    /// `success` or `failed`.
    pub state: String,
    /// Start in sandbox time.
    pub started_at: String,
    /// End in sandbox time.
    pub finished_at: String,
    /// Failed task with exception and text.
    pub error: Option<String>,
}

/// A run with its tasks.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: RunRecord,
    /// Its tasks in order.
    pub tasks: Vec<TaskRecord>,
}

/// Collects a run while it happens and writes it at its end.
pub(crate) struct Recorder {
    run_id: String,
    request: RunRequest,
    attempt: i64,
    started: Timestamp,
    now: Timestamp,
    tasks: Vec<TaskRecord>,
    log: Vec<(String, String)>,
}

impl Recorder {
    pub(crate) fn start(db: &EnvDb, request: RunRequest) -> Result<Self> {
        db.tick(RUN_GAP_SECONDS)?;
        let attempt: i64 = db.conn.query_row(
            "SELECT count(*) + 1 FROM ops_runs WHERE business_date = ?1",
            [request.date.to_string()],
            |row| row.get(0),
        )?;
        let now = db.now()?;
        let run_id = run_id(db.environment, request.date, attempt);
        Ok(Self { run_id, request, attempt, started: now, now, tasks: Vec::new(), log: Vec::new() })
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    pub(crate) fn now(&self) -> String {
        self.now.to_string()
    }

    /// Lets sandbox time pass.
    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(self.now);
    }

    pub(crate) fn begin(&mut self, task: &str) {
        self.push(task, "running", 1);
        self.wait(1);
        let text = format!("Starting attempt 1 of 1 for {PIPELINE}.{task} run_id={}", self.run_id);
        self.info(&text);
    }

    pub(crate) fn skip(&mut self, task: &str, state: &str) {
        self.push(task, state, 0);
        let text = format!("Task {state}, nothing was executed");
        self.info(&text);
    }

    fn push(&mut self, task: &str, state: &str, attempts: i64) {
        self.tasks.push(TaskRecord {
            task: task.to_owned(),
            state: state.to_owned(),
            attempts,
            rows_in: 0,
            rows_out: 0,
            exception: None,
            message: None,
        });
    }

    pub(crate) fn info(&mut self, text: &str) {
        self.line("INFO", text);
    }

    fn line(&mut self, level: &str, text: &str) {
        let task = self.tasks.last().map(|t| t.task.clone()).unwrap_or_default();
        self.log.push((task.clone(), format!("[{}] {level} {PIPELINE}.{task} - {text}", self.now)));
    }

    fn raw_line(&mut self, text: String) {
        let task = self.tasks.last().map(|t| t.task.clone()).unwrap_or_default();
        self.log.push((task, text));
    }

    pub(crate) fn succeed(&mut self, rows_in: usize, rows_out: usize) {
        self.wait(TASK_SECONDS);
        if let Some(task) = self.tasks.last_mut() {
            "success".clone_into(&mut task.state);
            task.rows_in = i64::try_from(rows_in).unwrap_or(i64::MAX);
            task.rows_out = i64::try_from(rows_out).unwrap_or(i64::MAX);
        }
        self.info("Marking task as SUCCESS");
    }

    pub(crate) fn fail(&mut self, exception: &str, message: &str) {
        self.wait(TASK_SECONDS);
        let name = self.tasks.last().map(|t| t.task.clone()).unwrap_or_default();
        self.line("ERROR", "Task failed with exception");
        self.raw_line("Traceback (most recent call last):".to_owned());
        self.raw_line(format!("  File \"{PIPELINE}/{name}.py\", line 41, in {name}"));
        self.raw_line(format!("{exception}: {message}"));
        self.info("Marking task as FAILED. No retries left");
        if let Some(task) = self.tasks.last_mut() {
            "failed".clone_into(&mut task.state);
            task.exception = Some(exception.to_owned());
            task.message = Some(message.to_owned());
        }
    }

    /// Writes the run and returns its id.
    pub(crate) fn finish(self, db: &EnvDb) -> Result<String> {
        debug_assert_eq!(self.tasks.len(), TASKS.len(), "every task of a run has a record");
        let failed = self.tasks.iter().find(|t| t.state == "failed");
        let error = failed.map(|t| {
            format!("{}: {}: {}", t.task, t.exception.as_deref().unwrap_or(""), t.message.as_deref().unwrap_or(""))
        });
        db.conn.prepare_cached("INSERT INTO ops_runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
            params![
                self.run_id,
                PIPELINE,
                self.request.date.to_string(),
                self.request.trigger.as_str(),
                self.attempt,
                if failed.is_some() { "failed" } else { "success" },
                self.started.to_string(),
                self.now.to_string(),
                error,
            ],
        )?;
        for (idx, t) in self.tasks.iter().enumerate() {
            db.conn.prepare_cached("INSERT INTO ops_tasks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
                params![self.run_id, idx, t.task, t.state, t.attempts, t.rows_in, t.rows_out, t.exception, t.message],
            )?;
        }
        for (idx, (task, text)) in self.log.iter().enumerate() {
            db.conn.prepare_cached("INSERT INTO ops_log VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                self.run_id,
                task,
                idx,
                text
            ])?;
        }
        let passed = self.now.as_second() - db.now()?.as_second();
        db.tick(passed.max(0))?;
        Ok(self.run_id)
    }
}

/// A run by its id, with its tasks.
pub(crate) fn detail(db: &EnvDb, run_id: &str) -> Result<RunDetail> {
    let run = select(db, "run_id = ?1", &[&run_id], 1)?.pop();
    let run =
        run.ok_or_else(|| SandboxError::not_found(format!("no run {run_id:?} in {}; see list_runs", db.environment)))?;
    let mut stmt = db.conn.prepare(
        "SELECT task, state, attempts, rows_in, rows_out, exception, message FROM ops_tasks WHERE run_id = ?1 ORDER BY position",
    )?;
    let tasks = stmt.query_map([run_id], |row| {
        Ok(TaskRecord {
            task: row.get(0)?,
            state: row.get(1)?,
            attempts: row.get(2)?,
            rows_in: row.get(3)?,
            rows_out: row.get(4)?,
            exception: row.get(5)?,
            message: row.get(6)?,
        })
    })?;
    Ok(RunDetail { run, tasks: tasks.collect::<rusqlite::Result<_>>()? })
}

/// Runs that satisfy `condition`, newest first.
pub(crate) fn select(
    db: &EnvDb,
    condition: &str,
    params: &[&dyn rusqlite::ToSql],
    limit: usize,
) -> Result<Vec<RunRecord>> {
    let mut stmt = db.conn.prepare(&format!(
        "SELECT run_id, pipeline, business_date, trigger, attempt, state, started_at, finished_at, error FROM ops_runs \
         WHERE {condition} ORDER BY business_date DESC, attempt DESC LIMIT {limit}"
    ))?;
    let rows = stmt.query_map(params, |row| {
        Ok(RunRecord {
            run_id: row.get(0)?,
            pipeline: row.get(1)?,
            environment: db.environment,
            business_date: row.get(2)?,
            trigger: row.get(3)?,
            attempt: row.get(4)?,
            state: row.get(5)?,
            started_at: row.get(6)?,
            finished_at: row.get(7)?,
            error: row.get(8)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The newest run of a day, if there is one.
pub(crate) fn latest(db: &EnvDb, date: jiff::civil::Date, trigger: Option<Trigger>) -> Result<Option<RunRecord>> {
    let (condition, name) = match trigger {
        Some(t) => ("business_date = ?1 AND trigger = ?2", t.as_str()),
        None => ("business_date = ?1 AND ?2 = ''", ""),
    };
    Ok(select(db, condition, &[&date.to_string(), &name], 1)?.pop())
}
