//! What people and the runtime noted about an incident's pipeline, tables and team: shown beside a diagnosis, never judged by.
//!
//! Facts are read when the rules have judged, in one call of the journal, so a thread that goes on after a restart has been
//! told what it was told. They move no confidence, name no cause and add no remedy; a model reads them as data, and an opinion
//! that cites nothing else counts for nothing. At the end of an incident the runtime notes how it ended, from declared names
//! alone, for the next diagnosis of the same pipeline.

use std::time::Duration;

use graphs::EffectClass;
use memory::Namespace;
use runtime::CallSpec;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::redact;
use runtime_core::record::CallKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::diagnosis::{Class, Diagnosis};
use crate::facts::Facts;
use crate::incident::{Incident, list_at, text_at};
use crate::notebook::{NotebookError, Placed, cites};
use crate::reasoning::beginning;

/// The call that reads facts.
pub const LOOK: &str = "memory.facts";
/// The call that notes how an incident ended.
const NOTE: &str = "memory.note";
/// The key of what the runtime notes.
const LAST_INCIDENT: &str = "last_incident";
/// How long that is worth knowing.
const LAST_INCIDENT_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Who notes it.
const RUNTIME: &str = "runtime";
/// Most facts beside a diagnosis.
const NOTED_MAX: usize = 16;
/// Most bytes of their values as JSON, in all.
const NOTED_BYTES_MAX: usize = 4 * 1024;
/// Longest value in characters; of a longer one the beginning is shown.
const VALUE_CHARS_MAX: usize = 500;
/// Most tables whose facts are looked for.
const TABLES_MAX: usize = 8;
/// Longest status of an outcome.
const STATUS_CHARS_MAX: usize = 40;

/// A fact beside a diagnosis. Written by people of the installation or by the runtime, and still data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noted {
    /// How it is cited: `fact:pipelines.sales_etl.owner`.
    pub source: String,
    /// What is known; the beginning of a long one.
    pub value: Value,
    /// Who noted it.
    pub noted_by: String,
    /// When, in universal time.
    pub noted_at: String,
}

impl Noted {
    fn of((namespace, key, fact): &Placed) -> Self {
        let hidden = redact::whole(&json!({ key: fact.value }));
        let value = hidden.get(key).cloned().unwrap_or_default();
        let text = value.to_string();
        let is_long = text.chars().count() > VALUE_CHARS_MAX;
        Self {
            source: cites(namespace, key),
            value: if is_long { Value::String(beginning(plain(&value, &text), VALUE_CHARS_MAX)) } else { value },
            noted_by: redact::whole_text(&fact.by),
            noted_at: fact.at.to_string(),
        }
    }

    /// As a person reads it, on one line.
    pub fn line(&self) -> String {
        let name = self.source.strip_prefix(FACT).unwrap_or(&self.source);
        let day = self.noted_at.get(..10).unwrap_or(&self.noted_at);
        let json = self.value.to_string();
        let said = ended_as(&self.value).unwrap_or_else(|| plain(&self.value, &json).to_owned());
        let said: Vec<&str> = said.split_whitespace().collect();
        format!("{name}: {} (noted by {}, {day})", said.join(" "), self.noted_by)
    }
}

/// The facts beside a diagnosis as people read them.
pub(crate) fn lines(diagnosis: &Value) -> Vec<String> {
    let noted = list_at(diagnosis, "/noted").iter().take(NOTED_MAX);
    noted.filter_map(|noted| serde_json::from_value::<Noted>(noted.clone()).ok()).map(|noted| noted.line()).collect()
}

/// What a citation of a fact begins with.
pub(crate) const FACT: &str = "fact:";

/// What [`note_end`] notes, in words.
fn ended_as(value: &Value) -> Option<String> {
    let part = |pointer: &str| text_at(value, pointer);
    let by = part("/remedy").map(|remedy| format!(" by {remedy}")).unwrap_or_default();
    let cause = part("/cause").map(|cause| format!(", {cause}")).unwrap_or_default();
    Some(format!("{}{by} ({}{cause}), thread {}", part("/outcome")?, part("/class")?, part("/thread")?))
}

/// A text as it is, anything else as JSON.
fn plain<'a>(value: &'a Value, json: &'a str) -> &'a str {
    value.as_str().unwrap_or(json)
}

/// The namespaces that are about an incident, the nearest first.
fn about(facts: &Facts) -> Vec<Namespace> {
    let named = facts.names.get("error").and_then(|error| text_at(error, "/table"));
    let mut tables: Vec<&str> = named.into_iter().collect();
    for table in &facts.incident.tables {
        if !tables.contains(&table.as_str()) {
            tables.push(table);
        }
    }
    let tables = tables.into_iter().take(TABLES_MAX).map(|table| format!("tables.{table}"));
    let all = [format!("pipelines.{}", facts.incident.pipeline), "team".to_owned()].into_iter().chain(tables);
    // What has a name that no fact can have has no facts.
    all.filter_map(|text| text.parse().ok()).collect()
}

