//! Writes `TOOLS.md`, and checks that tools are described truthfully and answer as their schemas say.

use expect_test::expect_file;
use rmcp::ServerHandler as _;
use serde_json::json;

use super::reads::run_args;
use super::{World, with_login};
use crate::servers::airflow::registry::{ToolEffect, all_tools};
use crate::servers::airflow::{AirflowServer, Config};
use crate::servers::reference::{check, page};

#[test]
fn the_reference_is_current() {
    let text = page("Tools of the Airflow server", all_tools());
    expect_file!["../TOOLS.md"].assert_eq(&text);
}

#[test]
fn annotations_are_truthful() {
    for spec in all_tools() {
        let hints = spec.describe().annotations.unwrap();
        let reads = spec.effect == ToolEffect::Reads;
        assert_eq!(hints.read_only_hint, Some(reads), "{}", spec.name);
        let overwrites = matches!(spec.name, "clear" | "set_pool" | "set_variable" | "mark");
        assert_eq!(hints.destructive_hint, Some(overwrites), "{}", spec.name);
        let named = spec.describe().input_schema["properties"].get("environment").is_some();
        assert!(reads || named, "{}: every act names its environment", spec.name);
    }
}

#[tokio::test]
async fn only_what_the_installation_permits_is_offered() {
    let names = |server: &AirflowServer| {
        all_tools().iter().map(|t| t.name).filter(|name| server.get_tool(name).is_some()).collect::<Vec<_>>()
    };
    let world = World::new(&with_login(&[])).await;
    let offered = names(&AirflowServer::new(world.airflow.clone()));
    assert!(offered.contains(&"clear") && offered.contains(&"get_variable"), "{offered:?}");
    assert!(!offered.contains(&"mark") && !offered.contains(&"set_variable"), "{offered:?}");
    let world = World::with(&with_login(&[]), super::variable::settable).await;
    assert!(names(&AirflowServer::new(world.airflow.clone())).contains(&"set_variable"));
    let without_actor = |config: &mut Config| {
        super::variable::settable(config);
        config.act = None;
    };
    let world = World::with(&with_login(&[]), without_actor).await;
    let offered = names(&AirflowServer::new(world.airflow.clone()));
    let needs_actor = ["clear", "list_variables", "get_variable", "set_variable"];
    assert!(needs_actor.iter().all(|name| !offered.contains(name)) && offered.contains(&"get_run"), "{offered:?}");
}

#[tokio::test]
async fn answers_are_as_their_schemas_say() {
    let clear = {
        let mut args = run_args();
        args["environment"] = json!("production");
        args
    };
    let staging = json!({ "dag_id": "sales_etl", "environment": "staging", "business_date": "2026-03-31" });
    let log = json!({ "dag_id": "sales_etl", "dag_run_id": super::reads::RUN, "task_id": "load_fact_sales" });
    for (tool, args, exchanges) in [
        ("list_dags", json!({ "limit": 2 }), &["dags"][..]),
        ("list_runs", json!({}), &["runs from 0"]),
        ("list_failed", json!({}), &["runs from 0", "tasks", "log"]),
        ("get_run", run_args(), &["one run", "tasks", "log"]),
        ("get_log", log, &["one task", "log"]),
        ("get_source", json!({ "dag_id": "sales_etl" }), &["source"]),
        ("list_import_errors", json!({}), &["import errors", "dags with a broken one"]),
        (
            "stuck_runs",
            json!({ "older_than_s": 0, "environment": "staging" }),
            &["running runs", "tasks of the staging run", "pools"],
        ),
        ("health", json!({}), &["health", "version"]),
        ("list_pools", json!({}), &["pools"]),
        ("list_variables", json!({}), &["variables"]),
        ("get_variable", json!({ "key": super::variable::KEY, "expected": 50_000 }), &["one variable"]),
        ("list_assets", json!({}), &["assets"]),
        ("event_log", json!({ "dag_id": "sales_etl", "limit": 3 }), &["events"]),
        ("clear", clear, &["one run", "clear, only told"]),
        ("trigger", staging, &["one dag", "trigger"]),
        (
            "set_dag_paused",
            json!({ "dag_id": "web_sessions_etl", "paused": true, "environment": "production" }),
            &["pause"],
        ),
        (
            "set_pool",
            json!({ "pool": "finance_pool", "slots": 3, "environment": "production" }),
            &["one pool", "set pool"],
        ),
        ("set_variable", super::variable::set(json!(2_000), json!(50_000)), &["one variable", "set variable"]),
        ("set_variable", super::variable::set(json!(2_000), json!(null)), &["no such variable", "create variable"]),
    ] {
        let world = World::with(&with_login(exchanges), super::variable::settable).await;
        let spec = all_tools().iter().find(|spec| spec.name == tool).unwrap().describe();
        check(tool, &spec.input_schema, &args);
        let answer = world.call(tool, args).await.unwrap();
        check(tool, spec.output_schema.as_ref().unwrap(), &answer);
    }
}
