//! Plays incidents: each on an engine of its own over a store in memory, with a clock that jumps, so the order in which they
//! are played changes nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agents::{AgentNode, Collected, Kit};
use graphs::CompiledGraph;
use parking_lot::Mutex;
use runtime::ports::store::Store;
use runtime::rehearsal::{Counted, JumpingClock, People, play_on};
use runtime::{Engine, EngineFault, Start, history};
use runtime_core::event::{AnswerInput, Principal};
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::interlocks::guard::Policy;
use runtime_core::record::{Interrupt, InterruptKind, Outcome, Record, RunOptions};
use runtime_core::state::ThreadState;
use serde_json::{Value, json};
use tools::node::ToolNode;
use tools::toolbox::ToolBox;

use crate::golden::{Entry, Golden};
use crate::judge::{Row, judge};
use crate::voices::Voices;
use crate::world::{PRODUCTION, WorldTools};

/// When every incident begins: 2026-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000_000);
/// Longest real time of one incident; models are asked in real time.
const TIME_MAX: Duration = Duration::from_secs(900);
/// The answer of somebody who gives none.
const NOBODY: &str = "nobody";
/// What a person chooses where the incident says nothing: the first of these that is offered.
const USUAL: [&str; 2] = ["approve", "take_over"];

/// What incidents are played with.
pub struct Lab {
    /// What the agents know.
    pub kit: Arc<Kit>,
    /// What decides on calls.
    pub policy: Arc<dyn Policy>,
    /// The graph of one incident.
    pub incident: Arc<CompiledGraph>,
    /// The graph of one round, which uses the other.
    pub round: Arc<CompiledGraph>,
    /// Makes an empty store.
    pub store: fn() -> Arc<dyn Store>,
    /// Who speaks where models are asked.
    pub voices: Voices,
}

/// How a set is played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Incidents at the same time.
    pub jobs: NonZeroUsize,
    /// Times each one is played.
    pub repeat: NonZeroUsize,
}

/// What playing one incident showed.
#[derive(Debug)]
pub(crate) struct Played {
    /// How the run ended.
    pub(crate) outcome: Option<Outcome>,
    /// Incidents that a round found; 1 where the incident was given.
    pub(crate) found: usize,
    pub(crate) diagnosis: Value,
    pub(crate) plan: Value,
    /// The line of the report.
    pub(crate) ending: Value,
    /// The thread's log.
    pub(crate) records: Vec<Record>,
    /// What holds in production in the end and did not before.
    pub(crate) changed: Vec<String>,
    /// Whether the day is right.
    pub(crate) right: bool,
}

