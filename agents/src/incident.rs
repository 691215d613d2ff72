//! An incident: symptoms of one pipeline on one day, with an identity that code computes.

use std::collections::BTreeMap;

use models::fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::noted::FACT;
use crate::reach::Answer;
use crate::signature::{short, signature};
use crate::storm::Consequence;

/// What was noticed. The order is that of precedence: the first is what an incident is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The latest run of the day failed.
    RunFailed,
    /// A pipeline's code cannot be read; none of its runs fails.
    ImportError,
    /// A delivery lacks columns that the pipeline needs.
    SchemaChange,
    /// Nulls where the contract forbids them, or many more than usual.
    NullBurst,
    /// Far fewer rows than on the same weekdays before.
    VolumeDrop,
    /// Values are distributed unlike the days before.
    Drift,
    /// A run does not get on.
    Stuck,
    /// What people read is behind.
    Stale,
    /// A run took far longer than others.
    Slow,
    /// A run cost far more than others.
    Costly,
}

impl Kind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::RunFailed => "run_failed",
            Self::ImportError => "import_error",
            Self::SchemaChange => "schema_change",
            Self::NullBurst => "null_burst",
            Self::VolumeDrop => "volume_drop",
            Self::Drift => "drift",
            Self::Stuck => "stuck",
            Self::Stale => "stale",
            Self::Slow => "slow",
            Self::Costly => "costly",
        }
    }
}

/// How urgent it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Look at it today.
    #[default]
    Medium,
    /// What people read is wrong or missing.
    High,
}

/// A claim with the call it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it shows.
    pub claim: String,
    /// `server.tool`.
    pub tool: String,
    /// Number of the call within the agent's task.
    pub call: u32,
    /// The part of the answer that shows it.
    pub excerpt: Value,
}

/// Longest excerpt in bytes of JSON; a longer one is cut to text.
const EXCERPT_BYTES_MAX: usize = 600;

impl Evidence {
    /// A claim about an answer.
    pub fn new(claim: impl Into<String>, answer: &Answer, excerpt: Value) -> Self {
        let text = excerpt.to_string();
        let excerpt = if text.len() > EXCERPT_BYTES_MAX {
            let cut: String = text.chars().take(EXCERPT_BYTES_MAX / 2).collect();
            Value::String(format!("{cut}…"))
        } else {
            excerpt
        };
        Self { claim: claim.into(), tool: answer.tool.clone(), call: answer.call, excerpt }
    }

    /// The claim with the call that shows it. A fact was noted by somebody, and no call of the task gave it.
    pub fn cited(&self) -> String {
        let Self { claim, tool, call, .. } = self;
        if tool.starts_with(FACT) { format!("{claim} ({tool})") } else { format!("{claim} ({tool}, call {call})") }
    }
}

/// One symptom before it is joined with others.
#[derive(Debug, Clone)]
pub(crate) struct Symptom {
    pub(crate) pipeline: String,
    pub(crate) day: String,
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    pub(crate) headline: String,
    /// The run, where one failed or hangs.
    pub(crate) run: Option<String>,
    /// The error, where there is one.
    pub(crate) error: Option<String>,
    /// What tells it from others of its kind; the error's signature where there is none.
    pub(crate) subject: Option<String>,
    pub(crate) evidence: Evidence,
}

/// Symptoms of one pipeline on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Short name for people; the head of the fingerprint.
    pub id: String,
    /// Identity: pipeline, environment, day, kind and the error's signature. The same failure found again has the same one,
    /// another cause on the same day has another.
    pub fingerprint: String,
    /// Pipeline.
    pub pipeline: String,
    /// Day that was processed.
    pub business_date: String,
    /// Environment.
    pub environment: String,
    /// What it is called.
    pub kind: Kind,
    /// How urgent.
    #[serde(default)]
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// The failed run, if one failed.
    #[serde(default)]
    pub run_id: Option<String>,
    /// Its error text.
    #[serde(default)]
    pub error: Option<String>,
    /// Everything noticed, in order of precedence.
    #[serde(default)]
    pub symptoms: Vec<String>,
    /// What shows it.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// Tables the pipeline writes.
    #[serde(default)]
    pub tables: Vec<String>,
    /// When it was seen, in the time of the warehouse.
    #[serde(default)]
    pub detected_at: String,
    /// What followed from it elsewhere; its symptoms are among those above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consequences: Vec<Consequence>,
    /// The maintenance window that it was found in: nobody is paged about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// Joins symptoms by pipeline and day: a failed run that leaves a table empty and stale is one incident, not three.
