//! The remediation agent: picks a declared remedy and writes it down as calls. It makes none of them.
//!
//! ```text
//!  {remedy, action: retry | change | escalate, rationale, reversible, prior, considered, unrehearsed: why | null,
//!   staging | production: {env, act: {tool, args, env, effect, verify, undo} | null, rerun: {tool, args, env, effect, verify}}}
//! ```
//!
//! A change without calls for staging is one that is not tried there; graphs put each such change before a person.

use runtime_core::error::TaskError;
use serde_json::{Map, Value, json};
use tools::node::fill;

use crate::desk::Desk;
use crate::diagnosis::Diagnosis;
use crate::facts::Facts;
use crate::kit::Kit;
use crate::monitor::incident_of;
use crate::remedies::{Action, ParamKind, rerun};

/// Plans what to do about `diagnosis`; with `by_hand` it writes down the whole run that a person asked for, with `undo` it fills in the reversal of an act from `made` instead.
pub(crate) fn remediate(desk: &Desk<'_>) -> Result<Value, TaskError> {
    if !desk.value("undo").is_null() {
        return reversal(desk.value("undo"), desk.value("made"));
    }
    if desk.text("by_hand").is_some() {
        return by_hand(desk);
    }
    let diagnosis: Diagnosis = serde_json::from_value(desk.needed("diagnosis")?.clone())
        .map_err(|error| TaskError::invalid(format!("`diagnosis` is not what a diagnostic agent writes: {error}")))?;
    plan(desk.kit, &diagnosis)
}

/// The run that a person asked for: all of it, as the estate runs a pipeline again.
fn by_hand(desk: &Desk<'_>) -> Result<Value, TaskError> {
    let incident = incident_of(desk.needed("incident")?)?;
    let facts = Facts::new(incident);
    let estate = &desk.kit.estate;
    for (name, kind) in [("pipeline", ParamKind::Identifier), ("day", ParamKind::Date)] {
        if !facts.params.get(name).is_some_and(|value| kind.holds(value)) {
            return Err(TaskError::invalid(format!("`{name}` of the incident is not {}: run it by hand", kind.word())));
        }
    }
    let mut known = facts.params;
    known.retain(|name, value| name != "run_id" || ParamKind::Run.holds(value));
    known.insert("env".to_owned(), facts.incident.environment.into());
    rerun(estate, &known, &Map::from_iter([("only_failed".to_owned(), false.into())]))
}

/// The first declared remedy that can be filled in; escalation when there is none.
pub fn plan(kit: &Kit, diagnosis: &Diagnosis) -> Result<Value, TaskError> {
    let mut considered = Vec::new();
    for name in &diagnosis.remedies {
        let Some(remedy) = kit.remedies.get(name) else {
            considered.push(json!({ "remedy": name, "obstacle": "it is not declared" }));
            continue;
        };
        if let Some(obstacle) = remedy.obstacle(&diagnosis.params) {
            considered.push(json!({ "remedy": name, "obstacle": obstacle }));
            continue;
        }
        let trial = match (remedy.action(), remedy.unrehearsed()) {
            (Action::Change, None) => remedy.calls(&kit.estate, &diagnosis.params, &kit.estate.trial)?,
            (Action::Change, Some(_)) | (Action::Retry, _) => Value::Null,
        };
        return Ok(json!({
            "remedy": name,
            "action": if remedy.action() == Action::Change { "change" } else { "retry" },
            "rationale": remedy.rationale(&diagnosis.params)?,
            "reversible": remedy.reversible(),
            "prior": remedy.prior(),
            "considered": considered,
            "unrehearsed": remedy.unrehearsed(),
            "staging": trial,
            "production": remedy.calls(&kit.estate, &diagnosis.params, &kit.estate.live)?,
        }));
    }
    let why = match (diagnosis.cause_id.as_deref(), considered.is_empty()) {
        (None, _) => "no known cause explains the incident, so no remedy is declared for it",
        (Some(_), true) => "no remedy is declared for this cause: its owner decides",
        (Some(_), false) => "no declared remedy is applicable",
    };
    Ok(json!({
        "remedy": null, "action": "escalate", "rationale": why, "reversible": true, "prior": null, "considered": considered,
        "unrehearsed": null, "staging": null, "production": null,
    }))
}

/// The reversal of an act that was made: what only the act could know is put in.
fn reversal(undo: &Value, made: &Value) -> Result<Value, TaskError> {
    let filled = fill(undo.clone(), Some(made));
    filled.map_err(|pointer| {
        TaskError::invalid(format!("the undo needs `{pointer}` of the act's result, which has nothing there"))
    })
}
