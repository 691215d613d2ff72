//! Durable questions: opening, answering, expiring; timers and signals that wake tasks.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::dispatch::{digest_of, is_in, is_wait};
use crate::effect::{Effect, Refusal, Reply, Taken, Verdict};
use crate::error::{ErrorClass, TaskError};
use crate::event::{AnswerInput, LiveTimer, Question, Token};
use crate::ids::{CallIx, InterruptId, Name, RunId, TaskId};
use crate::interlocks::approval::{self, choice};
use crate::record::{
    Answer, CallHead, CallKind, CallOutcome, Interrupt, InterruptKind, Op, Outcome, RunKind, RunOptions, Timer,
    TimerKey,
};
use crate::run::{Run, follow_up_run, root};

/// Signals kept for tasks that will ask later.
pub(crate) const SIGNALS_MAX: usize = 1000;

/// An answer as expressions and nodes see it: the object given (or `{choice}` for a text), with `by` and `at`.
pub fn answer_value(answer: &Answer) -> Value {
    let mut shown = match &*answer.value {
        Value::Object(map) => map.clone(),
        Value::String(text) => serde_json::Map::from_iter([("choice".to_owned(), Value::String(text.clone()))]),
        other => serde_json::Map::from_iter([("value".to_owned(), other.clone())]),
    };
    shown.insert("by".to_owned(), answer.by.clone().into());
    shown.insert("at".to_owned(), answer.at.to_string().into());
    Value::Object(shown)
}

impl Run {
    /// A node asks people from inside its code.
    pub(crate) fn question_asked(&mut self, task: TaskId, token: Token, ix: CallIx, question: &Question) {
        if self.live(task, token).is_none_or(|live| live.suspending) {
            return;
        }
        let entry = self.task(task).and_then(|task| task.call(ix)).cloned();
        let digest = digest_of(&question.payload);
        match entry {
            Some(entry) if entry.head.digest != digest || entry.head.kind != CallKind::Question => {
                let text =
                    format!("call {} was another one when it was recorded: the node does not repeat itself", ix.0);
                self.stop_task(task, token, TaskError::new(ErrorClass::NonDeterminism, text));
            }
            Some(entry) => match entry.answer {
                Some(answer) => self.verdict(task, token, ix, Verdict::Answered(answer)),
                None if entry.expired => self.verdict(task, token, ix, Verdict::Expired),
                // The question was taken back (a cancelled run that goes on): it is asked anew.
                None => {
                    self.open_interrupt(task, ix, InterruptKind::Question, question);
                    self.suspend(task, token);
                }
            },
            None => {
                self.open_interrupt(task, ix, InterruptKind::Question, question);
                self.suspend(task, token);
            }
        }
    }

    /// Opens a question about a call: the journal entry is the call's own.
    pub(crate) fn ask_about_call(&mut self, task: TaskId, ix: CallIx, head: CallHead, ask: (InterruptKind, &Question)) {
        let known = self.task(task).is_some_and(|task| task.call(ix).is_some());
        if !known {
            self.record(Op::CallPlanned { task, ix, head });
        }
        self.open_interrupt(task, ix, ask.0, ask.1);
    }

