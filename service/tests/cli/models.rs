//! Models over HTTP: listed, asked by hand, and asked by an agent whose rules do not know.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::{Value, json};

use super::stage::Stage;

/// The key, which must show nowhere.
const KEY: (&str, &str) = ("TEST_MODEL_KEY", "sk-a-key-that-nobody-may-see");

/// A server of Chat Completions that gives one text as its answer, whole, and tells what it was asked.
fn server(answers: Vec<String>) -> (String, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let (head, body) = read(&mut stream);
            let streams = body["stream"] == json!(true);
            let usage = json!({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100});
            let (kind, text) = if streams {
                let piece = json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]});
                let last =
                    json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": usage});
                ("text/event-stream", format!("data: {piece}\n\ndata: {last}\n\ndata: [DONE]\n\n"))
            } else {
                let message = json!({"role": "assistant", "content": answer});
                let whole = json!({"id": "c", "object": "chat.completion", "model": "m", "usage": usage, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
                ("application/json", whole.to_string())
            };
            let head_out = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            stream.write_all(format!("{head_out}{text}").as_bytes()).unwrap();
            let _ = tell.send((head, body));
        }
    });
    (url, told)
}

pub(super) fn read(stream: &mut TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if body.len() >= length.unwrap().parse::<usize>().unwrap() {
            return (head.to_owned(), serde_json::from_str(body).unwrap());
        }
    }
}

/// An installation with one tier on this server.
fn installed(url: &str) -> Stage {
    let stage = Stage::new();
    stage.write(
        "interlock.yaml",
        format!(
            "models:\n  providers: {{ local: {{ kind: openai-chat, url: \"{url}\", key_env: {} }} }}\n  tiers: {{ small: [local/llama] }}\n  order: [small]\n  prices: {{ llama: {{ date: 2026-11-01, source: own, input: 1, output: 10, context: 32000, max_output: 4096 }} }}\n",
            KEY.0
        ),
    );
    stage
}

fn run(stage: &Stage, args: &[&str]) -> (i32, String, String) {
    let output = stage.command(args).env(KEY.0, KEY.1).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!format!("{out}{err}").contains(KEY.1), "{args:?} shows the key");
    (output.status.code().unwrap(), out, err)
}

#[test]
fn a_tier_is_listed_and_asked_by_hand() {
    let (url, told) = server(vec!["Good morning.".to_owned(), "Good morning.".to_owned()]);
    let stage = installed(&url);
    let (code, out, _) = run(&stage, &["models", "list"]);
    assert_eq!(code, 0);
    assert!(out.contains("local/llama") && out.contains("2026-11-01"), "{out}");
    let (code, out, err) = run(&stage, &["models", "ask", "small", "Say good morning."]);
    // 1,000 tokens at 1 dollar and 100 at 10 dollars a million.
    assert_eq!((code, out.trim()), (0, "Good morning."), "{err}");
    assert!(err.contains("1100 tokens, $0.002000"), "{err}");
    let (head, body) = told.recv().unwrap();
    assert!(head.to_lowercase().contains(&format!("authorization: bearer {}", KEY.1)), "{head}");
    assert_eq!(body["messages"][0]["content"], "Say good morning.");
    let (code, out, _) = run(&stage, &["models", "ask", "small", "Say good morning.", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["text"], &answer["usd"]), (0, &json!("Good morning."), &json!(0.002)));
}

#[test]
fn what_is_wrong_with_the_models_is_said_before_anybody_is_asked() {
    let stage = installed("http://127.0.0.1:9/v1");
    let without_key = stage.command(&["models", "list"]).env_remove(KEY.0).output().unwrap();
    let text = String::from_utf8(without_key.stderr).unwrap();
    assert_eq!(without_key.status.code(), Some(1));
    assert!(text.contains("the environment variable TEST_MODEL_KEY is not set"), "{text}");
    let file = std::fs::read_to_string(stage.path().join("interlock.yaml")).unwrap();
    stage.write("interlock.yaml", file.replace("prices: { llama", "prices: { lama"));
    let (code, _, err) = run(&stage, &["models", "list"]);
    assert_eq!(code, 1);
    assert!(err.contains("there is no price for model `llama` of provider `local` (did you mean `lama`?)"), "{err}");
    let (code, _, err) = run(&installed("http://127.0.0.1:9/v1"), &["models", "ask", "huge", "x"]);
    assert_eq!(code, 1);
    assert!(err.contains("there is no tier `huge`"), "{err}");
    let (code, _, err) = run(&Stage::new(), &["models", "list"]);
    assert_eq!(code, 1);
    assert!(err.contains("no model is configured"), "{err}");
}

const ASK: &str = "graph: ask\ninput: { schema: { type: object, properties: { incident: {} } } }\nstate: { incident: {}, diagnosis: {} }\noutput: [diagnosis]\nnodes:\n  why: { agent: diagnostic, tier: { start: rules, max: top }, output: diagnosis, then: end }\nstart: why\n";

fn opinion() -> String {
    json!({
        "cause_id": null, "class": "resource", "summary": "the quorum witness is mute", "cause": "A storage node is gone.",
        "confidence": 0.9, "gaps": [], "evidence": [{"source": "incident", "quote": "witness mute", "claim": "the error says it"}],
    })
    .to_string()
}

/// A failure that no rule knows, on a day.
fn incident(number: usize, day: &str) -> String {
    let incident = json!({"incident": {
        "id": format!("inc-{number}"), "fingerprint": "f1", "pipeline": "p", "business_date": day, "environment": "production",
        "kind": "run_failed", "severity": "high", "title": "p failed", "error": "publish: OperationalError: E7731, quorum witness mute",
        "symptoms": [], "evidence": [{"claim": "it failed", "tool": "w.list_runs", "call": 0, "excerpt": "x"}], "tables": [],
        "detected_at": "now",
    }});
    incident.to_string()
}

