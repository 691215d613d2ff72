//! Notices through channels: previews, a test of each, and an incident told to a server that the program does not know.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::mpsc;

use serde_json::{Value, json};

use super::models::read;
use super::stage::{Ran, Stage};

const SECRET: (&str, &str) = ("TEST_HOOK_SECRET", "a-secret-that-nobody-may-see");

/// A receiver that answers so to each request and tells what it got.
fn receiver(answers: Vec<&'static str>) -> (String, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read(&mut stream);
            let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            tell.send(request).unwrap();
        }
    });
    (url, told)
}

/// As `Stage::run`, with the secret in the environment.
fn run_with(stage: &Stage, args: &[&str]) -> Ran {
    let output = stage.command(args).env(SECRET.0, SECRET.1).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn config(url: &str) -> String {
    format!(
        "notify:\n  channels:\n    hook: {{ webhook: {{ url: '{url}', secret: {{ env: {} }} }} }}\n    log: {{ print: {{}} }}\n  routes: [{{ to: [hook] }}]\n  fallback: [log]\npolicy:\n  rules: [{{ name: own-means, decide: allow, kinds: [notify] }}]\n",
        SECRET.0
    )
}

#[test]
fn a_preview_is_what_slack_would_get() {
    let stage = Stage::new();
    let ran = stage.run(&["notify", "preview", "--as", "slack", "--phase", "resolved", "--at", "2026-11-27T12:00:00Z"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let card = ran.json();
    assert_eq!(card["blocks"][0]["type"], "header");
    assert_eq!(card["thread"].as_array().unwrap().len(), 1, "the account of causes");
    let rca = stage.run(&["notify", "preview", "--as", "rca", "--phase", "resolved"]);
    assert!(rca.stdout.contains("## Verified by"), "{}", rca.stdout);
}

#[test]
fn each_channel_is_tried_and_says_what_came_of_it() {
    let stage = Stage::new();
    let (url, told) = receiver(vec!["204 X", "204 X", "401 X"]);
    stage.write("interlock.yaml", config(&url));
    let ran = run_with(&stage, &["notify", "test", "--channel", "hook", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!((&ran.json()["ok"], ran.json()["receipts"].as_array().unwrap().len()), (&json!(true), 2));
    let (head, opened) = told.recv().unwrap();
    assert!(head.to_lowercase().contains("x-interlock-signature: v1="), "{head}");
    assert_eq!((&opened["phase"], &told.recv().unwrap().1["phase"]), (&json!("open"), &json!("resolved")));
    let failed = run_with(&stage, &["notify", "test", "--channel", "hook"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stdout.contains("does not accept the secret, HTTP 401"), "{}", failed.stdout);
    assert!(!format!("{}{}", failed.stdout, failed.stderr).contains(SECRET.1));
    let missing = stage.run(&["notify", "test", "--channel", "nobody"]);
    assert_eq!(missing.code, 2, "{}", missing.stderr);
}

#[test]
fn a_channel_without_its_secret_is_said_to_be_so() {
    let stage = Stage::new();
    stage.write("interlock.yaml", config("http://127.0.0.1:1"));
    let ran = stage.run(&["notify", "test", "--channel", "hook"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("the environment variable TEST_HOOK_SECRET is not set"), "{}", ran.stdout);
}

/// The node is repeated by the runtime, and only by it: two answers that pass, then one that takes it.
#[test]
fn a_notice_of_a_graph_reaches_its_channel_through_the_runtimes_retries() {
    let stage = Stage::new();
    let (url, told) = receiver(vec!["503 X", "503 X", "204 X"]);
    stage.write("interlock.yaml", config(&url));
    stage.write(
        "tell.yaml",
        "graph: tell\nstate: { incident: {}, notices: { merge: append } }\noutput: [notices]\nnodes:\n  known:\n    set: { incident: { id: inc-1, fingerprint: f1, pipeline: p, business_date: '2013-01-23', environment: production, kind: run_failed, title: t } }\n    then: tell\n  tell:\n    agent: notification\n    with: { severity: page }\n    retry: { attempts: 3, initial: 10ms, max: 20ms }\n    output: { notices: result }\n    then: end\nstart: known\n",
    );
    let ran = run_with(&stage, &["run", "tell.yaml", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let keys: Vec<Value> = (0..3).map(|_| told.recv().unwrap().1["key"].clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "one key over all tries: {keys:?}");
    assert!(ran.stdout.contains("\"status\":\"delivered\""), "{}", ran.stdout);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET.1));
}
