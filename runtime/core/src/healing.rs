//! Track records at work: looked at before an act, told after it.
//!
//! ```text
//!  enter ─▶ Clear ─▶ heal: the act is policy's to decide │ ask: policy asks if it would not │ stopped: handler, else people
//!  act ─▶ check ─▶ HealEnded with the task's end, in one commit ─durable─▶ Tell ─▶ HealTold
//! ```
//!
//! The record takes away what policy gives and gives nothing: it can make a call ask that was free, and never the other way.
//! An outcome is what the task came to, and that is what the node's check found; no result and no model's text is read.

use std::time::Duration;

use graphs::{Kind, Record};
use serde_json::{Value, json};

use crate::dispatch::Starting;
use crate::effect::{Effect, Tell};
use crate::error::{ErrorClass, TaskError};
use crate::event::{CallRequest, Question, Token};
use crate::finish::expression_error;
use crate::guarding::edited_args;
use crate::ids::{CallIx, Name, TaskId, Timestamp};
use crate::interlocks::approval::choice;
use crate::interlocks::breaker::Press;
use crate::interlocks::guard::{Approval, Decision as Judgement};
use crate::interlocks::track_record::{
    Decision, Heal, Prior, Terms, TrackRecord, combined, counts_as_failed, rounded_down,
};
use crate::record::{CallKind, InterruptKind, Op};
use crate::run::Run;
use crate::spending::WHOLE_TASK;
use crate::state::TaskState;

/// Rule that asks about an act whose class has no good enough record.
pub(crate) const TRACK_RECORD: &str = "track-record";

/// Longest name of a class, in bytes.
const CLASS_BYTES_MAX: usize = 128;

/// What a node wants of a class before it acts.
pub(crate) struct Watch {
    pub(crate) class: Name,
    terms: Terms,
    approvers: Vec<String>,
    expires: Option<Duration>,
    /// Why a person decides, once the record has said so.
    asks: Option<String>,
}

impl Run {
    /// What a task's node wants of a track record before it acts; `None` when it wants nothing.
    pub(crate) fn watch(&self, starting: &Starting) -> Result<Option<Watch>, TaskError> {
        let Kind::Tool(tool) = &starting.node()?.kind else { return Ok(None) };
        let Some(record) = tool.record.as_ref().filter(|_| !tool.dry_run) else { return Ok(None) };
        let Some(at_least) = record.at_least else { return Ok(None) };
        let terms = Terms {
            at_least,
            confidence: self.confidence_of(starting, record)?,
            prior: self.prior_of(starting, record)?,
        };
        Ok(Some(Watch {
            class: self.class_of(starting, record)?,
            terms,
            approvers: record.approvers.clone(),
            expires: record.expires,
            asks: None,
        }))
    }

    fn class_of(&self, starting: &Starting, record: &Record) -> Result<Name, TaskError> {
        let class = self.rendered(starting, ("record.class", &record.class))?;
        match class.as_str() {
            Some(text) if !text.is_empty() && text.len() <= CLASS_BYTES_MAX && !text.chars().any(char::is_control) => {
                Ok(text.into())
            }
            _ => {
                let text = format!(
                    "`record.class` of node `{}` must be a name of 1 to {CLASS_BYTES_MAX} bytes, and is {class}",
                    starting.node()?.name
                );
                Err(TaskError::invalid(text))
            }
        }
    }

    fn prior_of(&self, starting: &Starting, record: &Record) -> Result<Prior, TaskError> {
        let Some(template) = &record.prior else { return Ok(Prior::default()) };
        let prior = self.rendered(starting, ("record.prior", template))?;
        if prior.is_null() {
            return Ok(Prior::default());
        }
        let node = &starting.node()?.name;
        serde_json::from_value(prior.clone()).map_err(|error| {
            TaskError::invalid(format!(
                "`record.prior` of node `{node}` must be `{{healed, failed}}` or nothing, and is {prior}: {error}"
            ))
        })
    }