#[test]
fn an_agent_asks_a_model_where_its_rules_do_not_know() {
    let (url, told) = server(vec![opinion()]);
    let stage = installed(&url);
    stage.write("ask.yaml", ASK);
    let (code, out, err) =
        run(&stage, &["run", "ask.yaml", "--thread", "t", "--json", "--input", &incident(1, "2013-01-23")]);
    assert_eq!(code, 0, "{out}{err}");
    let ended: Value = serde_json::from_str(&out).unwrap();
    let diagnosis = &ended["output"]["diagnosis"];
    assert_eq!((&diagnosis["class"], &diagnosis["confidence"]), (&json!("resource"), &json!(0.69)), "{ended}");
    assert_eq!(diagnosis["tiers"][0]["why"], "confidence 0.20 is below 0.70");
    let (_, body) = told.recv().unwrap();
    assert_eq!(body["response_format"]["type"], "json_schema", "{body}");
    let (_, out, _) = run(&stage, &["audit", "export", "--json"]);
    assert!(out.contains("model.small") && out.contains("0.002"), "{out}");
    assert!(!out.contains("witness mute"), "the audit log has no prompt: {out}");
}

#[test]
fn the_same_failure_on_another_day_costs_nothing_in_another_process() {
    // A second request would find nobody.
    let (url, told) = server(vec![opinion()]);
    let stage = installed(&url);
    let file = std::fs::read_to_string(stage.path().join("interlock.yaml")).unwrap();
    stage.write("interlock.yaml", file.replace("  order:", "  cache: { ttl: 7d }\n  order:"));
    stage.write("ask.yaml", ASK);
    let diagnosis = |thread: &str, incident: &str| {
        let (code, out, err) = run(&stage, &["run", "ask.yaml", "--thread", thread, "--json", "--input", incident]);
        assert_eq!(code, 0, "{out}{err}");
        serde_json::from_str::<Value>(&out).unwrap()["output"]["diagnosis"].clone()
    };
    let first = diagnosis("monday", &incident(1, "2013-01-21"));
    let again = diagnosis("tuesday", &incident(2, "2013-01-22"));
    assert_eq!((&first["summary"], &first["confidence"]), (&again["summary"], &again["confidence"]));
    assert_eq!(told.iter().count(), 1, "one request");
    let (_, out, _) = run(&stage, &["audit", "export", "--json"]);
    let costs: Vec<f64> =
        out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter_map(cost).collect();
    assert_eq!(costs, [0.002, 0.0]);
}

/// What a call of a model cost, where the record is of its end.
fn cost(record: Value) -> Option<f64> {
    let detail = &record["entry"]["detail"];
    (record["entry"]["action"] == "call.ended" && detail["kind"] == "model").then(|| detail["cost"].as_f64().unwrap())
}

#[test]
fn a_tier_without_batches_is_asked_at_once_and_says_so() {
    let (url, told) = server(vec![opinion()]);
    let stage = installed(&url);
    stage.write("ask.yaml", ASK.replace("tier: {", "schedule: batch, tier: {"));
    let (code, out, err) =
        run(&stage, &["run", "ask.yaml", "--thread", "t", "--json", "--input", &incident(1, "2013-01-23")]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(told.iter().count(), 1);
    let ended: Value = serde_json::from_str(&out).unwrap();
    let gaps = ended["output"]["diagnosis"]["gaps"].to_string();
    assert!(gaps.contains("batch"), "{gaps}");
}

#[test]
fn own_prompts_are_shown_beside_those_that_ship() {
    let stage = Stage::new();
    stage.write("interlock.yaml", "prompts: prompts\n");
    std::fs::create_dir(stage.path().join("prompts")).unwrap();
    let shipped = run(&stage, &["prompts", "show", "critic"]).1;
    stage.write("prompts/critic.j2", &shipped);
    assert_eq!(run(&stage, &["prompts", "diff"]).0, 0, "a copy is no difference");
    stage.write("prompts/critic.j2", shipped.replace("- Look for what is wrong", "- Look hard for what is wrong"));
    stage.write("prompts/owner.j2", "Who owns {{ table }}? {{ form }}");
    let (code, out, _) = run(&stage, &["prompts", "diff"]);
    assert_eq!(code, 1);
    let changed =
        |sign: &str| out.lines().filter(|line| line.starts_with(sign) && !line.starts_with(&sign.repeat(3))).count();
    assert_eq!((changed("-"), changed("+")), (1, 1), "{out}");
    assert!(out.starts_with("--- shipped/critic.j2\n+++ own/critic.j2\n"), "{out}");
    let (code, out, _) = run(&stage, &["prompts", "list", "--json"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    let of = |name: &str| listed.as_array().unwrap().iter().find(|prompt| prompt["name"] == name).unwrap().clone();
    assert_eq!((code, of("critic")["source"].as_str()), (1, Some("own, instead of the shipped one")), "{out}");
    assert_ne!(of("critic")["version"], of("critic")["shipped_version"]);
    assert_eq!((of("planner")["source"].as_str(), of("planner")["problem"].clone()), (Some("shipped"), Value::Null));
    let broken: Vec<&Value> = listed.as_array().unwrap().iter().filter(|prompt| !prompt["problem"].is_null()).collect();
    assert_eq!(broken.len(), 1, "those that ship render: {out}");
    assert!(of("owner")["problem"].as_str().unwrap().contains("table"), "{out}");
    let (code, _, err) = run(&stage, &["prompts", "show", "crtic"]);
    assert!(code == 1 && err.contains("prompts are assistant, critic"), "{err}");
}
