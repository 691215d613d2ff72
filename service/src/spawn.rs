//! The `spawn:` node kind: starts or joins a thread of another graph, once per key.

use std::collections::BTreeMap;
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

/// The graphs that can be spawned, and the engine that runs them.
#[derive(Default)]
pub(crate) struct Nursery {
    graphs: RwLock<BTreeMap<String, Arc<CompiledGraph>>>,
    engine: RwLock<Option<Engine>>,
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
        let join = declared.join;
        let result = ctx
            .call(spec, move |permit| async move {
                start(&engine, graph, (&permit.key, key), &permit.args["input"], join).await
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

/// Starts the thread unless it is there, and waits for it if asked to.
async fn start(
    engine: &Engine,
    graph: Arc<CompiledGraph>,
    names: (&str, Option<String>),
    input: &Value,
    join: bool,
) -> Result<Value, TaskError> {
    let (call_key, key) = names;
    let named = format!("{}:{}", graph.name(), key.as_deref().unwrap_or(call_key));
    let printable: String =
        named.chars().map(|c| if c == '/' || c == '\\' || c.is_control() { '-' } else { c }).collect();
    let thread = ThreadId::new(&printable).map_err(|error| TaskError::invalid(format!("spawn: {error}")))?;
    let before = engine.state(&thread).await.map_err(fault)?.filter(|state| state.graph.is_some());
    let mut started = false;
    if before.is_none() {
        let start = Start {
            graph,
            thread: thread.clone(),
            input: input.clone(),
            options: RunOptions::default(),
            metadata: json!({"spawned": true}),
        };
        match engine.start(start).await {
            Ok(running) => {
                started = true;
                if join {
                    drop(running.ended().await);
                }
            }
            // Somebody else with the same key was first.
            Err(EngineFault::Refused(Refusal::Busy { .. })) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    if join {
        return joined(engine, &thread).await;
    }
    // A thread that was there may have ended long ago: whoever joins it must be able to see that nobody works on it.
    let outcome = before.and_then(|state| state.run).and_then(|run| run.outcome);
    let status = outcome.as_ref().map_or("running", snapshot::outcome_word);
    Ok(json!({"thread_id": thread, "started": started, "status": status}))
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