pub(crate) fn join(
    symptoms: Vec<Symptom>,
    environment: &str,
    seen_at: &str,
    tables: &BTreeMap<String, Vec<String>>,
) -> Vec<Incident> {
    let mut groups: BTreeMap<(String, String), Vec<Symptom>> = BTreeMap::new();
    for symptom in symptoms {
        groups.entry((symptom.day.clone(), symptom.pipeline.clone())).or_default().push(symptom);
    }
    let mut incidents = Vec::new();
    for ((day, pipeline), mut group) in groups {
        group.sort_by_key(|symptom| symptom.kind);
        let Some(first) = group.first().cloned() else { continue };
        let (run_id, error) = (first.run.clone(), first.error.clone());
        let subject = first.subject.clone().unwrap_or_else(|| signature(error.as_deref().unwrap_or("")));
        let identity = fingerprint(&[&pipeline, environment, &day, first.kind.word(), &subject]);
        incidents.push(Incident {
            id: format!("inc-{}", short(&identity)),
            fingerprint: identity,
            title: format!("{pipeline} {day}: {}", first.headline),
            business_date: day,
            environment: environment.to_owned(),
            kind: first.kind,
            severity: group.iter().map(|symptom| symptom.severity).max().unwrap_or(first.severity),
            run_id,
            error,
            symptoms: group.iter().map(|symptom| format!("{}: {}", symptom.kind.word(), symptom.headline)).collect(),
            evidence: group.into_iter().map(|symptom| symptom.evidence).collect(),
            tables: tables.get(&pipeline).cloned().unwrap_or_default(),
            detected_at: seen_at.to_owned(),
            consequences: Vec::new(),
            held: None,
            pipeline,
        });
    }
    incidents
}

/// The value of a JSON pointer as text.
pub(crate) fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// The value of a JSON pointer as a list; empty when there is none.
pub(crate) fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Fields of an object, for an excerpt.
pub(crate) fn fields(value: &Value, names: &[&str]) -> Value {
    let picked = names.iter().filter_map(|name| Some(((*name).to_owned(), value.get(*name)?.clone())));
    let picked: serde_json::Map<String, Value> = picked.collect();
    if picked.is_empty() { json!(null) } else { Value::Object(picked) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symptom(kind: Kind, day: &str, error: Option<&str>) -> Symptom {
        Symptom {
            pipeline: "p".to_owned(),
            day: day.to_owned(),
            kind,
            severity: Severity::Medium,
            headline: "x".to_owned(),
            run: error.map(|_| "r1".to_owned()),
            error: error.map(str::to_owned),
            subject: None,
            evidence: Evidence { claim: "c".to_owned(), tool: "w.t".to_owned(), call: 0, excerpt: Value::Null },
        }
    }

    fn joined(symptoms: Vec<Symptom>) -> Vec<Incident> {
        join(symptoms, "production", "now", &BTreeMap::new())
    }

    #[test]
    fn symptoms_of_one_day_are_one_incident_called_by_the_gravest() {
        let found = joined(vec![
            symptom(Kind::Stale, "2013-01-23", None),
            symptom(Kind::VolumeDrop, "2013-01-23", None),
            symptom(Kind::RunFailed, "2013-01-23", Some("boom")),
            symptom(Kind::Stale, "2013-01-22", None),
        ]);
        let shown: Vec<_> = found.iter().map(|i| (i.business_date.as_str(), i.kind, i.symptoms.len())).collect();
        assert_eq!(shown, [("2013-01-22", Kind::Stale, 1), ("2013-01-23", Kind::RunFailed, 3)]);
    }

    #[test]
    fn the_same_failure_is_the_same_incident_and_another_cause_is_not() {
        let id = |error: &str| joined(vec![symptom(Kind::RunFailed, "2013-01-23", Some(error))])[0].fingerprint.clone();
        assert_eq!(id("no response within 30 s"), id("no response within 31 s"));
        assert_ne!(id("no such column: a"), id("no such column: b"));
    }

    #[test]
    fn a_long_excerpt_is_cut() {
        let answer = Answer { call: 1, tool: "w.t".to_owned(), value: std::sync::Arc::new(Value::Null) };
        let evidence = Evidence::new("c", &answer, json!({ "text": "é".repeat(EXCERPT_BYTES_MAX) }));
        assert!(evidence.excerpt.as_str().unwrap().ends_with('…'));
    }
}
