//! Requests from outside: start, continue, edit, replay, cancel, drain, migrate, label, note.

use std::collections::BTreeMap;
use std::sync::Arc;

use graphs::{CompiledGraph, GraphDigest, Kind};
use serde_json::{Map, Value, json};

use crate::channels::Change;
use crate::dispatch::is_wait;
use crate::effect::{Effect, Refusal, Reply};
use crate::error::TaskError;
use crate::event::{Rewind, Steer};
use crate::finish;
use crate::ids::{Name, Ns, RunId};
use crate::plan;
use crate::record::{Hop, Multitask, Op, Outcome, QueuedRun, RunAccepted, RunKind, RunOptions, Source, TimerKey};
use crate::run::{Run, View, root};
use crate::state::TaskStatus;

/// Runs that may wait on one thread.
pub(crate) const QUEUE_MAX: usize = 100;

/// Graphs that one graph may call, directly or not.
const LINKS_MAX: usize = 1_000;

/// Pseudo-node of an update that clears what is left to run.
pub const END: &str = "end";

impl Run {
    /// Labels the thread.
    pub(crate) fn tag(&mut self, metadata: Value) -> Result<Reply, Refusal> {
        if self.state.graph.is_none() {
            return Err(Refusal::Empty);
        }
        self.record(Op::Tagged { metadata });
        self.log.want_flush();
        Ok(Reply::Done)
    }

    /// Adds an entry to the audit log.
    pub(crate) fn note(&mut self, actor: &str, action: &str, detail: Value) -> Result<Reply, Refusal> {
        if self.state.graph.is_none() {
            return Err(Refusal::Empty);
        }
        self.audit(actor, action, (&"".into(), None), detail);
        self.log.want_flush();
        Ok(Reply::Done)
    }

    /// New input.
    pub(crate) fn start(
        &mut self,
        run: RunId,
        graph: &Arc<CompiledGraph>,
        input: Value,
        how: (RunOptions, Value),
    ) -> Result<Reply, Refusal> {
        let (options, metadata) = how;
        self.check_pinned(graph)?;
        let input = self.check_input(graph, input)?;
        if let Some(active) = self.state.active_run().map(|run| run.id) {
            match options.multitask {
                Multitask::Reject => return Err(Refusal::Busy { run: active }),
                Multitask::Queue => return self.queue(run, finish::storable(graph, input), options),
                Multitask::Supersede => self.close_run(Outcome::Superseded),
            }
        }
        if self.state.graph.is_none() {
            let (name, digest) = (graph.name().into(), graph.digest().clone());
            self.record(Op::Created { graph: name, digest, metadata });
            if called(graph).next().is_some() {
                let links = self.called_by(graph);
                self.record(Op::Linked { links });
            }
        } else if !metadata.is_null() {
            self.record(Op::Tagged { metadata });
        }
        self.accept(run, RunKind::Start, options, &finish::storable(graph, input.clone()));
        self.begin_root(graph, &input);
        Ok(Reply::Accepted { run })
    }

    fn begin_root(&mut self, graph: &Arc<CompiledGraph>, input: &Value) {
        self.forget_children("new input");
        let ns = root();
        let fresh = !self.state.frames.contains_key(&ns);
        if fresh {
            let (name, digest) = (graph.name().into(), graph.digest().clone());
            self.record(Op::FrameOpened { ns: ns.clone(), graph: name, digest, keep: false });
        }
        let writes = channel_part(graph, input);
        if let Err(error) = self.begin_frame(&ns, &writes, fresh) {
            self.end_run(Outcome::Failed(error));
        }
    }

    fn check_pinned(&self, graph: &CompiledGraph) -> Result<(), Refusal> {
        match (&self.state.graph, &self.state.digest) {
            (Some(name), Some(digest)) if digest != graph.digest() => Err(Refusal::Pinned {
                graph: name.clone(),
                pinned: digest.to_string(),
                offered: graph.digest().to_string(),
            }),
            _ => self.check_linked(graph),
        }
    }

    /// The graphs it calls must be the versions the thread is pinned to, too.
    fn check_linked(&self, root: &CompiledGraph) -> Result<(), Refusal> {
        let offered = self.state.links.iter().map(|(name, pinned)| (name, pinned, self.graphs.by_name(name)));
        for (name, pinned, offered) in offered {
            let Some(offered) = offered.filter(|offered| offered.digest() != pinned) else { continue };
            return Err(Refusal::PinnedPart {
                root: root.name().into(),
                version: root.digest().to_string(),
                graph: name.clone(),
                pinned: pinned.to_string(),
                offered: offered.digest().to_string(),
            });
        }
        Ok(())
    }

