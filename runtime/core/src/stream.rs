//! Stream events, with the payloads of LangGraph's stream modes. Built only for modes somebody subscribed to.

use graphs::CompiledGraph;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::channels;
use crate::dispatch::Starting;
use crate::effect::Effect;
use crate::ids::{Ns, TaskId};
use crate::record::{Durability, Interrupt, PlannedTask, Source};
use crate::run::Run;
use crate::state::{Frame, TaskState, TaskStatus, ThreadState};

/// A set of stream modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes(u8);

/// One stream mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Full state after each superstep.
    Values,
    /// What each task wrote.
    Updates,
    /// Model messages and chunks.
    Messages,
    /// Whatever nodes emit.
    Custom,
    /// Task starts and results.
    Tasks,
    /// Checkpoints as they are made.
    Checkpoints,
    /// `checkpoints` and `tasks`, wrapped with step and time.
    Debug,
}

impl Mode {
    /// Every mode with its word.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("values", Self::Values),
        ("updates", Self::Updates),
        ("messages", Self::Messages),
        ("custom", Self::Custom),
        ("tasks", Self::Tasks),
        ("checkpoints", Self::Checkpoints),
        ("debug", Self::Debug),
    ];

    /// The mode of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode)
    }

    /// The word of this mode.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, mode)| *mode == self).map_or("custom", |(word, _)| word)
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl Modes {
    /// Every mode.
    pub const ALL: Self = Self(0x7f);

    /// Adds a mode.
    #[must_use]
    pub fn with(self, mode: Mode) -> Self {
        Self(self.0 | mode.bit())
    }

    /// Both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a mode is in the set.
    pub fn has(self, mode: Mode) -> bool {
        self.0 & mode.bit() != 0
    }
}

/// One event for subscribers: LangGraph's `{type, ns, data}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamEvent {
    /// The mode it belongs to.
    #[serde(rename = "type")]
    pub mode: Mode,
    /// Namespace segments of the frame.
    pub ns: Vec<String>,
    /// The payload.
    pub data: Value,
}

