//! Node kinds that only compute, evaluated here; the others are handed to the shell.

use std::sync::Arc;

use graphs::{ApprovalNode, GateNode, GraphNode, GraphScope, Kind, MapNode, Node, SetValue, WaitNode};
use serde_json::{Map, Value, json};

use crate::channels::Change;
use crate::dispatch::{Starting, WAIT};
use crate::effect::Effect;
use crate::error::{ErrorClass, TaskError};
use crate::event::{Goto, LiveTimer, NodeOutput, Question};
use crate::finish::{self, OVERWRITE, expression_error};
use crate::ids::{CallIx, Ns, Timestamp};
use crate::interlocks::gate;
use crate::record::{CallHead, CallKind, CallOutcome, Hop, InterruptKind, Op, Source, Timer, TimerKey};
use crate::run::Run;
use crate::state::FAN_OUT_MAX;
use crate::stream::Mode;

/// Deepest nesting of subgraphs.
pub(crate) const SUBGRAPH_DEPTH_MAX: usize = 16;

const FIRST: CallIx = CallIx(0);

impl Run {
    /// Runs a task by its node's kind.
    pub(crate) fn run_kind(&mut self, starting: &Starting) -> Result<(), TaskError> {
        let view = Arc::clone(&starting.view);
        let node = view.graph.node(starting.node).ok_or_else(|| TaskError::bug("a task lost its node"))?;
        let local = !matches!(node.kind, Kind::Agent(_) | Kind::Tool(_) | Kind::Function(_) | Kind::Spawn(_));
        if local {
            self.stream_task_start(starting);
        }
        match &node.kind {
            Kind::Agent(_) | Kind::Tool(_) | Kind::Function(_) | Kind::Spawn(_) => self.dispatch(starting),
            Kind::Set(values) => self.set(starting, node, values),
            Kind::Gate(gate) => self.gate(starting, node, gate),
            Kind::Map(map) => self.map(starting, node, map),
            Kind::Emit(template) => {
                let said = self.render(starting, node, "emit", template)?;
                if self.modes.has(Mode::Custom) {
                    self.emit(Mode::Custom, &starting.ns, said);
                }
                self.finish_task(starting, NodeOutput::default(), Vec::new(), None, None);
                Ok(())
            }
            Kind::Fail(fail) => {
                let message = self.render(starting, node, "fail", &fail.message)?;
                let class = ErrorClass::from_word(&fail.class).unwrap_or(ErrorClass::Permanent);
                Err(TaskError::new(class, text_of(&message)))
            }
            Kind::Approval(approval) => self.approval(starting, node, approval),
            Kind::Wait(wait) => self.wait(starting, node, wait),
            Kind::Graph(graph) => self.subgraph(starting, graph),
        }
    }

