//! Threads from their start to their end: run, look, answer, edit, fork, replay, migrate, remove.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::stage::{GREET, Stage};

#[test]
fn a_run_that_asks_waits_and_goes_on_in_another_process() {
    let stage = Stage::greeting();
    let question = stage.asked();
    let listed = stage.ends(0, &["threads", "--status", "interrupted", "--json"]).json();
    assert_eq!((&listed[0]["thread_id"], &listed[0]["labels"]["requested_by"]), (&json!("t"), &json!("tester")));
    let asked = stage.ends(0, &["interrupts", "t", "--json"]).json();
    assert_eq!((&asked[0]["title"], &asked[0]["choices"]), (&json!("Greet Oslo?"), &json!(["approve", "reject"])));
    let state = stage.ends(0, &["state", "t", "--json"]).json();
    assert_eq!((&state["next"], &state["values"]["greeting"]), (&json!(["ask"]), &json!("Hello Oslo")));
    assert_eq!(state["tasks"][0]["interrupts"][0]["id"], json!(question));

    let ending = &question[question.len() - 6..];
    let done = stage.ends(0, &["answer", "t", ending, "--choice", "approve", "--by", "ann", "--json"]).json();
    assert_eq!((&done["outcome"], &done["output"]["log"]), (&json!("success"), &json!(["hello", "approve", "done"])));
    assert_eq!(done["output"].get("city"), None, "the output is what the graph declares");
    let late = stage.ends(1, &["answer", "t", &question, "--choice", "approve", "--json"]).json();
    assert!(late["error"]["message"].as_str().unwrap().contains("already answered by ann"), "{late}");
    let audit = stage.ends(0, &["audit", "tail", "--json"]).json();
    assert_eq!(
        (&audit[0]["entry"]["actor"], &audit[0]["entry"]["action"]),
        (&json!("user:ann"), &json!("interrupt.answered"))
    );
    stage.ends(0, &["audit", "verify"]);
}

