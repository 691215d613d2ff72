//! A tool that runs for an hour survives us: its call ends with a task, the process that waits for it is gone, another one
//! takes over, and the result arrives from an act that was begun once. Without the record of the task it is begun again.
//! The questions that a tool asks of people survive us in the same way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use checkpoints::open::{Address, OpenOptions, open};
use graphs::{CompiledGraph, EffectClass, OpenCatalog};
use runtime::ports::store::{PAGE_MAX, Store};
use runtime::{Engine, Start};
use runtime_core::error::TaskError;
use runtime_core::ids::ThreadId;
use runtime_core::record::{Outcome, RunOptions};
use runtime_core::state::ThreadState;
use serde_json::{Value, json};
use tests::lab::yes;
use tools::hub::{Hub, HubOptions, ParsedServers};
use tools::node::ToolNode;
use tools::tasking;
use tools::toolbox::{Followed, ToolBox, ToolBrief, ToolRequest};

const GRAPH: &str = r#"
graph: export
state: { rows: {} }
nodes:
  export: { tool: lake.export, args: { table: orders }, output: { rows: result.rows }, then: end }
start: export
"#;

/// Bound of every wait for a condition.
const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Waits for the task inside the call that began it, so that its name is never written down.
struct Forgetful(Hub);

#[async_trait]
impl ToolBox for Forgetful {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        let target = request.target.clone();
        let result = ToolBox::call(&self.0, request).await?;
        let Some(mut task) = tasking::begun(&result) else { return Ok(result) };
        loop {
            match ToolBox::follow(&self.0, &target, &task).await? {
                Followed::Done(value) => return Ok(value),
                Followed::Working(next) => task = next,
            }
            tokio::time::sleep(task.pause()).await;
        }
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        ToolBox::effect(&self.0, target).await
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        ToolBox::list(&self.0, patterns).await
    }
}

/// The server on disk: what it says, and what arrived.
struct Lake(PathBuf);

impl Lake {
    fn new(folder: &Path) -> Self {
        let lake = Self(folder.to_owned());
        lake.say(json!({"status": "working", "pollIntervalMs": 100}));
        lake
    }

    /// From now on the task is in this state.
    fn say(&self, state: Value) {
        self.write(json!({"task": "job-1"}), state);
    }

    /// What the tool answers, and how its task stands.
    fn write(&self, answer: Value, state: Value) {
        let script = json!({
            "name": "lake", "modern": true, "tools": [{"name": "export", "inputSchema": {"type": "object"}}],
            "says": {"export": [answer]}, "tasks": {"job-1": state},
        });
        // In one step: the server reads it at any moment.
        std::fs::write(self.0.join("new"), script.to_string()).unwrap();
        std::fs::rename(self.0.join("new"), self.0.join("script.json")).unwrap();
    }

    fn arrived(&self, tool: &str) -> usize {
        let log = std::fs::read_to_string(self.0.join("log")).unwrap_or_default();
        log.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["tool"] == tool)).count()
    }

    async fn until_looked_at(&self, times: usize) {
        let start = Instant::now();
        while self.arrived("tasks/get") < times {
            assert!(start.elapsed() < WAIT_MAX, "nobody looks at the task");
            tokio::time::sleep(POLL).await;
        }
    }

    fn hub(&self, effect: &str) -> Hub {
        let servers = json!({"lake": {
            "command": env!("CARGO_BIN_EXE_counting_server"),
            "args": [self.0.join("script.json"), self.0.join("log")], "tasks": true, "elicitation": true,
            "effects": {"export": effect},
        }});
        let parsed = ParsedServers::parse(&servers);
        assert!(parsed.errors.is_empty() && parsed.warnings.is_empty(), "{:?} {:?}", parsed.errors, parsed.warnings);
        Hub::with_options(parsed.servers, HubOptions { drain: Duration::from_millis(100), ..HubOptions::default() })
    }
}

/// The graph that keeps one field of the result.
fn graph(field: &str) -> Arc<CompiledGraph> {
    let text = GRAPH.replace("rows", field);
    Arc::new(graphs::check("export.yaml", text.as_bytes(), &OpenCatalog).unwrap_or_else(|error| panic!("{error}")).0)
}

fn engine(store: &Arc<dyn Store>, tools: Arc<dyn ToolBox>) -> Engine {
    Engine::builder(Arc::clone(store)).kind("tool", Arc::new(ToolNode::new(tools))).build()
}

/// A channel of the thread's own graph.
fn value(state: &ThreadState, channel: &str) -> Value {
    let root = state.frames.values().next();
    root.and_then(|frame| frame.value(channel)).map(|value| Value::clone(value)).unwrap_or_default()
}

/// Everything that lives in a runtime of its own dies with it, as with a process.
fn until_death<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let output = runtime.block_on(work);
    runtime.shutdown_timeout(WAIT_MAX);
    output
}

