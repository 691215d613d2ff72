//! How tasks, supersteps and runs end.

use std::sync::Arc;

use graphs::{Merge, Node, Refresh, Routing};
use serde_json::{Map, Value, json};

use crate::channels::{Change, ChangeOp};
use crate::dispatch::is_in;
use crate::effect::Effect;
use crate::error::{ErrorClass, TaskError};
use crate::event::{Cached, Goto, LiveTimer, NodeOutput, Said, Token};
use crate::finish;
use crate::ids::{Name, Ns, TaskId};
use crate::plan::{self, Finished};
use crate::record::{Hop, Op, Outcome, Plan, Source, TimerKey};
use crate::retry;
use crate::run::{Run, View};
use crate::scope::TaskScope;
use crate::state::{TaskState, TaskStatus};
use crate::stream::Mode;

/// Timers this near keep the run active instead of parking it.
const NEAR: std::time::Duration = std::time::Duration::from_secs(30);

impl Run {
    /// A dispatched node returned.
    pub(crate) fn task_done(&mut self, id: TaskId, token: Token, output: NodeOutput) {
        if self.live(id, token).is_some() {
            let Some(live) = self.live.remove(&id) else { return };
            if live.suspending {
                // It left its open question behind: what it returned does not count, the answer starts it again.
                self.release_cache(live.cache_key);
                return self.restart_answered(id);
            }
            self.finish_task(&live.starting, output, Vec::new(), None, live.cache_key);
        }
    }

    /// A dispatched node failed.
    pub(crate) fn task_broke(&mut self, id: TaskId, token: Token, error: TaskError) {
        if self.live(id, token).is_some() {
            let Some(live) = self.live.remove(&id) else { return };
            self.release_cache(live.cache_key);
            match live.suspending {
                true => self.restart_answered(id),
                false => self.fail_task(id, error),
            }
        }
    }

    fn release_cache(&mut self, key: Option<String>) {
        if let Some(key) = key {
            self.push(Effect::CacheRelease { key });
        }
    }

    pub(crate) fn beat(&mut self, id: TaskId, token: Token) {
        let now = self.now;
        if let Some(live) = self.live(id, token) {
            live.last_sign = now;
        }
    }

    /// Signs of life other than heartbeats count only where the node says so.
    pub(crate) fn any_sign(&mut self, id: TaskId, token: Token) {
        let heartbeats_only = self
            .state
            .find_task(id)
            .and_then(|(ns, frame, index)| Some((ns.clone(), frame.plan.tasks.get(index)?.node.clone())))
            .and_then(|(ns, node)| Some(self.views.get(&ns)?.graph.node_by_name(&node)?.timeout.refresh))
            == Some(Refresh::Heartbeat);
        if !heartbeats_only {
            self.beat(id, token);
        }
    }

    pub(crate) fn said(&mut self, id: TaskId, token: Token, said: Said) {
        let Some(ns) = self.live(id, token).map(|live| live.ns.clone()) else { return };
        self.any_sign(id, token);
        match said {
            Said::Custom(value) if self.modes.has(Mode::Custom) => self.emit(Mode::Custom, &ns, value),
            Said::Message(message, metadata) if self.modes.has(Mode::Messages) => {
                self.emit(Mode::Messages, &ns, json!([message, metadata]));
            }
            _ => {}
        }
    }

