//! How tasks fail, and how a run comes to rest: retries, handlers, grace, the failure of subgraphs, the outcome.

use std::sync::Arc;

use graphs::Node;
use serde_json::json;

use crate::dispatch::is_in;
use crate::effect::Effect;
use crate::error::TaskError;
use crate::event::LiveTimer;
use crate::finish;
use crate::frames::parent_ns;
use crate::ids::{Name, Ns, TaskId};
use crate::record::{Hop, Op, Outcome, TimerKey};
use crate::retry;
use crate::run::Run;
use crate::state::{TaskState, TaskStatus};

/// Timers this near keep the run active instead of parking it.
const NEAR: std::time::Duration = std::time::Duration::from_secs(30);

impl Run {
    /// An attempt failed: again, to the handler, or for good.
    pub(crate) fn fail_task(&mut self, id: TaskId, error: TaskError) {
        let Some((ns, frame, index)) = self.state.find_task(id) else { return };
        let attempts = frame.tasks.get(index).map_or(0, |task| task.attempts);
        let name = frame.plan.tasks.get(index).map(|task| task.node.clone()).unwrap_or_else(|| "".into());
        let ns = ns.clone();
        let view = self.view(&ns).ok();
        let node = view.as_ref().and_then(|view| view.graph.node_by_name(&name));
        if let Some(delay) = node.and_then(|node| retry::delay(&node.retry, &error, attempts, (id, self.settings.seed)))
        {
            self.retry_later(id, error, self.now.plus(delay));
            return;
        }
        self.heal_ended(id, Some(&error));
        let left = self.unfinished(id);
        match node.and_then(|node: &Node| node.on_error).zip(view.as_ref()) {
            Some((handler, view)) => self.hand_over_failure(id, &name, view.node_name(handler), &error, attempts),
            None => self.fail_for_good(id, error),
        }
        self.tell_abandoned(left);
    }

    fn retry_later(&mut self, task: TaskId, error: TaskError, at: crate::ids::Timestamp) {
        let key = TimerKey::Retry(task);
        self.record(Op::AttemptFailed { task, error, retry_at: at });
        self.record(Op::TimerSet(crate::record::Timer { key: key.clone(), at }));
        self.push(Effect::SetTimer { timer: LiveTimer::Durable(key), at });
    }

    fn hand_over_failure(&mut self, task: TaskId, node: &Name, handler: Name, error: &TaskError, attempts: u32) {
        let vars = finish::handler_vars(node, error, attempts + 1);
        let detail = json!({"handler": &*handler, "class": error.class, "message": error.message});
        self.audit("runtime", "error.handled", (node, Some(task)), detail);
        self.record(Op::TaskFailed { task, error: error.clone() });
        self.task_finished(task, Vec::new(), vec![Hop::Send(handler, Arc::new(vars))], false);
    }

    pub(crate) fn fail_for_good(&mut self, task: TaskId, error: TaskError) {
        let Some(ns) = self.state.find_task(task).map(|(ns, _, _)| ns.clone()) else { return };
        self.record(Op::TaskFailed { task, error: error.clone() });
        self.log.want_flush();
        self.stream_task_result(&ns, task, Some(&error.message));
        self.wind_down(&ns, &error);
    }

    /// What a failure stops: the subgraph that a parent task will retry or handle, else everything. Tasks at work there get
    /// the grace period; tasks that have not begun do not begin.
    fn wind_down(&mut self, ns: &Ns, error: &TaskError) {
        let scope = self.failing_scope(ns, error);
        let stopped: Vec<TaskId> = self
            .state
            .frames
            .iter()
            .filter(|(other, _)| is_in(other, &scope))
            .flat_map(|(_, f)| f.tasks.iter().map(|t| t.id))
            .collect();
        self.ready.retain(|task| !stopped.contains(task));
        let at_work = self.live.values().any(|live| is_in(&live.ns, &scope));
        if self.failing.insert(scope.clone()) && at_work {
            let at = self.now.plus(self.settings.grace);
            self.push(Effect::SetTimer { timer: LiveTimer::Grace(scope), at });
        }
    }

    /// The innermost frame around a failure whose parent task reacts to it; the root when none does.
    fn failing_scope(&mut self, ns: &Ns, error: &TaskError) -> Ns {
        let mut at = ns.clone();
        while let Some(parent) = self.parent_task(&at) {
            if self.parent_reacts(parent, error) {
                return at;
            }
            at = parent_ns(&at).unwrap_or_else(|| "".into());
        }
        "".into()
    }

