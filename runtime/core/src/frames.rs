//! Subgraphs as frames of the same run: their end, their output, their parent tasks.

use serde_json::Value;

use crate::dispatch::is_in;
use crate::event::NodeOutput;
use crate::ids::{Ns, TaskId};
use crate::record::{Op, Outcome, TimerKey};
use crate::run::Run;
use crate::state::{TaskState, TaskStatus};

impl Run {
    pub(crate) fn frame_done(&mut self, ns: &Ns) {
        if ns.is_empty() {
            self.end_run(Outcome::Success);
            return;
        }
        let Some(parent) = self.parent_task(ns) else { return };
        let result = self.frame_output(ns);
        self.close_child(ns);
        match self.prepare(parent) {
            Ok(starting) => {
                let output = NodeOutput { result: Some(result), ..NodeOutput::default() };
                self.finish_task(&starting, output, Vec::new(), None, None);
                self.next_visit(parent);
            }
            Err(error) => self.fail_task(parent, error),
        }
    }

    /// A subgraph that is kept is visited by one task at a time: the next task of the same node may enter now.
    pub(crate) fn next_visit(&mut self, left: TaskId) {
        let Some((_, frame, index)) = self.state.find_task(left) else { return };
        let Some(node) = frame.plan.tasks.get(index).map(|planned| &planned.node) else { return };
        let waiting: Vec<TaskId> = frame
            .plan
            .tasks
            .iter()
            .zip(&frame.tasks)
            .filter(|(planned, task)| planned.node == *node && task.status == TaskStatus::Pending)
            .map(|(_, task)| task.id)
            .filter(|id| !self.ready.contains(id) && !self.live.contains_key(id))
            .collect();
        self.ready.extend(waiting);
    }

    fn frame_output(&mut self, ns: &Ns) -> Value {
        let view = self.view(ns).ok();
        let Some(frame) = self.state.frames.get(ns) else { return Value::Null };
        match view.as_ref().and_then(|view| view.graph.output()) {
            None => crate::channels::values(&frame.channels),
            Some(names) => {
                let pick = |name: &String| frame.value(name).map(|value| (name.clone(), Value::clone(value)));
                Value::Object(names.iter().filter_map(pick).collect())
            }
        }
    }

    /// Ends a subgraph: its tasks are abandoned, its frame closed.
    pub(crate) fn close_child(&mut self, ns: &Ns) {
        let inside = |other: &Ns| is_in(other, ns);
        let live: Vec<_> = self.live.iter().filter(|(_, l)| inside(&l.ns)).map(|(id, l)| (*id, l.token)).collect();
        for (task, token) in live {
            self.abort(task, token);
        }
        let left = self.unfinished_in(inside);
        let gone: Vec<TaskId> = self
            .state
            .frames
            .iter()
            .filter(|(other, _)| inside(other))
            .flat_map(|(_, f)| f.tasks.iter().map(|t| t.id))
            .collect();
        self.ready.retain(|task| !gone.contains(task));
        self.withdraw_of(&gone, "its subgraph ended");
        self.failing.retain(|other| !inside(other));
        self.views.retain(|other, _| !inside(other));
        self.untracked.retain(|other, _| !inside(other));
        self.open_tasks.retain(|other, _| !inside(other));
        self.record(Op::FrameClosed { ns: ns.clone() });
        self.tell_abandoned(left);
    }

    /// Takes back the questions and timers of tasks that will not go on.
    pub(crate) fn withdraw_of(&mut self, tasks: &[TaskId], why: &str) {
        let asked = self.state.interrupts.values().filter(|question| tasks.contains(&question.task));
        let open: Vec<_> = asked.map(|question| question.id).collect();
        let timers = self.state.timers.keys().filter(|key| match key {
            TimerKey::Retry(task) | TimerKey::Wait(task) => tasks.contains(task),
            TimerKey::Expire(id) => open.contains(id),
            TimerKey::Settle => false,
        });
        for key in timers.cloned().collect::<Vec<_>>() {
            self.record(Op::TimerCleared { key });
        }
        for id in open {
            self.record(Op::Withdrawn { id, why: why.to_owned() });
        }
    }

    /// The task whose subgraph a namespace is.
    pub(crate) fn parent_task(&self, ns: &Ns) -> Option<TaskId> {
        let parent = parent_ns(ns)?;
        let segment = ns.rsplit('|').next()?;
        let frame = self.state.frames.get(&parent)?;
        match segment.split_once(':') {
            Some((_, task)) => TaskId::parse(task).ok(),
            // Of several tasks that visit a kept subgraph, the first unfinished one is inside.
            None => {
                let mut tasks = frame.plan.tasks.iter().zip(&frame.tasks);
                let inside = |(planned, task): &(&crate::record::PlannedTask, &TaskState)| {
                    &*planned.node == segment && !matches!(task.status, TaskStatus::Finished { .. })
                };
                tasks.find(inside).map(|(_, task)| task.id)
            }
        }
    }
}

/// The namespace around a namespace.
pub(crate) fn parent_ns(ns: &str) -> Option<Ns> {
    if ns.is_empty() {
        return None;
    }
    Some(ns.rsplit_once('|').map_or("", |(parent, _)| parent).into())
}
