//! How supersteps end: conflicts, the next plan, breakpoints, drains, limits, joins that starve.

use std::sync::Arc;

use graphs::Merge;

use crate::channels::ChangeOp;
use crate::error::{ErrorClass, TaskError};
use crate::ids::{Name, Ns, TaskId};
use crate::plan::{self, Finished};
use crate::record::{Op, Outcome, Plan, Source};
use crate::run::{Run, View};
use crate::state::{TaskState, TaskStatus};

impl Run {
    pub(crate) fn end_superstep(&mut self, ns: &Ns) {
        if let Err((task, error)) = self.check_conflicts(ns) {
            self.open_tasks.insert(ns.clone(), 1);
            self.fail_for_good(task, error);
            return;
        }
        let plan = match self.plan_next(ns) {
            Ok(plan) => plan,
            Err(error) => return self.fail_router(ns, error),
        };
        let id = self.mint_checkpoint();
        let after = self.stops_after(ns);
        let (done, stops) = (plan.tasks.is_empty(), self.stops_before(&plan));
        self.record(Op::Checkpoint { ns: ns.clone(), id, source: Source::Loop, changes: Vec::new(), plan });
        self.log.set_barrier();
        self.want_checkpoint_flush();
        self.stream_checkpoint(ns);
        if let Some(error) = self.starved(ns) {
            self.fail_frame(ns, error);
        } else if done {
            self.frame_done(ns);
        } else if after || stops {
            self.stop_before(ns, Outcome::Interrupted);
        } else if self.draining {
            self.stop_before(ns, Outcome::Drained);
        } else if self.over_limit() {
            let limit = self.recursion_limit();
            let text = format!(
                "recursion limit: the run took {limit} supersteps without ending; continue it to go on, or raise `limits.recursion`"
            );
            self.stop_before(ns, Outcome::Failed(TaskError::new(ErrorClass::Limit, text)));
        } else {
            self.queue_plan(ns);
        }
    }

    /// The next superstep of a frame does not begin. A subgraph waits; the run stops when nothing beside it moves any more.
    pub(crate) fn stop_before(&mut self, ns: &Ns, outcome: Outcome) {
        if ns.is_empty() {
            self.end_run(outcome);
        } else {
            self.record(Op::FrameHeld { ns: ns.clone(), why: outcome });
        }
    }

    /// The targets of the finished tasks make no plan: the last one that leads somewhere is at fault.
    fn fail_router(&mut self, ns: &Ns, error: TaskError) {
        let leads = |task: &&TaskState| matches!(&task.status, TaskStatus::Finished { route, .. } if !route.is_empty());
        let tasks = self.state.frames.get(ns).map(|frame| frame.tasks.as_slice()).unwrap_or_default();
        match tasks.iter().rev().find(leads).map(|task| task.id) {
            Some(task) => {
                self.open_tasks.insert(ns.clone(), 1);
                self.fail_for_good(task, error);
            }
            None => self.end_run(Outcome::Failed(error)),
        }
    }

    /// A frame cannot go on: a subgraph fails its parent task, the root the run.
    fn fail_frame(&mut self, ns: &Ns, error: TaskError) {
        match self.parent_task(ns) {
            Some(parent) => {
                self.close_child(ns);
                self.fail_task(parent, error);
            }
            None => self.end_run(Outcome::Failed(error)),
        }
    }

    fn want_checkpoint_flush(&mut self) {
        let exit = self.state.active_run().is_some_and(|run| run.options.durability == crate::record::Durability::Exit);
        if !exit {
            self.log.want_flush();
        }
    }

    fn over_limit(&mut self) -> bool {
        let limit = self.recursion_limit();
        self.state.active_run().is_some_and(|run| run.supersteps >= limit)
    }

