//! The world as it was: answers calls from the record, and decides on them as it was decided then.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::EffectClass;
use parking_lot::Mutex;
use runtime::rehearsal::{StandIn, StoodIn, Unmade};
use runtime_core::digest_of;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::budget::Cost;
use runtime_core::interlocks::guard::{CallFacts, Decision, Policy};
use runtime_core::record::{CallKind, CallOutcome};
use serde_json::{Value, json};
use tools::policy::pattern_fits;
use tools::toolbox::{ToolBox, ToolBrief, ToolRequest};

use super::record::{CallKey, Recorded, call_key};

const MICROS: f64 = 1e6;
/// Rule of a call that the record does not have.
const NOT_RECORDED: &str = "not-recorded";

/// The world of a record.
pub(super) struct Past {
    recorded: Arc<Recorded>,
    /// Answers given, by call.
    given: Mutex<BTreeMap<CallKey, usize>>,
}

impl Past {
    pub(super) fn new(recorded: Arc<Recorded>) -> Self {
        Self { recorded, given: Mutex::default() }
    }
}

fn key_of(call: &CallFacts<'_>) -> CallKey {
    call_key(call.kind, call.target, &digest_of(call.args))
}

impl StandIn for Past {
    fn answer(&self, call: &Unmade<'_>) -> StoodIn {
        let key = call_key(call.kind, call.target, &digest_of(call.args));
        let outcomes = self.recorded.calls.get(&key);
        let turn = {
            let mut given = self.given.lock();
            let turn = given.entry(key).or_default();
            *turn += 1;
            *turn - 1
        };
        match outcomes.and_then(|outcomes| outcomes.get(turn)) {
            Some(CallOutcome::Ok(value)) => {
                StoodIn { spent: spent(call.kind, value), outcome: Ok(Value::clone(value)) }
            }
            Some(CallOutcome::Err(error)) => StoodIn { outcome: Err(error.clone()), spent: None },
            None => {
                let often = if turn == 0 {
                    "the past run did not make it".to_owned()
                } else {
                    format!("the past run made it {turn} time(s)")
                };
                let text = format!("node `{}` calls `{}` with {}: {often}", call.node, call.target, call.args);
                StoodIn { outcome: Err(TaskError::new(ErrorClass::NotFound, text)), spent: None }
            }
        }
    }
}

/// What an answer of a model says it cost.
fn spent(kind: CallKind, value: &Value) -> Option<Cost> {
    let usage = value.get("usage").filter(|_| kind == CallKind::Model)?;
    let usd = usage.get("usd").and_then(Value::as_f64)?;
    let tokens = usage.get("tokens").and_then(Value::as_u64)?;
    Some(Cost { usd_micros: (usd * MICROS).round() as u64, tokens })
}

impl Policy for Past {
    fn decide(&self, call: &CallFacts<'_>) -> Decision {
        match self.recorded.decisions.get(&key_of(call)) {
            Some((decision, _)) => decision.clone(),
            // Nothing is made here: that it has no answer is told where it would be made.
            None => Decision::Allow { rule: NOT_RECORDED.to_owned() },
        }
    }

    fn environment(&self, call: &CallFacts<'_>) -> Option<String> {
        match self.recorded.decisions.get(&key_of(call)) {
            Some((_, env)) => env.clone(),
            None => call.env.map(str::to_owned),
        }
    }
}

/// Tools as far as the record knows them.
pub(super) struct RecordedTools(pub(super) Arc<Recorded>);

#[async_trait]
impl ToolBox for RecordedTools {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        Err(TaskError::bug(format!("`{}` was called during a replay", request.target)))
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        // What the past run did not call is asked about as if it only read: it has no answer anyway.
        Ok(self.0.effects.get(target).copied().unwrap_or(EffectClass::ReadOnly))
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        let known =
            self.0.effects.iter().filter(|(target, _)| patterns.iter().any(|pattern| pattern_fits(pattern, target)));
        Ok(known
            .map(|(target, effect)| ToolBrief {
                target: target.clone(),
                description: String::new().into(),
                effect: *effect,
                input_schema: json!({ "type": "object" }),
            })
            .collect())
    }
}
