//! The account of causes at the end of an incident: cause, evidence, what was done, what proves it. From the incident's own
//! state; what nothing proves is said to be unproven. Whoever sends it may add the timeline of the thread's log.

use notify::Part;
use serde_json::Value;

use super::about::cited;
use crate::desk::Desk;
use crate::incident::{list_at, text_at};

pub(super) fn rca(desk: &Desk<'_>) -> Vec<Part> {
    let (incident, diagnosis) = (desk.value("incident"), desk.value("diagnosis"));
    let cause = text_at(diagnosis, "/cause").unwrap_or("Nobody knows: there is no diagnosis.");
    let class = text_at(diagnosis, "/class").map(|class| {
        let confidence = diagnosis.get("confidence").and_then(Value::as_f64).unwrap_or(0.0);
        format!("{class}, confidence {confidence:.2}")
    });
    let noticed = text_at(incident, "/detected_at").filter(|at| !at.is_empty()).map(|at| format!("at {at}"));
    let symptoms = list_at(incident, "/symptoms").iter().filter_map(Value::as_str).map(str::to_owned);
    [
        Part::of("Cause", std::iter::once(cause.to_owned()).chain(class)),
        Part::of("Noticed", noticed.into_iter().chain(symptoms)),
        Part::of("Evidence", list_at(diagnosis, "/evidence").iter().filter_map(cited)),
        Part::of("What was done", done(desk)),
        Part::of("Verified by", verified(desk)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A declared call as one line.
fn call(value: &Value) -> Option<String> {
    let tool = text_at(value, "/tool")?;
    let args = value.get("args").map(Value::to_string).unwrap_or_default();
    Some(format!("{tool} {args}"))
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// What was made, as the state has it: a planned call counts only when its result is there.
fn done(desk: &Desk<'_>) -> Vec<String> {
    let plan = desk.value("plan");
    let mut lines = Vec::new();
    if let Some(remedy) = text_at(plan, "/remedy") {
        lines.push(format!("remedy: {remedy}"));
    }
    if !desk.value("rehearsed").is_null() {
        lines.extend(call(at(plan, "/staging/act")).map(|call| format!("tried in staging: {call}")));
    }
    if !desk.value("changed").is_null() {
        lines.extend(text_at(plan, "/unrehearsed").map(|why| format!("not tried in staging: {why}")));
        lines.extend(call(at(plan, "/production/act")).map(|call| format!("changed: {call}")));
    }
    if !desk.value("healed_by").is_null() {
        let by_hand = desk.value("by_hand");
        let run = if by_hand.is_object() { by_hand } else { at(plan, "/production/rerun") };
        lines.extend(call(run).map(|call| format!("ran: {call}")));
    }
    if text_at(desk.value("outcome"), "/status") == Some("taken_back") {
        lines.extend(call(desk.value("reversal")).map(|call| format!("taken back: {call}")));
    }
    if let Some(choice) = text_at(desk.value("decision"), "/choice") {
        let by = text_at(desk.value("decision"), "/by").unwrap_or("someone");
        lines.push(format!("decided: {choice}, by {by}"));
    }
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    lines
}

fn verified(desk: &Desk<'_>) -> Vec<String> {
    if at(desk.value("outcome"), "/verified") != &Value::Bool(true) {
        return vec!["nothing: no declared check has held".to_owned()];
    }
    let plan = desk.value("plan");
    let checks = ["/production/act/verify", "/production/rerun/verify"].map(|pointer| {
        let check = at(plan, pointer);
        let asked = text_at(check, "/args/sql").map(str::to_owned).or_else(|| call(check))?;
        let tool = text_at(check, "/tool").unwrap_or("?");
        Some(format!("{tool}: {asked} held"))
    });
    let checks: Vec<String> = checks.into_iter().flatten().collect();
    if checks.is_empty() { vec!["the check that the graph declares".to_owned()] } else { checks }
}
