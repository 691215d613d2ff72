//! The journal at work: every effect of a task is asked for here first.
//!
//! A recorded result is returned, never made again (I-3). A call that may change something leaves an intent before it is
//! made (I-4). A call with an intent and no result is in doubt: repeated only if it may be, else probed or put to people (I-5).

use std::sync::Arc;

use graphs::EffectClass;
use serde_json::{Value, json};

use crate::deep::bounded_outcome;
use crate::dispatch::digest_of;
use crate::effect::{Effect, Verdict};
use crate::error::{ErrorClass, TaskError};
use crate::event::{CallRequest, Probe, Question, Token};
use crate::ids::{CallIx, Name, TaskId};
use crate::interlocks::approval::choice;
use crate::interlocks::budget::Cost;
use crate::interlocks::guard::{CallFacts, Decision};
use crate::record::{CallHead, CallOutcome, InterruptKind, Op};
use crate::run::Run;
use crate::state::{CallEntry, TaskStatus};

/// Most calls of one task.
pub const CALLS_MAX: u32 = 10_000;

/// Answer to an in-doubt call: it happened.
pub const HAPPENED: &str = "happened";
/// Answer to an in-doubt call: make it again.
pub const REPEAT: &str = "repeat";
/// Answer to an in-doubt call: give up.
pub const GIVE_UP: &str = "give_up";

impl Run {
    /// A node asks to make a call.
    pub(crate) fn call_asked(&mut self, task: TaskId, token: Token, ix: CallIx, request: &CallRequest) {
        // The same call of the same dispatch is being made already.
        if self.live(task, token).is_none_or(|live| live.suspending || live.is_asking(ix)) {
            return;
        }
        self.any_sign(task, token);
        if request.worst != Cost::FREE
            && let Some(live) = self.live(task, token)
        {
            live.worst.insert(ix, request.worst);
        }
        let head = CallHead {
            kind: request.kind,
            target: request.target.clone(),
            digest: digest_of(&request.args),
            effect: request.effect,
        };
        let entry = self.task(task).and_then(|task| task.call(ix)).cloned();
        match entry {
            _ if ix.0 >= CALLS_MAX => {
                let text =
                    format!("a task may make {CALLS_MAX} calls; this one wants more: split the work over supersteps");
                self.stop_task(task, token, TaskError::new(ErrorClass::Limit, text));
            }
            Some(entry) if !same_call(&entry.head, &head) => self.diverged(task, token, ix, (&entry.head, &head)),
            Some(entry) => self.known_call(task, token, ix, (entry, head, request)),
            None => self.decide_call(task, token, ix, (head, request)),
        }
    }