/// Plays a set. `told` hears of each incident as it is done. Rows are in the order of the set, repetitions together.
///
/// # Errors
/// Incidents that could not be played, each with its name and why.
pub fn run(lab: &Lab, set: &[Golden], plan: Plan, told: &(dyn Fn(&Row) + Sync)) -> Result<Vec<Row>, Vec<String>> {
    let runs: Vec<&Golden> = set.iter().flat_map(|golden| std::iter::repeat_n(golden, plan.repeat.get())).collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Row, String>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.get().min(runs.len()) {
            scope.spawn(|| {
                loop {
                    let ix = next.fetch_add(1, Ordering::Relaxed);
                    let Some(golden) = runs.get(ix) else { return };
                    let row = play_alone(lab, golden).map(|played| judge(golden, &played));
                    if let Ok(row) = &row {
                        told(row);
                    }
                    done.lock().push((ix, row.map_err(|why| format!("incident `{}`: {why}", golden.id))));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(ix, _)| *ix);
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for (_, result) in done {
        match result {
            Ok(row) => rows.push(row),
            Err(why) => failed.push(why),
        }
    }
    failed.dedup();
    if failed.is_empty() { Ok(rows) } else { Err(failed) }
}

/// On one thread of the machine, so that the jumping clock never overtakes work that is under way.
fn play_alone(lab: &Lab, golden: &Golden) -> Result<Played, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("starting the runtime: {error}"))?;
    runtime.block_on(async {
        let played = tokio::time::timeout(TIME_MAX, play(lab, golden)).await;
        played.map_err(|_| format!("it did not end within {} s", TIME_MAX.as_secs()))?
    })
}

async fn play(lab: &Lab, golden: &Golden) -> Result<Played, String> {
    let tools = Arc::new(WorldTools::of(golden));
    let before = tools.flags(PRODUCTION);
    let clock = Arc::new(JumpingClock::starting(BEGIN));
    let voice = lab.voices.of(golden, &clock)?;
    let toolbox: Arc<dyn ToolBox> = Arc::clone(&tools) as _;
    let agents = AgentNode::new(Arc::clone(&toolbox), Arc::clone(&lab.kit), Arc::new(Collected::default()));
    let engine = Engine::builder((lab.store)())
        .clock(Arc::clone(&clock) as _)
        .entropy(Arc::new(Counted::default()))
        .policy(Arc::clone(&lab.policy))
        .kind("tool", Arc::new(ToolNode::new(toolbox)))
        .kind("agent", Arc::new(agents.with_mind(voice.mind)))
        .build();
    let thread = ThreadId::new("eval").map_err(|error| error.to_string())?;
    let fault = |error: EngineFault| error.to_string();
    let (graph, input) = match &golden.start {
        Entry::Incident(input) => (&lab.incident, input),
        Entry::Round(input) => (&lab.round, input),
    };
    engine.add_graph(Arc::clone(&lab.incident)).await.map_err(|error| error.to_string())?;
    let start = Start {
        graph: Arc::clone(graph),
        thread: thread.clone(),
        input: input.clone(),
        options: RunOptions::default(),
        metadata: Value::Null,
    };
    engine.start(start).await.map_err(fault)?.ended().await.map_err(fault)?;
    play_on(&engine, &clock, &thread, &mut Answering { golden }).await.map_err(fault)?;
    let missing = std::mem::take(&mut *voice.missing.lock());
    if let Some(missing) = missing.first() {
        return Err(missing.clone());
    }
    let seen = collect(lab, golden, &engine, &thread).await?;
    let changed = tools.flags(PRODUCTION).difference(&before).cloned().collect();
    engine.shutdown().await.map_err(fault)?;
    Ok(Played { changed, right: tools.holds(crate::world::RIGHT, PRODUCTION), ..seen })
}

async fn collect(lab: &Lab, golden: &Golden, engine: &Engine, thread: &ThreadId) -> Result<Played, String> {
    let state = engine.state(thread).await.map_err(|error| error.to_string())?.unwrap_or_default();
    let store = engine.store();
    let records = history::records(&**store, thread).await.map_err(|error| error.to_string())?;
    let (found, ending, diagnosis, plan) = match &golden.start {
        Entry::Incident(_) => (1, channel(&state, "outcome"), channel(&state, "diagnosis"), channel(&state, "plan")),
        Entry::Round(_) => {
            let found = channel(&state, "incidents").as_array().map_or(0, Vec::len);
            let ending = channel(&state, "outcomes").get(0).cloned().unwrap_or_default();
            // What an incident's own run knew is gone with its frame, and stands in the log.
            let checkpoints = history::checkpoints(&**store, thread).await.map_err(|error| error.to_string())?;
            let last = checkpoints.iter().rev().find(|known| *known.frame.graph == *lab.incident.name());
            let of = |name: &str| last.and_then(|last| last.frame.value(name)).map(|value| Value::clone(value));
            (found, ending, of("diagnosis").unwrap_or_default(), of("plan").unwrap_or_default())
        }
    };
    Ok(Played {
        outcome: state.run.and_then(|run| run.outcome),
        found,
        diagnosis,
        plan,
        ending,
        records: records.into_iter().map(|(_, record)| record).collect(),
        changed: Vec::new(),
        right: false,
    })
}

fn channel(state: &ThreadState, name: &str) -> Value {
    state.root().and_then(|root| root.value(name)).map(|value| Value::clone(value)).unwrap_or_default()
}

/// The people of an incident.
struct Answering<'a> {
    golden: &'a Golden,
}

impl Answering<'_> {
    fn choice(&self, question: &Interrupt) -> Option<&str> {
        let own = self.golden.person.get(&*question.node).map(String::as_str);
        let usual = USUAL.into_iter().find(|usual| question.choices.iter().any(|choice| choice == usual));
        own.or(usual)
    }
}

impl People for Answering<'_> {
    fn answer(&mut self, question: &Interrupt) -> Option<(AnswerInput, Option<Timestamp>)> {
        // Whether an act in doubt happened is for nobody to guess.
        let choice =
            self.choice(question).filter(|choice| *choice != NOBODY && question.kind != InterruptKind::InDoubt)?;
        let groups = question.approvers.iter().filter_map(|approver| approver.strip_prefix("group:"));
        let by = Principal { user: "on-call".to_owned(), groups: groups.map(str::to_owned).collect() };
        let value = json!({ "choice": choice });
        Some((AnswerInput { id: question.id, digest: Some(question.digest.clone()), value, by }, None))
    }

    fn lets_expire(&mut self, question: &Interrupt) -> bool {
        self.choice(question) == Some(NOBODY)
    }
}
