//! The `spawn:` node kind: starts or joins a thread of another graph, once per key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use graphs::{CompiledGraph, EffectClass, Kind, SpawnNode as Declared};
use parking_lot::RwLock;
use runtime::{CallSpec, Context, Engine, EngineFault, NodeKind, Start};
use runtime_core::effect::Refusal;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::NodeOutput;
use runtime_core::ids::ThreadId;
use runtime_core::record::{CallKind, Outcome, RunOptions};
use serde_json::{Value, json};

use crate::snapshot;

/// Started threads that are waited for; `interlock resume` goes on with any beyond.
const STARTED_MAX: usize = 10_000;

/// The graphs that can be spawned, and the engine that runs them.
#[derive(Default)]
pub(crate) struct Nursery {
    graphs: RwLock<BTreeMap<String, Arc<CompiledGraph>>>,
    engine: RwLock<Option<Engine>>,
    /// Threads that were started here and may still be at work.
    started: RwLock<BTreeSet<ThreadId>>,
}

impl Nursery {
    /// Makes a graph known by its name.
    pub(crate) fn add(&self, graph: Arc<CompiledGraph>) {
        self.graphs.write().insert(graph.name().to_owned(), graph);
    }

    /// Hands over the engine, once there is one.
    pub(crate) fn open(&self, engine: Engine) {
        *self.engine.write() = Some(engine);
    }

    /// Waits until every thread that was started here has ended or waits for somebody: when this process is gone, nobody
    /// would go on with it.
    pub(crate) async fn rest(&self) -> Result<(), EngineFault> {
        loop {
            let next = self.started.write().pop_first();
            let engine = self.engine.read().clone();
            let (Some(thread), Some(engine)) = (next, engine) else { return Ok(()) };
            engine.join(&thread).await?;
        }
    }

    fn note(&self, thread: &ThreadId) {
        let mut started = self.started.write();
        if started.len() < STARTED_MAX {
            started.insert(thread.clone());
        }
    }

    /// Lets go of the engine, which holds this nursery.
    pub(crate) fn close(&self) {
        *self.engine.write() = None;
    }
}

/// Code of the `spawn` node kind.
pub(crate) struct SpawnNode(pub(crate) Arc<Nursery>);

#[async_trait]
impl NodeKind for SpawnNode {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        let node = ctx.node()?;
        let Kind::Spawn(declared) = &node.kind else {
            return Err(TaskError::bug(format!("node `{}` is no spawn node", node.name)));
        };
        let engine = self.0.engine.read().clone().ok_or_else(|| TaskError::bug("the engine is shutting down"))?;
        let graph = self.0.graphs.read().get(&declared.graph).cloned().ok_or_else(|| {
            TaskError::new(
                ErrorClass::NotFound,
                format!("node `{}` spawns graph `{}`, which is not known here", node.name, declared.graph),
            )
        })?;
        let (args, key) = asked(&ctx, declared)?;
        let spec = CallSpec::new(CallKind::Spawn, &declared.graph, args, EffectClass::Idempotent);
        let (join, nursery) = (declared.join, Arc::clone(&self.0));
        let result = ctx
            .call(spec, move |permit| async move {
                let thread = thread_of(graph.name(), key.as_deref().unwrap_or(&permit.key))?;
                let status = start(&engine, graph, &thread, &permit.args["input"]).await?;
                if join {
                    return joined(&engine, &thread).await;
                }
                nursery.note(&thread);
                Ok(json!({"thread_id": thread, "started": status.is_none(), "status": status.unwrap_or("running")}))
            })
            .await?;
        Ok(NodeOutput { result: Some(Value::clone(&result)), ..NodeOutput::default() })
    }
}

/// The rendered input, and the key of the thread if the graph gives one.
fn asked(ctx: &Context, declared: &Declared) -> Result<(Value, Option<String>), TaskError> {
    let scope = ctx.scope();
    let bad = |error: graphs::ExprError| TaskError::invalid(error.to_string());
    let input = declared.input.render(&scope).map_err(bad)?;
    let key = match &declared.key {
        None => None,
        Some(key) => Some(match key.render(&scope).map_err(bad)? {
            Value::String(text) => text,
            other => other.to_string(),
        }),
    };
    Ok((json!({"input": input, "key": key}), key))
}

/// The thread of a graph with this key.
fn thread_of(graph: &str, key: &str) -> Result<ThreadId, TaskError> {
    let named = format!("{graph}:{key}");
    let printable: String =
        named.chars().map(|c| if c == '/' || c == '\\' || c.is_control() { '-' } else { c }).collect();
    ThreadId::new(&printable).map_err(|error| TaskError::invalid(format!("spawn: {error}")))
}

/// Starts the thread unless it is there; then what it has come to, because it may have ended long ago, and whoever
/// joins it must be able to see that nobody works on it.
async fn start(
    engine: &Engine,
    graph: Arc<CompiledGraph>,
    thread: &ThreadId,
    input: &Value,
) -> Result<Option<&'static str>, TaskError> {
    if let Some(there) = engine.state(thread).await.map_err(fault)?.filter(|state| state.graph.is_some()) {
        let outcome = there.run.and_then(|run| run.outcome);
        if outcome == Some(Outcome::Drained) {
            // A process left in the middle of its work, and nobody has gone on with it since.
            engine.resume(thread, RunOptions::default()).await.map_err(fault)?;
            return Ok(Some("running"));
        }
        return Ok(Some(outcome.as_ref().map_or("running", snapshot::outcome_word)));
    }
    let start = Start {
        graph,
        thread: thread.clone(),
        input: input.clone(),
        options: RunOptions::default(),
        metadata: json!({"spawned": true}),
    };
    match engine.start(start).await {
        Ok(_) => Ok(None),
        // Somebody else with the same key was first.
        Err(EngineFault::Refused(Refusal::Busy { .. })) => Ok(Some("running")),
        Err(error) => Err(fault(error)),
    }
}

/// The output of a thread that has finished.
async fn joined(engine: &Engine, thread: &ThreadId) -> Result<Value, TaskError> {
    engine.join(thread).await.map_err(fault)?;
    let state = engine.state(thread).await.map_err(fault)?.unwrap_or_default();
    let outcome = state.run.as_ref().and_then(|run| run.outcome.clone());
    match outcome {
        Some(Outcome::Success) => Ok(json!({"thread_id": thread, "output": snapshot::values(&state)})),
        Some(Outcome::Failed(error)) => {
            Err(TaskError::new(error.class, format!("thread `{thread}`: {}", error.message)))
        }
        other => {
            let word = other.as_ref().map_or("busy", snapshot::outcome_word);
            let text = format!("thread `{thread}` is {word}: finish it, then `interlock resume` this one");
            Err(TaskError::new(ErrorClass::Transient, text))
        }
    }
}

fn fault(error: EngineFault) -> TaskError {
    TaskError::new(ErrorClass::Resource, error.to_string())
}
