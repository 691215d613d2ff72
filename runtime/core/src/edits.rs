//! Edits of state from outside: as a node, in bulk, at an older checkpoint, in a subgraph. Refused ones write nothing.

use graphs::CompiledGraph;
use serde_json::Map;

use crate::channels::Change;
use crate::commands::END;
use crate::effect::{Refusal, Reply};
use crate::error::{ErrorClass, TaskError};
use crate::event::{Edit, Rewind};
use crate::finish;
use crate::ids::{CheckpointId, Name, Ns};
use crate::plan::{self, Finished};
use crate::record::{Hop, Op, Plan, PlannedTask, Source};
use crate::run::{Run, View, root};
use crate::state::{TaskStatus, is_below};
use crate::superstep::as_finished;

impl Run {
    /// Edits the state of a frame as if nodes had written it. `at` goes back to an older checkpoint first (a fork).
    pub(crate) fn update(
        &mut self,
        ns: &Ns,
        supersteps: &[Vec<Edit>],
        at: Option<Box<Rewind>>,
    ) -> Result<Reply, Refusal> {
        if let Some(active) = self.state.active_run() {
            return Err(Refusal::Busy { run: active.id });
        }
        if self.state.root().is_none() {
            return Err(Refusal::Empty);
        }
        if supersteps.is_empty() || supersteps.iter().any(Vec::is_empty) {
            return Err(Refusal::Invalid(TaskError::invalid("an update needs at least one edit in each superstep")));
        }
        self.check_frame(ns).map_err(Refusal::Invalid)?;
        let mark = self.mark();
        match self.edit_all(ns, supersteps, at) {
            Ok(checkpoint) => {
                self.log.want_flush();
                Ok(Reply::Updated { checkpoint })
            }
            Err(error) => {
                self.take_back(mark);
                Err(Refusal::Invalid(error))
            }
        }
    }

    fn check_frame(&self, ns: &Ns) -> Result<(), TaskError> {
        if self.state.frames.get(ns).is_some_and(|frame| !frame.asleep || frame.keep) {
            return Ok(());
        }
        let open: Vec<&str> = self.state.frames.keys().filter(|ns| !ns.is_empty()).map(|ns| &**ns).collect();
        let open = if open.is_empty() { "it has none now".to_owned() } else { format!("open are {}", open.join(", ")) };
        Err(TaskError::invalid(format!("the thread has no subgraph `{ns}`; {open}")))
    }

    fn edit_all(
        &mut self,
        ns: &Ns,
        supersteps: &[Vec<Edit>],
        at: Option<Box<Rewind>>,
    ) -> Result<CheckpointId, TaskError> {
        let forks = at.is_some();
        // Read before anything is taken back: finished tasks lead on.
        let kept = match &at {
            Some(rewind) => rewind.frame.plan.clone(),
            None => {
                let view = self.view(ns)?;
                self.kept_plan(ns, &view, &[])?
            }
        };
        if let Some(rewind) = at {
            self.forget_children("state was edited");
            self.rewind(*rewind);
        } else {
            self.forget_below(ns, "state was edited");
        }
        let mut kept = Some(kept);
        for (index, edits) in supersteps.iter().enumerate() {
            let source = if forks && index == 0 { Source::Fork } else { Source::Update };
            self.edit(ns, edits, source, kept.take())?;
        }
        self.state
            .frames
            .get(ns)
            .map(|frame| frame.checkpoint)
            .ok_or_else(|| TaskError::bug("an update lost its frame"))
    }

    /// Ends what runs below a frame and takes back what its tasks asked.
    fn forget_below(&mut self, ns: &Ns, why: &str) {
        if ns.is_empty() {
            return self.forget_children(why);
        }
        let tasks: Vec<_> =
            self.state.frames.get(ns).map(|frame| frame.tasks.iter().map(|task| task.id).collect()).unwrap_or_default();
        let below = self.state.frames.iter().filter(|(other, frame)| is_below(other, ns) && !frame.asleep);
        for child in below.map(|(other, _)| other.clone()).collect::<Vec<_>>() {
            if self.state.frames.contains_key(&child) {
                self.close_child(&child);
            }
        }
        self.withdraw_of(&tasks, why);
    }

    pub(crate) fn rewind(&mut self, at: Rewind) {
        self.record(Op::Rewound { ns: root(), to: at.to, frame: Box::new(at.frame) });
        for (ns, frame) in at.kept {
            self.record(Op::Rewound { ns, to: at.to, frame: Box::new(frame) });
        }
        self.views.clear();
    }

