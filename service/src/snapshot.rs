//! What a thread is at a moment, in the shape of LangGraph's state snapshots with what Interlock knows besides.

use runtime::history::Checkpoint;
use runtime::ports::store::ThreadStatus;
use runtime::view::{self, StateView, TaskView};
use runtime_core::ids::{CheckpointId, Ns, ThreadId};
use runtime_core::record::{Outcome, TimerKey};
use runtime_core::state::ThreadState;
use runtime_core::stream::show_interrupt;
use serde_json::{Value, json};

/// Deepest nesting of subgraphs that is shown.
const DEPTH_MAX: usize = 16;

/// What a thread is doing.
pub(crate) fn status(state: &ThreadState) -> ThreadStatus {
    match state.run.as_ref().map(|run| &run.outcome) {
        Some(None) => ThreadStatus::Busy,
        Some(Some(Outcome::Interrupted)) => ThreadStatus::Interrupted,
        Some(Some(Outcome::Waiting)) => ThreadStatus::Waiting,
        Some(Some(Outcome::Failed(_))) => ThreadStatus::Error,
        _ => ThreadStatus::Idle,
    }
}

/// The word of a status.
pub(crate) fn status_word(status: ThreadStatus) -> &'static str {
    match status {
        ThreadStatus::Idle => "idle",
        ThreadStatus::Busy => "busy",
        ThreadStatus::Interrupted => "interrupted",
        ThreadStatus::Waiting => "waiting",
        ThreadStatus::Error => "error",
    }
}

/// The word of an outcome.
pub(crate) fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failed(_) => "failed",
        Outcome::Interrupted => "interrupted",
        Outcome::Waiting => "waiting",
        Outcome::Cancelled => "cancelled",
        Outcome::Drained => "drained",
        Outcome::Superseded => "superseded",
    }
}

/// The failure of an outcome.
pub(crate) fn error_of(outcome: &Outcome) -> Option<Value> {
    match outcome {
        Outcome::Failed(error) => Some(json!({"class": error.class, "message": error.message})),
        _ => None,
    }
}

/// The channels of a thread now.
pub(crate) fn values(state: &ThreadState) -> Value {
    view::live(state).map_or_else(|| json!({}), |view| view.values)
}

/// Nodes that are still to run.
pub(crate) fn next(state: &ThreadState) -> Vec<String> {
    view::live(state).map(|view| view.next).unwrap_or_default()
}

/// A thread now: finished tasks applied, only what is still to run, only what is still asked.
pub(crate) fn live(thread: &ThreadId, state: &ThreadState) -> Value {
    let root = view::live(state).map(|view| shown(thread, &view, Some((state, 0))));
    let mut shown = root.unwrap_or_else(|| json!({"values": {}, "next": [], "tasks": []}));
    let run = state.run.as_ref().map(|run| {
        json!({
            "run_id": run.id,
            "kind": run.kind,
            "accepted_at": run.accepted_at.to_string(),
            "supersteps": run.supersteps,
            "outcome": run.outcome.as_ref().map(outcome_word),
            "error": run.outcome.as_ref().and_then(error_of),
        })
    });
    if let Some(map) = shown.as_object_mut() {
        map.insert("thread_id".to_owned(), json!(thread));
        map.insert("graph".to_owned(), json!(state.graph));
        map.insert("version".to_owned(), json!(state.digest));
        map.insert("status".to_owned(), json!(status(state)));
        map.insert("run".to_owned(), json!(run));
        map.insert("labels".to_owned(), state.metadata.clone());
        map.insert("interrupts".to_owned(), state.interrupts.values().map(show_interrupt).collect());
        map.insert("timers".to_owned(), timers(state));
        map.insert("queued_runs".to_owned(), json!(state.queue.len()));
        map.insert("signals".to_owned(), state.signals.iter().map(|(name, _)| json!(name)).collect());
    }
    shown
}

fn timers(state: &ThreadState) -> Value {
    let word = |key: &TimerKey| match key {
        TimerKey::Retry(_) => "retry",
        TimerKey::Wait(_) => "wait",
        TimerKey::Expire(_) => "expire",
        TimerKey::Settle => "settle",
    };
    state.timers.iter().map(|(key, at)| json!({"kind": word(key), "at": at.to_string()})).collect()
}

/// A checkpoint as it was: values at its start, all its tasks, all questions they asked.
pub(crate) fn recorded(thread: &ThreadId, checkpoint: &Checkpoint) -> Value {
    let mut shown = shown(thread, &view::record(checkpoint), None);
    shown["metadata"]["run_id"] = json!(checkpoint.run);
    shown
}

/// A view; with the subgraphs inside when it is of now.
fn shown(thread: &ThreadId, view: &StateView, inside: Option<(&ThreadState, usize)>) -> Value {
    let config = |id: CheckpointId| json!({"configurable": {"thread_id": thread, "checkpoint_ns": view.ns, "checkpoint_id": id}});
    let tasks: Vec<Value> = view.tasks.iter().map(|task| task_shown(thread, task, inside)).collect();
    json!({
        "values": view.values,
        "next": view.next,
        "config": config(view.checkpoint),
        "parent_config": view.parent.map(config),
        "metadata": {"source": view.source, "step": view.step, "parents": view.parents},
        "created_at": view.at.to_string(),
        "tasks": tasks,
        "interrupts": view.interrupts.iter().map(show_interrupt).collect::<Vec<_>>(),
    })
}

fn task_shown(thread: &ThreadId, task: &TaskView, inside: Option<(&ThreadState, usize)>) -> Value {
    let child = inside.filter(|(_, depth)| *depth < DEPTH_MAX).and_then(|(state, depth)| {
        let nearest: &Ns = task.children.iter().min_by_key(|ns| ns.len())?;
        Some(shown(thread, &view::live_in(state, nearest)?, Some((state, depth + 1))))
    });
    json!({
        "id": task.id,
        "name": task.name,
        "path": [task.path.0, task.path.1, task.path.2],
        "error": task.error,
        "interrupts": task.interrupts.iter().map(show_interrupt).collect::<Vec<_>>(),
        "result": task.result,
        "state": child,
    })
}