    /// Subgraphs that failed and have come to rest: their parent tasks retry or handle. Whether there were any.
    pub(crate) fn resolve_failed_children(&mut self) -> bool {
        let at_rest = |scope: &&Ns| !scope.is_empty() && !self.live.values().any(|live| is_in(&live.ns, scope));
        let scopes: Vec<Ns> = self.failing.iter().filter(at_rest).cloned().collect();
        let mut any = false;
        for scope in scopes {
            self.failing.remove(&scope);
            let Some((parent, error)) = self.parent_task(&scope).zip(self.failure_inside(&scope)) else { continue };
            self.close_child(&scope);
            self.fail_task(parent, error);
            any = true;
        }
        any
    }

    /// Nothing moves any more: the run pauses, fails or ends.
    pub(crate) fn settle(&mut self) {
        if self.find_failed_children() && self.resolve_failed_children() {
            return;
        }
        let failed = self.first_failure();
        let near = self.now.plus(NEAR);
        let due_soon = self
            .state
            .timers
            .iter()
            .any(|(key, at)| !matches!(key, TimerKey::Expire(_) | TimerKey::Settle) && *at <= near);
        if let Some(error) = failed {
            self.end_run(Outcome::Failed(error));
        } else if due_soon && self.draining {
            self.end_run(Outcome::Drained);
        } else if due_soon {
        } else if let Some(outcome) = self.held_for() {
            self.end_run(outcome);
        } else if !self.state.interrupts.is_empty() {
            self.end_run(Outcome::Interrupted);
        } else if self.has_waiting() {
            self.end_run(Outcome::Waiting);
        } else if let Some(error) = self.starved(&"".into()) {
            self.end_run(Outcome::Failed(error));
        } else if self.state.root().is_none_or(|root| root.tasks.is_empty()) {
            self.end_run(Outcome::Success);
        } else {
            self.end_run(Outcome::Failed(TaskError::bug("the run stopped with tasks left to run")));
        }
    }

    /// Why subgraphs are held: a limit before a drain before a breakpoint.
    fn held_for(&self) -> Option<Outcome> {
        let rank = |outcome: &&Outcome| match outcome {
            Outcome::Failed(_) => 0,
            Outcome::Drained => 1,
            _ => 2,
        };
        self.state.held.values().min_by_key(rank).cloned()
    }

    fn has_waiting(&self) -> bool {
        self.state.frames.values().flat_map(|frame| &frame.tasks).any(|task| self.waits(task))
    }

    fn first_failure(&self) -> Option<TaskError> {
        let failed = |frame: &crate::state::Frame| {
            let mut tasks = frame.plan.tasks.iter().zip(&frame.tasks);
            tasks.find(|(_, task)| task.status == TaskStatus::Failed).map(|(planned, task)| {
                let error = task.error.clone().unwrap_or_else(|| TaskError::bug("a failure without an error"));
                let message = format!("node `{}`: {}", planned.node, error.message);
                TaskError { retry_after: error.retry_after, ..TaskError::new(error.class, message) }
            })
        };
        self.state.frames.values().find_map(failed)
    }

    /// After a load: failures that a dead process recorded and did not come to handle.
    fn find_failed_children(&mut self) -> bool {
        let inner = self.state.frames.iter().filter(|(ns, _)| !ns.is_empty());
        let failed: Vec<Ns> =
            inner.filter(|(_, frame)| frame.tasks.iter().any(is_failed)).map(|(ns, _)| ns.clone()).collect();
        for ns in failed {
            if let Some(error) = self.failure_inside(&ns) {
                let scope = self.failing_scope(&ns, &error);
                self.failing.insert(scope);
            }
        }
        self.failing.iter().any(|scope| !scope.is_empty())
    }

    fn failure_inside(&self, scope: &Ns) -> Option<TaskError> {
        let inside = self.state.frames.iter().filter(|(ns, _)| is_in(ns, scope));
        inside.flat_map(|(_, frame)| &frame.tasks).find(|task| is_failed(task))?.error.clone()
    }

    fn parent_reacts(&mut self, parent: TaskId, error: &TaskError) -> bool {
        let Some((ns, frame, index)) = self.state.find_task(parent) else { return false };
        let attempts = frame.tasks.get(index).map_or(0, |task| task.attempts);
        let name = frame.plan.tasks.get(index).map(|task| task.node.clone());
        let ns = ns.clone();
        let Ok(view) = self.view(&ns) else { return false };
        let node = name.as_deref().and_then(|name| view.graph.node_by_name(name));
        node.is_some_and(|node| {
            node.on_error.is_some()
                || retry::delay(&node.retry, error, attempts, (parent, self.settings.seed)).is_some()
        })
    }
}

fn is_failed(task: &TaskState) -> bool {
    task.status == TaskStatus::Failed
}