    fn confidence_of(&self, starting: &Starting, record: &Record) -> Result<Option<f64>, TaskError> {
        let Some(expr) = &record.confidence else { return Ok(None) };
        let node = starting.node()?;
        self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
            expr.eval_number(scope).map(Some).map_err(|e| expression_error(node, "record.confidence", &e))
        })
    }

    fn rendered(&self, starting: &Starting, (place, template): (&str, &graphs::Template)) -> Result<Value, TaskError> {
        let node = starting.node()?;
        self.with_scope(&starting.ns, &starting.view, &starting.vars, |scope| {
            template.render(scope).map_err(|e| expression_error(node, place, &e))
        })
    }

    /// Until when a person who was asked about the stopped class has forgiven its failures.
    pub(crate) fn forgiven_until(&self, task: TaskId, ix: CallIx) -> Option<Timestamp> {
        let answer = self.leave(task, ix)?.breaker.as_ref()?;
        (choice(&answer.value) == Some(crate::RESET)).then_some(answer.at)
    }

    /// Puts the record that was looked up against what the node wants; why the class is stopped, if it is.
    pub(crate) fn weigh_record(
        &mut self,
        task: TaskId,
        passing: &mut crate::clearance::Passing,
        record: Option<TrackRecord>,
    ) -> Option<String> {
        let watch = passing.record.as_mut()?;
        let record = record.unwrap_or_default();
        let decision = record.decide(watch.terms);
        let bound = record.bound(watch.terms.prior);
        let detail = json!({
            "class": &*watch.class, "decision": decision.word(), "at_least": watch.terms.at_least,
            "bound": rounded_down(bound), "confidence": watch.terms.confidence,
            "combined": rounded_down(combined(watch.terms.confidence, bound)), "healed": record.healed,
            "failed": record.failed, "failed_in_a_row": record.failed_in_a_row(), "prior": watch.terms.prior,
        });
        let tried = matches!(self.pressed(task, WHOLE_TASK), Ok(Some(Press::Try)));
        let stopped = match decision {
            Decision::Heal => None,
            Decision::Ask { why } => {
                watch.asks = Some(format!("track record of `{}`: {why}", watch.class));
                None
            }
            // A person said to try once all the same; the act itself is asked about like one without a record.
            Decision::Stopped { why } if tried => {
                watch.asks = Some(format!("track record of `{}`: {why}", watch.class));
                None
            }
            Decision::Stopped { why } => Some(why),
        };
        let node = self.node_of(task).cloned().unwrap_or_else(|| "".into());
        self.audit("gate", "record.weighed", (&node, Some(task)), detail);
        stopped
    }

    /// The declared way out when the node has one, else people are asked.
    pub(crate) fn class_stopped(
        &mut self,
        task: TaskId,
        token: Token,
        (passing, why): (&crate::clearance::Passing, String),
    ) {
        let Some(watch) = &passing.record else { return };
        let class = &watch.class;
        let text = format!("class `{class}` is stopped: {why}");
        let handled =
            self.live(task, token).is_some_and(|live| live.starting.node().is_ok_and(|node| node.on_error.is_some()));
        if handled {
            let text = format!("{text}; `interlock outcomes reset {class}` lets it go on");
            return self.stop_task(task, token, TaskError::new(ErrorClass::Denied, text));
        }
        let question = Question {
            title: format!("Class {class} is stopped"),
            body: format!("{text}. `approve` tries once now, `reset` lets it go on, `reject` fails the task."),
            payload: json!({ "class": &**class }),
            choices: ["approve", crate::RESET, "reject"].map(str::to_owned).to_vec(),
            approvers: watch.approvers.clone(),
            expires: watch.expires,
            ..Question::default()
        };
        self.open_interrupt(task, WHOLE_TASK, InterruptKind::Breaker, &question);
        self.suspend(task, token);
    }

    /// What becomes of policy's decision on a node's own act whose class has no good enough record: an act that was free
    /// asks, and who is asked anyway is told the record. Reads, and the taking back of an act, are as they were.
    pub(crate) fn by_record(&self, task: TaskId, request: &CallRequest, decision: Judgement) -> Judgement {
        let changes = request.kind == CallKind::Tool && request.effect != graphs::EffectClass::ReadOnly;
        let live = self.live.get(&task).filter(|_| changes && request.role.is_none());
        let watch = live.and_then(|live| live.passing.get(&WHOLE_TASK)).and_then(|passing| passing.record.as_ref());
        let Some((watch, why)) = watch.and_then(|watch| Some((watch, watch.asks.as_ref()?))) else { return decision };
        match decision {
            Judgement::Allow { .. } => Judgement::Ask {
                rule: TRACK_RECORD.to_owned(),
                reason: why.clone(),
                who: Approval { expires: watch.expires, ..Approval::of(watch.approvers.clone()) },
            },
            Judgement::Ask { rule, reason, who } => Judgement::Ask { rule, reason: format!("{reason}\n{why}"), who },
            Judgement::Deny { .. } => decision,
        }
    }

    /// A task ends for good: how its act ended is recorded with it, in the same commit.
    pub(crate) fn heal_ended(&mut self, task: TaskId, error: Option<&TaskError>) {
        if let Some(heal) = self.heal_of(task, error) {
            let node = self.node_of(task).cloned().unwrap_or_else(|| "".into());
            let detail = json!({
                "class": &*heal.class, "healed": heal.healed, "confidence": heal.confidence,
                "error": error.map(|error| error.class),
            });
            self.audit("runtime", "outcome.counted", (&node, Some(task)), detail);
            self.record(Op::HealEnded { task, heal: Box::new(heal.clone()) });
            self.log.want_flush();
            self.tell_heal(task, heal);
        }
    }

    /// What the end of a task says about the class of its act; `None` when it says nothing.
    fn heal_of(&mut self, task: TaskId, error: Option<&TaskError>) -> Option<Heal> {
        let node = self.node_of(task)?.clone();
        let ns = self.state.find_task(task)?.0.clone();
        let view = self.view(&ns).ok()?;
        let Kind::Tool(tool) = &view.graph.node_by_name(&node)?.kind else { return None };
        let record = tool.record.as_ref()?;
        let healed = match error {
            None if record.heals => true,
            Some(error) if counts_as_failed(error.class) => false,
            None | Some(_) => return None,
        };
        if !self.task(task).is_some_and(acted_as_planned) {
            return None;
        }
        let starting = self.prepare(task).ok()?;
        Some(Heal {
            id: format!("{}:{task}", self.thread).into(),
            class: self.class_of(&starting, record).ok()?,
            thread: self.thread.clone(),
            graph: view.graph.name().into(),
            healed,
            confidence: self.confidence_of(&starting, record).ok().flatten(),
            at: self.now,
            prior: record.prior.as_ref().and_then(|_| self.prior_of(&starting, record).ok()),
        })
    }

    fn tell_heal(&mut self, task: TaskId, heal: Heal) {
        self.hold(Effect::Tell(Box::new(Tell { heal: Some((task, heal)), ..Tell::default() })));
    }

    /// After a load: the records are told what they may have missed.
    pub(crate) fn tell_heals(&mut self) {
        for (task, heal) in self.state.heals.clone() {
            self.tell_heal(task, heal);
        }
    }

    /// The record of a class has an outcome.
    pub(crate) fn heal_told(&mut self, task: TaskId, class: &Name, stopped: bool) {
        if stopped {
            let node = self.node_of(task).cloned().unwrap_or_else(|| "".into());
            self.audit("runtime", "class.stopped", (&node, Some(task)), json!({ "class": &**class }));
            self.log.want_flush();
        }
        self.record(Op::HealTold { task });
    }
}

/// Whether the task made its act, and made it as it was planned: what a person rewrote says nothing about the class.
fn acted_as_planned(task: &TaskState) -> bool {
    let acts = |call: &&crate::state::CallEntry| {
        call.begun && call.head.kind == CallKind::Tool && call.head.effect != graphs::EffectClass::ReadOnly
    };
    let mut acts = task.calls.values().filter(acts).peekable();
    acts.peek().is_some() && acts.all(|call| edited_args(call).is_none())
}
