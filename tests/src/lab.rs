//! The laboratory: one engine over one store, with a clock, functions and a record of everything the tests look at.
//!
//! Nothing here sleeps. Order between nodes is made with [`Lab::mark`] and [`Lab::after`], time with [`HandClock`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use graphs::{CompiledGraph, OpenCatalog};
use parking_lot::Mutex;
use runtime::ports::clock::{Clock, Entropy};
use runtime::ports::store::{Store, StoreError};
use runtime::view::StateView;
use runtime::{Context, Ended, Engine, EngineBuilder, EngineFault, NodeFn, NodeKind, Start, history, view};
use runtime_core::effect::Reply;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::{AnswerInput, Edit, Goto, NodeOutput, Principal, Question};
use runtime_core::ids::{CheckpointId, InterruptId, ThreadId, Timestamp};
use runtime_core::record::{Hop, Interrupt, Outcome, RunOptions};
use runtime_core::state::ThreadState;
use runtime_core::stream::{Mode, Modes, StreamEvent};
use serde_json::{Value, json};

use crate::strict_store::{Disk, StrictStore};

/// What a node returns.
pub type NodeResult = Result<NodeOutput, TaskError>;

/// Polls of an awaited condition before a test is called stuck.
const POLLS_MAX: u32 = 2_000_000;

/// Turns that other work gets before the clock moves by itself.
const IDLE_TURNS: u32 = 300;

/// A clock that moves when told, or by itself when everything waits for it.
pub struct HandClock {
    now: AtomicI64,
    by_itself: AtomicBool,
}

impl HandClock {
    fn new() -> Self {
        Self { now: AtomicI64::new(1_767_225_600_000_000), by_itself: AtomicBool::new(false) }
    }

    /// Moves the clock.
    pub fn advance(&self, span: Duration) {
        let us = i64::try_from(span.as_micros()).expect("a span of a test is short");
        self.now.fetch_add(us, Ordering::SeqCst);
    }

    /// From now on a wait ends as soon as nothing else happens.
    pub fn run_by_itself(&self) {
        self.by_itself.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut turns = 0;
        while self.now() < at {
            tokio::task::yield_now().await;
            turns += 1;
            if turns > IDLE_TURNS && self.by_itself.load(Ordering::SeqCst) {
                self.now.fetch_max(at.0, Ordering::SeqCst);
            }
        }
    }
}

/// Counts up: the same draws in every run.
#[derive(Default)]
pub struct Draws(AtomicU64);

impl Entropy for Draws {
    fn bits(&self) -> u128 {
        let n = u128::from(self.0.fetch_add(1, Ordering::SeqCst));
        (n << 64) | (n + 77)
    }
}

#[derive(Default)]
struct Notes {
    ran: Vec<String>,
    marks: BTreeSet<String>,
    counts: BTreeMap<String, u32>,
    effects: Vec<String>,
}

/// What nodes leave behind, shared by every engine of a test.
#[derive(Clone, Default)]
pub struct Bench(Arc<Mutex<Notes>>);

impl Bench {
    /// Adds a line to what ran.
    pub fn ran(&self, line: impl Into<String>) {
        self.0.lock().ran.push(line.into());
    }

    /// Sets a mark that others wait for.
    pub fn mark(&self, name: &str) {
        self.0.lock().marks.insert(name.to_owned());
    }