    /// One superstep of edits: all writes, then the plan of the node or nodes they count as.
    fn edit(&mut self, ns: &Ns, edits: &[Edit], source: Source, kept: Option<Plan>) -> Result<(), TaskError> {
        let view = self.view(ns)?;
        let before = self.state.frames.get(ns).map(|frame| frame.plan.clone()).unwrap_or_default();
        let mut changes: Vec<Change> = Vec::new();
        let mut routes: Vec<(Name, Vec<Hop>)> = Vec::new();
        let (mut keeps, mut ends) = (false, false);
        for edit in edits {
            let written = self.input_changes(ns, &view, &edit.values, false)?;
            check_single_writer(&view.graph, &changes, &written)?;
            match edit.as_node.as_deref() {
                None => keeps = true,
                Some(END) => ends = true,
                Some(name) => routes.push(self.route_as(ns, &view, name, &written)?),
            }
            changes.extend(written);
        }
        let finished: Vec<Finished<'_>> = routes.iter().map(|(node, route)| Finished { node, route }).collect();
        let plan = match (ends, keeps) {
            (true, _) => Plan::default(),
            (_, true) => kept.unwrap_or(before),
            _ => plan::next(&view.graph, &before, &finished)?,
        };
        let id = self.mint_checkpoint();
        self.record(Op::Checkpoint { ns: ns.clone(), id, source, changes, plan });
        self.stream_checkpoint(ns);
        Ok(())
    }

    /// Where `name` leads after it wrote `changes`: its routing decides, as in a run.
    fn route_as(
        &mut self,
        ns: &Ns,
        view: &View,
        name: &str,
        changes: &[Change],
    ) -> Result<(Name, Vec<Hop>), TaskError> {
        let (name, routing) = if name == plan::START {
            (Name::from(""), view.graph.start())
        } else {
            let node = view.graph.node_by_name(name).ok_or_else(|| plan::unknown_node(&view.graph, name))?;
            (Name::from(name), &node.then)
        };
        let none = Map::new();
        let route = self.with_scope(ns, view, &none, |scope| {
            let mut seen = crate::scope::TaskScope::new(&view.graph, scope.channels, scope.vars).with_writes(changes);
            seen.input = scope.input;
            seen.facts = scope.facts.clone();
            finish::route(view, routing, &seen, &name)
        })?;
        Ok((name, route))
    }

    /// What is left of the superstep under way, what its finished tasks lead to, and `goto`.
    pub(crate) fn kept_plan(&self, ns: &Ns, view: &View, goto: &[Hop]) -> Result<Plan, TaskError> {
        let frame = self.state.frames.get(ns).ok_or_else(|| TaskError::bug("an update lost its frame"))?;
        let tasks = || frame.plan.tasks.iter().zip(&frame.tasks);
        let mut finished: Vec<Finished<'_>> =
            tasks().filter_map(|(planned, task)| as_finished(&planned.node, task)).collect();
        finished.push(Finished { node: "", route: goto });
        let unfinished = tasks().filter(|(_, task)| !matches!(task.status, TaskStatus::Finished { .. }));
        let unfinished: Vec<PlannedTask> = unfinished.map(|(planned, _)| planned.clone()).collect();
        plan::beside(&view.graph, &frame.plan, &finished, &unfinished)
    }
}

/// Two edits of one superstep may not replace the same channel.
fn check_single_writer(graph: &CompiledGraph, before: &[Change], written: &[Change]) -> Result<(), TaskError> {
    let replaces = |name: &str| graph.channel(name).is_some_and(|(_, channel)| channel.merge == graphs::Merge::Replace);
    let twice =
        written.iter().find(|change| replaces(&change.channel) && before.iter().any(|b| b.channel == change.channel));
    match twice {
        Some(change) => {
            let text = format!("two edits of one superstep write channel `{}`, which has one writer", change.channel);
            Err(TaskError::new(ErrorClass::Conflict, text))
        }
        None => Ok(()),
    }
}

/// Why a bulk update is not one, if so.
pub fn bulk_problem(supersteps: &[Vec<Edit>]) -> Option<String> {
    if supersteps.is_empty() {
        return Some("a bulk update needs at least one superstep".to_owned());
    }
    for (index, superstep) in supersteps.iter().enumerate() {
        let special =
            superstep.iter().any(|edit| edit.as_node.as_deref().is_some_and(|node| matches!(node, END | plan::START)));
        if superstep.is_empty() {
            return Some(format!("superstep {index} of the bulk update has no edit"));
        }
        if superstep.iter().any(|edit| edit.as_node.is_none()) {
            return Some(format!("superstep {index} of the bulk update has an edit without `as_node`"));
        }
        if special && superstep.len() > 1 {
            return Some(format!("superstep {index} of the bulk update mixes `start` or `end` with other nodes"));
        }
    }
    None
}
