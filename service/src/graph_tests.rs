//! Runs the tests a graph file carries: the real engine over a store in memory, a clock that jumps, scripted tools, agents
//! and functions, scripted answers. No process, no network, no waiting.

mod judge;
mod scripted;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agents::Collected;
use checkpoints::open::{OpenOptions, memory};
use graphs::{EffectClass, GraphTest};
use parking_lot::Mutex;
use runtime::ports::store::Store;
use runtime::rehearsal::{self, Counted, JumpingClock, People};
use runtime::{Engine, Start, history};
use runtime_core::event::{AnswerInput, Edit, Principal};
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::record::{Interrupt, Outcome, RunOptions};
use runtime_core::state::TaskStatus;
use serde_json::Value;
use tools::node::ToolNode;
use tools::toolbox::{ScriptedTools, ToolBox};

use crate::answers::{Answers, Who};
use crate::config::Config;
use crate::failure::Failure;
use crate::graph_files::GraphSet;
use crate::spawn::{Nursery, SpawnNode};
use crate::{snapshot, wiring};
use scripted::{ScriptedAgents, ScriptedFunction};

/// Longest real time of one test.
const TEST_TIME_MAX: Duration = Duration::from_secs(60);
/// When every test begins: 2026-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000_000);

/// How one test came out.
#[derive(Debug)]
pub(crate) struct TestResult {
    /// Its name.
    pub(crate) name: String,
    /// What did not come out as expected; empty when it passed.
    pub(crate) problems: Vec<String>,
    /// Nodes of the graph that ran.
    pub(crate) path: Vec<String>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// What a test run showed.
#[derive(Debug, Default)]
struct Seen {
    outcome: Option<Outcome>,
    values: Value,
    /// Nodes of the root graph in the order in which they ran.
    path: Vec<String>,
    /// Nodes that ran, those of subgraphs too.
    visited: Vec<String>,
    calls: Vec<String>,
    /// The arguments of each of the calls.
    arguments: Vec<Value>,
    open: Vec<Interrupt>,
}

/// Runs one test.
pub(crate) async fn run(set: &GraphSet, test: &GraphTest, config: &Config) -> TestResult {
    let begun = Instant::now();
    let (problems, path) = match tokio::time::timeout(TEST_TIME_MAX, play(set, test, config)).await {
        Ok(Ok(seen)) => (judge::problems(&test.expect, &seen), seen.path),
        Ok(Err(failure)) => (vec![failure.message], Vec::new()),
        Err(_) => (vec![format!("it did not end within {TEST_TIME_MAX:?}")], Vec::new()),
    };
    TestResult { name: test.name.clone(), problems, path, took: begun.elapsed() }
}

/// One test's stage.
struct Stage {
    engine: Engine,
    store: Arc<dyn Store>,
    clock: Arc<JumpingClock>,
    tools: Arc<ScriptedTools>,
    nursery: Arc<Nursery>,
    thread: ThreadId,
}

async fn play(set: &GraphSet, test: &GraphTest, config: &Config) -> Result<Seen, Failure> {
    let stage = Stage::new(set, test, config).await?;
    let answers = Answers::from_list(&Value::Array(test.answers.clone())).map_err(Failure::usage)?;
    let ended = stage.start(set, test).await;
    let seen = match ended {
        Ok(()) => stage.to_end(answers, &Who::new(None, config)).await,
        Err(failure) => Err(failure),
    };
    stage.nursery.close();
    seen
}

impl Stage {
    async fn new(set: &GraphSet, test: &GraphTest, config: &Config) -> Result<Self, Failure> {
        let store: Arc<dyn Store> = Arc::new(memory(&OpenOptions::default()));
        let clock = Arc::new(JumpingClock::starting(BEGIN));
        // Nobody declares effects of scripted tools: the node's own `effect` counts, and what has none only reads.
        let tools = Arc::new(ScriptedTools::from_test(&test.tools, |_| EffectClass::ReadOnly));
        let toolbox: Arc<dyn ToolBox> = tools.clone();
        let nursery = Arc::new(Nursery::default());
        let agents = wiring::Agents::new(
            Arc::clone(&toolbox),
            Arc::new(Collected::default()),
            Arc::new(wiring::Minds::rules_only(config)),
        );
        let mut builder = Engine::builder(Arc::clone(&store))
            .clock(clock.clone())
            .entropy(Arc::new(Counted::default()))
            .policy(wiring::test_policy(config))
            .kind("tool", Arc::new(ToolNode::new(toolbox)))
            .kind("agent", Arc::new(ScriptedAgents::new(&test.agents, agents)))
            .kind("spawn", Arc::new(SpawnNode(Arc::clone(&nursery))));
        for (name, outputs) in test.functions.as_object().into_iter().flatten() {
            builder = builder.function(name, Arc::new(ScriptedFunction::new(outputs)));
        }
        let engine = builder.build();
        nursery.open(engine.clone());
        for graph in std::iter::once(&set.root).chain(set.others.values()) {
            nursery.add(Arc::clone(graph));
            engine.add_graph(Arc::clone(graph)).await?;
        }
        let thread = ThreadId::new("test").map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self { engine, store, clock, tools, nursery, thread })
    }