    fn known_call(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallEntry, CallHead, &CallRequest)) {
        let (entry, head, request) = call;
        let attempts = self.task(task).map_or(0, |task| task.attempts);
        let args = permitted_args(&entry, request);
        match &entry.outcome {
            Some(CallOutcome::Err(error)) if entry.attempt < attempts => {
                let doubt = head.effect == EffectClass::AtMostOnce && error.class.leaves_doubt();
                match doubt {
                    true => self.in_doubt(task, token, ix, (entry, head, request)),
                    // A call that is made again counts again.
                    false if self.over_budget(task, token, ix, (&head, &args)) => {}
                    false => self.permit(task, token, ix, (head, args)),
                }
            }
            Some(outcome) => self.verdict(task, token, ix, Verdict::Recorded(outcome.clone())),
            None if entry.begun => self.in_doubt(task, token, ix, (entry, head, request)),
            None => self.approved_call(task, token, ix, (entry, head, request)),
        }
    }

    /// A call the guard asked about: the answer decides, bound to the digest of these very arguments.
    fn approved_call(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallEntry, CallHead, &CallRequest)) {
        let (entry, head, request) = call;
        let Some(answer) = &entry.answer else {
            match entry.expired {
                true => self.refuse_call(task, token, ix, (head, "the approval expired".to_owned())),
                // Policy decides again: the question was taken back, or the task was reset after a refusal.
                false => self.decide_call(task, token, ix, (head, request)),
            }
            return;
        };
        let (by, value) = (answer.by.clone(), Arc::clone(&answer.value));
        match choice(&value) {
            Some("approve") => self.permit(task, token, ix, (head, Arc::clone(&request.args))),
            Some("edit") => match value.get("args") {
                Some(args) => self.permit_edited(task, token, ix, (head, request, args.clone())),
                None => self.refuse_call(task, token, ix, (head, format!("`{by}` chose `edit` without `args`"))),
            },
            other => {
                let reason =
                    value.get("reason").and_then(Value::as_str).map(|text| format!(": {text}")).unwrap_or_default();
                let said = format!("`{by}` answered `{}`{reason}", other.unwrap_or("?"));
                self.refuse_call(task, token, ix, (head, said));
            }
        }
    }

    /// Edited arguments pass the guard again; only what it would ask about anyway is covered by the answer.
    fn permit_edited(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallHead, &CallRequest, Value)) {
        let (head, request, args) = call;
        let edited = CallRequest { args: Arc::new(args), ..request.clone() };
        match self.guard(task, &edited) {
            Decision::Deny { reason, .. } => self.refuse_call(task, token, ix, (head, reason)),
            _ => self.permit(task, token, ix, (head, edited.args)),
        }
    }

    /// A call without a history: policy decides.
    fn decide_call(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallHead, &CallRequest)) {
        let (head, request) = call;
        if self.budget_denied(task, token, ix, &head) || self.over_budget(task, token, ix, (&head, &request.args)) {
            return;
        }
        match self.guard(task, request) {
            Decision::Allow { .. } => self.permit(task, token, ix, (head, Arc::clone(&request.args))),
            Decision::Deny { rule, reason } => {
                let detail = json!({"target": &*head.target, "digest": head.digest, "rule": rule, "reason": reason});
                self.audit_call(task, request, "call.denied", detail);
                self.refuse_call(task, token, ix, (head, reason));
            }
            Decision::Ask { rule, reason, approvers, quorum, four_eyes } => {
                let detail = json!({"target": &*head.target, "digest": head.digest, "rule": rule, "reason": reason});
                self.audit_call(task, request, "call.asked", detail);
                let env = request.env.as_deref().unwrap_or("unnamed");
                let question = Question {
                    title: format!("{} in {env}", head.target),
                    body: reason,
                    payload: json!({"tool": &*head.target, "args": *request.args, "env": env}),
                    choices: ["approve", "edit", "reject"].map(str::to_owned).to_vec(),
                    approvers,
                    quorum,
                    four_eyes,
                    ..Question::default()
                };
                self.ask_about_call(task, ix, head, (InterruptKind::Guard, &question));
                self.suspend(task, token);
            }
        }
    }

    fn guard(&self, task: TaskId, request: &CallRequest) -> Decision {
        let place = self.state.find_task(task);
        let node = place.and_then(|(_, frame, index)| frame.plan.tasks.get(index)).map_or("", |planned| &*planned.node);
        let graph = place.map_or("", |(_, frame, _)| &*frame.graph);
        self.policy.decide(&CallFacts {
            kind: request.kind,
            target: &request.target,
            args: &request.args,
            effect: request.effect,
            env: request.env.as_deref(),
            role: request.role.as_deref(),
            graph,
            node,
        })
    }

    fn audit_call(&mut self, task: TaskId, request: &CallRequest, action: &str, detail: Value) {
        let place = self.state.find_task(task);
        let node: Name = place
            .and_then(|(_, frame, index)| frame.plan.tasks.get(index))
            .map_or_else(|| "".into(), |t| t.node.clone());
        let actor = request.role.as_ref().map_or_else(|| "runtime".to_owned(), |role| format!("agent:{role}"));
        self.audit(&actor, action, (&node, Some(task)), detail);
    }

    /// Lets a call be made: at once when it only reads, else when its intent is durable. One that takes from the ledger
    /// always leaves its intent.
    pub(crate) fn permit_now(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallHead, Arc<Value>)) {
        let (head, args) = call;
        let key = self.call_key(task, ix);
        let mut held = false;
        if let Some(live) = self.live(task, token) {
            live.permitted.insert(ix, head.clone());
            held = live.passing.get(&ix).is_some_and(|passing| passing.hold.is_some());
        }
        let verdict = Effect::Verdict { task, token, ix, verdict: Verdict::Perform { key, args: Arc::clone(&args) } };
        if head.effect == EffectClass::ReadOnly && !held {
            self.push(verdict);
            return;
        }
        let detail =
            json!({"target": &*head.target, "kind": head.kind, "digest": digest_of(&args), "effect": head.effect});
        let node: Name = self
            .state
            .find_task(task)
            .and_then(|(_, frame, index)| frame.plan.tasks.get(index))
            .map_or_else(|| "".into(), |planned| planned.node.clone());
        self.record(Op::CallBegun { task, ix, head });
        self.audit("runtime", "call.permitted", (&node, Some(task)), detail);
        self.log.want_flush();
        self.hold(verdict);
    }

    /// The stable key of a call: thread, task, call and journal generation; never the attempt.
    pub(crate) fn call_key(&self, task: TaskId, ix: CallIx) -> String {
        let state = self.task(task);
        let generation = state
            .and_then(|state| state.call(ix).map(|entry| entry.generation).or(Some(state.generation)))
            .unwrap_or_default();
        format!("{}:{task}:{}:{generation}", self.thread, ix.0)
    }

    pub(crate) fn refuse_call(&mut self, task: TaskId, token: Token, ix: CallIx, refusal: (CallHead, String)) {
        let (head, reason) = refusal;
        let outcome = CallOutcome::Err(TaskError::new(ErrorClass::Denied, reason));
        self.record(Op::CallEnded { task, ix, head: Some(head), outcome: outcome.clone() });
        self.verdict(task, token, ix, Verdict::Recorded(outcome));
    }

    pub(crate) fn verdict(&mut self, task: TaskId, token: Token, ix: CallIx, verdict: Verdict) {
        self.push(Effect::Verdict { task, token, ix, verdict });
    }

    /// A permitted call ended. The node already has the outcome; it becomes durable with the next commit.
    pub(crate) fn call_done(&mut self, task: TaskId, token: Token, ix: CallIx, ended: (CallOutcome, Option<Cost>)) {
        let (outcome, spent) = ended;
        let Some(live) = self.live(task, token) else { return };
        let Some(head) = live.permitted.remove(&ix) else { return };
        let passing = live.passing.remove(&ix);
        self.any_sign(task, token);
        let outcome = bounded_outcome(outcome, &head.target);
        let held = passing.as_ref().is_some_and(|passing| passing.hold.is_some());
        let reads = head.effect == EffectClass::ReadOnly && !held;
        let settled = passing.map(|passing| (passing, outcome.clone()));
        self.record(Op::CallEnded { task, ix, head: reads.then_some(head), outcome });
        if let Some((passing, outcome)) = settled {
            self.call_settled(task, passing, &outcome, spent);
        }
        if !reads {
            self.log.want_flush();
        }
        self.finish_suspension(task, token);
    }

    fn in_doubt(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallEntry, CallHead, &CallRequest)) {
        let (entry, head, request) = call;
        let args = permitted_args(&entry, request);
        if head.effect != EffectClass::AtMostOnce {
            self.permit(task, token, ix, (head, args));
            return;
        }
        match &entry.doubt {
            Some(answer) => {
                let value = Arc::clone(&answer.value);
                self.resolve_doubt(task, token, ix, (head, args, value));
            }
            None if request.can_probe => {
                let key = self.call_key(task, ix);
                if let Some(live) = self.live(task, token) {
                    live.permitted.insert(ix, head);
                }
                self.verdict(task, token, ix, Verdict::Probe { key });
            }
            None => self.ask_doubt(task, token, ix, (head, &args)),
        }
    }

    fn resolve_doubt(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallHead, Arc<Value>, Arc<Value>)) {
        let (head, args, answer) = call;
        let outcome = match choice(&answer) {
            Some(REPEAT) => return self.permit(task, token, ix, (head, args)),
            Some(HAPPENED) => CallOutcome::Ok(Arc::new(answer.get("result").cloned().unwrap_or_default())),
            _ => CallOutcome::Err(TaskError::new(
                ErrorClass::OutcomeUnknown,
                format!("nobody knows whether `{}` happened, and it was given up", head.target),
            )),
        };
        self.record(Op::CallEnded { task, ix, head: Some(head), outcome: outcome.clone() });
        self.log.want_flush();
        self.verdict(task, token, ix, Verdict::Recorded(outcome));
    }

    fn ask_doubt(&mut self, task: TaskId, token: Token, ix: CallIx, call: (CallHead, &Arc<Value>)) {
        let (head, args) = call;
        let question = Question {
            title: format!("Did `{}` happen?", head.target),
            body: "The call was begun and the process died before its result was recorded. Look at the target system, then \
                   answer `happened` (with `result` if the graph needs one), `repeat` or `give_up`."
                .to_owned(),
            payload: json!({"tool": &*head.target, "args": **args}),
            choices: [HAPPENED, REPEAT, GIVE_UP].map(str::to_owned).to_vec(),
            ..Question::default()
        };
        self.ask_about_call(task, ix, head, (InterruptKind::InDoubt, &question));
        self.suspend(task, token);
    }

    /// A probe came back.
    pub(crate) fn probed(&mut self, task: TaskId, token: Token, ix: CallIx, found: Probe) {
        let Some(head) = self.live(task, token).and_then(|live| live.permitted.remove(&ix)) else { return };
        match found {
            Probe::Happened(result) => {
                let outcome = CallOutcome::Ok(Arc::new(result));
                self.record(Op::CallEnded { task, ix, head: Some(head), outcome: outcome.clone() });
                self.log.want_flush();
                self.verdict(task, token, ix, Verdict::Recorded(outcome));
            }
            Probe::DidNot => self.permit_probed(task, token, ix, head),
            Probe::Unknown => self.ask_doubt(task, token, ix, (head, &Arc::new(Value::Null))),
        }
    }

    /// It did not happen: now it may be made, as it was asked for. Its intent is there already, unless it takes from the ledger.
    fn permit_probed(&mut self, task: TaskId, token: Token, ix: CallIx, head: CallHead) {
        let args = Arc::new(Value::Null);
        if self.is_interlocked(task, token) {
            return self.permit(task, token, ix, (head, args));
        }
        if let Some(live) = self.live(task, token) {
            live.permitted.insert(ix, head);
        }
        let key = self.call_key(task, ix);
        self.verdict(task, token, ix, Verdict::Perform { key, args });
    }

    /// Takes a task off the shell while people are asked; calls it has in the air may come back first.
    pub(crate) fn suspend(&mut self, task: TaskId, token: Token) {
        if let Some(live) = self.live(task, token) {
            live.suspending = true;
        }
        self.finish_suspension(task, token);
    }

    pub(crate) fn finish_suspension(&mut self, task: TaskId, token: Token) {
        if self.live(task, token).is_some_and(|live| live.suspending && live.permitted.is_empty()) {
            self.abort(task, token);
            self.restart_answered(task);
        }
    }

    /// A task whose question was answered while a call of it was still in the air begins again.
    pub(crate) fn restart_answered(&mut self, task: TaskId) {
        let answered = self.task(task).is_some_and(|state| state.status == TaskStatus::Pending && !self.waits(state));
        if answered && !self.ready.contains(&task) {
            self.ready.push_back(task);
        }
    }

    /// Ends a dispatched task with a failure of its own making.
    pub(crate) fn stop_task(&mut self, task: TaskId, token: Token, error: TaskError) {
        self.stopped_in_the_air(task, token, &error);
        self.abort(task, token);
        self.fail_task(task, error);
    }

    fn diverged(&mut self, task: TaskId, token: Token, ix: CallIx, heads: (&CallHead, &CallHead)) {
        let (was, is) = heads;
        let show = |head: &CallHead| {
            let digest: String = head.digest.chars().take(12).collect();
            format!("{:?} `{}` with arguments {digest}", head.kind, head.target)
        };
        let text = format!(
            "call {} was {} when it was recorded and is {} now: the node does not repeat itself; make it depend only on its \
             input and on recorded results",
            ix.0,
            show(was),
            show(is)
        );
        self.stop_task(task, token, TaskError::new(ErrorClass::NonDeterminism, text));
    }
}

fn same_call(was: &CallHead, is: &CallHead) -> bool {
    was.kind == is.kind && was.target == is.target && was.digest == is.digest
}

/// The arguments a call may be made with: as asked, or as an approver edited them.
fn permitted_args(entry: &CallEntry, request: &CallRequest) -> Arc<Value> {
    let edited = entry.answer.as_ref().filter(|answer| choice(&answer.value) == Some("edit"));
    match edited.and_then(|answer| answer.value.get("args")) {
        Some(args) => Arc::new(args.clone()),
        None => Arc::clone(&request.args),
    }
}
