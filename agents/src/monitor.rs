//! The monitor: looks at what is declared and says what is wrong, without saying why.
//!
//! A look that fails is named and does not hide what the others saw; when none of them works, the round has failed.

use std::collections::{BTreeMap, BTreeSet};

use runtime_core::error::TaskError;
use serde_json::{Map, Value, json};

use crate::declared::seconds_of;
use crate::desk::Desk;
use crate::detect::{Alarm, Detect, Marks, Round, judge};
use crate::estate::{Probe, Rule, arguments, render_text};
use crate::incident::{Evidence, Incident, Symptom, join};
use crate::maintenance::held;
use crate::reach::Answer;
use crate::storm::grouped;
use crate::survey::survey;

/// Most incidents of one round; more is one broken platform, not many incidents.
pub const INCIDENTS_MAX: usize = 50;
/// Most series of one probe that are named because they could not be judged.
const GAPS_MAX: usize = 5;
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
    /// Time of the estate, or that of the node.
    pub(crate) now: String,
    /// What people said about earlier incidents.
    marks: Marks,
}

impl Seen<'_> {
    /// Whether a round shall look at this pipeline.
    pub(crate) fn is_wanted(&self, pipeline: &str) -> bool {
        self.wanted.is_empty() || self.wanted.contains(pipeline)
    }

    /// Seconds since 1970, if anything told the time.
    fn time(&self) -> Option<i64> {
        seconds_of(&Value::from(self.now.as_str()))
    }
}

/// One round: `{incidents, held, checked, dropped, at, gaps}`. What is held by a maintenance window stands beside the incidents and
/// not among them, so a graph that knows no windows pages nobody about it.
pub(crate) async fn watch(desk: &Desk<'_>) -> Result<Value, TaskError> {
    let estate = &desk.kit.estate;
    let env = desk.text("environment").unwrap_or(&estate.live).to_owned();
    let wanted = desk.list("pipelines").iter().filter_map(Value::as_str).collect();
    let (marks, bad_marks) = Marks::read(desk.list("false_positives"), desk.list("true_positives"));
    let mut seen = Seen { wanted, marks, ..Seen::default() };
    if estate.survey {
        survey(desk, &env, &mut seen).await?;
    }
    if seen.now.is_empty() {
        desk.text("at").unwrap_or_default().clone_into(&mut seen.now);
    }
    let mut gaps = probe_all(desk, &env, &mut seen).await?;
    if bad_marks > 0 {
        gaps.push(format!("{bad_marks} mark(s) are none: write `{{ fingerprint, at }}`, `at` as a time"));
    }
    for (name, pipeline) in &estate.pipelines {
        seen.tables.entry(name.clone()).or_insert_with(|| pipeline.facts.clone());
    }
    let time = seen.time();
    if time.is_none() && !estate.maintenance.is_empty() {
        gaps.push(
            "no time is known, so no maintenance window holds: give this node `with: { at: \"{{ now }}\" }`".to_owned(),
        );
    }
    let known: BTreeSet<&str> = desk.list("known").iter().filter_map(Value::as_str).collect();
    let mut incidents: Vec<Incident> = join(seen.symptoms, &env, &seen.now, &seen.tables);
    // Before what is known is left out: what follows from a known incident is no new one.
    if let Some(lineage) = &estate.lineage {
        incidents = grouped(incidents, lineage);
    }
    incidents.retain(|incident| !known.contains(incident.fingerprint.as_str()));
    for incident in &mut incidents {
        incident.held = time.and_then(|at| held(&estate.maintenance, &incident.pipeline, at)).map(str::to_owned);
    }
    let (mut quiet, mut incidents): (Vec<Incident>, Vec<Incident>) =
        incidents.into_iter().partition(|incident| incident.held.is_some());
    let dropped = incidents.len().saturating_sub(INCIDENTS_MAX);
    incidents.truncate(INCIDENTS_MAX);
    quiet.truncate(INCIDENTS_MAX);
    Ok(json!({
        "incidents": incidents, "held": quiet, "checked": seen.checked, "dropped": dropped, "at": seen.now, "gaps": gaps,
    }))
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
    seen.checked.push(json!({ "probe": probe.name }));
    let rows = match probe.each.0.eval(&names) {
        Ok(Value::Array(rows)) => rows,
        Ok(other) => return vec![format!("{}: `each` gives no list: {}", probe.name, shortened(&other.to_string()))],
        Err(error) => return vec![format!("{}: `{}`: {}", probe.name, error.expression, error.message)],
    };
    if let Some(detect) = &probe.detect {
        return note_judged((probe, detect), (answer, rows), &names, seen);
    }
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

/// As `note`, where a statistic says which series of rows is a symptom.
fn note_judged(
    (probe, detect): (&Probe, &Detect),
    (answer, rows): (&Answer, Vec<Value>),
    names: &Map<String, Value>,
    seen: &mut Seen<'_>,
) -> Vec<String> {
    let env = names.get("env").and_then(Value::as_str).unwrap_or_default();
    let round = Round { env, now: seen.time(), marks: &seen.marks };
    let judged = judge(probe, detect, rows, names, round);
    if let Some(checked) = seen.checked.last_mut() {
        checked["series"] = judged.series.into();
        checked["not_enough"] = judged.not_enough.into();
    }
    let mut gaps: Vec<String> = judged.gaps.into_iter().map(|why| format!("{}: {why}", probe.name)).collect();
    let mut names = names.clone();
    for Alarm { row, subject, verdict } in judged.alarms {
        let numbers = json!(verdict);
        names.insert("row".to_owned(), row);
        names.insert("verdict".to_owned(), numbers.clone());
        match symptom(probe, answer, &names) {
            Ok(Some(found)) if seen.is_wanted(&found.pipeline) => {
                let evidence = Evidence::new(found.headline.clone(), answer, numbers);
                seen.symptoms.push(Symptom { subject: Some(subject), evidence, ..found });
            }
            Ok(_) => {}
            Err(why) => gaps.push(format!("{}: {why}", probe.name)),
        }
    }
    gaps.truncate(GAPS_MAX);
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
        subject: None,
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