/// As many as there is room for, and how many there were.
fn within_bounds(all: &[Placed]) -> (Vec<Noted>, usize) {
    let mut bytes = 0;
    let fits = |noted: &Noted| {
        bytes += noted.value.to_string().len();
        bytes <= NOTED_BYTES_MAX
    };
    (all.iter().take(NOTED_MAX).map(Noted::of).take_while(fits).collect(), all.len())
}

/// Reads what was noted about an incident into its facts. The rules have judged already, and cannot see it.
///
/// # Errors
/// The runtime's own failures. What cannot be read is a gap, which is given back.
pub(crate) async fn look(desk: &Desk<'_>, role: &str, facts: &mut Facts) -> Result<Option<String>, TaskError> {
    let Some(notebook) = desk.notebook else { return Ok(None) };
    let namespaces = about(facts);
    let spec = CallSpec {
        role: Some(role.into()),
        ..CallSpec::new(
            CallKind::Custom,
            LOOK,
            json!({ "incident": facts.incident.fingerprint }),
            EffectClass::ReadOnly,
        )
    };
    let looked = desk.ctx.call(spec, |_| async move {
        let all = notebook.of(&namespaces).await.map_err(task_error)?;
        let (noted, n_all) = within_bounds(&all);
        Ok(json!({ "noted": noted, "left_out": n_all - noted.len() }))
    });
    let found = match looked.await {
        Ok(found) => found,
        Err(error) if is_own(&error) => return Err(error),
        Err(error) => return Ok(Some(format!("what was noted could not be read: {}", error.message))),
    };
    let noted = found.get("noted").cloned().unwrap_or_default();
    facts.noted = serde_json::from_value(noted)
        .map_err(|error| TaskError::invalid(format!("what was noted cannot be read: {error}")))?;
    let n_left_out = found.get("left_out").and_then(Value::as_u64).unwrap_or_default();
    Ok((n_left_out > 0).then(|| format!("{n_left_out} more facts were noted than are shown: `interlock facts list`")))
}

/// Notes how an incident ended, for the next diagnosis of its pipeline. Everything in it is a declared name: nothing that a
/// model or a log said.
///
/// # Errors
/// The runtime's own failures. People have been told already, so that it cannot be noted ends nothing.
pub(crate) async fn note_end(desk: &Desk<'_>) -> Result<(), TaskError> {
    let Some(notebook) = desk.notebook else { return Ok(()) };
    let Some((namespace, ended)) = end_of(desk) else { return Ok(()) };
    // The time is no argument: the call would not be the same one after a restart.
    let args = json!({ "fact": cites(&namespace, LAST_INCIDENT), "value": ended });
    let spec = CallSpec {
        role: Some("notification".into()),
        ..CallSpec::new(CallKind::Custom, NOTE, args, EffectClass::Idempotent)
    };
    let noted = desk.ctx.call(spec, |_| async move {
        let mut value = ended;
        value["at"] = notebook.now().to_string().into();
        let place = (&namespace, LAST_INCIDENT);
        notebook.set(place, &value, (RUNTIME, Some(LAST_INCIDENT_TTL))).await.map_err(task_error)?;
        Ok(json!({ "noted": true }))
    });
    match noted.await {
        Err(error) if is_own(&error) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "how an incident ended was not noted");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// Where and what to note; nothing while an incident has not ended.
fn end_of(desk: &Desk<'_>) -> Option<(Namespace, Value)> {
    let incident: Incident = serde_json::from_value(desk.value("incident").clone()).ok()?;
    let outcome = desk.value("outcome");
    let status = text_at(outcome, "/status").filter(|status| is_status(status))?;
    let diagnosis: Option<Diagnosis> = serde_json::from_value(desk.value("diagnosis").clone()).ok();
    let cause = diagnosis.as_ref().and_then(|found| found.cause_id.as_deref());
    let remedy = text_at(desk.value("plan"), "/remedy").filter(|name| desk.kit.remedies.has(name));
    let is_healed = status == "healed" && outcome.get("verified") == Some(&Value::Bool(true));
    let namespace = format!("pipelines.{}", incident.pipeline).parse().ok()?;
    let ended = json!({
        "class": diagnosis.as_ref().map_or(Class::Unknown, |found| found.class).word(),
        "cause": cause.filter(|id| desk.kit.knowledge.has(id)),
        "remedy": remedy.filter(|_| is_healed),
        "outcome": status,
        "thread": desk.ctx.thread().to_string(),
    });
    Some((namespace, ended))
}

/// A word of a graph, and no sentence of anybody.
fn is_status(text: &str) -> bool {
    !text.is_empty() && text.len() <= STATUS_CHARS_MAX && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

fn is_own(error: &TaskError) -> bool {
    matches!(error.class, ErrorClass::Bug | ErrorClass::NonDeterminism)
}

fn task_error(error: NotebookError) -> TaskError {
    let class = match &error {
        NotebookError::Fact(_) | NotebookError::Secret(_) => ErrorClass::Invalid,
        NotebookError::Store(_) | NotebookError::Damaged { .. } => ErrorClass::Resource,
        NotebookError::Contended(_) => ErrorClass::Conflict,
    };
    TaskError::new(class, error.to_string())
}
