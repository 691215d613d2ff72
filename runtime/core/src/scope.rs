//! What expressions of a task can see, looked up lazily.

use std::cell::OnceCell;
use std::sync::Arc;

use graphs::Scope;
use serde_json::{Map, Value, json};

use crate::channels::{Change, Channels, fold};
use crate::ids::{RunId, ThreadId, Timestamp};
use crate::record::CallOutcome;
use crate::run::Run;

/// Facts about the execution that expressions may read.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Thread.
    pub thread: Option<ThreadId>,
    /// Run.
    pub run: Option<RunId>,
    /// Superstep.
    pub step: i64,
    /// Attempts before this one.
    pub attempts: u32,
    /// Time of the decision.
    pub now: Timestamp,
}

/// Names in order of precedence: own variables, `extra` (`result`, `answer`), channels as this task sees them, facts.
pub struct TaskScope<'a> {
    /// Rendered `with`, send variables, `error`.
    pub vars: &'a Map<String, Value>,
    /// Names that exist only here, such as `result` or `answer`.
    pub extra: Vec<(&'static str, Value)>,
    /// The snapshot.
    pub channels: &'a Channels,
    /// Memory-only channels.
    pub untracked: &'a Map<String, Value>,
    /// The task's own writes on top of the snapshot.
    pub writes: &'a [Change],
    /// The thread's input.
    pub input: &'a Value,
    /// Declared channels: a known channel without a value is `null`, not an unknown name.
    pub graph: &'a graphs::CompiledGraph,
    /// Execution facts.
    pub facts: Facts,
    cells: Cells,
}

#[derive(Default)]
struct Cells {
    overlay: Vec<OnceCell<Arc<Value>>>,
    params: OnceCell<Value>,
    thread: OnceCell<Value>,
    run: OnceCell<Value>,
    step: OnceCell<Value>,
    attempt: OnceCell<Value>,
    now: OnceCell<Value>,
}

static NULL: Value = Value::Null;

impl<'a> TaskScope<'a> {
    /// A scope over a snapshot without own writes.
    pub fn new(graph: &'a graphs::CompiledGraph, channels: &'a Channels, vars: &'a Map<String, Value>) -> Self {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        Self {
            vars,
            extra: Vec::new(),
            channels,
            untracked: &EMPTY,
            writes: &[],
            input: &NULL,
            graph,
            facts: Facts::default(),
            cells: Cells::default(),
        }
    }

    /// With the task's own writes on top.
    #[must_use]
    pub fn with_writes(mut self, writes: &'a [Change]) -> Self {
        self.cells.overlay = writes.iter().map(|_| OnceCell::new()).collect();
        self.writes = writes;
        self
    }

    fn channel(&self, name: &str) -> Option<&Value> {
        let last = self.writes.iter().rposition(|change| &*change.channel == name);
        let base = self.channels.get(name);
        if let Some(last) = last {
            let cell = self.cells.overlay.get(last)?;
            let merged = cell.get_or_init(|| {
                let mut value = base.map_or_else(|| Arc::new(Value::Null), |slot| Arc::clone(&slot.value));
                for change in self.writes.iter().filter(|change| &*change.channel == name) {
                    fold(&mut value, &change.op);
                }
                value
            });
            return Some(merged);
        }
        if let Some(slot) = base {
            return Some(&slot.value);
        }
        if let Some(value) = self.untracked.get(name) {
            return Some(value);
        }
        let (_, channel) = self.graph.channel(name)?;
        Some(channel.default.as_ref().unwrap_or(&NULL))
    }

    fn fact(&self, name: &str) -> Option<&Value> {
        let facts = &self.facts;
        Some(match name {
            "input" => self.input,
            "params" => self.cells.params.get_or_init(|| Value::Object(self.vars.clone())),
            "thread" => self.cells.thread.get_or_init(|| json!({"id": facts.thread.as_ref().map(ToString::to_string)})),
            "run" => self.cells.run.get_or_init(|| json!({"id": facts.run.map(|run| run.to_string())})),
            "step" => self.cells.step.get_or_init(|| facts.step.into()),
            "attempt" => self.cells.attempt.get_or_init(|| (facts.attempts + 1).into()),
            "now" => self.cells.now.get_or_init(|| facts.now.to_string().into()),
            _ => return None,
        })
    }
}

impl Scope for TaskScope<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.vars.get(name) {
            return Some(value);
        }
        if let Some((_, value)) = self.extra.iter().find(|(known, _)| *known == name) {
            return Some(value);
        }
        self.channel(name).or_else(|| self.fact(name))
    }
}

impl Run {
    pub(crate) fn facts(&self, step: i64, attempts: u32) -> Facts {
        Facts {
            thread: Some(self.thread.clone()),
            run: self.state.run.as_ref().map(|run| run.id),
            step,
            attempts,
            now: self.now,
        }
    }
}

/// The value or the error of a call, as an expression sees it.
pub fn outcome_value(outcome: &CallOutcome) -> Value {
    match outcome {
        CallOutcome::Ok(value) => Value::clone(value),
        CallOutcome::Err(error) => json!({"error": {"class": error.class, "message": error.message}}),
    }
}