    /// Turns a node's output into writes and a route; with `routing` in place of the node's own when given.
    pub(crate) fn finish_task(
        &mut self,
        starting: &crate::dispatch::Starting,
        output: NodeOutput,
        extra: Vec<(&'static str, Value)>,
        routing: Option<&Routing>,
        cache_key: Option<String>,
    ) {
        let goto = output.goto.clone();
        match self.writes_and_route(starting, output, extra, routing) {
            Ok(_) if goto.as_ref().is_some_and(|goto| goto.parent) && starting.ns.is_empty() => {
                let text = "a goto to the parent graph needs a parent: this node is in the root graph";
                self.fail_task(starting.id, TaskError::invalid(text));
            }
            Ok((changes, untracked, route)) => {
                self.keep_untracked(&starting.ns, untracked);
                match goto {
                    Some(goto) if goto.parent => self.leave_to_parent(starting, changes, goto),
                    _ => {
                        self.put_cache(starting, cache_key, &changes, &route);
                        self.task_finished(starting.id, changes, route, false);
                    }
                }
            }
            Err(error) => {
                self.release_cache(cache_key);
                self.fail_task(starting.id, error);
            }
        }
    }

    fn writes_and_route(
        &mut self,
        starting: &crate::dispatch::Starting,
        mut output: NodeOutput,
        extra: Vec<(&'static str, Value)>,
        routing: Option<&Routing>,
    ) -> Result<(Vec<Change>, Map<String, Value>, Vec<Hop>), TaskError> {
        let node = starting.node()?;
        let view = &starting.view;
        let goto = output.goto.take();
        if let Some(goto) = goto.as_ref().filter(|goto| goto.parent) {
            return self.parent_writes(starting, output, goto);
        }
        self.with_scope(&starting.ns, view, &starting.vars, |scope| {
            scope.extra = extra;
            if let Some(result) = &output.result {
                scope.extra.push(("result", result.clone()));
            }
            let (changes, untracked) = finish::writes(view, node, scope, output)?;
            let extra = std::mem::take(&mut scope.extra);
            let mut seen = TaskScope::new(&view.graph, scope.channels, scope.vars).with_writes(&changes);
            seen.extra = extra;
            seen.untracked = scope.untracked;
            seen.input = scope.input;
            seen.facts = scope.facts.clone();
            let declared = |seen: &TaskScope<'_>| finish::route(view, routing.unwrap_or(&node.then), seen, &node.name);
            let route = match goto {
                None => declared(&seen)?,
                Some(Goto { to, also, .. }) => {
                    check_hops(&view.graph, &to)?;
                    let mut route = if also { declared(&seen)? } else { Vec::new() };
                    route.extend(to.into_iter().map(|hop| finish::storable_hop(&view.graph, hop)));
                    route
                }
            };
            drop(seen);
            Ok((changes, untracked, route))
        })
    }

    /// Writes meant for the parent frame, checked against its channels.
    fn parent_writes(
        &mut self,
        starting: &crate::dispatch::Starting,
        output: NodeOutput,
        goto: &Goto,
    ) -> Result<(Vec<Change>, Map<String, Value>, Vec<Hop>), TaskError> {
        let Some(parent) = parent_ns(&starting.ns) else { return Ok((Vec::new(), Map::new(), Vec::new())) };
        let view = self.view(&parent)?;
        check_hops(&view.graph, &goto.to)?;
        let channels = self.state.frames.get(&parent).map(|frame| Arc::clone(&frame.channels)).unwrap_or_default();
        let resolved = output.writes.into_iter().map(|(name, value)| finish::resolve(&view, &channels, &name, value));
        Ok((resolved.collect::<Result<_, _>>()?, Map::new(), goto.to.clone()))
    }

    /// The subgraph ends: its parent task has these writes, and goes there instead of (or besides) its own edges.
    fn leave_to_parent(&mut self, starting: &crate::dispatch::Starting, changes: Vec<Change>, goto: Goto) {
        let Some(parent) = self.parent_task(&starting.ns) else { return };
        self.close_child(&starting.ns);
        let declared = if goto.also { self.declared_route(parent, &changes) } else { Ok(Vec::new()) };
        match declared {
            Ok(mut route) => {
                route.extend(goto.to);
                self.task_finished(parent, changes, route, false);
                self.next_visit(parent);
            }
            Err(error) => self.fail_task(parent, error),
        }
    }

    fn declared_route(&mut self, task: TaskId, changes: &[Change]) -> Result<Vec<Hop>, TaskError> {
        let starting = self.prepare(task)?;
        let node = starting.node()?;
        self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
            let mut seen = TaskScope::new(&starting.view.graph, scope.channels, scope.vars).with_writes(changes);
            seen.untracked = scope.untracked;
            seen.input = scope.input;
            seen.facts = scope.facts.clone();
            finish::route(&starting.view, &node.then, &seen, &node.name)
        })
    }

    pub(crate) fn keep_untracked(&mut self, ns: &Ns, values: Map<String, Value>) {
        if !values.is_empty() {
            Arc::make_mut(self.untracked.entry(ns.clone()).or_default()).extend(values);
        }
    }

