//! Writes `TOOLS.md`, and checks that tools are described truthfully and answer as their schemas say.

use expect_test::expect_file;
use rmcp::ServerHandler as _;
use serde_json::json;

use super::{DAG, World, revert_args};
use crate::servers::git::GitServer;
use crate::servers::git::config::Revert;
use crate::servers::git::registry::{ToolEffect, all_tools};
use crate::servers::git::repo::sha256;
use crate::servers::reference::{check, page};

#[test]
fn the_reference_is_current() {
    let text = page("Tools of the Git server", all_tools());
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
