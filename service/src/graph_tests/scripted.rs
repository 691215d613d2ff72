//! Stand-ins for the world of a test: clock, chance, agents and functions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use runtime::ports::clock::{Clock, Entropy};
use runtime::{Context, NodeKind};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::NodeOutput;
use runtime_core::ids::Timestamp;
use serde_json::Value;

use super::Turns;
use crate::wiring::Agents;

/// When every test begins: 2026-01-01T00:00:00Z.
const BEGIN_US: i64 = 1_767_225_600_000_000;
/// Turns that everything else gets before the clock jumps.
const TURNS_BEFORE_JUMP: usize = 64;

/// A clock that jumps to what is waited for, once nothing else is left to do.
pub(super) struct JumpingClock(AtomicI64);

impl Default for JumpingClock {
    fn default() -> Self {
        Self(AtomicI64::new(BEGIN_US))
    }
}

impl JumpingClock {
    /// Goes forward to a moment.
    pub(super) fn jump_to(&self, at: Timestamp) {
        self.0.fetch_max(at.0, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    async fn sleep_until(&self, at: Timestamp) {
        for _ in 0..TURNS_BEFORE_JUMP {
            tokio::task::yield_now().await;
        }
        self.jump_to(at);
    }
}

/// Bits that are the same in every run.
#[derive(Default)]
pub(super) struct Chance(AtomicU64);

impl Entropy for Chance {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}

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