    /// Waits for a mark.
    pub async fn after(&self, name: &str) {
        for _ in 0..POLLS_MAX {
            if self.0.lock().marks.contains(name) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("nobody set the mark `{name}`");
    }

    /// How often this was called with `name`, this call included.
    pub fn count(&self, name: &str) -> u32 {
        let mut notes = self.0.lock();
        let count = notes.counts.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// An act on the outside world, with the key it was made with.
    pub fn act(&self, what: &str) {
        self.0.lock().effects.push(what.to_owned());
    }

    /// The acts so far.
    pub fn acts(&self) -> Vec<String> {
        self.0.lock().effects.clone()
    }
}

/// One engine over one store.
pub struct Lab {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<HandClock>,
    /// What nodes leave behind.
    pub bench: Bench,
    /// The thread that the short methods act on.
    pub thread: ThreadId,
    entropy: Arc<Draws>,
    functions: BTreeMap<String, Arc<dyn NodeKind>>,
    graphs: Vec<Arc<CompiledGraph>>,
    grace: Duration,
    engine: Option<Engine>,
}

struct Noted {
    bench: Bench,
    inner: Arc<dyn NodeKind>,
}

#[async_trait]
impl NodeKind for Noted {
    async fn run(&self, ctx: Context) -> NodeResult {
        let name = ctx.node()?.name.clone();
        let vars: Vec<String> = ctx.vars().iter().filter(|(name, _)| *name != "error").map(|(_, v)| short(v)).collect();
        self.bench.ran(if vars.is_empty() { name } else { format!("{name}|{}", vars.join(",")) });
        self.inner.run(ctx).await
    }
}

fn short(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compiles a graph or shows why not.
pub fn compile(yaml: &str) -> Arc<CompiledGraph> {
    match graphs::check("test.yaml", yaml.as_bytes(), &OpenCatalog) {
        Ok((graph, _)) => Arc::new(graph),
        Err(diagnostics) => panic!("the graph of the test does not compile:\n{diagnostics}\n{yaml}"),
    }
}

impl Lab {
    /// A laboratory over a store.
    pub fn over(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            clock: Arc::new(HandClock::new()),
            bench: Bench::default(),
            thread: ThreadId::new("t").expect("a thread id"),
            entropy: Arc::default(),
            functions: BTreeMap::new(),
            graphs: Vec::new(),
            grace: Duration::from_secs(30),
            engine: None,
        }
    }

    /// A graph; the last one added without a parent is the one that runs.
    pub fn graph(&mut self, yaml: &str) -> &mut Self {
        self.graphs.push(compile(yaml));
        self
    }

    /// A function node.
    pub fn function<F, Fut>(&mut self, name: &str, function: F) -> &mut Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = NodeResult> + Send + 'static,
    {
        let noted = Noted { bench: self.bench.clone(), inner: Arc::new(NodeFn(function)) };
        self.functions.insert(name.to_owned(), Arc::new(noted));
        self
    }

    /// As [`Lab::function`], with the bench at hand.
    pub fn node<F, Fut>(&mut self, name: &str, function: F) -> &mut Self
    where
        F: Fn(Context, Bench) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = NodeResult> + Send + 'static,
    {
        let bench = self.bench.clone();
        self.function(name, move |ctx| function(ctx, bench.clone()))
    }

    /// A function node that writes the same every time.
    pub fn writes(&mut self, name: &str, values: Value) -> &mut Self {
        self.function(name, move |_| {
            let values = values.clone();
            async move { out(values) }
        })
    }

    /// How long siblings of a failed task may finish.
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.grace = grace;
        self
    }

    /// The engine; made at the first use.
    pub fn engine(&mut self) -> Engine {
        if let Some(engine) = &self.engine {
            return engine.clone();
        }
        let engine = self.builder(Arc::clone(&self.store)).build();
        self.engine = Some(engine.clone());
        engine
    }

    /// An engine of this laboratory, not yet built.
    pub fn builder(&self, store: Arc<dyn Store>) -> EngineBuilder {
        let mut builder = Engine::builder(store)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn Entropy>)
            .grace(self.grace);
        for (name, function) in &self.functions {
            builder = builder.function(name, Arc::clone(function));
        }
        builder
    }

    /// Goes on with this engine.
    pub fn use_engine(&mut self, engine: Engine) {
        self.engine = Some(engine);
    }

    /// Forgets the engine without shutting it down, as a killed process would, and goes on over `store`.
    pub fn restart_over(&mut self, store: Arc<dyn Store>) {
        self.engine = None;
        self.store = store;
    }

    /// The graph that runs.
    pub fn main_graph(&self) -> Arc<CompiledGraph> {
        Arc::clone(self.graphs.last().expect("a test adds a graph"))
    }