    /// Makes a question durable and tells about it afterwards.
    pub(crate) fn open_interrupt(&mut self, task: TaskId, ix: CallIx, kind: InterruptKind, question: &Question) {
        let Some((ns, frame, index)) = self.state.find_task(task) else { return };
        let node = frame.plan.tasks.get(index).map_or_else(|| "".into(), |planned| planned.node.clone());
        let ns = ns.clone();
        let digest = digest_of(&question.payload);
        let state = self.task(task);
        let generation = state.map_or(0, |task| task.generation);
        let asked = state.and_then(|task| task.call(ix)).map_or(0, |call| call.asked);
        let named = format!("{task}:{}:{generation}:{asked}:{kind:?}:{digest}", ix.0);
        let interrupt = Interrupt {
            id: InterruptId(xxhash_rust::xxh3::xxh3_128(named.as_bytes())),
            kind,
            ns: ns.clone(),
            task,
            node,
            ix,
            title: question.title.clone(),
            body: question.body.clone(),
            payload: Arc::new(question.payload.clone()),
            digest,
            choices: question.choices.clone(),
            schema: question.schema.clone(),
            approvers: question.approvers.clone(),
            quorum: question.quorum.max(1),
            four_eyes: question.four_eyes,
            opened_at: self.now,
            expires_at: question.expires.map(|span| self.now.plus(span)),
            votes: Vec::new(),
        };
        self.record(Op::InterruptOpened(Box::new(interrupt.clone())));
        if let Some(at) = interrupt.expires_at {
            let key = TimerKey::Expire(interrupt.id);
            self.record(Op::TimerSet(Timer { key, at }));
        }
        self.log.want_flush();
        self.stream_interrupt(&ns, std::slice::from_ref(&interrupt));
        self.hold(Effect::Ask(Box::new(interrupt)));
    }

    /// Answers, strict: every id must be open before anything is written; each answer is then judged by itself.
    pub(crate) fn answer(&mut self, run: RunId, answers: &[AnswerInput], update: &Value) -> Result<Reply, Refusal> {
        if answers.is_empty() {
            return Err(Refusal::Invalid(TaskError::invalid(
                "no answer was given: name an interrupt id and its answer",
            )));
        }
        for answer in answers {
            self.check_open(answer.id)?;
        }
        let ns = root();
        let changes = if update.is_null() {
            Vec::new()
        } else {
            let view = self.view(&ns).map_err(Refusal::Invalid)?;
            self.input_changes(&ns, &view, update, false).map_err(Refusal::Invalid)?
        };
        let judged: Vec<Result<Taken, Refusal>> = answers.iter().map(|answer| self.take_answer(answer)).collect();
        let any = judged.iter().any(Result::is_ok);
        if any && !changes.is_empty() {
            self.record(Op::Patched { ns, changes });
        }
        if judged.iter().any(|taken| matches!(taken, Ok(Taken::Decided))) {
            if self.state.active_run().is_none() {
                self.reset_failed();
            }
            self.go_on(run);
        }
        if any {
            self.log.want_flush();
        }
        Ok(Reply::Answered(judged))
    }

    fn check_open(&self, id: InterruptId) -> Result<(), Refusal> {
        if self.state.interrupts.contains_key(&id) {
            return Ok(());
        }
        if let Some((_, by, at)) = self.state.decided.iter().find(|(decided, _, _)| *decided == id) {
            return Err(Refusal::AlreadyAnswered { id, by: by.clone(), at: *at });
        }
        let open: Vec<String> = self.state.interrupts.keys().map(ToString::to_string).collect();
        let pending =
            if open.is_empty() { "nothing is open".to_owned() } else { format!("open are {}", open.join(", ")) };
        Err(Refusal::UnknownInterrupt { id, pending })
    }

    fn take_answer(&mut self, input: &AnswerInput) -> Result<Taken, Refusal> {
        let id = input.id;
        let question = self.state.interrupts.get(&id).cloned();
        let question =
            question.ok_or_else(|| Refusal::UnknownInterrupt { id, pending: "it was just closed".to_owned() })?;
        let requester = self.state.metadata.get("requested_by").and_then(Value::as_str).unwrap_or("").to_owned();
        let refused = |why| Refusal::AnswerRefused { id, why };
        let verdict = approval::judge(&question, input, self.now, &requester).map_err(refused)?;
        let decides = verdict == approval::Verdict::Decides;
        let answer = Answer { value: Arc::new(input.value.clone()), by: input.by.user.clone(), at: self.now };
        let detail = json!({
            "interrupt": id, "kind": question.kind, "title": question.title, "digest": question.digest,
            "choice": choice(&input.value), "decides": decides,
        });
        self.record(Op::Answered { id, answer, decides });
        self.audit(
            &format!("user:{}", input.by.user),
            "interrupt.answered",
            (&question.node, Some(question.task)),
            detail,
        );
        Ok(match verdict {
            approval::Verdict::Decides => Taken::Decided,
            approval::Verdict::Counts { votes } => Taken::Counted { votes, quorum: question.quorum },
        })
    }

