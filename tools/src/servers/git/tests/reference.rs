//! Writes `TOOLS.md`, and checks that tools are described truthfully and answer as their schemas say.

use std::fmt::Write as _;

use expect_test::expect_file;
use rmcp::ServerHandler as _;
use serde_json::{Value, json};

use super::{DAG, World, revert_args};
use crate::servers::git::GitServer;
use crate::servers::git::config::Revert;
use crate::servers::git::registry::{ToolEffect, all_tools};
use crate::servers::git::repo::sha256;

#[test]
fn the_reference_is_current() {
    let mut text = String::from(
        "# Tools of the Git server\n\nWritten by the test `reference`; `UPDATE_EXPECT=1` rewrites it. `?` marks optional \
         arguments.\n\n| tool | effect | arguments | what it does |\n| --- | --- | --- | --- |\n",
    );
    for spec in all_tools() {
        let input = spec.describe().input_schema;
        let required = input.get("required").cloned().unwrap_or_default();
        let is_required = |name: &str| required.as_array().is_some_and(|list| list.iter().any(|r| r == name));
        let names = input["properties"].as_object().unwrap().keys();
        let names: Vec<String> = names.map(|n| if is_required(n) { n.clone() } else { format!("{n}?") }).collect();
        writeln!(text, "| `{}` | {:?} | {} | {} |", spec.name, spec.effect, names.join(", "), spec.description)
            .unwrap();
    }
    expect_file!["../TOOLS.md"].assert_eq(&text);
}

#[test]
fn annotations_are_truthful() {
    for spec in all_tools() {
        let hints = spec.describe().annotations.unwrap();
        let acts = spec.name == "revert_commit";
        assert_eq!((hints.read_only_hint, hints.destructive_hint), (Some(!acts), Some(acts)), "{}", spec.name);
        assert_eq!((hints.idempotent_hint, hints.open_world_hint), (Some(true), Some(true)), "{}", spec.name);
        assert_eq!(acts, spec.effect == ToolEffect::Replaces);
        let named = spec.describe().input_schema["properties"].get("environment").is_some();
        assert_eq!(acts, named, "{}: the act names its environment", spec.name);
    }
}

#[test]
fn the_act_is_offered_only_where_a_repository_allows_it() {
    let offered = |world: &World| GitServer::new(world.all.clone()).get_tool("revert_commit").is_some();
    assert!(offered(&World::new()));
    assert!(!offered(&World::with(|declared| declared.revert = Revert::Off)));
}

#[tokio::test]
async fn answers_are_as_their_schemas_say() {
    let world = World::new();
    let bad = world.break_it();
    let good = sha256(DAG.as_bytes());
    for (tool, args) in [
        ("get_branch", json!({ "repo": "dags" })),
        ("recent_commits", json!({ "repo": "dags" })),
        ("show_commit", json!({ "repo": "dags", "commit": bad })),
        ("find_break", json!({ "repo": "dags", "file": "catalog.py", "good_sha256": good, "name": "check_contract" })),
        ("find_break", json!({ "repo": "dags", "file": "catalog.py", "good_sha256": "none" })),
        ("preview_revert", json!({ "repo": "dags", "commit": bad })),
        ("revert_commit", revert_args(&bad, &bad, &["catalog.py"])),
        ("get_branch", json!({ "repo": "dags", "reverted": bad })),
    ] {
        let spec = all_tools().iter().find(|spec| spec.name == tool).unwrap().describe();
        check(tool, &spec.input_schema, &args);
        let answer = world.call(tool, args).await.unwrap();
        check(tool, spec.output_schema.as_ref().unwrap(), &answer);
    }
}

#[track_caller]
fn check(tool: &str, schema: &rmcp::model::JsonObject, value: &Value) {
    let validator = jsonschema::validator_for(&Value::Object(schema.clone())).unwrap();
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{tool}: {errors:?} in {value}");
}