    /// Makes all graphs known to the engine.
    pub async fn load_graphs(&mut self) {
        self.try_load_graphs().await.expect("a graph is kept");
    }

    /// As [`Lab::load_graphs`], with the store's failure.
    pub async fn try_load_graphs(&mut self) -> Result<(), StoreError> {
        let engine = self.engine();
        for graph in self.graphs.clone() {
            engine.add_graph(graph).await?;
        }
        Ok(())
    }

    /// What to start.
    pub fn what(&self, input: Value, options: RunOptions) -> Start {
        Start { graph: self.main_graph(), thread: self.thread.clone(), input, options, metadata: Value::Null }
    }

    /// Starts a run and waits for its end.
    pub async fn start(&mut self, input: Value) -> Outcome {
        self.start_with(input, RunOptions::default()).await
    }

    /// As [`Lab::start`], with options.
    pub async fn start_with(&mut self, input: Value, options: RunOptions) -> Outcome {
        self.try_start(input, options).await.expect("the run is accepted")
    }

    /// As [`Lab::start_with`], with the refusal.
    pub async fn try_start(&mut self, input: Value, options: RunOptions) -> Result<Outcome, EngineFault> {
        self.load_graphs().await;
        let start = self.what(input, options);
        let running = self.engine().start(start).await?;
        Ok(running.ended().await?.outcome)
    }

    /// Starts a run and collects what it streams.
    pub async fn stream(&mut self, input: Value, options: RunOptions, modes: Modes) -> (Outcome, Vec<StreamEvent>) {
        self.load_graphs().await;
        let start = self.what(input, options);
        let (running, events) = self.engine().stream(start, modes).await.expect("the run is accepted");
        let ended = running.ended().await.expect("the run ends");
        (ended.outcome, drain(events).await)
    }

    /// Goes on from the last checkpoint.
    pub async fn resume(&mut self) -> Outcome {
        self.resume_with(RunOptions::default()).await
    }

    /// As [`Lab::resume`], with options.
    pub async fn resume_with(&mut self, options: RunOptions) -> Outcome {
        self.load_graphs().await;
        let thread = self.thread.clone();
        let running = self.engine().resume(&thread, options).await.expect("the run is accepted");
        running.ended().await.expect("the run ends").outcome
    }

    /// Answers questions and waits until the thread pauses or ends.
    pub async fn answer(&mut self, answers: Vec<AnswerInput>) -> Result<(Reply, Option<Ended>), EngineFault> {
        self.answer_and_update(answers, Value::Null).await
    }

    /// As [`Lab::answer`], with an update.
    pub async fn answer_and_update(
        &mut self,
        answers: Vec<AnswerInput>,
        update: Value,
    ) -> Result<(Reply, Option<Ended>), EngineFault> {
        self.load_graphs().await;
        let thread = self.thread.clone();
        self.engine().answer_and_join(&thread, answers, update).await
    }

    /// Answers every open question with one value, in the order in which they are listed.
    pub async fn answer_all(&mut self, value: Value) -> Outcome {
        let open = self.open().await;
        let answers = open.iter().map(|question| yes(question, value.clone())).collect();
        let (reply, ended) = self.answer(answers).await.expect("the answers are taken");
        ended.unwrap_or_else(|| panic!("no answer decided: {reply:?}")).outcome
    }

    /// Open questions, sorted by title.
    pub async fn open(&mut self) -> Vec<Interrupt> {
        let state = self.state().await;
        let mut open: Vec<Interrupt> = state.interrupts.into_values().collect();
        open.sort_by(|a, b| a.title.cmp(&b.title));
        open
    }

    /// Edits state.
    pub async fn update(&mut self, values: Value, as_node: Option<&str>) -> CheckpointId {
        self.update_at(values, as_node, None).await.expect("the update is taken")
    }

