//! How tasks end: writes, routes, the node cache, leaving to the parent.

use std::sync::Arc;

use graphs::{Refresh, Routing};
use serde_json::{Map, Value, json};

use crate::channels::Change;
use crate::effect::Effect;
use crate::error::TaskError;
use crate::event::{Cached, Goto, NodeOutput, Said, Token};
use crate::finish;
use crate::frames::parent_ns;
use crate::ids::{Ns, TaskId};
use crate::plan;
use crate::record::{Hop, Op};
use crate::run::Run;
use crate::scope::TaskScope;
use crate::spending::WHOLE_TASK;
use crate::stream::Mode;

/// What a task wrote: changes, values of memory only, and where it leads.
type Written = (Vec<Change>, Map<String, Value>, Vec<Hop>);

impl Run {
    /// A dispatched node returned.
    pub(crate) fn task_done(&mut self, id: TaskId, token: Token, output: NodeOutput) {
        let output = match crate::deep::bounded_output(output, self.node_of(id).map_or("?", |node| node)) {
            Ok(output) => output,
            Err(error) => return self.task_broke(id, token, error),
        };
        if self.live(id, token).is_some() {
            let Some(mut live) = self.live.remove(&id) else { return };
            let whole = live.passing.remove(&WHOLE_TASK);
            self.abandon(live.passing);
            if live.suspending {
                // It left its open question behind: what it returned does not count, the answer starts it again.
                self.release_cache(live.cache_key);
                return self.restart_answered(id);
            }
            if whole.is_none() {
                return self.finish_task(&live.starting, output, Vec::new(), None, live.cache_key);
            }
            let refused = self.writes_and_route(&live.starting, output.clone(), Vec::new(), None).err();
            self.task_settled(id, whole, refused.as_ref());
            self.finish_task(&live.starting, output, Vec::new(), None, live.cache_key);
        }
    }

    /// A dispatched node failed.
    pub(crate) fn task_broke(&mut self, id: TaskId, token: Token, error: TaskError) {
        if self.live(id, token).is_some() {
            let Some(mut live) = self.live.remove(&id) else { return };
            let whole = live.passing.remove(&WHOLE_TASK);
            self.release_cache(live.cache_key);
            self.abandon(live.passing);
            if live.suspending {
                return self.restart_answered(id);
            }
            self.task_settled(id, whole, Some(&error));
            self.fail_task(id, error);
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
                self.heal_ended(starting.id, None);
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
    ) -> Result<Written, TaskError> {
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
    ) -> Result<Written, TaskError> {
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
