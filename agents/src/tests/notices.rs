//! What a notice carries as data: where the incident stands, who owns it, and at its end an account of causes.

use std::sync::Arc;

use expect_test::{Expect, expect};
use notify::{About, Phase, markdown};
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::toolbox::ScriptedTools;

use super::world::{World, agreeable, compiled};
use crate::{Notice, Urgency};

const GRAPH: &str = "
graph: tell
input: { schema: { type: object, properties: { given: {} } } }
state: { given: {}, result_of: {} }
output: [given, result_of]
nodes:
  a:
    agent: notification
    with:
      severity: '{{ given.severity }}'
      status: '{{ given.status }}'
      incident: '{{ given.incident }}'
      diagnosis: '{{ given.diagnosis }}'
      plan: '{{ given.plan }}'
      changed: '{{ given.changed }}'
      healed_by: '{{ given.healed_by }}'
      decision: '{{ given.decision }}'
      outcome: '{{ given.outcome }}'
    output: result_of
    then: end
start: a
";

/// A healed incident as the graph's state has it.
fn healed() -> Value {
    let call = |tool: &str| json!({ "tool": tool, "args": { "day": "2013-01-23" }, "verify": { "tool": "warehouse.query", "args": { "sql": "SELECT 1 AS ok" } } });
    json!({
        "severity": "summary", "status": "healed", "outcome": { "status": "healed", "verified": true },
        "incident": {
            "id": "inc-1", "fingerprint": "f1", "pipeline": "flights_daily", "business_date": "2013-01-23",
            "environment": "production", "kind": "run_failed", "title": "t", "severity": "high", "owner": "data-platform",
            "symptoms": ["run_failed: x"], "detected_at": "2013-01-23T06:00:00Z",
        },
        "diagnosis": {
            "class": "configuration", "cause": "a privilege is missing", "summary": "no INSERT", "confidence": 0.94,
            "evidence": [{ "claim": "INSERT is missing", "tool": "warehouse.table_privileges", "call": 3, "excerpt": {} }],
            "gaps": ["the log of try 1 is gone"], "blast_radius": { "tables": ["fact_daily_carrier"] },
        },
        "plan": {
            "action": "change", "remedy": "grant-declared-privilege", "rationale": "declared",
            "staging": { "act": call("warehouse.grant_privilege") },
            "production": { "act": call("warehouse.grant_privilege"), "rerun": call("warehouse.rerun_pipeline") },
        },
        "changed": { "changed": true }, "healed_by": { "state": "success" }, "decision": { "choice": "approve", "by": "ann" },
    })
}

async fn told(given: Value) -> Notice {
    let mut world = World::new(Arc::new(ScriptedTools::default()));
    let outcome = world.run(compiled("tell", GRAPH), json!({ "given": given }), agreeable).await;
    assert!(matches!(outcome, Outcome::Success), "{outcome:?}");
    world.notices.notices().remove(0)
}

fn about(notice: &Notice) -> &About {
    notice.about.as_deref().unwrap()
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

#[tokio::test]
async fn the_end_of_an_incident_says_cause_evidence_acts_and_proof() {
    let notice = told(healed()).await;
    let about = about(&notice);
    assert_eq!(
        (about.phase, about.owner.as_deref(), about.thread.as_str()),
        (Phase::Resolved, Some("data-platform"), "t1")
    );
    check(
        &markdown(&notice.title, &about.rca),
        expect![[r#"
            # inc-1 · flights_daily 2013-01-23: no INSERT (healed)

            ## Cause

            - a privilege is missing
            - configuration, confidence 0.94

            ## Noticed

            - at 2013-01-23T06:00:00Z
            - run_failed: x

            ## Evidence

            - INSERT is missing (warehouse.table_privileges, call 3)

            ## What was done

            - remedy: grant-declared-privilege
            - changed: warehouse.grant_privilege {"day":"2013-01-23"}
            - ran: warehouse.rerun_pipeline {"day":"2013-01-23"}
            - decided: approve, by ann

            ## Verified by

            - warehouse.query: SELECT 1 AS ok held
            - warehouse.query: SELECT 1 AS ok held
        "#]],
    );
}

/// What no check has proven is not called so, and what was only planned was not done.
#[tokio::test]
async fn what_is_not_proven_or_not_done_is_not_said_to_be() {
    let mut given = healed();
    given["outcome"] = json!({ "status": "handed_over" });
    (given["status"], given["changed"], given["healed_by"]) = (json!("handed_over"), Value::Null, Value::Null);
    let notice = told(given).await;
    assert_eq!(about(&notice).phase, Phase::Acknowledged);
    let rca = markdown("x", &about(&notice).rca);
    assert!(rca.contains("nothing: no declared check has held") && !rca.contains("changed:"), "{rca}");
}

#[tokio::test]
async fn an_incident_within_a_maintenance_window_pages_nobody() {
    let mut given = healed();
    (given["severity"], given["status"], given["outcome"]) = (json!("page"), json!("needs a person"), Value::Null);
    let page = told(given.clone()).await;
    assert_eq!((page.severity, about(&page).phase), (Urgency::Page, Phase::Open));
    assert!(about(&page).rca.is_empty(), "it is not over");
    given["incident"]["held"] = json!({ "window": "patch night" });
    let held = told(given).await;
    assert_eq!((held.severity, about(&held).phase), (Urgency::Summary, Phase::Held));
    assert_eq!(about(&held).held_by.as_deref(), Some("patch night"));
}