    /// Runs from the input; with a state to start with, the run pauses first to put it in.
    async fn start(&self, set: &GraphSet, test: &GraphTest) -> Result<(), Failure> {
        let prepared = test.start_state.as_object().is_some_and(|state| !state.is_empty());
        let pause = if prepared { vec!["*".into()] } else { Vec::new() };
        let options = RunOptions { interrupt_before: pause, ..RunOptions::default() };
        let (graph, thread) = (Arc::clone(&set.root), self.thread.clone());
        let start = Start { graph, thread, input: test.input.clone(), options, metadata: Value::Null };
        self.engine.start(start).await?.ended().await?;
        if prepared {
            let edit = Edit { values: test.start_state.clone(), as_node: None };
            self.engine.update(&self.thread, vec![edit], None).await?;
            self.engine.resume(&self.thread, RunOptions::default()).await?.ended().await?;
        }
        Ok(())
    }

    /// Answers what is asked and jumps to what is waited for, until nothing more happens.
    async fn to_end(&self, answers: Answers, who: &Who) -> Result<Seen, Failure> {
        let mut people = Listed { answers, who };
        rehearsal::play_on(&self.engine, &self.clock, &self.thread, &mut people).await?;
        self.seen().await
    }

    async fn seen(&self) -> Result<Seen, Failure> {
        let state = self.engine.state(&self.thread).await?.unwrap_or_default();
        let mut seen = Seen {
            outcome: state.run.as_ref().and_then(|run| run.outcome.clone()),
            values: snapshot::values(&state),
            calls: self.tools.called(),
            arguments: self.tools.calls().into_iter().map(|call| Value::clone(&call.args)).collect(),
            open: state.interrupts.values().cloned().collect(),
            ..Seen::default()
        };
        for checkpoint in history::checkpoints(&*self.store, &self.thread).await? {
            for (planned, task) in checkpoint.frame.plan.tasks.iter().zip(&checkpoint.tasks) {
                if planned.node.starts_with("__") || task.status == TaskStatus::Pending {
                    continue;
                }
                if checkpoint.ns.is_empty() {
                    seen.path.push(planned.node.to_string());
                }
                seen.visited.push(planned.node.to_string());
            }
        }
        Ok(seen)
    }
}

/// People whose answers a test lists.
struct Listed<'a> {
    answers: Answers,
    who: &'a Who,
}

impl People for Listed<'_> {
    fn answer(&mut self, question: &Interrupt) -> Option<(AnswerInput, Option<Timestamp>)> {
        if self.answers.is_left_open(question) {
            return None;
        }
        let answer = self.answers.take(question, self.who)?;
        // Approver groups belong to an installation, not to a graph's test.
        let groups = question.approvers.iter().filter_map(|approver| approver.strip_prefix("group:"));
        let by = Principal { groups: groups.map(str::to_owned).collect(), ..answer.by.clone() };
        Some((AnswerInput { by, ..answer }, None))
    }

    fn lets_expire(&mut self, question: &Interrupt) -> bool {
        self.answers.take_silence(question)
    }
}

/// A scripted list of outputs with its place.
type Turns = Mutex<usize>;
