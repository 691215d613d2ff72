//! Each role alone, in the real engine, with scripted tools.

use std::sync::Arc;

use expect_test::{Expect, expect};
use graphs::EffectClass;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::toolbox::{Scripted, ScriptedTools};

use super::world::{World, agreeable, compiled};

/// Runs one agent node; the answer is its result, or its error.
async fn work(node: &str, tools: ScriptedTools, input: Value) -> (Result<Value, TaskError>, Arc<ScriptedTools>, World) {
    let tools = Arc::new(tools);
    let mut world = World::new(Arc::clone(&tools) as _);
    let yaml = format!(
        "graph: g\ninput: {{ schema: {{ type: object, properties: {{ given: {{}} }} }} }}\nstate: {{ given: {{}}, result_of: {{}} }}\noutput: [given, result_of]\nnodes:\n  a: {{ {node}, output: result_of, then: end }}\nstart: a\n"
    );
    let outcome = world.run(compiled("g", &yaml), json!({ "given": input }), agreeable).await;
    let result = match outcome {
        Outcome::Success => Ok(world.channel("result_of").await),
        Outcome::Failed(error) => Err(error),
        other => panic!("{other:?}"),
    };
    (result, tools, world)
}

pub(super) fn profile(value: u32, lag: u32) -> Value {
    json!({
        "weekday": "Wednesday", "row_count": value,
        "measures": [
            { "name": "rows", "value": value, "baseline_values": [900, 905, 902] },
            { "name": "flights", "value": value, "baseline_values": [900, 905, 902] },
        ],
        "columns": [
            { "column": "carrier", "nulls": 0, "null_rate": 0.0, "baseline_null_rate": 0.0 },
            { "column": "dep_time", "nulls": 60, "null_rate": 0.07, "baseline_null_rate": 0.01 },
        ],
        "freshness": { "last_business_date": "2013-01-23", "expected_business_date": "2013-01-23", "lag_days": lag },
    })
}

fn warehouse(runs: Value, profile: Value) -> ScriptedTools {
    let pipeline = json!({ "pipeline": "flights_daily", "last_business_date": "2013-01-23", "writes": ["src_flights", "fact_daily_carrier"] });
    ScriptedTools::new()
        .reads("warehouse.list_pipelines", json!({ "pipelines": [pipeline], "now": "2013-01-24T05:10:00Z" }))
        .reads("warehouse.list_runs", json!({ "runs": runs }))
        .reads("warehouse.compare_schema", json!({ "compatible": true, "missing": [] }))
        .reads("warehouse.query", json!({ "rows": [{ "column": "carrier", "max_null_rate": 0.0 }] }))
        .reads("warehouse.profile_table", profile)
}

const MONITOR: &str =
    "agent: monitor, tools: ['warehouse.*'], with: { environment: production, known: '{{ given.known }}' }";

async fn check_monitor(runs: Value, profile: Value, known: Value, expected: Expect) {
    let (result, _, _) = work(MONITOR, warehouse(runs, profile), json!({ "known": known })).await;
    let incidents = result.unwrap()["incidents"].clone();
    let line = |incident: &Value| {
        let symptoms = incident["symptoms"].as_array().unwrap().iter().map(|s| format!("\n  {}", s.as_str().unwrap()));
        format!("{} {} {}{}", incident["kind"], incident["severity"], incident["title"], symptoms.collect::<String>())
    };
    expected.assert_eq(&incidents.as_array().unwrap().iter().map(line).collect::<Vec<_>>().join("\n"));
}

fn run(day: &str, attempt: u32, state: &str) -> Value {
    json!({ "run_id": format!("r-{day}-{attempt}"), "pipeline": "flights_daily", "business_date": day, "attempt": attempt,
            "state": state, "error": if state == "failed" { json!("stage: Error: boom") } else { Value::Null } })
}

