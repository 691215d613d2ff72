//! Everything a diagnosis may rest on: read once, each with the call it came from; what could not be read is a gap.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use runtime_core::error::TaskError;
use serde_json::{Map, Value, json};

use crate::desk::Desk;
use crate::diagnosis::BlastRadius;
use crate::incident::{Incident, Kind, list_at, text_at};
use crate::reach::Answer;
use crate::signature::signature;

/// Log lines that are read at first.
const LOG_LINES: u32 = 60;
/// Log lines of a second look.
const LOG_LINES_DEEP: u32 = 500;
/// Longest log text that is kept.
const LOG_BYTES_MAX: usize = 64 * 1024;
/// Earlier runs that a second look reads.
const HISTORY_RUNS: u32 = 50;

static TABLE_NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\btable (\w+)").ok());

/// How hard to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What one needs for a clear case.
    First,
    /// Everything there is.
    Second,
}

/// Facts about one incident.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The incident.
    pub incident: Incident,
    /// What expressions of the knowledge base see.
    pub names: Map<String, Value>,
    /// What could not be read.
    pub gaps: Vec<String>,
    /// What every remedy may be filled in with.
    pub params: Map<String, Value>,
    answers: BTreeMap<&'static str, Answer>,
    failures: BTreeMap<&'static str, String>,
    signature: String,
}