/// `a:1|b:2` as segments.
pub fn segments(ns: &str) -> Vec<String> {
    ns.split('|').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

impl Run {
    pub(crate) fn emit(&mut self, mode: Mode, ns: &Ns, data: Value) {
        self.push_event(StreamEvent { mode, ns: segments(ns), data });
    }

    /// State that is shown is durable first (with `sync`): nobody sees what a crash could take back.
    fn emit_durable(&mut self, mode: Mode, ns: &Ns, data: Value) {
        let event = StreamEvent { mode, ns: segments(ns), data };
        match self.state.active_run().map(|run| run.options.durability) {
            Some(Durability::Async | Durability::Exit) => self.push_event(event),
            _ => self.hold(Effect::Emit(Box::new(event))),
        }
    }

    /// Task events also appear in `debug`, wrapped.
    fn emit_task_event(&mut self, ns: &Ns, kind: &str, payload: Value) {
        if self.modes.has(Mode::Debug) {
            let step = self.state.frames.get(ns).map_or(0, |frame| frame.step + 1);
            let wrapped = json!({"type": kind, "step": step, "timestamp": self.now.to_string(), "payload": payload});
            self.emit(Mode::Debug, ns, wrapped);
        }
        if self.modes.has(Mode::Tasks) {
            self.emit(Mode::Tasks, ns, payload);
        }
    }

    fn wants_tasks(&self) -> bool {
        self.modes.has(Mode::Tasks) || self.modes.has(Mode::Debug)
    }

    pub(crate) fn stream_task_start(&mut self, starting: &Starting) {
        if !self.wants_tasks() {
            return;
        }
        let Some((_, frame, index)) = self.state.find_task(starting.id) else { return };
        let Some(planned) = frame.plan.tasks.get(index) else { return };
        let payload = json!({
            "id": starting.id,
            "name": planned.node,
            "input": task_input(frame, planned, &starting.vars),
            "triggers": [trigger(&starting.view.graph, planned)],
            "metadata": {"step": frame.step + 1},
        });
        self.emit_task_event(&starting.ns, "task", payload);
    }

    pub(crate) fn stream_task_result(&mut self, ns: &Ns, task: TaskId, error: Option<&str>) {
        let tasks = self.wants_tasks();
        if !tasks && !self.modes.has(Mode::Updates) {
            return;
        }
        let Some((_, frame, index)) = self.state.find_task(task) else { return };
        let node = frame.plan.tasks.get(index).map_or_else(String::new, |planned| planned.node.to_string());
        let Some(state) = frame.tasks.get(index) else { return };
        let (update, cached) = task_update(state);
        if error.is_none() && self.modes.has(Mode::Updates) {
            let mut data = json!({ node.clone(): update });
            if cached && let Some(map) = data.as_object_mut() {
                map.insert("__metadata__".to_owned(), json!({"cached": true}));
            }
            self.emit(Mode::Updates, ns, data);
        }
        if tasks {
            let result = json!({"id": task, "name": node, "error": error, "interrupts": [], "result": update});
            self.emit_task_event(ns, "task_result", result);
        }
    }

    pub(crate) fn stream_interrupt(&mut self, ns: &Ns, interrupts: &[Interrupt]) {
        if self.modes.has(Mode::Updates) {
            let shown: Vec<Value> = interrupts.iter().map(show_interrupt).collect();
            self.emit(Mode::Updates, ns, json!({ "__interrupt__": shown }));
        }
    }

    /// A pause shows the state as it is, with the open questions.
    pub(crate) fn stream_pause(&mut self) {
        let Some(frame) = self.state.root().filter(|_| self.modes.has(Mode::Values)) else { return };
        let mut values = channels::values(&frame.channels);
        let open: Vec<Value> = self.state.interrupts.values().map(show_interrupt).collect();
        if let Some(map) = values.as_object_mut() {
            map.insert("__interrupt__".to_owned(), Value::Array(open));
        }
        self.emit_durable(Mode::Values, &"".into(), values);
    }

    /// Tasks that finished in an earlier run of the same superstep are shown again, marked as restored.
    pub(crate) fn stream_cached(&mut self) {
        if !self.modes.has(Mode::Updates) {
            return;
        }
        let mut shown = Vec::new();
        for (ns, frame) in self.state.frames.iter().filter(|(_, frame)| !frame.asleep) {
            for (planned, task) in frame.plan.tasks.iter().zip(&frame.tasks) {
                if matches!(task.status, TaskStatus::Finished { .. }) {
                    let data =
                        json!({ planned.node.to_string(): task_update(task).0, "__metadata__": {"cached": true} });
                    shown.push((ns.clone(), data));
                }
            }
        }
        for (ns, data) in shown {
            self.emit(Mode::Updates, &ns, data);
        }
    }

    pub(crate) fn stream_checkpoint(&mut self, ns: &Ns) {
        let Some(frame) = self.state.frames.get(ns) else { return };
        let shows_values = self.modes.has(Mode::Values) && frame.source != Source::Input;
        let values = shows_values.then(|| channels::values(&frame.channels));
        let checkpoint = (self.modes.has(Mode::Checkpoints) || self.modes.has(Mode::Debug))
            .then(|| show_checkpoint(self.thread.as_str(), (ns, frame), &self.state));
        if let Some(values) = values {
            self.emit_durable(Mode::Values, ns, values);
        }
        if let Some(checkpoint) = checkpoint {
            if self.modes.has(Mode::Debug) {
                let step = self.state.frames.get(ns).map_or(0, |frame| frame.step);
                let at = self.now.to_string();
                let wrapped = json!({"type": "checkpoint", "step": step, "timestamp": at, "payload": checkpoint});
                self.emit_durable(Mode::Debug, ns, wrapped);
            }
            if self.modes.has(Mode::Checkpoints) {
                self.emit_durable(Mode::Checkpoints, ns, checkpoint);
            }
        }
    }
}

/// What a task reads: the state with its variables over it; a sent task has only what it was sent with.
fn task_input(frame: &Frame, planned: &PlannedTask, vars: &Map<String, Value>) -> Value {
    let mut input = match planned.send {
        Some(_) => Value::Object(Map::new()),
        None => channels::values(&frame.channels),
    };
    if let Some(map) = input.as_object_mut() {
        map.extend(vars.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    input
}

/// What started a task, in LangGraph's words: an edge, a join of edges, or a send.
fn trigger(graph: &CompiledGraph, planned: &PlannedTask) -> String {
    if planned.send.is_some() {
        return "__pregel_push".to_owned();
    }
    let after = graph.node_by_name(&planned.node).map_or(&[][..], |node| node.after.as_slice());
    let sources: Vec<&str> = after.iter().filter_map(|ix| graph.node(*ix)).map(|node| node.name.as_str()).collect();
    if sources.is_empty() {
        return format!("branch:to:{}", planned.node);
    }
    format!("join:{}:{}", sources.join("+"), planned.node)
}

/// What a finished task wrote, as one object (a list when a channel was written several times), and whether it came
/// from the cache. `null` when it wrote nothing.
pub fn task_update(task: &TaskState) -> (Value, bool) {
    let TaskStatus::Finished { changes, cached, .. } = &task.status else { return (Value::Null, false) };
    if changes.is_empty() {
        return (Value::Null, *cached);
    }
    let mut parts: Vec<Map<String, Value>> = vec![Map::new()];
    for change in changes {
        let fits = parts.last().is_some_and(|part| !part.contains_key(&*change.channel));
        if !fits {
            parts.push(Map::new());
        }
        if let Some(part) = parts.last_mut() {
            part.insert(change.channel.to_string(), change.op.shown());
        }
    }
    let mut shown: Vec<Value> = parts.into_iter().map(Value::Object).collect();
    let update = if shown.len() == 1 { shown.pop().unwrap_or_default() } else { Value::Array(shown) };
    (update, *cached)
}

/// A question as LangGraph shows it (`id`, `value`), with what Interlock knows besides.
pub fn show_interrupt(interrupt: &Interrupt) -> Value {
    json!({
        "id": interrupt.id,
        "value": interrupt.payload,
        "kind": interrupt.kind,
        "title": interrupt.title,
        "body": interrupt.body,
        "digest": interrupt.digest,
        "choices": interrupt.choices,
        "schema": interrupt.schema,
        "node": interrupt.node,
        "ns": segments(&interrupt.ns),
        "approvers": interrupt.approvers,
        "expires_at": interrupt.expires_at.map(|at| at.to_string()),
    })
}

/// Checkpoints of the frames around a frame, by namespace: `{}` for the root.
pub fn parents(state: &ThreadState, ns: &str) -> Value {
    let outer = state.frames.iter().filter(|(other, _)| {
        ns.strip_prefix(&***other).is_some_and(|rest| !rest.is_empty() && (other.is_empty() || rest.starts_with('|')))
    });
    Value::Object(outer.map(|(other, frame)| (other.to_string(), json!(frame.checkpoint))).collect())
}

/// A frame's checkpoint as the `checkpoints` mode shows it: config, metadata, values, next, parent, tasks.
fn show_checkpoint(thread: &str, (ns, frame): (&Ns, &Frame), state: &ThreadState) -> Value {
    let config = |id| json!({"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}});
    let tasks: Vec<Value> = frame
        .plan
        .tasks
        .iter()
        .zip(&frame.tasks)
        .map(|(planned, task)| json!({"id": task.id, "name": planned.node, "interrupts": [], "state": null}))
        .collect();
    let next: Vec<&str> = frame.plan.tasks.iter().map(|task| &*task.node).collect();
    json!({
        "config": config(frame.checkpoint),
        "parent_config": frame.parent.map(config),
        "metadata": {"source": frame.source.word(), "step": frame.step, "parents": parents(state, ns)},
        "values": channels::values(&frame.channels),
        "next": next,
        "tasks": tasks,
    })
}
