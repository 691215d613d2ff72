//! An MCP server over stdio that misbehaves as it is told, for the tests of the hub.
//!
//! Arguments switch habits of the whole server (`era=legacy`, `discover=never`, `list=endless` …); tools misbehave one
//! call at a time (`hang`, `die`, `flood` …). Every process appends its id to the file `pids` in its working directory.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Long enough for every test, short enough to clean up after itself.
const LONG: Duration = Duration::from_secs(120);
/// One byte over the hub's default for a line.
const OVERSIZE: usize = 16 * 1024 * 1024 + 1;
/// Notifications of one flood.
const FLOOD: usize = 200_000;

fn main() {
    let habits: Vec<String> = std::env::args().skip(1).collect();
    record_pid();
    let server = Server { habits, lists: 0, asked: Value::Null, listener: Value::Null };
    if server.is("sleeper") {
        thread::sleep(LONG);
        return;
    }
    if server.is("start=leak") {
        eprintln!("bad token {}", std::env::var("TOKEN").unwrap_or_default());
        exit(3);
    }
    if server.is("start=refuse") {
        eprintln!("cannot open the database");
        exit(3);
    }
    if server.is("garbage") {
        print_line("Welcome to the server!");
        print_line("{\"log\": \"json, but no message\"}");
        print_line("[1, 2");
    }
    server.run();
}

fn record_pid() {
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open("pids") {
        let _ = writeln!(file, "{}", std::process::id());
    }
}

struct Server {
    habits: Vec<String>,
    lists: usize,
    /// The call that waits for the client's answer to a question of ours.
    asked: Value,
    /// The request whose stream brings news.
    listener: Value,
}

impl Server {
    fn is(&self, habit: &str) -> bool {
        self.habits.iter().any(|own| own == habit)
    }

