//! Tools over MCP, subgraphs and spawned threads, as configured.

use serde_json::json;

use super::stage::Stage;

const HOLD: &str = r#"
graph: hold
state: { n: {}, held: {} }
nodes:
  count:
    tool: warehouse.query
    args: { sql: "select count(*) as n from fact_daily_carrier where business_date = '2013-01-22'" }
    output: { n: "result.rows[0].n" }
    then: hold
  hold:
    tool: warehouse.hold_partition
    args: { table: fact_daily_carrier, business_date: "2013-01-22", environment: production, reason: doubt }
    env: production
    output: held
    then: end
start: count
"#;

fn warehouse(stage: &Stage) {
    let config = json!({
        "mcpServers": {"warehouse": {
            "command": env!("CARGO_BIN_EXE_interlock"),
            "args": ["mcp", "sandbox", "--dir", stage.path().join("warehouse")],
            "trusted": true,
            "autoApprove": ["*"],
        }},
        "approvers": {"oncall": ["ann"]},
        "environments": {"production": {"changes": "ask", "approvers": ["group:oncall"]}},
    });
    stage.write("interlock.yaml", config.to_string());
}

#[test]
fn a_change_of_production_is_asked_for_and_made_once() {
    let stage = Stage::new();
    warehouse(&stage);
    stage.write("hold.yaml", HOLD);
    let asked = stage.ends(3, &["run", "hold.yaml", "--thread", "t", "--json"]).json();
    assert!(asked["output"]["n"].as_i64() > Some(0), "reading is free: {asked}");
    let question = &asked["interrupts"][0];
    assert_eq!((&question["kind"], &question["value"]["args"]["reason"]), (&json!("guard"), &json!("doubt")));
    let (id, digest) = (question["id"].as_str().unwrap(), question["digest"].as_str().unwrap());

    let stranger = stage.ends(1, &["answer", "t", id, "--choice", "approve", "--by", "eve"]);
    assert!(stranger.stderr.contains("`eve` may not answer"), "{}", stranger.stderr);
    assert!(stranger.stderr.contains("autoApprove: this key has no effect"), "{}", stranger.stderr);
    let args = ["answer", "t", id, "--choice", "approve", "--by", "ann", "--digest", digest, "--json"];
    assert_eq!(stage.ends(0, &args).json()["outcome"], "success");
    let effects = std::fs::read_to_string(stage.path().join("warehouse/effects.jsonl")).unwrap();
    assert_eq!(effects.lines().count(), 1, "{effects}");
    let actions = stage.ends(0, &["audit", "tail", "--json"]).json();
    let actions: Vec<&str> =
        actions.as_array().unwrap().iter().filter_map(|link| link["entry"]["action"].as_str()).collect();
    let read = ["call.permitted", "call.ended"];
    let act = ["call.asked", "interrupt.answered", "call.permitted", "call.ended"];
    assert_eq!(actions, [&read[..], &act[..]].concat());
}

#[test]
fn names_of_tools_are_checked_against_the_servers() {
    let stage = Stage::new();
    warehouse(&stage);
    stage.write("hold.yaml", HOLD);
    stage.ends(0, &["check", "hold.yaml", "--tools"]);
    stage.write("typo.yaml", HOLD.replace("warehouse.query", "warehouse.querry"));
    stage.ends(0, &["check", "typo.yaml"]);
    let ran = stage.ends(2, &["check", "typo.yaml", "--tools"]);
    assert!(ran.stdout.contains("did you mean `warehouse.query`"), "{}", ran.stdout);
}

#[test]
fn a_spawned_thread_is_one_per_key_and_can_be_joined() {
    let stage = Stage::new();
    stage.write("child.yaml", "graph: child\ninput: { schema: { type: object, properties: { n: { type: integer } } } }\nstate: { n: {}, twice: {} }\nnodes:\n  a: { set: { twice: '{{ n * 2 }}' }, then: end }\nstart: a\n");
    let parent = r#"
graph: parent
state: { first: {}, second: {} }
nodes:
  one: { spawn: { graph: child, key: "k", input: { n: 4 }, join: true }, output: { first: result }, then: two }
  two: { spawn: { graph: child, key: "k", input: { n: 9 } }, output: { second: result }, then: end }
start: one
"#;
    stage.write("parent.yaml", parent);
    let done = stage.ends(0, &["run", "parent.yaml", "--json"]).json();
    assert_eq!(
        (&done["output"]["first"]["output"]["twice"], &done["output"]["second"]["started"]),
        (&json!(8), &json!(false))
    );
    assert_eq!(done["output"]["second"]["status"], "success", "whoever joins a thread that has ended sees that it has");
    let children = stage.ends(0, &["threads", "--graph", "child", "--json"]).json();
    assert_eq!((children.as_array().unwrap().len(), &children[0]["thread_id"]), (1, &json!("child:k")));
}

#[test]
fn a_spawned_thread_comes_to_rest_before_its_process_ends() {
    let stage = Stage::new();
    let steps: String = (0..50).map(|ix| format!("  s{ix}: {{ emit: {ix}, then: s{} }}\n", ix + 1)).collect();
    stage.write("child.yaml", format!("graph: child\nstate: {{ said: {{}} }}\nnodes:\n{steps}  s50: {{ approval: {{ title: 'so far?', choices: [approve] }}, output: {{ said: answer.choice }}, then: end }}\nstart: s0\n"));
    stage.write("parent.yaml", "graph: parent\nstate: { got: {} }\nnodes:\n  one: { spawn: { graph: child, key: k }, output: { got: result }, then: end }\nstart: one\n");
    let done = stage.ends(0, &["run", "parent.yaml", "--json"]).json();
    assert_eq!(done["output"]["got"], json!({"thread_id": "child:k", "started": true, "status": "running"}));
    let open = stage.ends(0, &["interrupts", "--json"]).json();
    assert_eq!((&open[0]["thread_id"], &open[0]["title"]), (&json!("child:k"), &json!("so far?")));
    let again = stage.ends(0, &["run", "parent.yaml", "--json"]).json();
    assert_eq!(again["output"]["got"], json!({"thread_id": "child:k", "started": false, "status": "interrupted"}));
}

#[test]
fn a_subgraph_that_asks_goes_on_in_another_process() {
    let stage = Stage::new();
    let child = "graph: child\nstate: { said: {} }\nnodes:\n  ask: { approval: { title: 'inside?', choices: [approve] }, output: { said: answer.choice }, then: end }\nstart: ask\n";
    stage.write("child.yaml", child);
    stage.write("parent.yaml", "graph: parent\nstate: { got: {} }\nnodes:\n  sub: { graph: child, output: { got: result.said }, then: end }\nstart: sub\n");
    let asked = stage.ends(3, &["run", "parent.yaml", "--thread", "t", "--json"]).json();
    // The thread is pinned to the versions it began with, whatever becomes of the files.
    std::fs::remove_file(stage.path().join("child.yaml")).unwrap();
    let state = stage.ends(0, &["state", "t", "--json"]).json();
    assert_eq!(state["tasks"][0]["state"]["next"], json!(["ask"]), "{state}");
    let id = asked["interrupts"][0]["id"].as_str().unwrap();
    let done = stage.ends(0, &["answer", "t", id, "--choice", "approve", "--json"]).json();
    assert_eq!(done["output"]["got"], "approve");
}
