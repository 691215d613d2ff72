//! What was switched off and what was spent, as people see and change it.

use serde_json::json;

use super::guard::{calls, ends, installed};

const BROKEN: &str = "
graph: broken
nodes:
  work: { tool: try.fail, breaker: { failures: 2, cooldown: 1h }, then: end }
start: work
";

const CAPPED: &str = "
graph: capped
state: { n: { merge: sum } }
nodes:
  look: { tool: try.look, budget: { calls_per_run: 2 }, then: count }
  count: { set: { n: 1 }, then: [{ when: n < 3, to: look }, { to: end }] }
start: look
";

#[test]
fn a_breaker_opens_for_all_threads_and_a_person_closes_it() {
    let stage = installed(json!({}));
    stage.write("broken.yaml", BROKEN);
    let run = |thread: &str| ends(&stage, 1, &["run", "broken.yaml", "--thread", thread, "--json"]).json();
    run("a");
    let listed = ends(&stage, 0, &["breakers", "list", "--json"]).json();
    let name = listed[0]["name"].as_str().unwrap().to_owned();
    assert_eq!((&listed[0]["status"], &listed[0]["failures"]), (&json!("closed"), &json!(1)));
    assert_eq!(ends(&stage, 0, &["breakers", "list", "--open", "--json"]).json(), json!([]));
    run("b");
    let asked = ends(&stage, 3, &["run", "broken.yaml", "--thread", "c", "--json"]).json();
    let question = &asked["interrupts"][0];
    assert_eq!((&question["kind"], &question["value"]["breaker"]), (&json!("breaker"), &json!(name)), "{asked}");
    assert_eq!(calls(&stage, "staging"), 2, "an open breaker lets no call through");
    let open = ends(&stage, 0, &["breakers", "list", "--open", "--json"]).json();
    assert_eq!((&open[0]["name"], &open[0]["status"], &open[0]["failures"]), (&json!(name), &json!("open"), &json!(2)));

    let unknown = ends(&stage, 1, &["breakers", "reset", "tool:nowhere"]);
    assert!(unknown.stderr.contains("there is no breaker `tool:nowhere`"), "{}", unknown.stderr);
    let reset = ends(&stage, 0, &["breakers", "reset", &name, "--by", "ann", "--json"]).json();
    assert_eq!(reset, json!({"name": name, "was_open": true, "failures": 2}));
    run("d");
    assert_eq!(calls(&stage, "staging"), 3, "closed again");
    let audit = ends(&stage, 0, &["audit", "tail", "--json"]).json();
    let by_ann = |link: &&serde_json::Value| link["entry"]["actor"] == "user:ann";
    assert_eq!(audit.as_array().unwrap().iter().filter(by_ann).count(), 1, "{audit}");
}

#[test]
fn a_budget_shows_what_is_spent_of_it() {
    let stage = installed(json!({}));
    stage.write("capped.yaml", CAPPED);
    let asked = ends(&stage, 3, &["run", "capped.yaml", "--thread", "t", "--json"]).json();
    assert_eq!(asked["interrupts"][0]["kind"], "budget", "{asked}");
    let shown = ends(&stage, 0, &["budgets", "t", "--json"]).json();
    assert_eq!((&shown[0]["spent"], &shown[0]["limit"]), (&json!(2), &json!(2)), "{shown}");
    assert_eq!((&shown[0]["unit"], &shown[0]["raised_to"]), (&json!("calls"), &json!(null)), "{shown}");
    let table = ends(&stage, 0, &["budgets", "t"]).stdout;
    assert!(table.starts_with("BUDGET") && table.contains("node:capped/look calls_per_run  2 calls"), "{table}");
    assert_eq!(calls(&stage, "staging"), 2);
}