#[tokio::test]
async fn the_monitor_sees_only_what_is_still_wrong() {
    // Failed, then run again with success: over.
    check_monitor(
        json!([run("2013-01-23", 2, "success"), run("2013-01-23", 1, "failed")]),
        profile(900, 0),
        json!([]),
        expect![[""]],
    )
    .await;
    // The order of the list does not matter.
    check_monitor(
        json!([run("2013-01-23", 1, "success"), run("2013-01-23", 2, "failed")]),
        profile(900, 0),
        json!([]),
        expect![[r#"
        "run_failed" "high" "flights_daily 2013-01-23: run failed: stage: Error: boom"
          run_failed: run failed: stage: Error: boom"#]],
    )
    .await;
    // Two days are two incidents; many symptoms of one day are one.
    check_monitor(
        json!([run("2013-01-23", 1, "failed"), run("2013-01-22", 1, "failed")]),
        profile(0, 1),
        json!([]),
        expect![[r#"
        "run_failed" "high" "flights_daily 2013-01-22: run failed: stage: Error: boom"
          run_failed: run failed: stage: Error: boom
        "run_failed" "high" "flights_daily 2013-01-23: run failed: stage: Error: boom"
          run_failed: run failed: stage: Error: boom
          volume_drop: src_flights has 0 instead of about 902 on a Wednesday (100 % fewer)
          volume_drop: fact_daily_carrier has 0 instead of about 902 on a Wednesday (100 % fewer)
          stale: fact_daily_carrier is 1 day(s) behind"#]],
    )
    .await;
    check_monitor(json!([]), profile(630, 0), json!([]), expect![[r#"
        "volume_drop" "high" "flights_daily 2013-01-23: src_flights has 630 instead of about 902 on a Wednesday (30 % fewer)"
          volume_drop: src_flights has 630 instead of about 902 on a Wednesday (30 % fewer)
          volume_drop: fact_daily_carrier has 630 instead of about 902 on a Wednesday (30 % fewer)"#]]).await;
    // A tenth fewer is no drop, and seven percent more nulls in a column without a contract are a storm.
    check_monitor(json!([]), profile(815, 0), json!([]), expect![[""]]).await;
}

#[tokio::test]
async fn a_known_incident_is_not_found_again() {
    let runs = json!([run("2013-01-23", 1, "failed")]);
    let (first, ..) = work(MONITOR, warehouse(runs.clone(), profile(900, 0)), json!({ "known": [] })).await;
    let found = first.unwrap()["incidents"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1);
    let known = json!({ "known": [found[0]["fingerprint"]] });
    let (second, ..) = work(MONITOR, warehouse(runs, profile(900, 0)), known).await;
    assert_eq!(second.unwrap()["incidents"], json!([]));
}

#[tokio::test]
async fn an_agent_uses_only_the_tools_its_node_names_and_only_reads() {
    let narrow = MONITOR.replace("'warehouse.*'", "warehouse.list_*");
    let (result, tools, _) = work(&narrow, warehouse(json!([]), profile(900, 0)), json!({ "known": [] })).await;
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Denied);
    expect![
        "node `a`: agent `monitor` may not use `warehouse.compare_schema`: the node's `tools` are warehouse.list_*"
    ]
    .assert_eq(&error.message);
    assert_eq!(tools.called(), ["warehouse.list_pipelines", "warehouse.list_runs"]);

    let writes = warehouse(json!([]), Value::Null).tool(
        "warehouse.list_runs",
        EffectClass::AtMostOnce,
        Scripted::Always(Ok(json!({}))),
    );
    let (result, tools, _) = work(MONITOR, writes, json!({ "known": [] })).await;
    expect!["node `a`: agent `monitor` may not use `warehouse.list_runs`: it is not declared read-only, and changes are made by `tool` nodes"].assert_eq(&result.unwrap_err().message);
    assert_eq!(tools.called(), ["warehouse.list_pipelines"]);
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_named_with_those_that_do() {
    let (result, ..) = work("agent: monitr", ScriptedTools::new(), Value::Null).await;
    expect![
        "node `a`: there is no agent role `monitr`; roles are monitor, diagnostic, remediation, notification, assistant"
    ]
    .assert_eq(&result.unwrap_err().message);
}

pub(super) fn timed_out() -> Value {
    json!({
        "id": "inc-1", "fingerprint": "f1", "pipeline": "flights_daily", "business_date": "2013-01-23", "environment": "production",
        "kind": "run_failed", "severity": "high", "title": "flights_daily 2013-01-23: run failed", "run_id": "r1",
        "error": "extract: UpstreamTimeout: GET https://x.example/f: no response within 30 s (Read timed out)",
        "symptoms": ["run_failed: run failed"], "evidence": [], "tables": ["src_flights", "fact_daily_carrier"], "detected_at": "now",
    })
}

pub(super) fn estate(upstream: Scripted) -> ScriptedTools {
    ScriptedTools::new()
        .reads("warehouse.get_run", json!({ "run_id": "r1", "state": "failed" }))
        .reads("warehouse.get_log", json!({ "lines": ["GET https://x.example/f (timeout 30 s)", "Task failed"] }))
        .reads("warehouse.compare_schema", json!({ "compatible": true, "missing": [], "rename_candidates": [] }))
        .reads("warehouse.profile_table", profile(0, 1))
        .reads(
            "warehouse.table_privileges",
            json!({ "table": "fact_daily_carrier", "missing": [], "recent_changes": [] }),
        )
        .reads("warehouse.list_runs", json!({ "runs": [] }))
        .tool("warehouse.check_upstream", EffectClass::ReadOnly, upstream)
}

const DIAGNOSTIC: &str = "agent: diagnostic, tools: ['warehouse.*'], with: { incident: '{{ given.incident }}', depth: '{{ given.depth }}', first: '{{ given.first }}' }";

fn shown(diagnosis: &Value) -> String {
    let claims = diagnosis["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| format!("\n+ {} [{}#{}]", e["claim"].as_str().unwrap(), e["tool"].as_str().unwrap(), e["call"]));
    let gaps = diagnosis["gaps"].as_array().unwrap().iter().map(|gap| format!("\n- {}", gap.as_str().unwrap()));
    format!(
        "{} {} {}{}",
        diagnosis["cause_id"],
        diagnosis["confidence"],
        diagnosis["evidence_status"],
        claims.chain(gaps).collect::<String>()
    )
}

pub(super) fn degraded() -> Value {
    json!({ "consecutive_timeouts": 1, "recent_requests": [{ "outcome": "timeout" }],
            "manifest": { "complete": true, "expected_rows": 897, "delivered_rows": 897 } })
}

#[tokio::test]
async fn the_diagnostic_agent_cites_the_call_of_each_claim() {
    let input = json!({ "incident": timed_out(), "depth": "first", "first": null });
    let (result, tools, _) = work(DIAGNOSTIC, estate(Scripted::Always(Ok(degraded()))), input).await;
    let diagnosis = result.unwrap();
    expect![[r#"
        "upstream-timeout" 0.91 "confirmed"
        + the upstream's own record shows 1 time-out(s) in a row [warehouse.check_upstream#3]
        + the log of the run has a request and no answer [warehouse.get_log#1]
        + the upstream has all 897 rows of the day ready [warehouse.check_upstream#3]"#]]
    .assert_eq(&shown(&diagnosis));
    // A citation is the number of the call in the journal.
    let called = tools.called();
    for evidence in diagnosis["evidence"].as_array().unwrap() {
        assert_eq!(
            called[usize::try_from(evidence["call"].as_u64().unwrap()).unwrap()],
            evidence["tool"].as_str().unwrap()
        );
    }
    assert_eq!(diagnosis["params"]["expected_rows"], 897);
}

#[tokio::test]
async fn a_source_that_does_not_answer_is_a_gap_and_costs_confidence() {
    let down = Scripted::Always(Err(TaskError::new(ErrorClass::Transient, "the server is down")));
    let input = json!({ "incident": timed_out(), "depth": "first", "first": null });
    let (result, ..) = work(DIAGNOSTIC, estate(down), input).await;
    expect![[r#"
        "upstream-timeout" 0.77 "hypothesis"
        + the log of the run has a request and no answer [warehouse.get_log#1]
        - upstream could not be read: the server is down"#]]
    .assert_eq(&shown(&result.unwrap()));
}

#[tokio::test]
async fn a_second_look_reads_more_and_another_cause_is_no_agreement() {
    let mut first = serde_json::to_value(
        crate::Knowledge::shipped().unwrap().diagnose(&crate::Facts::new(serde_json::from_value(timed_out()).unwrap())),
    )
    .unwrap();
    let input = |first: &Value| json!({ "incident": timed_out(), "depth": "second", "first": first });
    let (agrees, tools, _) = work(DIAGNOSTIC, estate(Scripted::Always(Ok(degraded()))), input(&first)).await;
    assert!(agrees.unwrap()["confidence"].as_f64().unwrap() >= 0.85);
    assert!(tools.called().contains(&"warehouse.list_runs".to_owned()));
    first["cause_id"] = json!("disk-full");
    let (differs, ..) = work(DIAGNOSTIC, estate(Scripted::Always(Ok(degraded()))), input(&first)).await;
    assert_eq!(differs.unwrap()["confidence"], 0.69);
}

fn diagnosis(remedy: &str, params: Value) -> Value {
    json!({
        "class": "schema_drift", "cause_id": "x", "cause": "c", "summary": "s", "confidence": 0.9, "transience": "permanent",
        "evidence_status": "confirmed", "evidence": [], "gaps": [], "also_possible": [], "remedies": [remedy], "params": params,
        "blast_radius": { "business_dates": [], "tables": [], "published_wrong": false },
    })
}

async fn planned(diagnosis: Value) -> Value {
    let node = "agent: remediation, with: { diagnosis: '{{ given }}' }";
    work(node, ScriptedTools::new(), diagnosis).await.0.unwrap()
}

#[tokio::test]
async fn the_remediation_agent_writes_a_change_for_both_environments() {
    let params = json!({ "pipeline": "flights_daily", "day": "2013-01-23", "column": "dep_delay", "expected": "dep_delay",
                         "delivered": "departure_delay", "expected_rows": 897 });
    let plan = planned(diagnosis("map-renamed-column", params)).await;
    expect![[r#"
        {
          "act": {
            "args": {
              "down": "UPDATE ops_column_map SET source_column = 'dep_delay' WHERE dataset = 'stg_flights' AND column_name = 'dep_delay' AND source_column = 'departure_delay'",
              "environment": "production",
              "name": "map_dep_delay_from_departure_delay",
              "up": "UPDATE ops_column_map SET source_column = 'departure_delay' WHERE dataset = 'stg_flights' AND column_name = 'dep_delay' AND source_column = 'dep_delay'"
            },
            "effect": "idempotent",
            "env": "production",
            "tool": "warehouse.apply_migration",
            "undo": {
              "args": {
                "environment": "production",
                "name": "map_dep_delay_from_departure_delay"
              },
              "tool": "warehouse.revert_migration"
            },
            "verify": {
              "args": {
                "environment": "production",
                "sql": "SELECT count(*) = 1 AS ok FROM ops_column_map WHERE dataset = 'stg_flights' AND column_name = 'dep_delay' AND source_column = 'departure_delay'"
              },
              "tool": "warehouse.query"
            }
          },
          "env": "production",
          "rerun": {
            "args": {
              "business_date": "2013-01-23",
              "environment": "production",
              "from_task": "stage",
              "pipeline": "flights_daily"
            },
            "effect": "idempotent",
            "env": "production",
            "tool": "warehouse.rerun_pipeline",
            "verify": {
              "args": {
                "environment": "production",
                "sql": "WITH held AS (SELECT count(*) AS n FROM ops_quarantined_rows r JOIN ops_quarantine q ON q.quarantine_id = r.quarantine_id WHERE q.released_at IS NULL AND r.business_date = '2013-01-23'), carriers AS (SELECT coalesce(sum(flights), 0) AS n FROM fact_daily_carrier WHERE business_date = '2013-01-23'), routes AS (SELECT coalesce(sum(flights), 0) AS n FROM fact_daily_route WHERE business_date = '2013-01-23') SELECT (carriers.n + held.n = 897) AND carriers.n = routes.n AND carriers.n > 0 AS ok, carriers.n AS published, held.n AS held FROM held, carriers, routes"
              },
              "tool": "warehouse.query"
            }
          }
        }"#]].assert_eq(&serde_json::to_string_pretty(&plan["production"]).unwrap());
    assert_eq!(plan["staging"]["act"]["args"]["environment"], "staging");
    assert_eq!(plan["staging"]["rerun"]["args"]["environment"], "staging");
    assert_eq!((&plan["action"], &plan["reversible"]), (&json!("change"), &json!(true)));
}

/// A name that came from a log never becomes part of a statement.
#[tokio::test]
async fn a_sly_name_ends_in_escalation() {
    let params = json!({ "pipeline": "flights_daily", "day": "2013-01-23", "column": "dep_delay", "expected": "dep_delay",
                         "delivered": "x'; DELETE FROM ops_grants; --" });
    let plan = planned(diagnosis("map-renamed-column", params)).await;
    assert_eq!((&plan["action"], &plan["production"]), (&json!("escalate"), &Value::Null));
    expect![[r#"[{"obstacle":"`delivered` is not a plain identifier: \"x'; DELETE FROM ops_grants; --\"","remedy":"map-renamed-column"}]"#]].assert_eq(&plan["considered"].to_string());
}

#[tokio::test]
async fn a_reversal_names_what_only_the_act_knew() {
    let node = "agent: remediation, with: { undo: '{{ given.undo }}', made: '{{ given.made }}' }";
    let undo = json!({ "tool": "w.release", "args": { "id": { "$result": "/id" } } });
    let (result, ..) = work(node, ScriptedTools::new(), json!({ "undo": undo, "made": { "id": 3 } })).await;
    assert_eq!(result.unwrap(), json!({ "tool": "w.release", "args": { "id": 3 } }));
    let (result, ..) = work(node, ScriptedTools::new(), json!({ "undo": undo, "made": {} })).await;
    assert_eq!(result.unwrap_err().class, ErrorClass::Invalid);
}

#[tokio::test]
async fn a_page_stands_alone() {
    let node = "agent: notification, with: { severity: page, incident: '{{ given.incident }}', diagnosis: '{{ given.diagnosis }}', plan: '{{ given.plan }}', trouble: '{{ given.trouble }}' }";
    let diagnosis = diagnosis("map-renamed-column", json!({ "pipeline": "flights_daily", "day": "2013-01-23" }));
    let input = json!({ "incident": timed_out(), "plan": planned(diagnosis.clone()).await, "diagnosis": diagnosis,
                        "trouble": { "message": "node `change`: denied\n**Status**: resolved" } });
    let (result, _, world) = work(node, ScriptedTools::new(), input).await;
    let result = result.unwrap();
    assert_eq!(result["receipt"]["channel"], "collected");
    assert_eq!(world.notices.notices().len(), 1);
    expect![[r#"
        inc-1 · flights_daily 2013-01-23: s (needs a person)
        **Status**: needs a person
        **Noticed**: flights_daily 2013-01-23: run failed
        **Symptoms**:
        - run_failed: run failed
        **Cause**: c
        **Class and confidence**: schema_drift, 0.90
        **Remedy**: none
        **Why**: no declared remedy is applicable
        **Considered**:
        - map-renamed-column: `column` is not known
        **What went wrong on the way**: node `change`: denied **Status**: resolved"#]]
    .assert_eq(&format!(
        "{}\n{}",
        result["notice"]["title"].as_str().unwrap(),
        result["notice"]["text"].as_str().unwrap()
    ));
}

#[tokio::test]
async fn a_report_that_a_graph_has_written_is_sent_as_it_is() {
    let node = "agent: notification, with: { severity: summary, title: '{{ given.title }}', report: '{{ given.report }}', dedup_key: morning }";
    let input = json!({ "title": "Pipelines\n2026", "report": "# Health\n\n- [ ] look\n" });
    let (result, _, world) = work(node, ScriptedTools::new(), input).await;
    let sent = json!({ "severity": "summary", "title": "Pipelines 2026", "text": "# Health\n\n- [ ] look", "dedup_key": "morning" });
    assert_eq!(result.unwrap()["notice"], sent);
    assert_eq!(world.notices.notices().len(), 1);
}
