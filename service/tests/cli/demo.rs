//! The demonstration, from the program to the verdict of the independent judge.

use serde_json::json;

use super::stage::Stage;

#[test]
fn incidents_are_healed_contained_and_judged() {
    let stage = Stage::new();
    let faults = "null_burst,permission_revoked,unknown_error";
    let ran = stage.ends(0, &["demo", "--yes", "--json", "--dir", "demo", "--faults", faults, "--by", "ann"]).json();
    assert_eq!(ran["ok"], true);
    let incidents = ran["incidents"].as_array().unwrap();
    let outcomes: Vec<&str> =
        incidents.iter().map(|incident| incident["verdict"]["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["healed", "healed", "contained"]);
    for incident in incidents {
        assert_eq!((&incident["problems"], &incident["decided_by"]), (&json!([]), &json!("ann")), "{incident}");
        assert_eq!((&incident["model_calls"], &incident["usd"]), (&json!(0), &json!(0.0)));
    }
    assert_eq!((&incidents[2]["found"]["class"], &incidents[2]["paged"]), (&json!("unknown"), &json!(true)));
    let store = "sled:demo/store";
    assert_eq!(stage.ends(0, &["threads", "--store", store, "--json"]).json().as_array().unwrap().len(), 3);
    let audit = stage.ends(0, &["audit", "export", "--store", store]);
    assert!(audit.stdout.lines().any(|line| line.contains("interrupt.answered") && line.contains("user:ann")));
    stage.ends(0, &["fsck", "--store", store]);
}

#[test]
fn a_no_is_respected_and_told() {
    let stage = Stage::new();
    stage.write("answers.yaml", "- { tool: warehouse.quarantine, choice: reject, reason: not today }\n- { node: ask_on_call, choice: take_over }\n");
    let ran = stage.ends(1, &["demo", "--answers", "answers.yaml", "--json", "--faults", "null_burst"]).json();
    let incident = &ran["incidents"][0];
    assert_eq!(
        (&incident["verdict"]["outcome"], &incident["paged"]),
        (&json!("contained"), &json!(true)),
        "{incident}"
    );
    assert_eq!(incident["problems"], json!(["it is not healed"]), "{incident}");
}

#[test]
fn without_a_person_or_answers_it_does_not_begin() {
    let ran = Stage::new().ends(2, &["demo"]);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
}
