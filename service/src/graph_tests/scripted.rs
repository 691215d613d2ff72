//! Stand-ins for the world of a test: agents and functions.

use std::collections::BTreeMap;

use async_trait::async_trait;
use runtime::{Context, NodeKind};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::NodeOutput;
use serde_json::Value;

use super::Turns;
use crate::wiring::Agents;

/// The next of several outputs; the last one again when they are used up. One that is no list is always the same.
fn next_output(outputs: &Value, turns: &Turns) -> Result<Value, TaskError> {
    let output = match outputs {
        Value::Array(items) => {
            let mut turn = turns.lock();
            let item = items.get(*turn).or(items.last());
            *turn += 1;
            item.cloned().unwrap_or_default()
        }
        single => single.clone(),
    };
    let error = output.get("error").filter(|_| output.as_object().is_some_and(|map| map.len() == 1));
    match error.and_then(Value::as_object) {
        None => Ok(output),
        Some(error) => {
            let text = |key: &str| error.get(key).and_then(Value::as_str);
            let class = text("class").and_then(ErrorClass::from_word).unwrap_or(ErrorClass::Unknown);
            Err(TaskError::new(class, text("message").unwrap_or("a scripted failure")))
        }
    }
}

/// Agents with scripted outputs by node; the others are the real ones, over scripted tools.
pub(super) struct ScriptedAgents {
    outputs: BTreeMap<String, (Value, Turns)>,
    real: Agents,
}

impl ScriptedAgents {
    pub(super) fn new(agents: &Value, real: Agents) -> Self {
        let outputs = agents.as_object().into_iter().flatten();
        Self {
            outputs: outputs.map(|(node, outputs)| (node.clone(), (outputs.clone(), Turns::default()))).collect(),
            real,
        }
    }
}

#[async_trait]
impl NodeKind for ScriptedAgents {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        match self.outputs.get(&ctx.node()?.name) {
            Some((outputs, turns)) => {
                Ok(NodeOutput { result: Some(next_output(outputs, turns)?), ..NodeOutput::default() })
            }
            None => self.real.run(ctx).await,
        }
    }
}

/// A function with scripted results.
pub(super) struct ScriptedFunction {
    outputs: Value,
    turns: Turns,
}

impl ScriptedFunction {
    pub(super) fn new(outputs: &Value) -> Self {
        Self { outputs: outputs.clone(), turns: Turns::default() }
    }
}

#[async_trait]
impl NodeKind for ScriptedFunction {
    async fn run(&self, _: Context) -> Result<NodeOutput, TaskError> {
        let output = next_output(&self.outputs, &self.turns)?;
        Ok(NodeOutput { result: Some(output), ..NodeOutput::default() })
    }
}