    fn put_cache(
        &mut self,
        starting: &crate::dispatch::Starting,
        key: Option<String>,
        changes: &[Change],
        route: &[Hop],
    ) {
        let Some(key) = key else { return };
        let ttl = starting.node().ok().and_then(|node| node.cache.as_ref()).and_then(|policy| policy.ttl);
        let value = Arc::new(Cached { changes: changes.to_vec(), route: route.to_vec() });
        self.push(Effect::CachePut { key, value, expires: ttl.map(|ttl| self.now.plus(ttl)) });
    }

    /// Records a finished task and ends the superstep when it was the last one.
    pub(crate) fn task_finished(&mut self, task: TaskId, changes: Vec<Change>, route: Vec<Hop>, cached: bool) {
        let Some(ns) = self.state.find_task(task).map(|(ns, _, _)| ns.clone()) else { return };
        self.record(Op::TaskFinished { task, changes, route, cached });
        self.stream_task_result(&ns, task, None);
        let left = self.open_tasks.entry(ns.clone()).or_insert(1);
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.end_superstep(&ns);
        }
    }

    fn end_superstep(&mut self, ns: &Ns) {
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
            self.held.insert(ns.clone(), outcome);
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

    fn starved(&mut self, ns: &Ns) -> Option<TaskError> {
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
    fn next_visit(&mut self, left: TaskId) {
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
        self.held.retain(|other, _| !inside(other));
        self.views.retain(|other, _| !inside(other));
        self.untracked.retain(|other, _| !inside(other));
        self.open_tasks.retain(|other, _| !inside(other));
        self.record(Op::FrameClosed { ns: ns.clone() });
    }

    /// Takes back the questions and timers of tasks that will not go on.
    pub(crate) fn withdraw_of(&mut self, tasks: &[TaskId], why: &str) {
        let asked = self.state.interrupts.values().filter(|question| tasks.contains(&question.task));
        let open: Vec<_> = asked.map(|question| question.id).collect();
        let timers = self.state.timers.keys().filter(|key| match key {
            TimerKey::Retry(task) | TimerKey::Wait(task) => tasks.contains(task),
            TimerKey::Expire(id) => open.contains(id),
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
        match node.and_then(|node: &Node| node.on_error).zip(view.as_ref()) {
            Some((handler, view)) => self.to_handler(id, &name, view.node_name(handler), &error, attempts),
            None => self.fail_for_good(id, error),
        }
    }

    fn retry_later(&mut self, task: TaskId, error: TaskError, at: crate::ids::Timestamp) {
        let key = TimerKey::Retry(task);
        self.record(Op::AttemptFailed { task, error, retry_at: at });
        self.record(Op::TimerSet(crate::record::Timer { key: key.clone(), at }));
        self.push(Effect::SetTimer { timer: LiveTimer::Durable(key), at });
    }

    fn to_handler(&mut self, task: TaskId, node: &Name, handler: Name, error: &TaskError, attempts: u32) {
        let vars = finish::handler_vars(node, error, attempts + 1);
        let detail = json!({"handler": &*handler, "class": error.class, "message": error.message});
        self.audit("runtime", "error.handled", (node, Some(task)), detail);
        self.record(Op::TaskFailed { task, error: error.clone() });
        self.task_finished(task, Vec::new(), vec![Hop::Send(handler, Arc::new(vars))], false);
    }

    fn fail_for_good(&mut self, task: TaskId, error: TaskError) {
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
        let due_soon = self.state.timers.iter().any(|(key, at)| !matches!(key, TimerKey::Expire(_)) && *at <= near);
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
        self.held.values().min_by_key(rank).cloned()
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

fn check_hops(graph: &graphs::CompiledGraph, hops: &[Hop]) -> Result<(), TaskError> {
    for hop in hops {
        let (Hop::Node(name) | Hop::Send(name, _)) = hop;
        if graph.node_ix(name).is_none() {
            return Err(plan::unknown_node(graph, name));
        }
    }
    Ok(())
}

/// The namespace around a namespace.
pub(crate) fn parent_ns(ns: &str) -> Option<Ns> {
    if ns.is_empty() {
        return None;
    }
    Some(ns.rsplit_once('|').map_or("", |(parent, _)| parent).into())
}