    /// Lets waiting tasks go on: in the active run, or in a new one.
    pub(crate) fn go_on(&mut self, run: RunId) {
        if self.state.active_run().is_none() {
            let options = self.state.run.as_ref().map(|run| run.options.clone()).unwrap_or_default();
            let options = RunOptions { interrupt_before: Vec::new(), interrupt_after: Vec::new(), ..options };
            self.accept(run, RunKind::Resume, options, &Value::Null);
            self.requeue();
            self.arm_near();
            self.stream_cached();
        } else {
            self.requeue();
        }
    }

    /// Whether the thread goes on by itself when something it waits for happens: only when its last run paused.
    fn is_waiting(&self) -> bool {
        let outcome = self.state.run.as_ref().and_then(|run| run.outcome.as_ref());
        matches!(outcome, None | Some(Outcome::Interrupted | Outcome::Waiting))
    }

    /// Fires everything that is due, and picks up a run that a dead process left behind.
    pub(crate) fn wake(&mut self, run: RunId) -> Result<Reply, Refusal> {
        let due: Vec<TimerKey> = self
            .state
            .timers
            .iter()
            .filter(|(key, at)| **at <= self.now && **key != TimerKey::Settle)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &due {
            self.fire(key);
        }
        let left_behind = self.state.active_run().is_some();
        if left_behind || (!due.is_empty() && self.is_waiting()) {
            self.go_on(run);
            self.log.want_flush();
            self.arm_near();
        }
        Ok(Reply::Done)
    }

    /// Near durable timers of a resumed run need a live timer again.
    pub(crate) fn arm_near(&mut self) {
        let timers: Vec<(TimerKey, crate::ids::Timestamp)> = self
            .state
            .timers
            .iter()
            .filter(|(key, _)| !matches!(key, TimerKey::Expire(_) | TimerKey::Settle))
            .map(|(k, at)| (k.clone(), *at))
            .collect();
        for (key, at) in timers {
            self.push(Effect::SetTimer { timer: LiveTimer::Durable(key), at });
        }
    }

    /// A timer of this process fired.
    pub(crate) fn timer_fired(&mut self, timer: LiveTimer) {
        match timer {
            LiveTimer::Durable(key) => {
                if self.state.timers.get(&key).is_some_and(|at| *at <= self.now) {
                    self.fire(&key);
                    if self.state.active_run().is_some() {
                        self.requeue_after(&key);
                    } else if self.is_waiting() {
                        let run = follow_up_run(self.now, &self.thread, self.state.minted);
                        self.go_on(run);
                    }
                }
            }
            LiveTimer::Run(task, token) => {
                if self.live(task, token).is_some() {
                    let text = "the attempt took longer than its `timeout`";
                    self.stop_task(task, token, TaskError::new(ErrorClass::Timeout, text));
                }
            }
            LiveTimer::Idle(task, token) => self.check_idle(task, token),
            LiveTimer::Grace(scope) => {
                let fails = self.failing.contains(&scope);
                let late = self.live.iter().filter(|(_, live)| fails && is_in(&live.ns, &scope));
                for (task, token) in late.map(|(id, live)| (*id, live.token)).collect::<Vec<_>>() {
                    self.abort(task, token);
                }
            }
        }
    }

    fn requeue_after(&mut self, key: &TimerKey) {
        match key {
            TimerKey::Retry(task) | TimerKey::Wait(task) => self.ready.push_back(*task),
            TimerKey::Expire(_) => self.requeue(),
            TimerKey::Settle => {}
        }
    }