    /// Edits state at a checkpoint.
    pub async fn update_at(
        &mut self,
        values: Value,
        as_node: Option<&str>,
        at: Option<CheckpointId>,
    ) -> Result<CheckpointId, EngineFault> {
        self.load_graphs().await;
        let thread = self.thread.clone();
        let edit = Edit { values, as_node: as_node.map(Into::into) };
        self.engine().update(&thread, vec![edit], at).await
    }

    /// Runs again from a checkpoint.
    pub async fn replay(&mut self, at: CheckpointId) -> Option<Outcome> {
        self.load_graphs().await;
        let thread = self.thread.clone();
        let running =
            self.engine().replay(&thread, at, RunOptions::default()).await.expect("the replay is accepted")?;
        Some(running.ended().await.expect("the run ends").outcome)
    }

    /// Fires what is due and waits until nothing runs.
    pub async fn fire(&mut self) {
        self.load_graphs().await;
        let engine = self.engine();
        engine.fire_timers().await.expect("timers fire");
        self.quiet().await;
    }

    /// Waits until every thread is parked: what the shared records had to be told, they were told.
    pub async fn at_rest(&mut self) {
        let engine = self.engine();
        for _ in 0..POLLS_MAX {
            if engine.n_active() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("a thread never came to rest");
    }

    /// Waits until no run is active.
    pub async fn quiet(&mut self) {
        self.until("the thread is quiet", |state| state.active_run().is_none()).await;
    }

    /// Waits for a condition of the thread.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&ThreadState) -> bool) -> ThreadState {
        let engine = self.engine();
        for _ in 0..POLLS_MAX {
            if let Ok(Some(state)) = engine.state(&self.thread).await
                && holds(&state)
            {
                return state;
            }
            tokio::task::yield_now().await;
        }
        panic!("never: {what}");
    }

    /// The state now.
    pub async fn state(&mut self) -> ThreadState {
        let thread = self.thread.clone();
        self.engine().state(&thread).await.expect("the state is read").expect("there is a thread")
    }

    /// The live view of the root.
    pub async fn live(&mut self) -> StateView {
        let state = self.state().await;
        view::live(&state).expect("the thread has input")
    }

    /// The values now, as the live view shows them.
    pub async fn values(&mut self) -> Value {
        self.live().await.values
    }

    /// Root checkpoints, oldest first.
    pub async fn history(&mut self) -> Vec<history::Checkpoint> {
        let all = history::checkpoints(&*self.store, &self.thread).await.expect("the history is read");
        all.into_iter().filter(|checkpoint| checkpoint.ns.is_empty()).collect()
    }

    /// Root checkpoints as text: `step source next values`.
    pub async fn history_text(&mut self) -> String {
        let lines = self.history().await.into_iter().map(|checkpoint| {
            let view = view::record(&checkpoint);
            format!("{} {} [{}] {}\n", view.step, view.source, view.next.join(" "), view.values)
        });
        lines.collect()
    }

    /// The checkpoint before which `node` was next, the newest one.
    pub async fn before(&mut self, node: &str) -> CheckpointId {
        let all = self.history().await;
        let found = all.iter().rev().find(|c| c.frame.plan.tasks.iter().any(|task| &*task.node == node));
        found.unwrap_or_else(|| panic!("`{node}` was never next")).id
    }

    /// What ran since the last call, in order.
    pub fn ran(&self) -> String {
        std::mem::take(&mut self.bench.0.lock().ran).join(" ")
    }
}

/// Events that are left after a run.
pub async fn drain(mut events: tokio::sync::mpsc::Receiver<StreamEvent>) -> Vec<StreamEvent> {
    let mut list = Vec::new();
    while let Some(event) = events.recv().await {
        list.push(event);
    }
    list
}

/// Stream events of the root as text, one a line.
pub fn events_text(events: &[StreamEvent]) -> String {
    let lines = events.iter().map(|event| {
        let ns = if event.ns.is_empty() { String::new() } else { format!(" in {}", names_of(&event.ns)) };
        format!("{}{ns} {}\n", event.mode.word(), event.data)
    });
    lines.collect()
}

