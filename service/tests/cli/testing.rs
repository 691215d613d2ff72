//! `check`, `draw`, `schema`, `test`, `completions`: commands without a store.

use serde_json::json;

use super::stage::{GREET, Stage};

#[test]
fn a_good_graph_is_checked_and_drawn() {
    let stage = Stage::greeting();
    let ran = stage.ends(0, &["check", "greet.yaml"]);
    assert!(ran.stdout.contains("greet.yaml: ok  greet  (3 nodes, 3 channels, 2 tests"), "{}", ran.stdout);
    assert!(stage.ends(0, &["draw", "greet.yaml"]).stdout.contains("ask"));
    assert!(stage.ends(0, &["draw", "greet.yaml", "--format", "mermaid"]).stdout.starts_with("flowchart"));
    assert!(stage.ends(0, &["schema", "--json"]).json()["$schema"].is_string());
    assert!(stage.ends(0, &["completions", "bash"]).stdout.contains("interlock"));
    assert!(!stage.path().join(".interlock").exists(), "none of these opens a store");
}

#[test]
fn tests_of_a_graph_pass_and_fail() {
    let stage = Stage::greeting();
    let ran = stage.ends(0, &["test", "greet.yaml"]);
    assert!(ran.stdout.contains("2 passed, 0 failed"), "{}", ran.stdout);
    stage.write("wrong.yaml", GREET.replace("path: [hello, ask, done]", "path: [hello, done]"));
    let json = stage.ends(1, &["test", "wrong.yaml", "--json"]).json();
    assert_eq!((&json[0]["ok"], &json[1]["ok"]), (&json!(false), &json!(true)));
    assert_eq!(json[0]["problems"], json!(["path: expected hello → done, found hello → ask → done"]));
}

#[test]
fn scripted_tools_functions_agents_and_timers_stand_in_for_the_world() {
    let stage = Stage::new();
    stage.write(
        "flow.yaml",
        r#"
graph: flow
state: { n: { default: 0 }, rows: {}, guess: {}, seen: {} }
nodes:
  query:
    tool: warehouse.query
    args: { sql: "select {{ n }}" }
    effect: read_only
    retry: { attempts: 3, initial: 1m }
    output: { rows: result.rows }
    then: think
  think: { agent: diagnostic, output: guess, then: rest }
  rest: { wait: 2h, then: count }
  count: { function: count, output: { n: result.n }, then: [{ when: n < 3, to: count }, { to: end }] }
start: query
tests:
  - name: retries, waits and counts
    start_state: { n: 1 }
    tools: { warehouse.query: [{ error: { class: transient, message: busy } }, { rows: 7 }] }
    agents: { think: { confidence: 0.9 } }
    functions: { count: [{ n: 2 }, { n: 3 }] }
    expect:
      status: success
      state: { rows: 7, guess: { confidence: 0.9 }, n: 3 }
      path: [query, think, rest, count, count]
      calls: [warehouse.query, warehouse.query]
"#,
    );
    let begun = std::time::Instant::now();
    let ran = stage.run(&["test", "flow.yaml"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(begun.elapsed().as_secs() < 30, "hours of waiting take no time");
}