    fn check_idle(&mut self, task: TaskId, token: Token) {
        let Some((ns, last)) = self.live(task, token).map(|live| (live.ns.clone(), live.last_sign)) else { return };
        let node = self
            .state
            .find_task(task)
            .and_then(|(_, frame, index)| frame.plan.tasks.get(index))
            .map(|t| t.node.clone());
        let limit = self.view(&ns).ok().and_then(|view| {
            view.graph.node_by_name(&node.unwrap_or_else(|| "".into())).and_then(|node| node.timeout.idle)
        });
        let Some(limit) = limit else { return };
        let due = last.plus(limit);
        if due <= self.now {
            let text = "the attempt gave no sign of life for its `timeout.idle`";
            self.stop_task(task, token, TaskError::new(ErrorClass::Timeout, text));
        } else {
            self.push(Effect::SetTimer { timer: LiveTimer::Idle(task, token), at: due });
        }
    }

    fn fire(&mut self, key: &TimerKey) {
        self.record(Op::TimerCleared { key: key.clone() });
        match key {
            TimerKey::Retry(_) | TimerKey::Settle => {}
            TimerKey::Wait(task) => self.end_wait(*task),
            TimerKey::Expire(id) => {
                if let Some(question) = self.state.interrupts.get(id).cloned() {
                    self.record(Op::Expired { id: *id });
                    let detail = json!({"interrupt": id, "title": question.title});
                    self.audit("runtime", "interrupt.expired", (&question.node, Some(question.task)), detail);
                }
            }
        }
        self.log.want_flush();
    }

    fn end_wait(&mut self, task: TaskId) {
        let signal = self.awaited_signal(task);
        let outcome = match signal {
            Some(name) => {
                let text = format!("no signal `{name}` came in time");
                CallOutcome::Err(TaskError::new(ErrorClass::Timeout, text))
            }
            None => CallOutcome::Ok(Arc::new(json!({"at": self.now.to_string()}))),
        };
        self.record(Op::CallEnded { task, ix: CallIx(0), head: None, outcome });
    }

    fn awaited_signal(&mut self, task: TaskId) -> Option<Name> {
        let (ns, frame, index) = self.state.find_task(task)?;
        let node = frame.plan.tasks.get(index)?.node.clone();
        let ns = ns.clone();
        let view = self.view(&ns).ok()?;
        match &view.graph.node_by_name(&node)?.kind {
            graphs::Kind::Wait(graphs::WaitNode::Signal { name, .. }) => Some(name.as_str().into()),
            _ => None,
        }
    }

    /// A named signal: the first task that waits for it takes it, else it is kept.
    pub(crate) fn signal(&mut self, run: RunId, name: Name, payload: Value) -> Result<Reply, Refusal> {
        if self.state.graph.is_none() {
            return Err(Refusal::Empty);
        }
        if self.state.signals.len() >= SIGNALS_MAX {
            let text = format!("{SIGNALS_MAX} signals are waiting to be taken: no node takes them");
            return Err(Refusal::Invalid(TaskError::new(ErrorClass::Limit, text)));
        }
        let waiting: Vec<TaskId> = self
            .state
            .frames
            .values()
            .flat_map(|frame| &frame.tasks)
            .filter(|task| task.calls.values().any(|call| is_wait(&call.head) && call.outcome.is_none()))
            .map(|task| task.id)
            .collect();
        let taker = waiting.into_iter().find(|task| self.awaited_signal(*task).as_ref() == Some(&name));
        self.record(Op::Signalled { name: name.clone(), payload: payload.clone() });
        if let Some(task) = taker {
            self.take_signal(task, &name, payload);
            if self.is_waiting() {
                self.go_on(run);
            }
        }
        self.log.want_flush();
        Ok(Reply::Done)
    }

    pub(crate) fn take_signal(&mut self, task: TaskId, name: &Name, payload: Value) {
        let outcome = CallOutcome::Ok(Arc::new(payload));
        self.record(Op::SignalTaken { name: name.clone() });
        self.record(Op::CallEnded { task, ix: CallIx(0), head: None, outcome });
        let key = TimerKey::Wait(task);
        if self.state.timers.contains_key(&key) {
            self.record(Op::TimerCleared { key });
        }
        self.ready.push_back(task);
    }
}