fn names_of(ns: &[String]) -> String {
    let names: Vec<&str> = ns.iter().map(|segment| segment.split(':').next().unwrap_or("")).collect();
    names.join("|")
}

/// An output that writes each key of `values`.
pub fn out(values: Value) -> NodeResult {
    Ok(output(values))
}

/// As [`out`], bare.
pub fn output(values: Value) -> NodeOutput {
    let writes = match values {
        Value::Object(map) => map.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        _ => Vec::new(),
    };
    NodeOutput { writes, ..NodeOutput::default() }
}

/// An output that also says where to go, in place of the declared edges.
pub fn goto(values: Value, to: &[&str]) -> NodeResult {
    let to = to.iter().map(|name| Hop::Node((*name).into())).collect();
    Ok(NodeOutput { goto: Some(Goto { to, also: false, parent: false }), ..output(values) })
}

/// An output that sends tasks besides the declared edges.
pub fn send(values: Value, to: &str, items: &[Value]) -> NodeResult {
    let to = items.iter().map(|item| Hop::Send(to.into(), Arc::new(json!({ "item": item })))).collect();
    Ok(NodeOutput { goto: Some(Goto { to, also: true, parent: false }), ..output(values) })
}

/// A failure that may pass.
pub fn broken(text: &str) -> NodeResult {
    Err(TaskError::new(ErrorClass::Transient, text))
}

/// A failure that stays.
pub fn fatal(text: &str) -> NodeResult {
    Err(TaskError::new(ErrorClass::Permanent, text))
}

/// A free question.
pub fn question(title: &str) -> Question {
    Question { title: title.to_owned(), payload: json!(title), ..Question::default() }
}

/// Asks and gives the bare answer.
pub async fn ask(ctx: &Context, title: &str) -> Result<Value, TaskError> {
    let answer = ctx.ask(question(title)).await?;
    Ok(answer.map_or(Value::Null, |answer| Value::clone(&answer.value)))
}

/// An answer to a question by `ana`, bound to what she saw.
pub fn yes(question: &Interrupt, value: Value) -> AnswerInput {
    AnswerInput { id: question.id, digest: Some(question.digest.clone()), value, by: person("ana") }
}

/// An answer by id alone.
pub fn by_id(id: InterruptId, value: Value) -> AnswerInput {
    AnswerInput { id, digest: None, value, by: person("ana") }
}

/// Somebody without groups.
pub fn person(user: &str) -> Principal {
    Principal { user: user.to_owned(), groups: Vec::new() }
}

/// The message of a failed run.
pub fn failure(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(error) => &error.message,
        other => panic!("the run did not fail: {other:?}"),
    }
}

/// Events of these modes.
pub fn modes(list: &[Mode]) -> Modes {
    list.iter().fold(Modes::default(), |all, mode| all.with(*mode))
}

/// Runs a case on every store: the strict double, memory, sled and fjall.
pub fn on_every_store<F, Fut>(case: F)
where
    F: Fn(Lab) -> Fut,
    Fut: Future<Output = ()>,
{
    // A snapshot is rewritten once.
    let kinds = if std::env::var_os("UPDATE_EXPECT").is_some() { 1 } else { 4 };
    for kind in ["strict", "memory", "sled", "fjall"].into_iter().take(kinds) {
        let folder = tempfile::tempdir().expect("a folder for the store");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        eprintln!("on {kind}");
        runtime.block_on(async {
            let store: Arc<dyn Store> = match kind {
                "strict" => Arc::new(StrictStore::on(&Disk::default())),
                kind => crate::open_store(kind, folder.path()),
            };
            case(Lab::over(store)).await;
        });
    }
}

/// Options with breakpoints before nodes.
pub fn pause_before(nodes: &[&str]) -> RunOptions {
    RunOptions { interrupt_before: nodes.iter().map(|node| (*node).into()).collect(), ..RunOptions::default() }
}

/// Options with a limit of supersteps.
pub fn limit(supersteps: u32) -> RunOptions {
    RunOptions { recursion_limit: Some(supersteps), ..RunOptions::default() }
}
