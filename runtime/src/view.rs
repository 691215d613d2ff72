//! What a thread looks like to people: the live view of now, and the record view of a checkpoint.
//!
//! Live: writes of finished tasks are applied, `next` names what is unfinished, questions are those still open.
//! Record: values as the superstep found them, all its tasks, all questions they asked.

use runtime_core::channels::{self, Change};
use runtime_core::ids::{CheckpointId, Name, Ns, TaskId, Timestamp};
use runtime_core::record::{Interrupt, PlannedTask};
use runtime_core::state::{Frame, TaskState, TaskStatus, ThreadState};
use runtime_core::stream;
use serde_json::Value;

use crate::history::Checkpoint;

/// A frame of a thread as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateView {
    /// Namespace; empty for the root.
    pub ns: Ns,
    /// Channel values.
    pub values: Value,
    /// Nodes that are next, in task order.
    pub next: Vec<String>,
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// Questions of the frame and of the frames below it.
    pub interrupts: Vec<Interrupt>,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The one before it.
    pub parent: Option<CheckpointId>,
    /// `input`, `loop`, `update` or `fork`.
    pub source: &'static str,
    /// Number of the superstep.
    pub step: i64,
    /// Checkpoints of the frames around this one, by namespace; empty for the root and for views of the past.
    pub parents: Value,
    /// When the checkpoint was made.
    pub at: Timestamp,
}

/// A task as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Its node.
    pub name: Name,
    /// `pull` or `push`, the node, and the place in the plan.
    pub path: (&'static str, Name, usize),
    /// Its last failure.
    pub error: Option<String>,
    /// Its questions.
    pub interrupts: Vec<Interrupt>,
    /// What it wrote, once it has finished.
    pub result: Option<Value>,
    /// Namespaces of its subgraphs.
    pub children: Vec<Ns>,
}

/// The root as it is now; `None` before the first input.
pub fn live(state: &ThreadState) -> Option<StateView> {
    live_in(state, "")
}

/// A frame as it is now.
pub fn live_in(state: &ThreadState, ns: &str) -> Option<StateView> {
    let (ns, frame) = state.frames.get_key_value(ns)?;
    let open: Vec<&Interrupt> = state.interrupts.values().collect();
    let seen = |interrupt: &Interrupt, task: TaskId| interrupt.task == task || below_task(&interrupt.ns, task);
    let tasks = zip(frame).map(|(index, planned, task)| {
        let asked = open.iter().filter(|interrupt| seen(interrupt, task.id)).map(|i| (*i).clone()).collect();
        task_view(state, (index, planned, task), asked)
    });
    let tasks: Vec<TaskView> = tasks.collect();
    let unfinished = |(_, planned, task): (usize, &PlannedTask, &TaskState)| {
        (!matches!(task.status, TaskStatus::Finished { .. })).then(|| planned.node.to_string())
    };
    Some(StateView {
        values: values_with(frame, &frame.tasks),
        next: zip(frame).filter_map(unfinished).collect(),
        interrupts: tasks.iter().flat_map(|task| task.interrupts.clone()).collect(),
        tasks,
        parents: stream::parents(state, ns),
        ..frame_view(ns, frame)
    })
}

/// A frame as it was at a checkpoint.
pub fn record(checkpoint: &Checkpoint) -> StateView {
    let frame = &checkpoint.frame;
    let none = ThreadState::default();
    let plan = frame.plan.tasks.iter().zip(&checkpoint.tasks).enumerate();
    let tasks = plan.map(|(index, (planned, task))| {
        let asked = checkpoint.interrupts.iter().filter(|interrupt| interrupt.task == task.id).cloned().collect();
        task_view(&none, (index, planned, task), asked)
    });
    StateView {
        values: channels::values(&frame.channels),
        next: frame.plan.tasks.iter().map(|task| task.node.to_string()).collect(),
        tasks: tasks.collect(),
        interrupts: checkpoint.interrupts.clone(),
        ..frame_view(&checkpoint.ns, frame)
    }
}

fn zip(frame: &Frame) -> impl Iterator<Item = (usize, &PlannedTask, &TaskState)> {
    frame.plan.tasks.iter().zip(&frame.tasks).enumerate().map(|(index, (planned, task))| (index, planned, task))
}

fn frame_view(ns: &Ns, frame: &Frame) -> StateView {
    StateView {
        ns: ns.clone(),
        values: Value::Null,
        next: Vec::new(),
        tasks: Vec::new(),
        interrupts: Vec::new(),
        checkpoint: frame.checkpoint,
        parent: frame.parent,
        source: frame.source.word(),
        step: frame.step,
        parents: Value::Object(serde_json::Map::new()),
        at: frame.at,
    }
}

fn task_view(state: &ThreadState, of: (usize, &PlannedTask, &TaskState), interrupts: Vec<Interrupt>) -> TaskView {
    let (index, planned, task) = of;
    let finished = matches!(task.status, TaskStatus::Finished { .. });
    TaskView {
        id: task.id,
        name: planned.node.clone(),
        path: (if planned.send.is_some() { "push" } else { "pull" }, planned.node.clone(), index),
        error: task.error.as_ref().map(|error| error.message.clone()),
        interrupts,
        result: finished.then(|| stream::task_update(task).0),
        children: state.frames.keys().filter(|ns| below_task(ns, task.id)).cloned().collect(),
    }
}

fn below_task(ns: &str, task: TaskId) -> bool {
    let id = task.to_string();
    ns.split('|').any(|segment| segment.split_once(':').is_some_and(|(_, of)| of == id))
}

/// Values with the writes of finished tasks on top.
fn values_with(frame: &Frame, tasks: &[TaskState]) -> Value {
    let written: Vec<&Change> = tasks
        .iter()
        .flat_map(|task| match &task.status {
            TaskStatus::Finished { changes, .. } => changes.as_slice(),
            _ => &[],
        })
        .collect();
    let mut now = std::sync::Arc::clone(&frame.channels);
    if !written.is_empty() {
        channels::apply(&mut now, &written, 0);
    }
    channels::values(&now)
}
