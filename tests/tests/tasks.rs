//! A tool that runs for an hour survives us: its call ends with a task, the process that waits for it is gone, another one
//! takes over, and the result arrives from an act that was begun once. Without the record of the task it is begun again.
//! The questions that a tool or its task asks of people survive us in the same way. A task that nobody comes back for is
//! cancelled at its server; one that a restart comes back for is not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use checkpoints::open::{Address, OpenOptions, open};
use graphs::{CompiledGraph, EffectClass, OpenCatalog};
use runtime::ports::store::{PAGE_MAX, Store};
use runtime::{Engine, EngineBuilder, Start};
use runtime_core::effect::Abandoned;
use runtime_core::error::TaskError;
use runtime_core::ids::ThreadId;
use runtime_core::record::{Interrupt, Outcome, RunOptions};
use runtime_core::state::ThreadState;
use serde_json::{Value, json};
use tests::lab::yes;
use tools::hub::{Hub, HubOptions, InputAnswers, ParsedServers, Task};
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
                Followed::Asks(request) => panic!("nobody can be asked here: {request:?}"),
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
        self.put(json!({
            "name": "lake", "modern": true, "tools": [{"name": "export", "inputSchema": {"type": "object"}}],
            "says": {"export": [answer]}, "tasks": {"job-1": state}, "lag": 2,
        }));
    }

    /// From now on it knows no way to cancel.
    fn cannot_cancel(&self) {
        let text = std::fs::read_to_string(self.0.join("script.json")).unwrap();
        let mut script: Value = serde_json::from_str(&text).unwrap();
        script["uncancellable"] = json!(true);
        self.put(script);
    }

    fn put(&self, script: Value) {
        // In one step: the server reads it at any moment.
        std::fs::write(self.0.join("new"), script.to_string()).unwrap();
        std::fs::rename(self.0.join("new"), self.0.join("script.json")).unwrap();
    }

    fn arrived(&self, tool: &str) -> usize {
        let log = std::fs::read_to_string(self.0.join("log")).unwrap_or_default();
        log.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["tool"] == tool)).count()
    }

    async fn until_looked_at(&self, times: usize) {
        until(async || self.arrived("tasks/get") >= times).await;
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

/// Waits for a condition, within bounds.
async fn until(holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < WAIT_MAX, "what is waited for does not come");
        tokio::time::sleep(POLL).await;
    }
}

/// The graph that keeps one field of the result.
fn graph(field: &str) -> Arc<CompiledGraph> {
    parsed(&GRAPH.replace("rows", field))
}

fn parsed(text: &str) -> Arc<CompiledGraph> {
    Arc::new(graphs::check("export.yaml", text.as_bytes(), &OpenCatalog).unwrap_or_else(|error| panic!("{error}")).0)
}

fn engine(store: &Arc<dyn Store>, tools: Arc<dyn ToolBox>) -> Engine {
    builder(store, &tools).on_abandon(tasking::on_abandon(tools)).build()
}

fn builder(store: &Arc<dyn Store>, tools: &Arc<dyn ToolBox>) -> EngineBuilder {
    Engine::builder(Arc::clone(store)).kind("tool", Arc::new(ToolNode::new(Arc::clone(tools))))
}