    fn run(mut self) {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
            self.message(&message);
        }
        if self.is("stubborn") {
            thread::sleep(LONG);
        }
    }

    fn message(&mut self, message: &Value) {
        let id = &message["id"];
        match message["method"].as_str() {
            Some("server/discover") => self.discover(id),
            Some("initialize") => reply(
                id,
                json!({
                    "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "misbehaving", "version": "1"}, "instructions": "Be nice.",
                }),
            ),
            Some("tools/list") => self.list(message),
            Some("tools/call") => self.call(message),
            Some("subscriptions/listen") => self.listen(message),
            None if *id == "question" => {
                let answer = if message["error"].is_null() { &message["result"] } else { &message["error"]["code"] };
                reply(&self.asked, text(&answer.to_string()));
            }
            Some("notifications/cancelled") => append("cancelled", &message["params"]["requestId"].to_string()),
            _ => {}
        }
    }

    fn discover(&self, id: &Value) {
        if self.is("discover=never") {
        } else if self.is("discover=late") {
            let id = id.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(400));
                reply(&id, modern());
            });
        } else if self.is("discover=empty") {
            reply(id, json!({}));
        } else if self.is("discover=old_versions") {
            reply(
                id,
                json!({"supportedVersions": ["2025-06-18"], "capabilities": {"tools": {}}, "serverInfo": {"name": "m", "version": "1"}}),
            );
        } else if self.is("discover=exit") {
            exit(1);
        } else if self.is("era=modern") {
            let mut hello = modern();
            let tells = self.habits.iter().any(|habit| habit.starts_with("listen"));
            hello["capabilities"]["tools"] = if tells { json!({"listChanged": true}) } else { json!({}) };
            reply(id, hello);
        } else {
            error(id, -32601, "Method not found");
        }
    }

    fn listen(&mut self, message: &Value) {
        append("listens", "asked");
        if self.is("listen=refuse") {
            return error(&message["id"], -32601, "Method not found");
        }
        self.listener = message["id"].clone();
        self.tell("notifications/subscriptions/acknowledged", json!({"notifications": {"toolsListChanged": true}}));
    }

    /// Says something on the listener's stream.
    fn tell(&self, method: &str, mut params: Value) {
        if !self.listener.is_null() {
            params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": self.listener});
        }
        notify(method, params);
    }

    fn list(&mut self, message: &Value) {
        self.lists += 1;
        append("lists", &self.lists.to_string());
        let id = &message["id"];
        let cursor = message["params"]["cursor"].as_str();
        if self.is("list=endless") {
            let next = cursor.and_then(|cursor| cursor.parse::<u64>().ok()).unwrap_or(0) + 1;
            return reply(id, json!({"tools": [], "nextCursor": next.to_string()}));
        }
        if self.is("list=none") {
            return error(id, -32601, "Method not found");
        }
        if self.is("list=hang") {
            return;
        }
        let mut tools: Vec<Value> = TOOLS.iter().map(|name| tool(name)).collect();
        tools[0]["annotations"] = json!({"readOnlyHint": true, "destructiveHint": true});
        tools[0]["inputSchema"] =
            json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
        tools[1]["outputSchema"] =
            json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        if self.is("list=leak") {
            tools[0]["description"] = json!(format!("Uses {}.", std::env::var("TOKEN").unwrap_or_default()));
        }
        if self.is("list=flip") {
            tools[0]["description"] = json!(format!("Says it again. Version {}.", self.lists));
        }
        if self.is("list=duplicate") {
            tools.push(tool("hang"));
        }
        if self.is("list=malformed") {
            tools.push(json!({"name": "malformed", "inputSchema": "none"}));
        }
        // A day of caching, as far as the server is concerned.
        reply(id, json!({"resultType": "complete", "tools": tools, "ttlMs": 86_400_000, "cacheScope": "public"}));
        if self.is("deaf") {
            // Reads nothing more; the pipe fills up.
            thread::sleep(LONG);
        }
    }

    fn call(&mut self, message: &Value) {
        append("calls", &message["params"]["name"].to_string());
        let (id, params) = (&message["id"], &message["params"]);
        match params["name"].as_str().unwrap_or_default() {
            "echo" => reply(id, text(params["arguments"]["text"].as_str().unwrap_or_default())),
            "structured" => reply(id, json!({"content": [], "structuredContent": {"n": params["arguments"]["n"]}})),
            "hang" => {}
            "wrong_id" => reply(&json!(999_999), text("for somebody else")),
            "string_id" => reply(&json!(id.to_string()), text("id as text")),
            "die" => {
                eprintln!("fatal: disk on fire");
                exit(7);
            }
            "answer_and_die" => {
                reply(id, text("last words"));
                exit(0);
            }
            "die_with_grandchild" => {
                grandchild();
                exit(0);
            }
            "grandchild" => {
                grandchild();
                reply(id, text("born"));
            }
            "oversize" => reply(id, text(&"x".repeat(OVERSIZE))),
            "big" => reply(id, text(&"x".repeat(15 * 1024 * 1024))),
            "deep" => print_line(&format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{}{}}}",
                "[".repeat(5000),
                "]".repeat(5000)
            )),
            "flood" => {
                let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}).to_string();
                (0..FLOOD).for_each(|_| print_line(&note));
                reply(id, text("after the flood"));
            }
            "no_result" => reply(id, json!({"weather": "fine"})),
            "refuse" => error(id, -32603, "not today"),
            "environment" => {
                reply(id, text(&std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect::<String>()))
            }
            "meta" => reply(id, text(&params["_meta"].to_string())),
            "steps" => self.steps(message),
            "babble" => {
                (0..10_001).for_each(|_| print_line("blah"));
                reply(id, text("that was that"));
            }
            "ask" => {
                self.asked = id.clone();
                let (method, params) = (&params["arguments"]["method"], &params["arguments"]["params"]);
                print_line(
                    &json!({"jsonrpc": "2.0", "id": "question", "method": method, "params": params}).to_string(),
                );
            }
            "chatty" => {
                let said = format!("slow query with {}", std::env::var("TOKEN").unwrap_or_default());
                notify("notifications/message", json!({"level": "warning", "logger": "db", "data": said}));
                reply(id, text("said"));
            }
            "slow" => self.slow(id.clone()),
            "noisy" => {
                (0..20_000).for_each(|_| {
                    eprintln!(
                        "a line of one hundred characters or so that nobody will ever want to read in any log at all"
                    )
                });
                reply(id, text("heard"));
            }
            "changed" => {
                self.tell("notifications/tools/list_changed", json!({}));
                reply(id, text("changed"));
            }
            _ => error(id, -32602, "unknown tool"),
        }
    }

    /// Takes a while, and writes down how many of its kind are under way.
    fn slow(&self, id: Value) {
        append("open", &(OPEN.fetch_add(1, Ordering::SeqCst) + 1).to_string());
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            OPEN.fetch_sub(1, Ordering::SeqCst);
            reply(&id, text("done"));
        });
    }

    /// Reports progress every 50 ms, ten times, then answers.
    fn steps(&self, message: &Value) {
        let (id, token) = (message["id"].clone(), message["params"]["_meta"]["progressToken"].clone());
        thread::spawn(move || {
            for step in 1..=10 {
                notify("notifications/progress", json!({"progressToken": token, "progress": step, "total": 10}));
                thread::sleep(Duration::from_millis(50));
            }
            reply(&id, text("done"));
        });
    }
}

static OPEN: AtomicUsize = AtomicUsize::new(0);

const TOOLS: [&str; 25] = [
    "echo",
    "structured",
    "hang",
    "wrong_id",
    "string_id",
    "die",
    "answer_and_die",
    "die_with_grandchild",
    "grandchild",
    "oversize",
    "big",
    "deep",
    "flood",
    "no_result",
    "refuse",
    "environment",
    "meta",
    "steps",
    "changed",
    "slow",
    "noisy",
    "babble",
    "ask",
    "chatty",
    "unknown",
];

fn tool(name: &str) -> Value {
    json!({"name": name, "description": format!("Does {name}."), "inputSchema": {"type": "object"}})
}

fn modern() -> Value {
    json!({
        "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
        "serverInfo": {"name": "misbehaving", "version": "1"}, "ttlMs": 86_400_000, "cacheScope": "public",
    })
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn grandchild() {
    let Ok(program) = std::env::current_exe() else { exit(9) };
    // It keeps our standard output open, as wrappers do.
    let _ = Command::new(program).arg("sleeper").stdin(Stdio::null()).stderr(Stdio::null()).spawn();
}

fn append(file: &str, line: &str) {
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) {
        let _ = writeln!(file, "{line}");
    }
}

fn notify(method: &str, params: Value) {
    print_line(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
}

fn reply(id: &Value, result: Value) {
    print_line(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
}

fn error(id: &Value, code: i32, message: &str) {
    print_line(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string());
}

fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        exit(1);
    }
}