#[test]
fn an_answer_that_does_not_fit_leaves_the_question_open() {
    let stage = Stage::greeting();
    let question = stage.asked();
    for args in [&["--choice", "maybe"][..], &["--choice", "approve", "--digest", "00"]] {
        let ran = stage.ends(1, &[&["answer", "t", &question], args].concat());
        assert!(ran.stderr.starts_with("error: interrupt"), "{}", ran.stderr);
    }
    assert_eq!(stage.ends(0, &["interrupts", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn yes_and_a_file_of_answers_stand_in_for_a_person() {
    let stage = Stage::greeting();
    stage.write("answers.yaml", "- { node: ask, choice: reject, reason: no }\n");
    let input = r#"{"city": "Oslo"}"#;
    let yes = stage.ends(0, &["run", "greet.yaml", "--input", input, "--yes", "--json"]).json();
    assert_eq!(yes["output"]["log"], json!(["hello", "approve", "done"]));
    let file = stage.ends(0, &["run", "greet.yaml", "--input", input, "--answers", "answers.yaml", "--json"]).json();
    assert_eq!(file["output"]["log"], json!(["hello", "reject"]));
    assert_ne!(yes["thread_id"], file["thread_id"], "each run has a thread of its own");
}

#[test]
fn streams_have_the_payloads_of_the_modes() {
    let stage = Stage::greeting();
    let modes = "values,updates,tasks,checkpoints,debug";
    let ran =
        stage.ends(0, &["run", "greet.yaml", "--input", r#"{"city": "Oslo"}"#, "--yes", "--stream", modes, "--json"]);
    let events: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |mode: &str| {
        events.iter().filter(|event| event["type"] == mode).map(|event| event["data"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("updates")[0], json!({"hello": {"greeting": "Hello Oslo", "log": ["hello"]}}));
    assert!(of("updates")[1]["__interrupt__"][0]["value"]["city"] == "Oslo", "{:?}", of("updates"));
    assert_eq!(of("values").last().unwrap()["log"], json!(["hello", "approve", "done"]));
    assert!(of("tasks").iter().any(|task| task["name"] == "done" && task.get("result").is_some()));
    assert!(of("checkpoints")[0]["config"]["configurable"]["checkpoint_id"].is_string());
    assert!(of("debug").iter().all(|event| event["step"].is_i64() && event["payload"].is_object()));
    assert_eq!(events.last().unwrap()["outcome"], "success", "the last line is the result");
}

#[test]
fn history_forks_and_replays() {
    let stage = Stage::greeting();
    stage.asked();
    let history = stage.ends(0, &["history", "t", "--json"]).json();
    let at = |step: i64| {
        let found =
            history.as_array().unwrap().iter().find(|checkpoint| checkpoint["metadata"]["step"] == step).unwrap();
        found["config"]["configurable"]["checkpoint_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(history[0]["next"], json!(["ask"]), "newest first");
    let before = stage.ends(0, &["state", "t", "--checkpoint", &at(0), "--json"]).json();
    assert_eq!((&before["next"], before["values"].get("greeting")), (&json!(["hello"]), None));

    let forked =
        stage.ends(0, &["fork", "t", "--checkpoint", &at(0), "--values", r#"{"city": "Rome"}"#, "--json"]).json();
    assert_eq!(forked["next"], json!(["hello"]));
    let resumed = stage.ends(0, &["resume", "t", "--yes", "--json"]).json();
    assert_eq!(resumed["output"]["greeting"], "Hello Rome");
    let replayed = stage.ends(0, &["run", "--thread", "t", "--checkpoint", &at(0), "--yes", "--json"]).json();
    assert_eq!(replayed["output"]["greeting"], "Hello Oslo", "the old branch stays");
    let all = stage.ends(0, &["history", "t", "--filter", "source=fork", "--json"]).json();
    assert!(all.as_array().unwrap().len() >= 2, "{all}");
}

#[test]
fn an_update_counts_as_its_node() {
    let stage = Stage::greeting();
    stage.asked();
    let values = r#"{"log": "by hand"}"#;
    let updated = stage.ends(0, &["update", "t", "--values", values, "--as-node", "done", "--json"]).json();
    assert_eq!((&updated["next"], &updated["values"]["log"]), (&json!([]), &json!(["hello", "by hand"])));
    let unknown = stage.ends(2, &["update", "t", "--values", "{}", "--as-node", "dona"]);
    assert!(unknown.stderr.contains("done"), "the nearest name is shown: {}", unknown.stderr);
}

#[test]
fn a_changed_graph_is_refused_until_the_thread_is_migrated() {
    let stage = Stage::greeting();
    let question = stage.asked();
    stage.write(
        "next.yaml",
        GREET
            .replace("  ask:\n", "  confirm:\n")
            .replace("then: ask }", "then: confirm }")
            .replace("[ask]", "[confirm]")
            .replace("ask, done]", "confirm, done]"),
    );
    let refused = stage.ends(1, &["run", "next.yaml", "--thread", "t", "--input", r#"{"city": "Oslo"}"#]);
    assert!(refused.stderr.contains("interlock migrate"), "{}", refused.stderr);
    stage.ends(1, &["migrate", "t", "--to", "next.yaml"]);
    stage.ends(0, &["migrate", "t", "--to", "next.yaml", "--rename", "ask=confirm"]);
    let done = stage.ends(0, &["answer", "t", &question, "--choice", "approve", "--json"]).json();
    assert_eq!(done["outcome"], "success", "{done}");
}

#[test]
fn breakpoints_pause_and_resume_goes_on() {
    let stage = Stage::greeting();
    let args = [
        "run",
        "greet.yaml",
        "--input",
        r#"{"city": "Oslo"}"#,
        "--thread",
        "t",
        "--interrupt-before",
        "hello",
        "--json",
    ];
    let paused = stage.ends(3, &args).json();
    assert_eq!((&paused["next"], &paused["interrupts"]), (&json!(["hello"]), &json!([])));
    stage.ends(3, &["resume", "t"]);
    stage.ends(0, &["cancel", "t"]);
    assert_eq!(stage.ends(0, &["interrupts", "--json"]).json(), json!([]));
    stage.ends(1, &["cancel", "t"]);
    stage.ends(0, &["delete", "t"]);
    stage.ends(1, &["state", "t"]);
}

#[test]
fn signals_and_timers_wake_a_thread() {
    let stage = Stage::new();
    stage.write("wait.yaml", "graph: waiting\nstate: { paid: {} }\nnodes:\n  wait: { wait: { signal: paid }, output: { paid: result }, then: end }\nstart: wait\n");
    stage.ends(3, &["run", "wait.yaml", "--thread", "t"]);
    assert_eq!(stage.ends(0, &["state", "t", "--json"]).json()["status"], "waiting");
    let done = stage.ends(0, &["signal", "t", "paid", "--payload", r#"{"amount": 12}"#, "--json"]).json();
    assert_eq!(done["output"]["paid"]["amount"], 12);
    let nothing = stage.ends(0, &["recover", "--json"]).json();
    assert_eq!(nothing["recovered"], json!([]));
}

#[test]
fn a_question_that_expired_is_found_by_recover() {
    let stage = Stage::new();
    stage.write(
        "late.yaml",
        r#"
graph: late
state: { said: {} }
nodes:
  ask: { approval: { title: "now?", choices: [approve], expires: 1ms, on_expire: late }, output: { said: answer.choice }, then: end }
  late: { set: { said: too late }, then: end }
start: ask
"#,
    );
    let started = stage.run(&["run", "late.yaml", "--thread", "t"]);
    assert!(matches!(started.code, 0 | 3), "{}", started.stderr);
    stage.ends(0, &["recover"]);
    let state = stage.ends(0, &["state", "t", "--json"]).json();
    assert_eq!((&state["status"], &state["values"]["said"]), (&json!("idle"), &json!("too late")));
}

#[test]
fn a_reader_that_goes_away_is_quiet() {
    let stage = Stage::greeting();
    stage.asked();
    let mut child = stage.command(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_second_process_is_told_who_holds_the_store() {
    let stage = Stage::new();
    stage
        .write("wait.yaml", "graph: waiting\nstate: { x: {} }\nnodes:\n  wait: { wait: 2s, then: end }\nstart: wait\n");
    let args = ["run", "wait.yaml", "--stream", "tasks", "--json"];
    let mut child = stage.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let refused = stage.ends(1, &["threads"]);
    assert!(refused.stderr.contains("held by"), "{}", refused.stderr);
    child.kill().unwrap();
    child.wait().unwrap();
    let busy = stage.ends(0, &["threads", "--json"]).json();
    assert_eq!(busy[0]["status"], "busy", "{busy}");
    let recovered = stage.ends(0, &["recover", "--json"]).json();
    assert_eq!(
        recovered["recovered"][0]["status"], "idle",
        "what the dead process left behind is finished: {recovered}"
    );
}
