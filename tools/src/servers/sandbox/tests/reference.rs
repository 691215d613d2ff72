//! Writes `TOOLS.md` from real calls, and checks every answer against the schema its tool declares.

use std::fmt::Write;

use expect_test::expect_file;
use serde_json::{Value, json};

use super::World;
use crate::servers::reference::check;
use crate::servers::sandbox::Fault;
use crate::servers::sandbox::operator::operator_tools;
use crate::servers::sandbox::registry::{ToolSpec, agent_tools};

/// Elements of a list that the page shows.
const SHOWN_MAX: usize = 2;

const DAY: &str = "2013-01-23";

/// The page while it is written, and the sandbox that answers.
struct Page {
    world: World,
    text: String,
    called: Vec<String>,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// Calls a tool, checks both schemas, and shows call and answer.
    #[track_caller]
    fn call(&mut self, name: &str, arguments: Value) -> Value {
        let tool = find(name).describe();
        check(name, &tool.input_schema, &arguments);
        self.called.push(name.to_owned());
        let answer = self.world.sandbox.call(name, arguments.clone());
        writeln!(self.text, "```text\n{name} {arguments}").unwrap();
        match &answer {
            Ok(value) => {
                check(name, tool.output_schema.as_ref().unwrap(), value);
                let shown = serde_json::to_string_pretty(&shorten(value)).unwrap();
                writeln!(self.text, "{shown}\n```\n").unwrap();
            }
            Err(error) => writeln!(self.text, "isError: {}: {error}\n```\n", error.code.as_str()).unwrap(),
        }
        answer.unwrap_or_default()
    }
}

fn find(name: &str) -> &'static ToolSpec {
    agent_tools().iter().chain(operator_tools()).find(|t| t.name == name).unwrap()
}

/// Cuts lists; the real time of an effect is the one thing that differs from run to run.
fn shorten(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut shown: Vec<Value> = items.iter().take(SHOWN_MAX).map(shorten).collect();
            if items.len() > SHOWN_MAX {
                shown.push(json!(format!("… {} more", items.len() - SHOWN_MAX)));
            }
            Value::Array(shown)
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                (key.clone(), if key == "time" { json!("2026-01-01T00:00:00Z") } else { shorten(value) })
            };
            Value::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

fn production(mut arguments: Value) -> Value {
    arguments["environment"] = json!("production");
    arguments
}

fn rerun(task: &str) -> Value {
    production(json!({ "pipeline": "flights_daily", "business_date": DAY, "from_task": task }))
}

#[test]
fn the_reference_is_current_and_answers_satisfy_their_schemas() {
    let mut page = Page { world: World::new(), text: String::new(), called: Vec::new() };
    page.line("# Tools of the sandbox");
    page.line("");
    page.line("Written by the test `reference`; `UPDATE_EXPECT=1` rewrites it. Lists are cut after two elements.\n");
    list_tools(&mut page, "Agent surface", agent_tools());
    list_tools(&mut page, "Operator surface", operator_tools());
    page.line("## Examples\n");
    reading(&mut page);
    writing(&mut page);
    operating(&mut page);
    for spec in agent_tools().iter().chain(operator_tools()) {
        assert!(page.called.iter().any(|name| name == spec.name), "{} has no example", spec.name);
    }
    page.line("## The faults, as an agent meets them\n");
    for fault in Fault::ALL {
        fault_section(&mut page, fault);
    }
    expect_file!["../TOOLS.md"].assert_eq(&format!("{}\n", page.text.trim_end()));
}

fn list_tools(page: &mut Page, title: &str, tools: &[ToolSpec]) {
    page.line(&format!(
        "## {title}\n\n| tool | effect | arguments (`?` optional) | what it does |\n| --- | --- | --- | --- |"
    ));
    for spec in tools {
        let input = spec.describe().input_schema;
        let required = input.get("required").cloned().unwrap_or_default();
        let names: Vec<String> = input["properties"]
            .as_object()
            .map(|p| p.keys().map(|k| if has(&required, k) { k.clone() } else { format!("{k}?") }).collect())
            .unwrap_or_default();
        page.line(&format!("| `{}` | {:?} | {} | {} |", spec.name, spec.effect, names.join(", "), spec.description));
    }
    page.line("");
}

fn has(required: &Value, name: &str) -> bool {
    required.as_array().is_some_and(|list| list.iter().any(|r| r == name))
}

