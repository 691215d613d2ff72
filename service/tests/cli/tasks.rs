//! A task of a tool server, as the program leaves it: ended at its server when its thread is, waited for when only the
//! process ends.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};

use super::models::read;
use super::stage::Stage;

/// Longest wait for what has to come.
const WAIT_MAX: Duration = Duration::from_secs(60);

const GRAPH: &str = "
graph: export
state: { rows: {} }
nodes:
  export: { tool: lake.export, args: {}, output: { rows: result.rows }, then: end }
start: export
";

/// A server of the stateless protocol whose one tool begins a task that never ends by itself; tells what arrives.
fn lake() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (_, message) = read(&mut stream);
            let method = message["method"].as_str().unwrap_or_default().to_owned();
            let text = json!({"jsonrpc": "2.0", "id": message["id"], "result": result(&method)}).to_string();
            // Who has gone away wants no answer.
            let _gone = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            if tell.send(format!("{method} {}", message["params"]["taskId"].as_str().unwrap_or("-"))).is_err() {
                return;
            }
        }
    });
    (url, told)
}

fn result(method: &str) -> Value {
    let mut result = match method {
        "server/discover" => json!({
            "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
            "capabilities": {"tools": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}},
            "serverInfo": {"name": "lake", "version": "1"},
        }),
        "tools/list" => json!({
            "tools": [{"name": "export", "inputSchema": {"type": "object"}}], "ttlMs": 0, "cacheScope": "private",
        }),
        "tools/call" => {
            return json!({"resultType": "task", "taskId": "job-1", "status": "working", "pollIntervalMs": 100});
        }
        "tasks/get" => json!({"taskId": "job-1", "status": "working", "pollIntervalMs": 100}),
        _ => json!({}),
    };
    result["resultType"] = json!("complete");
    result
}

fn installed(url: &str) -> Stage {
    let stage = Stage::new();
    stage.write("export.yaml", GRAPH);
    let config = json!({
        "mcpServers": {"lake": {"url": url, "tasks": true, "effects": {"export": "idempotent"}, "environment": "staging"}},
        "environments": {"staging": {"changes": "allow"}},
    });
    stage.write("interlock.yaml", config.to_string());
    stage
}

/// What arrives until this does, this included.
fn until(told: &Receiver<String>, wanted: &str) -> Vec<String> {
    let mut arrived = Vec::new();
    loop {
        let message = told.recv_timeout(WAIT_MAX).unwrap_or_else(|_| panic!("no {wanted} after {arrived:?}"));
        let is_it = message == wanted;
        arrived.push(message);
        if is_it {
            return arrived;
        }
    }
}

/// A run whose task is under way.
fn exporting(stage: &Stage, told: &Receiver<String>) -> Child {
    let child = stage.command(&["run", "export.yaml", "--thread", "t"]).spawn().unwrap();
    until(told, "tasks/get job-1");
    child
}

fn signalled(mut child: Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap();
}

fn cancels(told: &Receiver<String>) -> usize {
    told.try_iter().filter(|message| message.starts_with("tasks/cancel")).count()
}

#[test]
fn the_task_of_a_thread_that_is_cancelled_or_deleted_is_cancelled_at_its_server() {
    for command in [&["cancel", "t"][..], &["delete", "t"]] {
        let (url, told) = lake();
        let stage = installed(&url);
        let child = exporting(&stage, &told);
        signalled(child, "-KILL");
        assert_eq!(cancels(&told), 0, "a process that is gone cancels nothing");
        stage.ends(0, command);
        let arrived = until(&told, "tasks/cancel job-1");
        assert!(!arrived.iter().any(|message| message.starts_with("tools/call")), "{command:?}: {arrived:?}");
    }
}

#[test]
fn a_process_that_is_told_to_stop_leaves_the_task_and_the_next_one_waits_for_it() {
    let (url, told) = lake();
    let stage = installed(&url);
    signalled(exporting(&stage, &told), "-TERM");
    let mut next = stage.command(&["recover"]).spawn().unwrap();
    let arrived = until(&told, "tasks/get job-1");
    next.kill().unwrap();
    next.wait().unwrap();
    let not_so = |message: &String| message.starts_with("tasks/cancel") || message.starts_with("tools/call");
    assert!(!arrived.iter().any(not_so), "{arrived:?}");
}
