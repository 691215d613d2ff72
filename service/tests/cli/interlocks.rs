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

const DAILY: &str = "
graph: daily
budget: { calls_per_day: 9 }
nodes:
  look: { tool: try.look, budget: { calls_per_day: LIMIT, calls_per_run: 5 }, then: end }
start: look
";

#[test]
fn the_walls_of_today_are_shown_without_a_thread_as_the_newest_thread_has_them() {
    let stage = installed(json!({}));
    for (thread, limit) in [("old", "3"), ("new", "4")] {
        stage.write("daily.yaml", DAILY.replace("LIMIT", limit));
        ends(&stage, 0, &["run", "daily.yaml", "--thread", thread]);
    }
    let shown = ends(&stage, 0, &["budgets", "--json"]).json();
    let line = |budget: &str, limit: u64| json!({"budget": budget, "unit": "calls", "spent": 2, "reserved": 0, "limit": limit, "raised_to": null});
    assert_eq!(shown, json!([line("graph:daily calls_per_day", 9), line("node:daily/look calls_per_day", 4)]));
    let table = ends(&stage, 0, &["budgets"]).stdout;
    assert!(table.starts_with("BUDGET") && table.contains("node:daily/look calls_per_day  2 calls"), "{table}");
}

const HEALS: &str = "
graph: heals
input: { schema: { type: object, properties: { right: { type: boolean }, sure: { type: number } } } }
state: { right: { default: true }, sure: { default: 0.9 } }
nodes:
  act:
    tool: try.write
    env: staging
    verify: { tool: try.look, expect: right }
    record: { class: rewrite, at_least: 0.5, confidence: sure, prior: { healed: 40, failed: 0 } }
    then: end
start: act
";

#[test]
fn outcomes_are_listed_corrected_and_a_stopped_class_goes_on() {
    let stage = installed(json!({}));
    stage.write("heals.yaml", HEALS);
    let run = |thread: &str, right: bool, code: i32| {
        let input = json!({ "right": right }).to_string();
        ends(&stage, code, &["run", "heals.yaml", "--thread", thread, "--input", &input, "--json"]).json()
    };
    run("a", true, 0);
    let listed = ends(&stage, 0, &["outcomes", "list", "--json"]).json();
    assert_eq!(
        (&listed[0]["class"], &listed[0]["healed"], &listed[0]["stopped"]),
        (&json!("rewrite"), &json!(1), &json!(false))
    );
    let table = ends(&stage, 0, &["outcomes", "list"]).stdout;
    assert!(
        table.starts_with("CLASS") && table.contains("rewrite  counting  1       0       40 of 40  0.91"),
        "{table}"
    );

    run("b", false, 1);
    let marked = ends(&stage, 0, &["outcomes", "mark", "a", "--wrong", "--by", "ann", "--json"]).json();
    assert_eq!(marked, json!({ "class": "rewrite", "thread": "a", "came_to": "failed", "changed": true }));
    assert!(ends(&stage, 0, &["outcomes", "mark", "a", "--wrong"]).stdout.contains("was failed already"));
    let asked = run("c", true, 3);
    assert_eq!(asked["interrupts"][0]["value"]["class"], "rewrite", "two in a row stopped it: {asked}");
    let stopped = ends(&stage, 0, &["outcomes", "list", "--stopped", "--json"]).json();
    assert_eq!(stopped[0]["failed_in_a_row"], 2);
    let one = ends(&stage, 0, &["outcomes", "list", "rewrite", "--json"]).json();
    assert_eq!((&one[1]["thread"], &one[1]["marked_by"]), (&json!("a"), &json!("ann")), "{one}");

    let reset = ends(&stage, 0, &["outcomes", "reset", "rewrite", "--by", "ann", "--json"]).json();
    assert_eq!(reset, json!({ "class": "rewrite", "was_stopped": true, "failed_in_a_row": 2 }));
    run("d", true, 0);
    let audit = ends(&stage, 0, &["audit", "tail", "--json"]).json();
    let by_ann = audit.as_array().unwrap().iter().filter(|link| link["entry"]["actor"] == "user:ann");
    let actions: Vec<&str> = by_ann.map(|link| link["entry"]["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["outcome.marked", "class.reset"]);

    let unknown = ends(&stage, 1, &["outcomes", "reset", "nothing"]);
    assert!(unknown.stderr.contains("class `nothing` has no outcome"), "{}", unknown.stderr);
    let nowhere = ends(&stage, 1, &["outcomes", "mark", "z", "--right"]);
    assert!(nowhere.stderr.contains("`z` has no outcome among the last ones"), "{}", nowhere.stderr);
    ends(&stage, 2, &["outcomes", "mark", "a"]);
}

#[test]
fn calibration_shows_what_was_said_beside_what_came() {
    let stage = installed(json!({}));
    stage.write("heals.yaml", HEALS);
    stage.write("plain.yaml", "graph: plain\nnodes: { a: { emit: 1, then: end } }\nstart: a\n");
    ends(&stage, 0, &["run", "plain.yaml"]);
    let none = ends(&stage, 0, &["calibration"]);
    assert!(none.stderr.contains("no outcome with a confidence has been counted"), "{}", none.stderr);
    for (thread, sure, right, code) in [("a", 0.9, true, 0), ("b", 0.9, true, 0), ("c", 0.6, false, 1)] {
        let input = json!({ "right": right, "sure": sure }).to_string();
        ends(&stage, code, &["run", "heals.yaml", "--thread", thread, "--input", &input]);
    }
    let found = ends(&stage, 0, &["calibration", "--json"]).json();
    assert_eq!((&found["n"], &found["few"]), (&json!(3), &json!(true)));
    let brier = found["brier"].as_f64().unwrap();
    assert!((brier - (0.01 + 0.01 + 0.36) / 3.0).abs() < 1e-9, "{found}");
    let part = |name: &str| found[name].as_f64().unwrap();
    assert!((brier - (part("reliability") - part("resolution") + part("uncertainty"))).abs() < 1e-9);
    assert_eq!((&found["bins"][9]["n"], &found["bins"][6]["healed"]), (&json!(2), &json!(0.0)));
    assert_eq!(ends(&stage, 0, &["calibration", "--graph", "other", "--json"]).json()["n"], 0);
    let shown = ends(&stage, 0, &["calibration"]);
    assert!(shown.stdout.starts_with("3 outcomes, 2 healed\nBrier score 0.127 = reliability "), "{}", shown.stdout);
    assert!(shown.stderr.contains("3 outcomes are few"), "{}", shown.stderr);
}