    /// The current versions of all graphs that a graph calls, directly or not.
    fn called_by(&self, root: &Arc<CompiledGraph>) -> BTreeMap<Name, GraphDigest> {
        let mut links = BTreeMap::new();
        let mut left = vec![Arc::clone(root)];
        while let Some(graph) = left.pop() {
            for name in called(&graph) {
                if links.len() >= LINKS_MAX || links.contains_key(name) {
                    continue;
                }
                if let Some(child) = self.graphs.by_name(name) {
                    links.insert(name.into(), child.digest().clone());
                    left.push(child);
                }
            }
        }
        links
    }

    /// Checks input against the graph's schema and its channels; unknown keys are errors with the nearest name.
    fn check_input(&mut self, graph: &CompiledGraph, input: Value) -> Result<Value, Refusal> {
        let invalid = |text: String| Refusal::Invalid(TaskError::invalid(text));
        let input = if input.is_null() { Value::Object(Map::new()) } else { input };
        let Value::Object(map) = &input else {
            return Err(invalid(
                "input must be a JSON object whose keys are channels or properties of the input schema".to_owned(),
            ));
        };
        let mut known: Vec<&str> = graph.channels().iter().map(|channel| channel.name.as_str()).collect();
        if let Some(schema) = graph.input_schema() {
            schema.check(&input).map_err(|e| invalid(format!("input at `{}`: {}", e.pointer, e.message)))?;
            let listed = schema.listed_properties().filter(|_| whole_input_channel(graph).is_none());
            let Some(properties) = listed else { return Ok(input) };
            known.extend(properties);
        }
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(invalid(format!("input has no channel `{key}`{}", plan::nearest(key, &known)))),
            None => Ok(input),
        }
    }

    fn queue(&mut self, run: RunId, input: Value, options: RunOptions) -> Result<Reply, Refusal> {
        if self.state.queue.len() >= QUEUE_MAX {
            let text = format!("{QUEUE_MAX} runs wait already: try again later");
            return Err(Refusal::Invalid(TaskError::new(crate::error::ErrorClass::Limit, text)));
        }
        self.record(Op::RunQueued(Box::new(QueuedRun { id: run, input: Arc::new(input), options })));
        self.log.want_flush();
        Ok(Reply::Queued { run })
    }

    pub(crate) fn start_queued(&mut self, queued: QueuedRun) {
        self.accept(queued.id, RunKind::Start, queued.options, &queued.input);
        let ns = root();
        match self.view(&ns) {
            Ok(view) => self.begin_root(&Arc::clone(&view.graph), &queued.input),
            Err(error) => self.end_run(Outcome::Failed(error)),
        }
    }

    pub(crate) fn accept(&mut self, id: RunId, kind: RunKind, options: RunOptions, input: &Value) {
        let accepted = RunAccepted { id, kind, options, input: Arc::new(input.clone()) };
        self.record(Op::RunAccepted(Box::new(accepted)));
        self.log.set_floor();
        self.log.want_flush();
    }

    /// Drops subgraphs, questions and timers of the superstep under way.
    pub(crate) fn forget_children(&mut self, why: &str) {
        self.abort_all();
        let left = self.unfinished_in(|ns| ns.is_empty());
        let children: Vec<Ns> =
            self.state.frames.iter().filter(|(ns, f)| !ns.is_empty() && !f.asleep).map(|(ns, _)| ns.clone()).collect();
        for ns in children {
            if self.state.frames.contains_key(&ns) {
                self.close_child(&ns);
            }
        }
        self.withdraw_questions(why);
        self.clear_timers();
        self.tell_abandoned(left);
    }

    /// Nothing is due any more; the ledger is told all the same.
    fn clear_timers(&mut self) {
        let timers: Vec<TimerKey> = self.state.timers.keys().filter(|key| **key != TimerKey::Settle).cloned().collect();
        for key in timers {
            self.record(Op::TimerCleared { key });
        }
    }

    fn withdraw_questions(&mut self, why: &str) {
        let open: Vec<_> = self.state.interrupts.keys().copied().collect();
        for id in open {
            self.record(Op::Withdrawn { id, why: why.to_owned() });
        }
    }

    /// On from the last checkpoint: failed tasks run again, waiting ones go on waiting.
    pub(crate) fn resume(&mut self, run: RunId, options: RunOptions, steer: &Steer) -> Result<Reply, Refusal> {
        if let Some(active) = self.state.active_run() {
            return Err(Refusal::Busy { run: active.id });
        }
        if self.state.root().is_none() {
            return Err(Refusal::Empty);
        }
        let ns = root();
        let view = self.view(&ns).map_err(Refusal::Invalid)?;
        for node in &steer.goto {
            view.graph.node_ix(node).ok_or_else(|| Refusal::Invalid(plan::unknown_node(&view.graph, node)))?;
        }
        let changes = self.input_changes(&ns, &view, &steer.update, false).map_err(Refusal::Invalid)?;
        self.accept(run, RunKind::Continue, options, &Value::Null);
        self.reset_failed();
        self.clear_retries();
        if !steer.goto.is_empty() {
            self.steer(&view, changes, &steer.goto);
        } else if !changes.is_empty() {
            self.record(Op::Patched { ns, changes });
        }
        self.requeue();
        self.arm_near();
        self.stream_cached();
        Ok(Reply::Accepted { run })
    }

    /// Tasks that failed for good are to run again, and those whose wait was taken back by a cancel.
    pub(crate) fn reset_failed(&mut self) {
        let tasks = self.state.frames.values().flat_map(|frame| &frame.tasks);
        let waits = |task: &&crate::state::TaskState| {
            let begun = task.calls.values().any(|call| is_wait(&call.head) && call.outcome.is_none());
            begun && !self.state.timers.contains_key(&TimerKey::Wait(task.id))
        };
        let again = tasks.filter(|task| task.status == TaskStatus::Failed || waits(task));
        for task in again.map(|task| task.id).collect::<Vec<_>>() {
            self.record(Op::TaskReset { task });
        }
    }

    /// Further nodes beside what is pending: a new superstep with all of them.
    fn steer(&mut self, view: &View, changes: Vec<Change>, goto: &[Name]) {
        let ns = root();
        self.forget_children("the run was sent elsewhere");
        let hops: Vec<Hop> = goto.iter().cloned().map(Hop::Node).collect();
        let planned = self.kept_plan(&ns, view, &hops);
        match planned {
            Ok(plan) => {
                let id = self.mint_checkpoint();
                self.record(Op::Checkpoint { ns: ns.clone(), id, source: Source::Update, changes, plan });
                self.log.set_barrier();
                self.stream_checkpoint(&ns);
            }
            Err(error) => self.end_run(Outcome::Failed(error)),
        }
    }

    /// Runs again from an older checkpoint. A final checkpoint has nothing to run: nothing is written.
    pub(crate) fn replay(&mut self, run: RunId, at: Rewind, options: RunOptions) -> Result<Reply, Refusal> {
        if let Some(active) = self.state.active_run() {
            return Err(Refusal::Busy { run: active.id });
        }
        if at.frame.plan.tasks.is_empty() {
            return Ok(Reply::Done);
        }
        if self.state.root().is_some_and(|root| root.checkpoint == at.to) {
            return self.resume(run, options, &Steer::default());
        }
        self.forget_children("replayed from an older checkpoint");
        self.accept(run, RunKind::Continue, options, &Value::Null);
        let plan = at.frame.plan.clone();
        let ns = root();
        self.rewind(at);
        let id = self.mint_checkpoint();
        self.record(Op::Checkpoint { ns: ns.clone(), id, source: Source::Fork, changes: Vec::new(), plan });
        self.log.set_barrier();
        self.stream_checkpoint(&ns);
        self.queue_plan(&ns);
        Ok(Reply::Accepted { run })
    }

    /// Stops the active run, or takes back what a paused one waits for.
    pub(crate) fn cancel(&mut self, why: &str) -> Result<Reply, Refusal> {
        let waits = self.state.timers.keys().any(|key| *key != TimerKey::Settle);
        let paused = waits || !self.state.interrupts.is_empty();
        if self.state.active_run().is_none() && !paused {
            return Err(Refusal::NotRunning);
        }
        let left = self.unfinished_in(|_| true);
        self.withdraw_questions(why);
        self.clear_timers();
        self.audit("runtime", "run.cancelled", (&"".into(), None), json!({ "why": why }));
        if self.state.active_run().is_some() {
            self.close_run(Outcome::Cancelled);
            self.tell_abandoned(left);
            self.next_queued();
        } else if let Some(run) = self.state.run.as_ref().map(|run| run.id) {
            self.record(Op::RunEnded { run, outcome: Outcome::Cancelled });
            self.log.want_flush();
            self.hold(Effect::RunEnded { run, outcome: Outcome::Cancelled });
            self.tell_abandoned(left);
            self.next_queued();
        }
        Ok(Reply::Done)
    }

    /// Stops before the next superstep.
    pub(crate) fn drain(&mut self) -> Result<Reply, Refusal> {
        if self.state.active_run().is_none() {
            return Err(Refusal::NotRunning);
        }
        self.draining = true;
        Ok(Reply::Done)
    }

    /// Moves the thread to another graph version, if everything it stands on is there.
    pub(crate) fn migrate(
        &mut self,
        graph: &Arc<CompiledGraph>,
        renames: BTreeMap<Name, Name>,
    ) -> Result<Reply, Refusal> {
        if let Some(active) = self.state.active_run() {
            return Err(Refusal::Busy { run: active.id });
        }
        let frame = self.state.root().ok_or(Refusal::Empty)?;
        check_migration(graph, frame, &renames).map_err(Refusal::CannotMigrate)?;
        let links = self.called_by(graph);
        self.check_parts(&links).map_err(Refusal::CannotMigrate)?;
        let from = self.state.digest.as_ref().map(ToString::to_string);
        self.record(Op::Migrated { digest: graph.digest().clone(), renames: renames.clone() });
        if links != self.state.links {
            self.record(Op::Linked { links });
        }
        let detail = json!({"from": from, "to": graph.digest().as_str(), "renames": renames.len()});
        self.audit("runtime", "thread.migrated", (&"".into(), None), detail);
        self.views.clear();
        self.log.want_flush();
        Ok(Reply::Done)
    }

    /// Subgraphs that are open, or kept, must fit the versions the thread moves to; their nodes keep their names.
    fn check_parts(&self, links: &BTreeMap<Name, GraphDigest>) -> Result<(), String> {
        for (ns, frame) in self.state.frames.iter().filter(|(ns, _)| !ns.is_empty()) {
            let Some(digest) = links.get(&frame.graph).filter(|digest| **digest != frame.digest) else { continue };
            let Some(graph) = self.graphs.by_digest(digest) else { continue };
            check_migration(&graph, frame, &BTreeMap::new())
                .map_err(|why| format!("in subgraph `{ns}`, where nodes keep their names: {why}"))?;
        }
        Ok(())
    }
}