fn start(graph: Arc<CompiledGraph>) -> Start {
    let (thread, options) = (ThreadId::new("t").unwrap(), RunOptions::default());
    Start { graph, thread, input: Value::Null, options, metadata: Value::Null }
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
fn over_a_death<S: Future<Output = ()>>(
    effect: &str,
    tools: impl Fn(Hub) -> Arc<dyn ToolBox>,
    stop: impl Fn(Engine, Hub) -> S,
) -> (Value, Lake, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
    let thread = ThreadId::new("t").unwrap();
    until_death(async {
        let hub = lake.hub(effect);
        let engine = engine(&store, tools(hub.clone()));
        let running = engine.start(start(graph("rows"))).await.unwrap();
        lake.until_looked_at(2).await;
        stop(engine.clone(), hub).await;
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
    let (rows, lake, _dir) = over_a_death("at_most_once", |hub| Arc::new(hub), |_, _| async {});
    assert_eq!((rows, lake.arrived("export")), (json!(42), 1));
    assert_eq!(lake.arrived("tasks/cancel"), 0, "who comes back does not cancel");
}

#[test]
fn without_the_record_of_the_task_it_is_begun_again() {
    let (_, lake, _dir) = over_a_death("idempotent", |hub| Arc::new(Forgetful(hub)), |_, _| async {});
    assert_eq!(lake.arrived("export"), 2, "the weakened variant has to be caught");
}

#[test]
fn a_process_that_cancels_when_it_stops_loses_the_task() {
    let stop = |engine: Engine, hub: Hub| async move {
        let state = engine.state(&ThreadId::new("t").unwrap()).await.unwrap().unwrap();
        let tell = tasking::on_abandon(Arc::new(hub));
        for task in state.frames.values().flat_map(|frame| &frame.tasks) {
            let ended = task.calls.values().filter_map(|call| Some((call.head.clone(), call.outcome.clone()?)));
            tell(Abandoned { task: task.id, calls: ended.collect() }).await;
        }
    };
    let (rows, lake, _dir) = over_a_death("at_most_once", |hub| Arc::new(hub), stop);
    assert_eq!(lake.arrived("tasks/cancel"), 1);
    assert_ne!(rows, json!(42), "the weakened variant has to be caught");
}

/// How a run ends that is under way at the server, and how often its task was cancelled there.
async fn ended_early(
    (text, lake): (&str, &Lake),
    build: impl Fn(EngineBuilder, Arc<dyn ToolBox>) -> Engine,
    end: impl AsyncFn(&Engine, &ThreadId),
) -> (Outcome, usize) {
    let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
    let hub = lake.hub("at_most_once");
    let tools: Arc<dyn ToolBox> = Arc::new(hub.clone());
    let engine = build(builder(&store, &tools), tools);
    let running = engine.start(start(parsed(text))).await.unwrap();
    lake.until_looked_at(1).await;
    end(&engine, &ThreadId::new("t").unwrap()).await;
    let ended = running.ended().await.unwrap();
    // In the order of the binary: its servers are closed under whatever still calls them.
    engine.all_told().await;
    hub.close().await;
    engine.shutdown().await.unwrap();
    (ended.outcome, lake.arrived("tasks/cancel"))
}

fn telling(builder: EngineBuilder, tools: Arc<dyn ToolBox>) -> Engine {
    builder.on_abandon(tasking::on_abandon(tools)).build()
}

async fn cancel(engine: &Engine, thread: &ThreadId) {
    engine.cancel(thread, "not needed any more").await.unwrap();
}

#[tokio::test]
async fn a_task_of_a_cancelled_thread_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    assert_eq!(ended_early((GRAPH, &lake), telling, cancel).await, (Outcome::Cancelled, 1));
}

#[tokio::test]
async fn without_a_word_the_task_of_a_cancelled_thread_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let silent = |builder: EngineBuilder, _| builder.build();
    let ended = ended_early((GRAPH, &lake), silent, cancel).await;
    assert_eq!(ended, (Outcome::Cancelled, 0), "the weakened variant has to be caught");
}

#[tokio::test]
async fn a_server_that_cannot_cancel_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    lake.cannot_cancel();
    assert_eq!(ended_early((GRAPH, &lake), telling, cancel).await, (Outcome::Cancelled, 0));
}

#[tokio::test]
async fn a_task_that_its_node_has_no_time_for_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let impatient = GRAPH.replace("then: end", "timeout: 3s, then: end");
    let (outcome, cancelled) = ended_early((&impatient, &lake), telling, async |_, _| {}).await;
    assert!(matches!(&outcome, Outcome::Failed(error) if error.class.word() == "timeout"), "{outcome:?}");
    assert_eq!(cancelled, 1);
}

#[tokio::test]
async fn a_second_attempt_comes_back_to_the_task_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let patient = GRAPH.replace("then: end", "timeout: 3s, retry: { attempts: 2, initial: 1ms }, then: end");
    let finish = async |engine: &Engine, thread: &ThreadId| {
        until(async || {
            let state = engine.state(thread).await.unwrap().unwrap();
            state.frames.values().flat_map(|frame| &frame.tasks).any(|task| task.attempts == 1)
        })
        .await;
        let result = json!({"content": [], "structuredContent": {"rows": 42}});
        lake.say(json!({"status": "completed", "result": result}));
    };
    let ended = ended_early((&patient, &lake), telling, finish).await;
    assert_eq!((ended, lake.arrived("export")), ((Outcome::Success, 0), 1));
}

/// Loses what the tasks of a server were answered.
struct Absent(Hub);