    fn render(
        &self,
        starting: &Starting,
        node: &Node,
        place: &str,
        template: &graphs::Template,
    ) -> Result<Value, TaskError> {
        self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
            template.render(scope).map_err(|e| expression_error(node, place, &e))
        })
    }

    fn set(
        &mut self,
        starting: &Starting,
        node: &Node,
        values: &[(graphs::ChannelIx, SetValue)],
    ) -> Result<(), TaskError> {
        let mut writes = Vec::with_capacity(values.len());
        for (ix, value) in values {
            let value = match value {
                SetValue::Write(template) => self.render(starting, node, "set", template)?,
                SetValue::Overwrite(template) => json!({ OVERWRITE: self.render(starting, node, "set", template)? }),
            };
            writes.push((starting.view.channel_name(*ix), value));
        }
        self.finish_task(starting, NodeOutput { writes, ..NodeOutput::default() }, Vec::new(), None, None);
        Ok(())
    }

    fn gate(&mut self, starting: &Starting, node: &Node, gate: &GateNode) -> Result<(), TaskError> {
        let score = self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
            gate.score.eval_number(scope).map_err(|e| expression_error(node, "gate", &e))
        })?;
        let floors: Vec<Option<f64>> = gate.bands.iter().map(|band| band.at_least).collect();
        let band = gate::choose(score, &floors).and_then(|index| gate.bands.get(index));
        let band = band.ok_or_else(|| TaskError::invalid(format!("gate `{}`: {score} is in no band", node.name)))?;
        let detail = json!({"score": score, "at_least": band.at_least});
        self.audit("gate", "gate.routed", (&node.name.as_str().into(), Some(starting.id)), detail);
        let output =
            NodeOutput { result: Some(json!({"score": score, "at_least": band.at_least})), ..NodeOutput::default() };
        self.finish_task(starting, output, Vec::new(), Some(&band.then), None);
        Ok(())
    }

    fn map(&mut self, starting: &Starting, node: &Node, map: &MapNode) -> Result<(), TaskError> {
        let items = self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
            map.over.eval_list(scope).map_err(|e| expression_error(node, "map.over", &e))
        })?;
        if items.len() > FAN_OUT_MAX {
            let text =
                format!("`map` of node `{}` has {} items; at most {FAN_OUT_MAX} are allowed", node.name, items.len());
            return Err(TaskError::new(ErrorClass::Limit, text));
        }
        let to = starting.view.node_name(map.to);
        let sends = items.into_iter().enumerate().map(|(index, item)| {
            let mut vars = Map::from_iter([(map.item.clone(), item)]);
            if let Some(name) = &map.index {
                vars.insert(name.clone(), index.into());
            }
            Hop::Send(to.clone(), Arc::new(Value::Object(vars)))
        });
        let goto = Goto { to: sends.collect(), also: true, parent: false };
        self.finish_task(starting, NodeOutput { goto: Some(goto), ..NodeOutput::default() }, Vec::new(), None, None);
        Ok(())
    }

    fn approval(&mut self, starting: &Starting, node: &Node, approval: &ApprovalNode) -> Result<(), TaskError> {
        let entry = self.task(starting.id).and_then(|task| task.call(FIRST)).cloned();
        match entry {
            Some(entry) if entry.expired => {
                let expired = json!({"choice": "expired", "by": "", "at": self.now.to_string()});
                let goto = approval.on_expire.map(|ix| {
                    let to = vec![Hop::Node(starting.view.node_name(ix))];
                    Goto { to, also: false, parent: false }
                });
                let output = NodeOutput { result: Some(expired.clone()), goto, ..NodeOutput::default() };
                self.finish_task(starting, output, vec![("answer", expired)], None, None);
            }
            Some(crate::state::CallEntry { answer: Some(answer), .. }) => {
                let shown = crate::questions::answer_value(&answer);
                let output = NodeOutput { result: Some(shown.clone()), ..NodeOutput::default() };
                self.finish_task(starting, output, vec![("answer", shown)], None, None);
            }
            _ => {
                let question = self.approval_question(starting, node, approval)?;
                self.open_interrupt(starting.id, FIRST, InterruptKind::Approval, &question);
            }
        }
        Ok(())
    }

    fn approval_question(
        &self,
        starting: &Starting,
        node: &Node,
        approval: &ApprovalNode,
    ) -> Result<Question, TaskError> {
        let optional = |place: &str, template: &Option<graphs::Template>| match template {
            Some(template) => self.render(starting, node, place, template),
            None => Ok(Value::Null),
        };
        Ok(Question {
            title: text_of(&self.render(starting, node, "approval.title", &approval.title)?),
            body: text_of(&optional("approval.body", &approval.body)?),
            payload: optional("approval.payload", &approval.payload)?,
            choices: approval.choices.clone(),
            schema: approval.schema.as_ref().map(|schema| schema.json().clone()),
            approvers: approval.approvers.clone(),
            quorum: approval.quorum.max(1),
            four_eyes: approval.four_eyes,
            expires: approval.expires,
        })
    }

    fn wait(&mut self, starting: &Starting, node: &Node, wait: &WaitNode) -> Result<(), TaskError> {
        let entry = self.task(starting.id).and_then(|task| task.call(FIRST)).cloned();
        if let Some(outcome) = entry.and_then(|entry| entry.outcome) {
            return self.waited(starting, wait, &outcome);
        }
        let until = match wait {
            WaitNode::For(span) => Some(self.now.plus(*span)),
            WaitNode::Until(expr) => Some(self.until(starting, node, expr)?),
            WaitNode::Signal { timeout, .. } => timeout.map(|span| self.now.plus(span)),
        };
        let head = CallHead {
            kind: CallKind::Custom,
            target: WAIT.into(),
            digest: String::new(),
            effect: graphs::EffectClass::ReadOnly,
        };
        self.record(Op::CallBegun { task: starting.id, ix: FIRST, head });
        if let Some(at) = until {
            let key = TimerKey::Wait(starting.id);
            self.record(Op::TimerSet(Timer { key: key.clone(), at }));
            self.push(Effect::SetTimer { timer: LiveTimer::Durable(key), at });
        }
        self.log.want_flush();
        if let WaitNode::Signal { name, .. } = wait {
            let payload = self.state.signals.iter().find(|(known, _)| **known == **name).map(|(_, p)| p.clone());
            if let Some(payload) = payload {
                self.take_signal(starting.id, &name.as_str().into(), payload);
            }
        }
        Ok(())
    }

    fn until(&self, starting: &Starting, node: &Node, expr: &graphs::Expr) -> Result<Timestamp, TaskError> {
        let value = self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
            expr.eval(scope).map_err(|e| expression_error(node, "wait.until", &e))
        })?;
        value.as_str().and_then(Timestamp::parse).ok_or_else(|| {
            let text = format!(
                "`wait.until` of node `{}` gave {value}: an RFC 3339 time such as 2026-03-31T08:00:00Z is needed",
                node.name
            );
            TaskError::invalid(text)
        })
    }

    fn waited(&mut self, starting: &Starting, wait: &WaitNode, outcome: &CallOutcome) -> Result<(), TaskError> {
        let goto = match (wait, outcome) {
            (WaitNode::Signal { on_timeout: Some(ix), .. }, CallOutcome::Err(_)) => {
                Some(Goto { to: vec![Hop::Node(starting.view.node_name(*ix))], also: false, parent: false })
            }
            (WaitNode::Signal { .. }, CallOutcome::Err(error)) => return Err(error.clone()),
            _ => None,
        };
        let result = match outcome {
            CallOutcome::Ok(value) => Value::clone(value),
            CallOutcome::Err(_) => Value::Null,
        };
        self.finish_task(
            starting,
            NodeOutput { result: Some(result), goto, ..NodeOutput::default() },
            Vec::new(),
            None,
            None,
        );
        Ok(())
    }

    fn subgraph(&mut self, starting: &Starting, graph: &GraphNode) -> Result<(), TaskError> {
        let keep = graph.scope == GraphScope::Thread;
        let node = starting.view.node_name(starting.node);
        let ns = child_ns(&starting.ns, &node, (!keep).then_some(starting.id));
        if self.state.frames.get(&ns).is_some_and(|frame| !frame.asleep) {
            return Ok(());
        }
        if keep && self.parent_task(&ns).is_some_and(|first| first != starting.id) {
            return Ok(());
        }
        if ns.split('|').count() > SUBGRAPH_DEPTH_MAX {
            let text = format!(
                "subgraphs are nested more than {SUBGRAPH_DEPTH_MAX} deep: a graph that calls itself needs an exit"
            );
            return Err(TaskError::new(ErrorClass::Limit, text));
        }
        let child = self.pinned_child(&node, &graph.graph)?;
        let known = self.state.frames.contains_key(&ns);
        self.record(Op::FrameOpened {
            ns: ns.clone(),
            graph: child.name().into(),
            digest: child.digest().clone(),
            keep,
        });
        let begun = self.begin_frame(&ns, &Value::Object((*starting.vars).clone()), !known);
        if begun.is_err() {
            self.close_child(&ns);
        }
        begun
    }

    /// The graph a node calls, in the version its thread is pinned to; the current one at the first visit.
    fn pinned_child(&self, node: &str, name: &str) -> Result<Arc<graphs::CompiledGraph>, TaskError> {
        let missing =
            |what: String| TaskError::new(ErrorClass::NotFound, format!("node `{node}` calls graph `{name}`, {what}"));
        match self.state.links.get(name) {
            Some(digest) => self.graphs.by_digest(digest).ok_or_else(|| {
                missing(format!("version {digest} of which this thread is pinned to and which is not in the store"))
            }),
            None => self.graphs.by_name(name).ok_or_else(|| missing("which is not loaded".to_owned())),
        }
    }

    /// Applies input to a frame and plans its first superstep.
    pub(crate) fn begin_frame(&mut self, ns: &Ns, input: &Value, fresh: bool) -> Result<(), TaskError> {
        let view = self.view(ns)?;
        let changes = self.input_changes(ns, &view, input, fresh)?;
        let none = Map::new();
        let hops = self.with_scope(ns, &view, &none, |scope| {
            let mut seen = crate::scope::TaskScope::new(&view.graph, scope.channels, scope.vars).with_writes(&changes);
            seen.input = scope.input;
            seen.facts = scope.facts.clone();
            finish::route(&view, view.graph.start(), &seen, "start")
        })?;
        let entry = [crate::plan::Finished { node: "", route: &hops }];
        let plan = crate::plan::next(&view.graph, &crate::record::Plan::default(), &entry)?;
        let (stops, empty) = (self.stops_before(&plan), plan.tasks.is_empty());
        let id = self.mint_checkpoint();
        let entry = crate::plan::entry();
        self.record(Op::Checkpoint { ns: ns.clone(), id, source: Source::Input, changes: Vec::new(), plan: entry });
        self.stream_checkpoint(ns);
        let id = self.mint_checkpoint();
        self.record(Op::Checkpoint { ns: ns.clone(), id, source: Source::Loop, changes, plan });
        self.log.set_barrier();
        self.log.want_flush();
        self.stream_checkpoint(ns);
        if stops {
            self.stop_before(ns, crate::record::Outcome::Interrupted);
        } else if empty {
            self.frame_done(ns);
        } else {
            self.queue_plan(ns);
        }
        Ok(())
    }

    /// Input as writes: defaults first on a fresh frame, then one write for each key.
    pub(crate) fn input_changes(
        &mut self,
        ns: &Ns,
        view: &crate::run::View,
        input: &Value,
        fresh: bool,
    ) -> Result<Vec<Change>, TaskError> {
        let mut changes = Vec::new();
        if fresh {
            for (index, channel) in view.graph.channels().iter().enumerate() {
                if let Some(default) = &channel.default {
                    let name = view.graph.channels().get(index).map_or("", |channel| channel.name.as_str());
                    let op = crate::channels::ChangeOp::Set(Arc::new(default.clone()));
                    changes.push(Change { channel: name.into(), op });
                }
            }
        }
        let Value::Object(map) = input else {
            if input.is_null() {
                return Ok(changes);
            }
            return Err(TaskError::invalid("input must be an object whose keys are channels"));
        };
        let channels = self.state.frames.get(ns).map(|frame| Arc::clone(&frame.channels)).unwrap_or_default();
        let mut untracked = Map::new();
        for (name, value) in map {
            let change = finish::resolve(view, &channels, name, value.clone())?;
            match finish::memory_only(view, change) {
                Ok(change) => changes.push(change),
                Err((name, value)) => drop(untracked.insert(name, value)),
            }
        }
        self.keep_untracked(ns, untracked);
        Ok(changes)
    }
}

fn child_ns(parent: &str, node: &str, task: Option<crate::ids::TaskId>) -> Ns {
    let bar = if parent.is_empty() { "" } else { "|" };
    match task {
        Some(task) => format!("{parent}{bar}{node}:{task}").into(),
        None => format!("{parent}{bar}{node}").into(),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