    fn plan_next(&mut self, ns: &Ns) -> Result<Plan, TaskError> {
        let view = self.view(ns)?;
        let frame = self.state.frames.get(ns).ok_or_else(|| TaskError::bug("a superstep lost its frame"))?;
        let finished: Vec<Finished<'_>> = frame
            .plan
            .tasks
            .iter()
            .zip(&frame.tasks)
            .filter_map(|(planned, task)| as_finished(&planned.node, task))
            .collect();
        plan::next(&view.graph, &frame.plan, &finished)
    }

    /// Two tasks that replaced one channel: the later one in path order is at fault, whatever finished first.
    fn check_conflicts(&mut self, ns: &Ns) -> Result<(), (TaskId, TaskError)> {
        let Some(frame) = self.state.frames.get(ns).filter(|frame| frame.tasks.len() > 1) else { return Ok(()) };
        let view = self.views.get(ns);
        let mut writers: std::collections::BTreeMap<(&Name, bool), (usize, &Name)> = std::collections::BTreeMap::new();
        for (index, (planned, task)) in frame.plan.tasks.iter().zip(&frame.tasks).enumerate() {
            let TaskStatus::Finished { changes, .. } = &task.status else { continue };
            for change in changes {
                let overwrite = matches!(change.op, ChangeOp::Overwrite(_));
                let single = overwrite || (matches!(change.op, ChangeOp::Set(_)) && is_replace(view, &change.channel));
                if !single {
                    continue;
                }
                let first = writers.entry((&change.channel, overwrite)).or_insert((index, &planned.node));
                if first.0 != index {
                    let (channel, what) = (&change.channel, if overwrite { "overwrote" } else { "wrote" });
                    let text = format!(
                        "nodes `{}` and `{}` both {what} channel `{channel}` in one superstep; give it a reducer (`merge:`) or write it from one node",
                        first.1, planned.node
                    );
                    return Err((task.id, TaskError::new(ErrorClass::Conflict, text)));
                }
            }
        }
        Ok(())
    }

    fn stops_after(&self, ns: &Ns) -> bool {
        let Some(run) = self.state.active_run().filter(|run| !run.options.interrupt_after.is_empty()) else {
            return false;
        };
        let tasks = self.state.frames.get(ns).map(|frame| frame.plan.tasks.as_slice()).unwrap_or_default();
        tasks.iter().any(|task| matches_node(&run.options.interrupt_after, &task.node))
    }

    /// Whether a breakpoint stands before a plan.
    pub(crate) fn stops_before(&self, plan: &Plan) -> bool {
        let Some(run) = self.state.active_run().filter(|run| !run.options.interrupt_before.is_empty()) else {
            return false;
        };
        plan.tasks.iter().any(|task| matches_node(&run.options.interrupt_before, &task.node))
    }

    pub(crate) fn starved(&mut self, ns: &Ns) -> Option<TaskError> {
        let view = self.view(ns).ok()?;
        let plan = &self.state.frames.get(ns)?.plan;
        let starved = plan::starved(&view.graph, plan);
        let (node, missing) = starved.first()?;
        let missing: Vec<&str> = missing.iter().map(|name| &**name).collect();
        let text = format!(
            "join `{node}` waits for {}, which can no longer run: route to it on every path, or drop it from `after`",
            missing.join(", ")
        );
        Some(TaskError::invalid(text))
    }
}

/// A finished task as planning sees it; one whose failure was handled arms no join.
pub(crate) fn as_finished<'a>(node: &'a Name, task: &'a TaskState) -> Option<Finished<'a>> {
    match &task.status {
        TaskStatus::Finished { route, .. } if task.error.is_some() => Some(Finished { node: "", route }),
        TaskStatus::Finished { route, .. } => Some(Finished { node, route }),
        _ => None,
    }
}

fn is_replace(view: Option<&Arc<View>>, channel: &str) -> bool {
    view.and_then(|view| view.graph.channel(channel)).is_none_or(|(_, channel)| channel.merge == Merge::Replace)
}

fn matches_node(list: &[Name], node: &str) -> bool {
    list.iter().any(|name| &**name == "*" || &**name == node)
}
