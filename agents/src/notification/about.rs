//! The incident of a notice as data: where it stands, who owns it, what goes on a card and what below it.

use notify::{About, Fact, Level, Part, Phase, Urgency};
use serde_json::Value;

use super::rca::rca;
use crate::desk::Desk;
use crate::incident::{list_at, text_at};
use crate::noted::{self, FACT};

/// The maintenance window that an incident was seen in, if it is held by one.
pub(super) fn held_by(incident: &Value) -> Option<&str> {
    match incident.get("held")? {
        Value::String(window) if !window.is_empty() => Some(window),
        Value::Object(held) => Some(held.get("window").and_then(Value::as_str).unwrap_or("a maintenance window")),
        Value::Bool(true) => Some("a maintenance window"),
        _ => None,
    }
}

/// Where an incident stands. It is resolved when a declared check held, or when a person or the graph closes it; what a person
/// took over is theirs until then.
fn phase(urgency: Urgency, status: &str, outcome: &Value) -> Phase {
    match (urgency, status) {
        (_, "dismissed" | "resolved") => Phase::Resolved,
        (_, "healed") if outcome.get("verified") == Some(&Value::Bool(true)) => Phase::Resolved,
        (Urgency::Page, _) => Phase::Open,
        (Urgency::Summary, _) => Phase::Acknowledged,
    }
}

fn level(incident: &Value, diagnosis: &Value) -> Level {
    let is_published = diagnosis.pointer("/blast_radius/published_wrong") == Some(&Value::Bool(true));
    match text_at(incident, "/severity") {
        Some("critical") => Level::Critical,
        Some("high") => Level::Error,
        _ if is_published => Level::Error,
        _ => Level::Warning,
    }
}

/// What a notice about the incident on this desk says, as data.
pub(super) fn about(desk: &Desk<'_>, urgency: Urgency, status: &str) -> About {
    let (incident, diagnosis) = (desk.value("incident"), desk.value("diagnosis"));
    let text = |pointer: &str| text_at(incident, pointer).unwrap_or_default().to_owned();
    let held = held_by(incident);
    let phase = if held.is_some() { Phase::Held } else { phase(urgency, status, desk.value("outcome")) };
    let pipeline = text("/pipeline");
    let declared = desk.kit.estate.pipelines.get(&pipeline).and_then(|pipeline| pipeline.owner.clone());
    let is_end = urgency == Urgency::Summary && phase != Phase::Held;
    About {
        incident: text("/id"),
        phase,
        status: status.to_owned(),
        level: level(incident, diagnosis),
        headline: text_at(diagnosis, "/summary")
            .or_else(|| text_at(incident, "/kind"))
            .unwrap_or("incident")
            .to_owned(),
        business_date: text("/business_date"),
        environment: text("/environment"),
        owner: text_at(incident, "/owner").map(str::to_owned).or(declared),
        thread: desk.ctx.thread().to_string(),
        held_by: held.map(str::to_owned),
        facts: facts(desk),
        parts: parts(desk),
        rca: if is_end { rca(desk) } else { Vec::new() },
        pipeline,
    }
}

fn facts(desk: &Desk<'_>) -> Vec<Fact> {
    let (incident, diagnosis, plan) = (desk.value("incident"), desk.value("diagnosis"), desk.value("plan"));
    let mut facts = Vec::new();
    let mut fact = |label: &str, value: String| {
        if !value.is_empty() {
            facts.push(Fact { label: label.to_owned(), value });
        }
    };
    let cause = text_at(diagnosis, "/cause").or_else(|| text_at(incident, "/title")).unwrap_or_default();
    fact(if diagnosis.is_object() { "Cause" } else { "Noticed" }, cause.to_owned());
    if let Some(class) = text_at(diagnosis, "/class") {
        let confidence = diagnosis.get("confidence").and_then(Value::as_f64).unwrap_or(0.0);
        fact("Class and confidence", format!("{class}, {confidence:.2}"));
    }
    let tables: Vec<&str> = list_at(diagnosis, "/blast_radius/tables").iter().filter_map(Value::as_str).collect();
    fact("Affected", tables.join(", "));
    if let Some(action) = text_at(plan, "/action") {
        fact("Remedy", format!("{} ({action})", text_at(plan, "/remedy").unwrap_or("none")));
    }
    fact("What went wrong on the way", text_at(desk.value("trouble"), "/message").unwrap_or_default().to_owned());
    if let Some(choice) = text_at(desk.value("decision"), "/choice") {
        let by = text_at(desk.value("decision"), "/by").unwrap_or("someone");
        fact("Decision", format!("{choice} (by {by})"));
    }
    facts
}

/// A claim with the call that shows it.
pub(super) fn cited(evidence: &Value) -> Option<String> {
    let claim = text_at(evidence, "/claim")?;
    let tool = text_at(evidence, "/tool").unwrap_or("?");
    // A fact was noted by somebody; no call of the task gave it.
    let call = evidence.get("call").and_then(Value::as_u64).filter(|_| !tool.starts_with(FACT));
    Some(match call {
        Some(call) => format!("{claim} ({tool}, call {call})"),
        None => format!("{claim} ({tool})"),
    })
}

fn parts(desk: &Desk<'_>) -> Vec<Part> {
    let (incident, diagnosis, plan) = (desk.value("incident"), desk.value("diagnosis"), desk.value("plan"));
    let texts = |value: &Value, pointer: &str| -> Vec<String> {
        list_at(value, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let considered = list_at(plan, "/considered").iter();
    let considered =
        considered.filter_map(|c| Some(format!("{}: {}", text_at(c, "/remedy")?, text_at(c, "/obstacle")?)));
    [
        Part::of("Symptoms", texts(incident, "/symptoms")),
        Part::of("Evidence", list_at(diagnosis, "/evidence").iter().filter_map(cited)),
        Part::of("Not certain because", texts(diagnosis, "/gaps")),
        Part::of("Considered", considered),
        Part::of("Why this remedy", text_at(plan, "/rationale").map(str::to_owned)),
        Part::of("Noted before", noted::lines(diagnosis)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_check_that_held_or_a_person_resolves() {
        let verified = json!({ "verified": true });
        for (urgency, status, outcome, expected) in [
            (Urgency::Page, "needs a person", Value::Null, Phase::Open),
            (Urgency::Page, "healed", Value::Null, Phase::Open),
            (Urgency::Summary, "healed", verified, Phase::Resolved),
            (Urgency::Summary, "healed", Value::Null, Phase::Acknowledged),
            (Urgency::Summary, "ran_by_hand", Value::Null, Phase::Acknowledged),
            (Urgency::Summary, "handed_over", Value::Null, Phase::Acknowledged),
            (Urgency::Summary, "dismissed", Value::Null, Phase::Resolved),
        ] {
            assert_eq!(phase(urgency, status, &outcome), expected, "{status}");
        }
    }

    #[test]
    fn a_hold_has_a_name_however_it_is_written() {
        for (held, expected) in [
            (json!("patch night"), Some("patch night")),
            (json!({ "window": "patch night", "until": "x" }), Some("patch night")),
            (json!(true), Some("a maintenance window")),
            (json!(false), None),
            (json!(""), None),
            (Value::Null, None),
        ] {
            assert_eq!(held_by(&json!({ "held": held })), expected, "{held}");
        }
        assert_eq!(held_by(&Value::Null), None);
    }

    #[test]
    fn evidence_names_the_call_it_rests_on() {
        let evidence = json!({ "claim": "x", "tool": "w.t", "call": 3 });
        assert_eq!(cited(&evidence).as_deref(), Some("x (w.t, call 3)"));
    }
}
