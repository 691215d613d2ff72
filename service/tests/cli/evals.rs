//! `eval` and `replay`: golden incidents and past threads, from the command line to the exit code.

use serde_json::json;

use super::stage::Stage;

const INCIDENT: &str = include_str!("../../../graphs/library/etl-incident.yaml");
const ROUND: &str = include_str!("../../../graphs/library/etl-reliability.yaml");
const FIRST_BAND: &str = "{ at_least: 0.85, then: plan }";

fn with_graphs(incident: &str) -> Stage {
    let stage = Stage::new();
    stage.write("etl-incident.yaml", incident);
    stage.write("etl-reliability.yaml", ROUND);
    stage
}

#[test]
fn the_set_that_ships_is_played_and_reported() {
    let stage = Stage::new();
    let ran = stage.ends(0, &["eval", "etl"]);
    assert!(ran.stdout.contains("wrongly automated actions") && ran.stdout.contains("By class"), "{}", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
    let page = stage.ends(0, &["eval", "etl", "--only", "renamed", "--markdown"]).stdout;
    assert!(page.contains("| schema_drift |"), "{page}");
    let kept = stage.ends(0, &["eval", "etl", "--json", "--only", "renamed", "--repeat", "2"]);
    assert_eq!((kept.json()["repeat"].clone(), kept.json()["wrong_actions"].clone()), (json!(2), json!(0)));
    assert!(!stage.path().join(".interlock").exists(), "no store is opened");
}

#[test]
fn a_gate_that_trusts_nothing_is_a_regression_by_name() {
    let stage = Stage::new();
    let kept = stage.ends(0, &["eval", "etl", "--only", "feed-", "--json"]);
    stage.write("before.json", kept.stdout);
    stage.ends(0, &["eval", "etl", "--only", "feed-", "--compare", "before.json"]);
    let closed =
        INCIDENT.replace(FIRST_BAND, "{ at_least: 1.0, then: plan }").replace("at_least: 0.70", "at_least: 0.99");
    stage.write("closed.yaml", closed);
    let args = ["eval", "etl", "--only", "feed-", "--graph", "closed.yaml", "--compare", "before.json", "--json"];
    let comparison = stage.ends(1, &args).json()["comparison"].clone();
    assert_eq!(comparison["regressed"], true);
    let changed = comparison["changed"].as_array().unwrap();
    let change = changed.iter().find(|change| change["id"] == "feed-times-out-once").unwrap();
    assert_eq!((&change["regressed"], change["before"].is_string()), (&json!(true), true), "{change}");
}

#[test]
fn two_configurations_are_compared_and_two_policies_differ() {
    let stage = Stage::new();
    stage.write("strict.yaml", "policy:\n  approvers: [group:data-oncall]\n  environment_arguments: [/environment]\n  rules:\n    - { name: reading-is-free, decide: allow, kinds: [tool], effects: [read_only] }\n    - { name: own, decide: allow, kinds: [model, notify, spawn, question, custom] }\n    - { name: asks, decide: ask, kinds: [tool], envs: [production, staging] }\n");
    stage.write("same.yaml", "user: ann\n");
    stage.ends(0, &["eval", "etl", "--only", "deadlock", "--config", "same.yaml", "--compare", "same.yaml"]);
    let ran =
        stage.ends(0, &["eval", "etl", "--only", "deadlock", "--config", "strict.yaml", "--compare", "same.yaml"]);
    assert!(ran.stdout.contains("strict.yaml beside same.yaml"), "{}", ran.stdout);
}

#[test]
fn a_broken_set_names_every_mistake_and_is_wrong_usage() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path().join("set")).unwrap();
    stage.write(
        "set/a.yaml",
        "incidents:\n  - { id: a, about: x, world: nowhere, truth: { class: none, ends: quiet } }\n",
    );
    stage.write("set/b.yaml", "incidents: [{ id: b }]\nworld: {}\n");
    let ran = stage.ends(2, &["eval", "set"]);
    assert!(ran.stderr.contains("set/a.yaml:2: incident `a`: there is no world `nowhere`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("set/b.yaml:2:"), "{}", ran.stderr);
    stage.ends(2, &["eval", "etl", "--only", "no such incident"]);
    stage.ends(2, &["eval", "etl", "--record", "tape.json"]);
}

#[test]
fn past_threads_are_the_same_to_the_end_against_their_own_graph() {
    let stage = with_graphs(INCIDENT);
    let faults = "upstream_timeout,null_burst,permission_revoked,unknown_error";
    stage.ends(0, &["demo", "--yes", "--json", "--dir", "demo", "--faults", faults, "--by", "ann"]);
    let store = "sled:demo/store";
    let threads = stage.ends(0, &["threads", "--store", store, "--json"]).json();
    let ids: Vec<&str> =
        threads.as_array().unwrap().iter().map(|thread| thread["thread_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 4);
    for id in &ids {
        let ran = stage.ends(0, &["replay", id, "--graph", "etl-reliability.yaml", "--store", store]);
        assert!(ran.stdout.contains("the same to the end"), "{}", ran.stdout);
    }
    // A gate that was raised sends the timeout to a second opinion, and the replay says so.
    stage.write("etl-incident.yaml", INCIDENT.replace(FIRST_BAND, "{ at_least: 0.95, then: plan }"));
    let timeout = ids.iter().find(|id| id.starts_with("upstream-timeout")).unwrap();
    let args = ["replay", timeout, "--graph", "etl-reliability.yaml", "--store", store];
    let ran = stage.ends(1, &args);
    assert!(ran.stdout.contains("after trusted"), "{}", ran.stdout);
    let departure = stage.ends(1, &[&args[..], &["--json"]].concat()).json()["departure"].clone();
    assert_eq!(
        (&departure["what"], &departure["old"], &departure["new"]),
        (&json!("nodes"), &json!("plan"), &json!("keep_first"))
    );
    stage.ends(2, &["replay", timeout, "--graph", "no-such.yaml", "--store", store]);
    // Nothing was written by any of it.
    assert_eq!(stage.ends(0, &["threads", "--store", store, "--json"]).json(), threads);
}

#[test]
fn a_changed_call_and_a_steered_thread_are_told() {
    let stage = Stage::greeting();
    let question = stage.asked();
    stage.ends(0, &["answer", "t", &question, "--choice", "approve"]);
    stage.ends(0, &["replay", "t", "--graph", "greet.yaml"]);
    stage.write("other.yaml", super::stage::GREET.replace("Hello {{ city }}", "Hi {{ city }}"));
    let ran = stage.ends(1, &["replay", "t", "--graph", "other.yaml"]);
    assert!(
        ran.stdout.contains("greeting = \"Hello Oslo\"") && ran.stdout.contains("greeting = \"Hi Oslo\""),
        "{}",
        ran.stdout
    );
    stage.ends(0, &["update", "t", "--values", r#"{"city": "Bergen"}"#]);
    let ran = stage.ends(2, &["replay", "t", "--graph", "greet.yaml"]);
    assert!(ran.stderr.contains("was edited by hand"), "{}", ran.stderr);
}