/// Starts an export, dies while its task is under way, takes over in another life: what the thread has at the end.
fn over_a_death(effect: &str, tools: impl Fn(Hub) -> Arc<dyn ToolBox>) -> (Value, Lake, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
    let thread = ThreadId::new("t").unwrap();
    until_death(async {
        let engine = engine(&store, tools(lake.hub(effect)));
        let (options, thread) = (RunOptions::default(), thread.clone());
        let start = Start { graph: graph("rows"), thread, input: Value::Null, options, metadata: Value::Null };
        let running = engine.start(start).await.unwrap();
        lake.until_looked_at(2).await;
        drop(running);
    });
    assert_eq!(lake.arrived("export"), 1);
    let looks = lake.arrived("tasks/get");
    let state = until_death(async {
        let hub = lake.hub(effect);
        let engine = engine(&store, tools(hub.clone()));
        engine.add_graph(graph("rows")).await.unwrap();
        engine.recover().await.unwrap();
        lake.until_looked_at(looks + 1).await;
        let result = json!({"content": [], "structuredContent": {"rows": 42}});
        lake.say(json!({"status": "completed", "result": result}));
        engine.join(&thread).await.unwrap();
        let state = engine.state(&thread).await.unwrap().unwrap();
        hub.close().await;
        value(&state, "rows")
    });
    (state, lake, dir)
}

#[test]
fn a_task_outlives_the_process_and_is_begun_once() {
    let (rows, lake, _dir) = over_a_death("at_most_once", |hub| Arc::new(hub));
    assert_eq!((rows, lake.arrived("export")), (json!(42), 1));
}

#[test]
fn without_the_record_of_the_task_it_is_begun_again() {
    let (_, lake, _dir) = over_a_death("idempotent", |hub| Arc::new(Forgetful(hub)));
    assert_eq!(lake.arrived("export"), 2, "the weakened variant has to be caught");
}

#[test]
fn a_question_of_a_tool_outlives_the_process_and_is_put_once() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let schema = json!({"type": "object", "properties": {"region": {"type": "string"}}, "required": ["region"]});
    lake.write(json!({"asks": {"where": schema}}), Value::Null);
    let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
    let thread = ThreadId::new("t").unwrap();
    let question = until_death(async {
        let engine = engine(&store, Arc::new(lake.hub("at_most_once")));
        let (options, thread) = (RunOptions::default(), thread.clone());
        let start = Start { graph: graph("told"), thread, input: Value::Null, options, metadata: Value::Null };
        let ended = engine.start(start).await.unwrap().ended().await.unwrap();
        assert_eq!(ended.outcome, Outcome::Interrupted);
        let mut open = store.interrupts(None, PAGE_MAX).await.unwrap();
        assert_eq!(open.len(), 1);
        open.remove(0).interrupt
    });
    assert!(question.body.contains("Before I go on"), "{}", question.body);
    assert_eq!(lake.arrived("export"), 1);
    let told = until_death(async {
        let hub = lake.hub("at_most_once");
        let engine = engine(&store, Arc::new(hub.clone()));
        engine.add_graph(graph("told")).await.unwrap();
        let answer = yes(&question, json!({"where": {"region": "eu"}}));
        let (_, ended) = engine.answer_and_join(&thread, vec![answer], Value::Null).await.unwrap();
        assert_eq!(ended.unwrap().outcome, Outcome::Success);
        hub.close().await;
        value(&engine.state(&thread).await.unwrap().unwrap(), "told")
    });
    let accepted = json!({"where": {"action": "accept", "content": {"region": "eu"}}});
    assert_eq!((told, lake.arrived("export")), (accepted, 2), "called, and called again with the answer");
}

#[tokio::test]
async fn what_becomes_of_a_task_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let hub = lake.hub("at_most_once");
    let request = || ToolRequest {
        target: "lake.export".to_owned(),
        args: Arc::new(json!({})),
        key: "k".to_owned(),
        effect: EffectClass::AtMostOnce,
        pin: None,
        steps: None,
        questions: tools::asking::Questions::Welcome(Default::default()),
    };
    let result = ToolBox::call(&hub, request()).await.unwrap();
    let task = tasking::begun(&result).unwrap();
    for (state, class, words) in [
        (
            json!({"status": "failed", "error": {"code": 1, "message": "disk full"}}),
            "unknown",
            "its task failed: disk full",
        ),
        (json!({"status": "cancelled"}), "unknown", "the server cancelled its task"),
        (json!({"status": "input_required"}), "invalid", "which is not supported"),
        (json!({"status": "sleeping"}), "permanent", "unknown state `sleeping`"),
        (json!(null), "outcome_unknown", "does not know its task any more"),
    ] {
        lake.say(state);
        let error = ToolBox::follow(&hub, "lake.export", &task).await.unwrap_err();
        assert_eq!(error.class.word(), class, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    hub.close().await;
}
