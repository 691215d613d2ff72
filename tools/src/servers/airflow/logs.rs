//! A part of a task's log, with exceptions as data.
//!
//! A log is read as a stream and only what is asked for is kept, so its size costs time and never memory. What it says is
//! data of strangers: nothing here interprets it.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{As, Next, Request};
use super::error::Result;
use super::{Airflow, cut};

/// Lines of one answer.
const LINES_MAX: usize = 500;
/// Lines when nobody says how many.
const LINES_DEFAULT: usize = 60;
/// Longest line.
const LINE_CHARS_MAX: usize = 600;
/// Exceptions of one answer.
const EXCEPTIONS_MAX: usize = 8;
/// Frames of an exception, the innermost.
const FRAMES_MAX: usize = 4;
/// Exceptions of one event.
const CHAIN_MAX: usize = 4;
/// How Airflow tells that a task's process was killed.
const KILLED: &str = "Process terminated by signal";

/// Which part of which log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// DAG.
    pub dag_id: String,
    /// Run.
    pub dag_run_id: String,
    /// Task.
    pub task_id: String,
    /// Try; the last one if absent.
    pub try_number: Option<u32>,
    /// The last so many lines (the default).
    pub tail: Option<usize>,
    /// Instead of the tail: so many lines from `offset` on.
    pub limit: Option<usize>,
    /// First line of a page, counted from 0.
    pub offset: Option<usize>,
    /// Only lines of level error and above, and those with an exception.
    #[serde(default)]
    pub errors_only: bool,
}

/// An exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exception {
    /// Its type.
    pub exc_type: String,
    /// What it says.
    pub exc_value: String,
    /// Whether it is what led to another one.
    pub is_cause: bool,
    /// Innermost places, `file:line in function`.
    pub frames: Vec<String>,
}

/// A part of a log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Log {
    /// The try it is of.
    pub try_number: u32,
    /// `LEVEL text`, oldest first.
    pub lines: Vec<String>,
    /// Number of the first of these lines.
    pub first_line: usize,
    /// Lines that the whole log has (those that fit the query).
    pub total_lines: usize,
    /// Where the next page begins; nothing at the end.
    pub next_offset: Option<usize>,
    /// Exceptions, the last ones of the log.
    pub exceptions: Vec<Exception>,
    /// What Airflow says when the process was killed from outside.
    pub killed: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    event: Value,
    level: Option<String>,
    #[serde(default)]
    error_detail: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    exc_type: Option<String>,
    #[serde(default)]
    exc_value: Option<String>,
    #[serde(default)]
    is_cause: bool,
    #[serde(default)]
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    filename: String,
    #[serde(default)]
    lineno: u32,
    #[serde(default)]
    name: String,
}

impl Detail {
    fn exception(self) -> Exception {
        let skipped = self.frames.len().saturating_sub(FRAMES_MAX);
        let frame = |frame: &Frame| {
            let file = frame.filename.rsplit('/').next().unwrap_or_default();
            format!("{file}:{} in {}", frame.lineno, frame.name)
        };
        Exception {
            exc_type: self.exc_type.unwrap_or_else(|| "Exception".to_owned()),
            exc_value: cut(&one_line(&self.exc_value.unwrap_or_default()), LINE_CHARS_MAX),
            is_cause: self.is_cause,
            frames: self.frames.iter().skip(skipped).map(frame).collect(),
        }
    }
}

/// The window on a log that a query asks for.
struct Window {
    first: Option<usize>,
    size: usize,
    errors_only: bool,
    lines: VecDeque<String>,
    first_kept: usize,
    n_lines: usize,
    exceptions: VecDeque<Exception>,
    killed: Option<String>,
}