#[async_trait]
impl ToolBox for Absent {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        ToolBox::call(&self.0, request).await
    }

    async fn follow(&self, target: &str, task: &Task) -> Result<Followed, TaskError> {
        ToolBox::follow(&self.0, target, &Task { answered: BTreeSet::new(), ..task.clone() }).await
    }

    async fn answer(&self, target: &str, task: &Task, answers: &InputAnswers) -> Result<(), TaskError> {
        ToolBox::answer(&self.0, target, task, answers).await
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        ToolBox::effect(&self.0, target).await
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        ToolBox::list(&self.0, patterns).await
    }
}

/// A thread whose task asks people; the process that asked is gone.
fn asked_by_a_task(tools: &impl Fn(Hub) -> Arc<dyn ToolBox>) -> (Lake, Arc<dyn Store>, Interrupt, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::new(dir.path());
    let schema = json!({"type": "object", "properties": {"region": {"type": "string"}}, "required": ["region"]});
    let form =
        json!({"method": "elicitation/create", "params": {"message": "Which region?", "requestedSchema": schema}});
    lake.say(json!({"status": "input_required", "inputRequests": {"where": form}}));
    let store: Arc<dyn Store> = open(&Address::Memory, &OpenOptions::default()).unwrap();
    let question = until_death(async {
        let engine = engine(&store, tools(lake.hub("at_most_once")));
        let ended = engine.start(start(graph("told"))).await.unwrap().ended().await.unwrap();
        assert_eq!(ended.outcome, Outcome::Interrupted);
        store.interrupts(None, PAGE_MAX).await.unwrap().remove(0).interrupt
    });
    assert!(question.body.contains("lake.export says (untrusted): Which region?"), "{}", question.body);
    (lake, store, question, dir)
}

/// Answers the question of a task in another life: how the run ends, and what the task was told.
fn answered_task(tools: impl Fn(Hub) -> Arc<dyn ToolBox>) -> (Outcome, Value, Lake, tempfile::TempDir) {
    let (lake, store, question, dir) = asked_by_a_task(&tools);
    let (outcome, told) = until_death(async {
        let hub = lake.hub("at_most_once");
        let engine = engine(&store, tools(hub.clone()));
        engine.add_graph(graph("told")).await.unwrap();
        let answer = yes(&question, json!({"where": {"region": "eu"}}));
        let thread = ThreadId::new("t").unwrap();
        let (_, ended) = engine.answer_and_join(&thread, vec![answer], Value::Null).await.unwrap();
        hub.close().await;
        (ended.unwrap().outcome, value(&engine.state(&thread).await.unwrap().unwrap(), "told"))
    });
    (outcome, told, lake, dir)
}

#[test]
fn a_question_of_a_task_outlives_the_process_and_its_answer_goes_to_the_same_task() {
    let (outcome, told, lake, _dir) = answered_task(|hub| Arc::new(hub));
    assert_eq!(outcome, Outcome::Success);
    assert_eq!(told, json!({"where": {"action": "accept", "content": {"region": "eu"}}}));
    assert_eq!((lake.arrived("export"), lake.arrived("tasks/update")), (1, 1), "begun once, answered once");
    assert_eq!(lake.arrived("tasks/cancel"), 0);
}

#[test]
fn without_knowing_what_was_answered_it_is_asked_again() {
    let (outcome, ..) = answered_task(|hub| Arc::new(Absent(hub)));
    assert_eq!(outcome, Outcome::Interrupted, "the weakened variant has to be caught");
}

#[test]
fn a_task_whose_thread_is_cancelled_while_it_asks_is_cancelled() {
    let (lake, store, _, _dir) = asked_by_a_task(&|hub| Arc::new(hub) as Arc<dyn ToolBox>);
    until_death(async {
        let hub = lake.hub("at_most_once");
        let engine = engine(&store, Arc::new(hub.clone()));
        engine.add_graph(graph("told")).await.unwrap();
        cancel(&engine, &ThreadId::new("t").unwrap()).await;
        engine.shutdown().await.unwrap();
        hub.close().await;
    });
    assert_eq!((lake.arrived("tasks/cancel"), lake.arrived("tasks/update")), (1, 0));
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
        let ended = engine.start(start(graph("told"))).await.unwrap().ended().await.unwrap();
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
        (json!({"status": "sleeping"}), "permanent", "unknown state `sleeping`"),
        (json!(null), "outcome_unknown", "does not know its task any more"),
        (json!({"status": "input_required"}), "invalid", "wants input and does not say which"),
    ] {
        lake.say(state);
        let error = ToolBox::follow(&hub, "lake.export", &task).await.unwrap_err();
        assert_eq!(error.class.word(), class, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(lake.arrived("tasks/cancel"), 1, "a task that cannot go on is not left behind");
    hub.close().await;
}
