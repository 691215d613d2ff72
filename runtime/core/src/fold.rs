//! The fold: from a record to the state. The live run and recovery use this same one (I-1).

use std::collections::BTreeMap;
use std::sync::Arc;

use graphs::{EffectClass, GraphDigest};
use serde_json::Value;

use crate::channels;
use crate::error::ErrorClass;
use crate::ids::{CheckpointId, InterruptId, Name, Ns, Timestamp};
use crate::journal::{apply_task, question_head};
use crate::record::{CallOutcome, Hop, InterruptKind, Op, Plan, Record, RunKind, Source, Timer, TimerKey};
use crate::spending::{raised_by, take_answer};
use crate::state::{CallEntry, DECIDED_MAX, Frame, RunState, STEP_BEFORE_INPUT, TaskStatus, ThreadState, is_below};

impl ThreadState {
    /// The state after `records`, starting from nothing.
    pub fn replay<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply_record(record);
        }
        state
    }

    /// Folds one record.
    pub fn apply_record(&mut self, record: &Record) {
        for op in &record.ops {
            self.apply(op, record.at);
        }
    }

    /// Folds one op. Total: an op that does not fit (damaged store) changes nothing.
    pub fn apply(&mut self, op: &Op, at: Timestamp) {
        if self.created_at == Timestamp::default() {
            self.created_at = at;
        }
        self.updated_at = at;
        match op {
            Op::Created { graph, digest, metadata } => {
                self.graph = Some(graph.clone());
                self.digest = Some(digest.clone());
                self.metadata = metadata.clone();
            }
            Op::Tagged { metadata } => self.tag(metadata),
            Op::Patched { ns, changes } => {
                if let Some(frame) = self.frames.get_mut(ns) {
                    let version = frame.version();
                    channels::patch(&mut frame.channels, changes, version);
                }
            }
            Op::Migrated { digest, renames } => self.migrate(digest, renames),
            Op::Snapshot(state) => *self = (**state).clone(),
            Op::Audited(_) => {}
            Op::Linked { links } => self.link(links),
            Op::HealEnded { task, heal } => drop(self.heals.insert(*task, (**heal).clone())),
            Op::HealTold { task } => drop(self.heals.remove(task)),
            Op::FrameHeld { ns, why } => drop(self.held.insert(ns.clone(), why.clone())),
            Op::Held { .. } | Op::Charged { .. } | Op::Settled { .. } => self.apply_spending(op),
            Op::RunAccepted(_) | Op::RunQueued(_) | Op::RunEnded { .. } => self.apply_run(op, at),
            Op::FrameOpened { .. } | Op::FrameClosed { .. } | Op::Checkpoint { .. } | Op::Rewound { .. } => {
                self.apply_frame(op, at);
            }
            Op::InterruptOpened(_) | Op::Answered { .. } | Op::Expired { .. } | Op::Withdrawn { .. } => {
                self.apply_interrupt(op);
            }
            Op::TimerSet(Timer { key, at }) => drop(self.timers.insert(key.clone(), *at)),
            Op::TimerCleared { key } => drop(self.timers.remove(key)),
            Op::Signalled { name, payload } => self.signals.push((name.clone(), payload.clone())),
            Op::SignalTaken { name } => {
                if let Some(ix) = self.signals.iter().position(|(known, _)| known == name) {
                    self.signals.remove(ix);
                }
            }
            Op::TaskFinished { task, .. }
            | Op::AttemptFailed { task, .. }
            | Op::TaskFailed { task, .. }
            | Op::TaskReset { task }
            | Op::CallPlanned { task, .. }
            | Op::CallBegun { task, .. }
            | Op::CallEnded { task, .. } => {
                self.count_call(op);
                self.note_begun(op);
                if let Some(state) = self.task_mut(*task) {
                    apply_task(state, op);
                }
            }
        }
    }

    /// Counts a call: one with an intent when it begins, one that only reads when it ends.
    fn count_call(&mut self, op: &Op) {
        let task = match op {
            Op::CallBegun { task, head, .. } if !crate::dispatch::is_wait(head) => *task,
            Op::CallEnded { task, head: Some(head), outcome, .. } if head.effect == EffectClass::ReadOnly => {
                match outcome {
                    CallOutcome::Err(error) if matches!(error.class, ErrorClass::Denied | ErrorClass::Limit) => return,
                    _ => *task,
                }
            }
            _ => return,
        };
        let node =
            self.find_task(task).and_then(|(_, frame, index)| frame.plan.tasks.get(index)).map(|t| t.node.clone());
        if let Some(node) = node {
            *self.calls.entry(node).or_default() += 1;
        }
    }

    /// Subgraphs that are open, or kept, go on in the version that the thread is pinned to.
    fn link(&mut self, links: &BTreeMap<Name, GraphDigest>) {
        self.links = links.clone();
        for (_, frame) in self.frames.iter_mut().filter(|(ns, _)| !ns.is_empty()) {
            if let Some(digest) = links.get(&frame.graph) {
                frame.digest = digest.clone();
            }
        }
    }

    fn tag(&mut self, metadata: &Value) {
        let mut merged = Arc::new(self.metadata.take());
        channels::fold(&mut merged, &channels::ChangeOp::Deep(Arc::new(metadata.clone())));
        self.metadata = Arc::unwrap_or_clone(merged);
    }

    fn migrate(&mut self, digest: &GraphDigest, renames: &BTreeMap<Name, Name>) {
        self.digest = Some(digest.clone());
        let rename = |name: &Name| renames.get(name).unwrap_or(name).clone();
        let frames = std::mem::take(&mut self.frames);
        self.frames = frames.into_iter().map(|(ns, frame)| (rename_ns(&ns, renames), frame)).collect();
        for interrupt in self.interrupts.values_mut() {
            if interrupt.ns.is_empty() {
                interrupt.node = rename(&interrupt.node);
            }
            interrupt.ns = rename_ns(&interrupt.ns, renames);
        }
        let Some(frame) = self.frames.get_mut("") else { return };
        frame.digest = digest.clone();
        for task in &mut frame.tasks {
            if let TaskStatus::Finished { route, .. } = &mut task.status {
                for Hop::Node(name) | Hop::Send(name, _) in route {
                    *name = rename(name);
                }
            }
        }
        for task in &mut frame.plan.tasks {
            task.node = rename(&task.node);
        }
        let joins = std::mem::take(&mut frame.plan.joins);
        frame.plan.joins =
            joins.into_iter().map(|(node, seen)| (rename(&node), seen.iter().map(rename).collect())).collect();
        frame.plan.deferred = frame.plan.deferred.iter().map(rename).collect();
    }

    fn apply_run(&mut self, op: &Op, at: Timestamp) {
        match op {
            Op::RunAccepted(run) => {
                self.queue.retain(|queued| queued.id != run.id);
                self.held.clear();
                if run.kind == RunKind::Start {
                    self.calls.clear();
                    if let Some(spending) = &mut self.spending {
                        spending.inputs += 1;
                    }
                }
                let input = match (&self.run, run.kind) {
                    (Some(before), RunKind::Resume | RunKind::Continue) => Arc::clone(&before.input),
                    _ => Arc::clone(&run.input),
                };
                self.run = Some(RunState {
                    id: run.id,
                    kind: run.kind,
                    options: run.options.clone(),
                    input,
                    accepted_at: at,
                    supersteps: 0,
                    outcome: None,
                });
            }
            Op::RunQueued(run) => self.queue.push((**run).clone()),
            Op::RunEnded { run, outcome } => {
                self.queue.retain(|queued| queued.id != *run);
                self.held.clear();
                if let Some(state) = self.run.as_mut().filter(|state| state.id == *run) {
                    state.outcome = Some(outcome.clone());
                }
            }
            _ => {}
        }
    }

    fn apply_frame(&mut self, op: &Op, at: Timestamp) {
        match op {
            Op::FrameOpened { ns, graph, digest, keep } => self.open_frame(ns, graph, digest, *keep),
            Op::FrameClosed { ns } => self.close_frame(ns),
            Op::Rewound { ns, frame, .. } => {
                if ns.is_empty() {
                    self.frames.clear();
                }
                self.frames.insert(ns.clone(), (**frame).clone());
            }
            Op::Checkpoint { ns, id, source, changes, plan } => {
                self.minted += 1;
                let entered = self.frames.get(ns).is_some_and(Frame::is_at_entry);
                if *source == Source::Loop && !entered {
                    self.supersteps += 1;
                    if let Some(run) = &mut self.run {
                        run.supersteps += 1;
                    }
                }
                if let Some(frame) = self.frames.get_mut(ns) {
                    frame.checkpoint(ns, *id, *source, (changes, plan), at);
                }
            }
            _ => {}
        }
    }

    fn open_frame(&mut self, ns: &Ns, graph: &Name, digest: &GraphDigest, keep: bool) {
        if !ns.is_empty() && !self.links.contains_key(graph) {
            self.links.insert(graph.clone(), digest.clone());
        }
        if let Some(frame) = self.frames.get_mut(ns).filter(|frame| frame.asleep) {
            frame.asleep = false;
            return;
        }
        let frame = Frame {
            graph: graph.clone(),
            digest: digest.clone(),
            keep,
            asleep: false,
            checkpoint: CheckpointId(0),
            parent: None,
            source: Source::Input,
            step: STEP_BEFORE_INPUT,
            at: Timestamp::default(),
            channels: Arc::default(),
            plan: Plan::default(),
            tasks: Vec::new(),
        };
        self.frames.insert(ns.clone(), frame);
    }

    fn close_frame(&mut self, ns: &Ns) {
        let inside = |other: &Ns| other.len() > ns.len() && other.starts_with(&**ns) && is_below(other, ns);
        self.frames.retain(|other, frame| !inside(other) || frame.keep);
        match self.frames.get_mut(ns) {
            Some(frame) if frame.keep => {
                frame.asleep = true;
                frame.tasks.clear();
                frame.plan = Plan::default();
            }
            _ => drop(self.frames.remove(ns)),
        }
        self.held.retain(|other, _| other != ns && !inside(other));
        self.interrupts.retain(|_, interrupt| interrupt.ns != *ns && !inside(&interrupt.ns));
    }

    fn apply_interrupt(&mut self, op: &Op) {
        match op {
            Op::InterruptOpened(interrupt) => {
                let (id, task, ix) = (interrupt.id, interrupt.task, interrupt.ix);
                let head = question_head(interrupt);
                if let Some(entry) = self.task_mut(task).and_then(|task| task.entry(ix, Some(&head))) {
                    entry.interrupt = Some(id);
                    entry.asked += 1;
                    entry.expired = false;
                    // An answer belongs to one question: a new one, answered or taken back, never inherits it. What people
                    // say about an interlock or a doubt has a place of its own beside it.
                    let aside = [InterruptKind::InDoubt, InterruptKind::Budget, InterruptKind::Breaker];
                    if !aside.contains(&interrupt.kind) {
                        entry.answer = None;
                        entry.approved = None;
                    }
                }
                self.interrupts.insert(id, (**interrupt).clone());
            }
            Op::Answered { id, answer, decides: false } => {
                if let Some(interrupt) = self.interrupts.get_mut(id) {
                    interrupt.votes.push(answer.clone());
                }
            }
            Op::Answered { id, answer, decides: true } => {
                self.remember_decision(*id, answer.by.clone(), answer.at);
                let question = self.interrupts.get(id).map(|question| (question.kind, Arc::clone(&question.payload)));
                let raised = question.as_ref().and_then(|(kind, payload)| raised_by(*kind, payload, answer));
                if let Some((wall, limit)) = raised {
                    self.spending.get_or_insert_default().raised.insert(wall, limit);
                }
                if let Some((entry, (kind, payload))) = self.close_question(*id).zip(question) {
                    take_answer(entry, kind, &payload, answer);
                }
            }
            Op::Expired { id } => {
                if let Some(entry) = self.close_question(*id) {
                    entry.expired = true;
                }
            }
            Op::Withdrawn { id, .. } => drop(self.interrupts.remove(id)),
            _ => {}
        }
    }

    fn remember_decision(&mut self, id: InterruptId, by: String, at: Timestamp) {
        if self.decided.len() >= DECIDED_MAX {
            self.decided.remove(0);
        }
        self.decided.push((id, by, at));
    }

    fn close_question(&mut self, id: InterruptId) -> Option<&mut CallEntry> {
        let interrupt = self.interrupts.remove(&id)?;
        self.timers.remove(&TimerKey::Expire(id));
        self.task_mut(interrupt.task)?.entry(interrupt.ix, None)
    }
}

/// The first segment of a namespace is a node of the root graph.
fn rename_ns(ns: &Ns, renames: &BTreeMap<Name, Name>) -> Ns {
    let end = ns.find([':', '|']).unwrap_or(ns.len());
    let (node, rest) = ns.split_at(end);
    renames.get(node).map_or_else(|| ns.clone(), |new| format!("{new}{rest}").into())
}