impl Window {
    fn of(query: &LogQuery) -> Self {
        let paged = query.offset.is_some() || query.limit.is_some();
        let size = if paged { query.limit } else { query.tail }.unwrap_or(LINES_DEFAULT).clamp(1, LINES_MAX);
        Self {
            first: paged.then(|| query.offset.unwrap_or(0)),
            size,
            errors_only: query.errors_only,
            lines: VecDeque::new(),
            first_kept: 0,
            n_lines: 0,
            exceptions: VecDeque::new(),
            killed: None,
        }
    }

    fn read(&mut self, line: &[u8]) {
        let entry: Entry = serde_json::from_slice(line).unwrap_or_else(|_| Entry {
            event: Value::String(String::from_utf8_lossy(line).trim().to_owned()),
            level: None,
            error_detail: Vec::new(),
        });
        let text = match &entry.event {
            Value::String(text) => one_line(text),
            other => other.to_string(),
        };
        if text.is_empty() || text.starts_with("::group::") || text.starts_with("::endgroup::") {
            return;
        }
        if text.contains(KILLED) {
            self.killed = Some(cut(&text, LINE_CHARS_MAX));
        }
        let level = entry.level.as_deref().unwrap_or("info").to_uppercase();
        let exceptions: Vec<Exception> =
            entry.error_detail.into_iter().take(CHAIN_MAX).map(Detail::exception).collect();
        let is_error = !exceptions.is_empty() || matches!(level.as_str(), "ERROR" | "CRITICAL" | "EXCEPTION");
        let told: Vec<String> = exceptions.iter().map(|e| format!("{level} {}: {}", e.exc_type, e.exc_value)).collect();
        self.exceptions.extend(exceptions);
        while self.exceptions.len() > EXCEPTIONS_MAX {
            self.exceptions.pop_front();
        }
        if self.errors_only && !is_error {
            return;
        }
        self.keep(cut(&format!("{level} {text}"), LINE_CHARS_MAX));
        told.into_iter().for_each(|line| self.keep(line));
    }

    fn keep(&mut self, line: String) {
        let number = self.n_lines;
        self.n_lines += 1;
        match self.first {
            Some(first) if number >= first && self.lines.len() < self.size => self.lines.push_back(line),
            Some(_) => {}
            None => {
                self.lines.push_back(line);
                if self.lines.len() > self.size {
                    self.lines.pop_front();
                    self.first_kept += 1;
                }
            }
        }
    }

    fn log(self, try_number: u32) -> Log {
        let first_line = self.first.unwrap_or(self.first_kept);
        let end = first_line + self.lines.len();
        Log {
            try_number,
            first_line,
            total_lines: self.n_lines,
            next_offset: (end < self.n_lines && !self.lines.is_empty()).then_some(end),
            lines: self.lines.into(),
            exceptions: self.exceptions.into(),
            killed: self.killed,
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) async fn get_log(airflow: Airflow, query: LogQuery) -> Result<Log> {
    let try_number = match query.try_number {
        Some(number) => number,
        None => last_try(&airflow, &query).await?,
    };
    read(&airflow, &query, try_number).await
}

/// Reads the log of one try.
pub(super) async fn read(airflow: &Airflow, query: &LogQuery, try_number: u32) -> Result<Log> {
    let number = try_number.to_string();
    let path = ["dags", &query.dag_id, "dagRuns", &query.dag_run_id, "taskInstances", &query.task_id, "logs", &number];
    let mut window = Window::of(query);
    let request = Request::get(&path).with("full_content", true);
    airflow
        .client
        .lines(As::Reader, request, |line| {
            window.read(line);
            Next::More
        })
        .await?;
    Ok(window.log(try_number))
}

async fn last_try(airflow: &Airflow, query: &LogQuery) -> Result<u32> {
    #[derive(Deserialize)]
    struct Said {
        try_number: u32,
    }
    let path = ["dags", &query.dag_id, "dagRuns", &query.dag_run_id, "taskInstances", &query.task_id];
    let said: Said = airflow.client.send(As::Reader, Request::get(&path)).await?;
    Ok(said.try_number.max(1))
}
