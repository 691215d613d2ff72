//! Everything a diagnosis may rest on: read once, each with the call it came from; what could not be read is a gap.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use runtime_core::error::TaskError;
use serde_json::{Map, Value, json};

use crate::desk::Desk;
use crate::diagnosis::BlastRadius;
use crate::estate::{Estate, Param, Source, arguments};
use crate::incident::{Incident, Kind, list_at, text_at};
use crate::noted::Noted;
use crate::reach::Answer;
use crate::remedies::ParamKind;
use crate::signature::signature;

/// Longest log text that is kept.
const LOG_BYTES_MAX: usize = 64 * 1024;

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
    /// What was noted about it. No name of the knowledge base: rules cannot see it.
    pub(crate) noted: Vec<Noted>,
    answers: BTreeMap<String, Answer>,
    failures: BTreeMap<String, String>,
    signature: String,
}

impl Facts {
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
        params.extend(incident.run_id.iter().map(|run| ("run_id".to_owned(), run.clone().into())));
        Self {
            incident,
            names,
            gaps: Vec::new(),
            params,
            noted: Vec::new(),
            answers: BTreeMap::new(),
            failures: BTreeMap::new(),
            signature,
        }
    }

    /// Adds what a source said.
    pub fn learn(&mut self, source: &str, answer: Answer) {
        let value = match source {
            "log" => Value::String(joined_lines(&answer.value)),
            _ => Value::clone(&answer.value),
        };
        self.names.insert(source.to_owned(), value);
        self.answers.insert(source.to_owned(), answer);
    }

    /// Notes that a source could not be read.
    pub fn miss(&mut self, source: &str, why: &TaskError) {
        self.gaps.push(format!("{source} could not be read: {why}"));
        self.failures.insert(source.to_owned(), why.to_string());
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
        let facts = self
            .incident
            .tables
            .iter()
            .filter(|table| table.rsplit('.').next().is_some_and(|name| name.starts_with("fact_")));
        BlastRadius {
            business_dates: vec![self.incident.business_date.clone()],
            tables: facts.cloned().collect(),
            published_wrong: matches!(self.incident.kind, Kind::VolumeDrop | Kind::NullBurst | Kind::Drift),
        }
    }
}

/// `task: Exception: message`, as the orchestrator writes it, and the table that it names.
fn split_error(error: &str, signature: &str) -> Value {
    let mut split = split_parts(error, signature);
    let named = TABLE_NAMED.as_ref().and_then(|regex| regex.captures(error)).and_then(|found| found.get(1));
    split["table"] = named.map_or(Value::Null, |table| table.as_str().into());
    split
}

fn split_parts(error: &str, signature: &str) -> Value {
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
    let estate = &desk.kit.estate;
    let mut facts = Facts::new(incident);
    let env = facts.incident.environment.clone();
    facts.situate(estate, depth);
    for source in &estate.sources {
        let args = match facts.question(source) {
            Ok(Some(args)) => args,
            Ok(None) => continue,
            Err(why) => {
                facts.miss(&source.name, &why);
                continue;
            }
        };
        match desk.reach.read(&estate.tool(&source.tool), args, Some(&env)).await {
            Ok(answer) => facts.learn_from(source, answer),
            Err(error) => facts.miss(&source.name, &error),
        }
    }
    facts
}

impl Facts {
    /// What sources may use beside the incident. The day is only there when it is one, the pipeline when it is declared:
    /// both become part of statements.
    fn situate(&mut self, estate: &Estate, depth: Depth) {
        let incident = &self.incident;
        let day = Value::from(incident.business_date.clone());
        if ParamKind::Date.holds(&day) {
            self.names.insert("day".to_owned(), day);
        }
        self.names.insert("env".to_owned(), incident.environment.clone().into());
        self.names.insert("depth".to_owned(), if depth == Depth::Second { "second" } else { "first" }.into());
        let mut about = Map::new();
        if let Ok(pipeline) = estate.pipeline(&incident.pipeline) {
            about.clone_from(&pipeline.vars);
            about.insert("name".to_owned(), incident.pipeline.clone().into());
            about.insert("facts".to_owned(), json!(pipeline.facts));
            about.extend(pipeline.landing.iter().map(|table| ("landing".to_owned(), Value::from(table.clone()))));
        }
        self.names.insert("pipeline".to_owned(), Value::Object(about));
    }

    /// The arguments of a source; `None` when it has nothing to say about this incident.
    fn question(&self, source: &Source) -> Result<Option<Value>, TaskError> {
        let mut names = self.names.clone();
        let error = self.incident.error.as_deref().unwrap_or_default();
        let groups = match &source.matches {
            Some(pattern) => match pattern.0.captures(error) {
                Some(groups) => Some(groups),
                None => return Ok(None),
            },
            None => None,
        };
        let mut found = Map::new();
        for (name, param) in &source.params {
            let group = groups.as_ref().and_then(|groups| groups.name(name)).map(|group| group.as_str());
            let (kind, value) = match param {
                Param::Group(kind) => (kind, group.map(|text| kind.read(text))),
                Param::From { is, from } => {
                    (is, from.0.eval(&self.names).ok().filter(|value| !value.is_null()).map(Some))
                }
            };
            match value {
                None => {}
                Some(Some(value)) if kind.holds(&value) => drop(found.insert(name.clone(), value)),
                Some(_) => return Err(TaskError::invalid(format!("`{name}` is not {}", kind.word()))),
            }
        }
        names.insert("found".to_owned(), Value::Object(found));
        if source.when.as_ref().is_some_and(|when| when.0.eval_bool(&names) != Ok(true)) {
            return Ok(None);
        }
        arguments(&format!("source `{}`", source.name), &source.args, &Value::Object(names)).map(Some)
    }

    fn learn_from(&mut self, source: &Source, answer: Answer) {
        self.learn(&source.name, answer);
        for (name, rule) in &source.gives {
            // What an answer does not give, a remedy cannot use.
            if let Ok(value) = rule.0.eval(&self.names)
                && !value.is_null()
            {
                self.params.insert(name.clone(), value);
            }
        }
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
