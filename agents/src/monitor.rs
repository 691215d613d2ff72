//! The monitor: looks at what is declared and says what is wrong, without saying why.
//!
//! A look that fails is named and does not hide what the others saw; when none of them works, the round has failed.

use std::collections::{BTreeMap, BTreeSet};

use runtime_core::error::TaskError;
use serde_json::{Map, Value, json};

use crate::desk::Desk;
use crate::estate::{Probe, Rule, arguments, render_text};
use crate::incident::{Evidence, Incident, Symptom, join};
use crate::reach::Answer;
use crate::survey::survey;

/// Most incidents of one round; more is one broken platform, not many incidents.
pub const INCIDENTS_MAX: usize = 50;
/// Most rows of one probe that are looked at.
const ROWS_MAX: usize = 1_000;

/// What a round has seen so far.
#[derive(Default)]
pub(crate) struct Seen<'a> {
    wanted: BTreeSet<&'a str>,
    /// What is wrong.
    pub(crate) symptoms: Vec<Symptom>,
    /// Tables by pipeline.
    pub(crate) tables: BTreeMap<String, Vec<String>>,
    /// What was looked at.
    pub(crate) checked: Vec<Value>,
    /// Time of the estate.
    pub(crate) now: String,
}

impl Seen<'_> {
    /// Whether a round shall look at this pipeline.
    pub(crate) fn is_wanted(&self, pipeline: &str) -> bool {
        self.wanted.is_empty() || self.wanted.contains(pipeline)
    }
}

/// One round: `{incidents, checked, dropped, at, gaps}`.
pub(crate) async fn watch(desk: &Desk<'_>) -> Result<Value, TaskError> {
    let estate = &desk.kit.estate;
    let env = desk.text("environment").unwrap_or(&estate.live).to_owned();
    let wanted = desk.list("pipelines").iter().filter_map(Value::as_str).collect();
    let mut seen = Seen { wanted, ..Seen::default() };
    if estate.survey {
        survey(desk, &env, &mut seen).await?;
    }
    let gaps = probe_all(desk, &env, &mut seen).await?;
    for (name, pipeline) in &estate.pipelines {
        seen.tables.entry(name.clone()).or_insert_with(|| pipeline.facts.clone());
    }
    let known: BTreeSet<&str> = desk.list("known").iter().filter_map(Value::as_str).collect();
    let mut incidents: Vec<Incident> = join(seen.symptoms, &env, &seen.now, &seen.tables);
    incidents.retain(|incident| !known.contains(incident.fingerprint.as_str()));
    let dropped = incidents.len().saturating_sub(INCIDENTS_MAX);
    incidents.truncate(INCIDENTS_MAX);
    Ok(json!({ "incidents": incidents, "checked": seen.checked, "dropped": dropped, "at": seen.now, "gaps": gaps }))
}

/// Makes the declared looks; gives those that could not be made.
async fn probe_all(desk: &Desk<'_>, env: &str, seen: &mut Seen<'_>) -> Result<Vec<String>, TaskError> {
    let estate = &desk.kit.estate;
    let mut names = Map::from_iter([("env".to_owned(), Value::from(env))]);
    let (mut gaps, mut failed) = (Vec::new(), None);
    for probe in &estate.watch {
        match look(desk, probe, (env, &names)).await {
            Ok(answer) => {
                names.insert(probe.name.clone(), Value::clone(&answer.value));
                seen.checked.push(json!({ "probe": probe.name }));
                gaps.extend(note(probe, &answer, &names, seen));
            }
            Err(error) => {
                gaps.push(format!("{} could not be looked at: {error}", probe.name));
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if gaps.len() >= estate.watch.len() && !estate.survey => Err(error),
        _ => Ok(gaps),
    }
}

async fn look(desk: &Desk<'_>, probe: &Probe, (env, names): (&str, &Map<String, Value>)) -> Result<Answer, TaskError> {
    let place = format!("probe `{}`", probe.name);
    let args = arguments(&place, &probe.args, &Value::Object(names.clone()))?;
    desk.reach.read(&desk.kit.estate.tool(&probe.tool), args, Some(env)).await
}

/// Turns the rows of an answer into symptoms; gives what could not be read.
fn note(probe: &Probe, answer: &Answer, names: &Map<String, Value>, seen: &mut Seen<'_>) -> Vec<String> {
    let mut names = names.clone();
    names.insert("answer".to_owned(), Value::clone(&answer.value));
    let rows = match probe.each.0.eval(&names) {
        Ok(Value::Array(rows)) => rows,
        Ok(other) => return vec![format!("{}: `each` gives no list: {}", probe.name, shortened(&other.to_string()))],
        Err(error) => return vec![format!("{}: `{}`: {}", probe.name, error.expression, error.message)],
    };
    let mut gaps = Vec::new();
    for row in rows.into_iter().take(ROWS_MAX) {
        names.insert("row".to_owned(), row);
        match symptom(probe, answer, &names) {
            Ok(Some(found)) if seen.is_wanted(&found.pipeline) => seen.symptoms.push(found),
            Ok(_) => {}
            Err(why) => gaps.push(format!("{}: {why}", probe.name)),
        }
    }
    gaps.truncate(1);
    gaps
}

fn symptom(probe: &Probe, answer: &Answer, names: &Map<String, Value>) -> Result<Option<Symptom>, String> {
    let judged = |rule: &Rule| rule.0.eval(names).map_err(|error| format!("`{}`: {}", error.expression, error.message));
    let text = |rule: &Rule| match judged(rule)? {
        Value::String(text) if !text.is_empty() => Ok(Some(text)),
        Value::Null => Ok(None),
        other => Err(format!("`{}` is no text: {other}", rule.0.source())),
    };
    if let Some(when) = &probe.when
        && !when.0.eval_bool(names).map_err(|error| format!("`{}`: {}", error.expression, error.message))?
    {
        return Ok(None);
    }
    let needed = |rule: &Rule| text(rule)?.ok_or_else(|| format!("`{}` is nothing", rule.0.source()));
    let headline =
        render_text("headline", &probe.headline, &Value::Object(names.clone())).map_err(|e| e.to_string())?;
    let optional = |rule: &Option<Rule>| rule.as_ref().map_or(Ok(None), text);
    let (run, error) = (optional(&probe.run)?, optional(&probe.error)?);
    let row = names.get("row").cloned().unwrap_or_default();
    Ok(Some(Symptom {
        pipeline: needed(&probe.pipeline)?,
        day: needed(&probe.day)?,
        kind: probe.kind,
        severity: probe.severity,
        headline: shortened(&headline),
        error,
        run,
        evidence: Evidence::new(shortened(&headline), answer, row),
    }))
}

/// Characters of an error in a headline.
const HEADLINE_CHARS_MAX: usize = 160;

pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(HEADLINE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Reads an incident that another node wrote.
pub(crate) fn incident_of(value: &Value) -> Result<Incident, TaskError> {
    serde_json::from_value(value.clone())
        .map_err(|error| TaskError::invalid(format!("`incident` is not what a monitor writes: {error}")))
}