impl Facts {
    /// Sources that evidence may name.
    pub const SOURCES: [&'static str; 7] = ["run", "log", "schema", "upstream", "privileges", "profile", "history"];

    /// Facts with nothing read yet.
    pub fn new(incident: Incident) -> Self {
        let error = incident.error.clone().unwrap_or_default();
        let signature = signature(&error);
        let mut names = Map::new();
        names.insert("incident".to_owned(), serde_json::to_value(&incident).unwrap_or_default());
        names.insert("error".to_owned(), split_error(&error, &signature));
        let mut params = Map::new();
        params.insert("pipeline".to_owned(), incident.pipeline.clone().into());
        params.insert("day".to_owned(), incident.business_date.clone().into());
        Self {
            incident,
            names,
            gaps: Vec::new(),
            params,
            answers: BTreeMap::new(),
            failures: BTreeMap::new(),
            signature,
        }
    }

    /// Adds what a source said.
    pub fn learn(&mut self, source: &'static str, answer: Answer) {
        let value = match source {
            "log" => Value::String(joined_lines(&answer.value)),
            _ => Value::clone(&answer.value),
        };
        if source == "upstream"
            && let Some(rows) = answer.value.pointer("/manifest/expected_rows").filter(|rows| rows.is_u64())
        {
            self.params.insert("expected_rows".to_owned(), rows.clone());
        }
        self.names.insert(source.to_owned(), value);
        self.answers.insert(source, answer);
    }

    /// Notes that a source could not be read.
    pub fn miss(&mut self, source: &'static str, why: &TaskError) {
        self.gaps.push(format!("{source} could not be read: {why}"));
        self.failures.insert(source, why.to_string());
    }

    /// Whether a source was read.
    pub fn has(&self, source: &str) -> bool {
        self.answers.contains_key(source)
    }

    pub(crate) fn source(&self, source: &str) -> Option<&Answer> {
        self.answers.get(source)
    }

    pub(crate) fn why_not(&self, source: &str) -> &str {
        self.failures.get(source).map_or("it was not asked for", String::as_str)
    }

    /// The error's signature; empty for an incident without an error.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// The failed task.
    pub fn task(&self) -> Option<&str> {
        self.names.get("error").and_then(|error| text_at(error, "/task"))
    }

    /// What is affected.
    pub(crate) fn blast_radius(&self) -> BlastRadius {
        let facts = self.incident.tables.iter().filter(|table| table.starts_with("fact_"));
        BlastRadius {
            business_dates: vec![self.incident.business_date.clone()],
            tables: facts.cloned().collect(),
            published_wrong: matches!(self.incident.kind, Kind::VolumeDrop | Kind::NullBurst),
        }
    }
}

/// `task: Exception: message`, as the orchestrator writes it.
fn split_error(error: &str, signature: &str) -> Value {
    let mut parts = error.splitn(3, ": ");
    match (parts.next(), parts.next(), parts.next()) {
        (Some(task), Some(exception), Some(message)) if !task.contains(' ') && !exception.contains(' ') => {
            json!({ "text": error, "signature": signature, "task": task, "exception": exception, "message": message })
        }
        _ => json!({ "text": error, "signature": signature, "task": null, "exception": null, "message": error }),
    }
}

fn joined_lines(log: &Value) -> String {
    let lines: Vec<&str> = list_at(log, "/lines").iter().filter_map(Value::as_str).collect();
    let mut text = lines.join("\n");
    let mut cut = text.len().min(LOG_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    text.truncate(cut);
    text
}

/// Reads everything about an incident. A source that fails leaves a gap; only the runtime's own failures end the task.
pub(crate) async fn gather(desk: &Desk<'_>, incident: Incident, depth: Depth) -> Facts {
    let mut facts = Facts::new(incident);
    let env = facts.incident.environment.clone();
    let day = facts.incident.business_date.clone();
    if let Some(run) = facts.incident.run_id.clone() {
        let tail = if depth == Depth::First { LOG_LINES } else { LOG_LINES_DEEP };
        read(desk, &mut facts, ("run", "get_run"), json!({ "run_id": run })).await;
        read(desk, &mut facts, ("log", "get_log"), json!({ "run_id": run, "tail": tail })).await;
    }
    read(desk, &mut facts, ("schema", "compare_schema"), json!({ "environment": env })).await;
    read(desk, &mut facts, ("upstream", "check_upstream"), json!({ "environment": env, "business_date": day })).await;
    if let Ok(pipeline) = desk.kit.estate.pipeline(&facts.incident.pipeline) {
        let args = json!({ "table": pipeline.landing, "environment": env, "business_date": day });
        read(desk, &mut facts, ("profile", "profile_table"), args).await;
    }
    if let Some(table) = table_to_ask(&facts, depth) {
        read(desk, &mut facts, ("privileges", "table_privileges"), json!({ "table": table, "environment": env })).await;
    }
    if depth == Depth::Second {
        let args = json!({ "environment": env, "limit": HISTORY_RUNS });
        read(desk, &mut facts, ("history", "list_runs"), args).await;
    }
    facts
}

async fn read(desk: &Desk<'_>, facts: &mut Facts, (source, tool): (&'static str, &str), args: Value) {
    let env = facts.incident.environment.clone();
    match desk.reach.read(&desk.kit.estate.tool(tool), args, Some(&env)).await {
        Ok(answer) => facts.learn(source, answer),
        Err(error) => facts.miss(source, &error),
    }
}

/// The table whose privileges matter: the one the error names, if the pipeline writes it; at a second look the last one.
fn table_to_ask(facts: &Facts, depth: Depth) -> Option<String> {
    let error = facts.incident.error.as_deref().unwrap_or_default();
    let named = TABLE_NAMED.as_ref().and_then(|regex| regex.captures(error)).and_then(|found| found.get(1));
    let known = |name: &str| facts.incident.tables.iter().any(|table| table == name);
    match named.map(|found| found.as_str()).filter(|name| known(name)) {
        Some(name) => Some(name.to_owned()),
        None if depth == Depth::Second || facts.incident.kind == Kind::RunFailed => {
            facts.incident.tables.last().cloned()
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_split_into_task_exception_and_message() {
        let split = split_error("stage: OperationalError: no such column: a: b", "");
        assert_eq!(split["task"], "stage");
        assert_eq!(split["message"], "no such column: a: b");
        let odd = split_error("something went wrong: really: yes", "");
        assert_eq!((&odd["task"], &odd["message"]), (&Value::Null, &json!("something went wrong: really: yes")));
    }
}