fn reading(page: &mut Page) {
    page.world.sandbox.inject(Fault::NullBurst, None).unwrap();
    page.call("list_pipelines", json!({}));
    page.call("list_runs", json!({ "state": "failed", "since": DAY }));
    page.call("get_run", json!({ "run_id": "flights_daily-2013-01-23-1" }));
    page.call("get_log", json!({ "run_id": "flights_daily-2013-01-23-1", "task": "stage" }));
    page.call("list_tables", json!({}));
    page.call("describe_table", json!({ "table": "stg_flights" }));
    page.call("compare_schema", json!({}));
    page.call("profile_table", json!({ "table": "src_flights" }));
    page.call("profile_table", json!({ "table": "fact_daily_carrier", "business_date": "2013-01-22" }));
    let sql = "SELECT origin, hour, count(*) AS n FROM src_flights WHERE carrier IS NULL GROUP BY 1, 2";
    page.call("query", json!({ "sql": sql }));
    page.call("query", json!({ "sql": "DELETE FROM stg_flights" }));
    page.call("check_upstream", json!({ "business_date": DAY }));
    page.call("table_privileges", json!({ "table": "fact_daily_carrier" }));
}

fn writing(page: &mut Page) {
    page.call("rerun_pipeline", rerun("stage"));
    let rows = json!({ "table": "src_flights", "rule": "null_in_column", "column": "carrier", "business_date": DAY,
                       "reason": "carrier is missing in the feed", "idempotency_key": "thread-1/quarantine" });
    page.call("quarantine", production(rows));
    page.call("effect_status", production(json!({ "idempotency_key": "thread-1/quarantine" })));
    page.call("rerun_pipeline", rerun("stage"));
    page.call("release_quarantine", production(json!({ "quarantine_id": 1 })));
    page.call(
        "hold_partition",
        production(json!({ "table": "fact_daily_route", "business_date": DAY, "reason": "under repair" })),
    );
    page.call("release_hold", production(json!({ "hold_id": 1 })));
    page.call("request_redelivery", production(json!({ "business_date": DAY })));
    let migration = json!({ "name": "delay_view", "up": "CREATE VIEW v_delays AS SELECT carrier, delayed_15 FROM fact_daily_carrier",
                            "down": "DROP VIEW v_delays" });
    page.call("apply_migration", production(migration));
    page.call("revert_migration", production(json!({ "name": "delay_view" })));
    let grant = production(json!({ "principal": "reporting", "table": "stg_flights", "privilege": "SELECT" }));
    page.call("grant_privilege", grant.clone());
    page.call("revoke_privilege", grant);
}

fn operating(page: &mut Page) {
    page.call("ground_truth", json!({ "fault": "null_burst" }));
    page.call("verify_fault", json!({ "fault": "null_burst" }));
    page.call("resolve_by_person", json!({ "fault": "null_burst" }));
    page.call("list_effects", json!({}));
    page.call("advance", json!({}));
    page.call("inject_fault", json!({ "fault": "row_count_drop" }));
    page.call("reset", json!({}));
}

/// Symptom, the evidence beyond it, and the truth; then the remedy, which must heal.
fn fault_section(page: &mut Page, fault: Fault) {
    let name = serde_json::to_value(fault).unwrap();
    page.line(&format!("### {}\n", name.as_str().unwrap()));
    page.call("inject_fault", json!({ "fault": fault }));
    match fault {
        Fault::UpstreamTimeout => {
            page.call("check_upstream", json!({}));
        }
        Fault::RowCountDrop => {
            page.call("profile_table", json!({ "table": "fact_daily_carrier" }));
            page.call("check_upstream", json!({}));
        }
        Fault::NullBurst => {
            page.call("profile_table", json!({ "table": "src_flights" }));
        }
        Fault::ColumnRenamed => {
            page.call("compare_schema", json!({}));
        }
        Fault::PermissionRevoked => {
            page.call("table_privileges", json!({ "table": "fact_daily_carrier" }));
        }
        Fault::UnknownError => {}
    }
    let truth = page.call("ground_truth", json!({ "fault": fault }));
    for step in truth["remedy_steps"].as_array().unwrap() {
        page.call(step["tool"].as_str().unwrap(), step["arguments"].clone());
    }
    if truth["remedy_steps"].as_array().unwrap().is_empty() {
        page.call("resolve_by_person", json!({ "fault": fault }));
    }
    assert_eq!(page.call("verify_fault", json!({ "fault": fault }))["outcome"], "healed", "{fault:?}");
}