/// Names of the graphs that a graph calls itself.
fn called(graph: &CompiledGraph) -> impl Iterator<Item = &str> {
    graph.nodes().iter().filter_map(|node| match &node.kind {
        Kind::Graph(child) => Some(child.graph.as_str()),
        _ => None,
    })
}

/// The keys of an input that are channels; the rest is seen through `input` only. A graph with an input schema and one
/// channel of that very schema takes the whole input into that channel.
fn channel_part(graph: &CompiledGraph, input: &Value) -> Value {
    let Value::Object(map) = input else { return Value::Null };
    if let Some(channel) = whole_input_channel(graph) {
        return json!({ channel: input });
    }
    let known = map.iter().filter(|(key, _)| graph.channel(key).is_some());
    Value::Object(known.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn whole_input_channel(graph: &CompiledGraph) -> Option<&str> {
    let wanted = graph.input_schema()?.json();
    let mut fits =
        graph.channels().iter().filter(|channel| channel.schema.as_ref().is_some_and(|s| s.json() == wanted));
    match (fits.next(), fits.next()) {
        (Some(channel), None) => Some(&channel.name),
        _ => None,
    }
}

fn check_migration(
    graph: &CompiledGraph,
    frame: &crate::state::Frame,
    renames: &BTreeMap<Name, Name>,
) -> Result<(), String> {
    let joins = frame.plan.joins.iter().flat_map(|(node, seen)| std::iter::once(node).chain(seen));
    let tasks = frame.plan.tasks.iter().map(|task| &task.node);
    let routes = frame.tasks.iter().flat_map(|task| match &task.status {
        TaskStatus::Finished { route, .. } => route.as_slice(),
        _ => &[],
    });
    let routed = routes.map(|hop| match hop {
        Hop::Node(name) | Hop::Send(name, _) => name,
    });
    for node in tasks.chain(joins).chain(&frame.plan.deferred).chain(routed) {
        let renamed = renames.get(node).unwrap_or(node);
        if graph.node_ix(renamed).is_none() {
            let hint = plan::nearest(renamed, &graph.nodes().iter().map(|node| node.name.as_str()).collect::<Vec<_>>());
            return Err(format!(
                "the thread stands on node `{node}`, and the new graph has no `{renamed}`{hint}; use --rename {node}=NEW"
            ));
        }
    }
    for (name, slot) in frame.channels.iter() {
        let Some((_, channel)) = graph.channel(name) else {
            return Err(format!("the thread has a value in channel `{name}`, which the new graph does not declare"));
        };
        if let Some(Err(error)) = channel.schema.as_ref().map(|schema| schema.check(&slot.value)) {
            return Err(format!(
                "channel `{name}` does not fit the new schema at `{}`: {}",
                error.pointer, error.message
            ));
        }
    }
    Ok(())
}
