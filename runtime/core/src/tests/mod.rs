//! The pure run under a scripted performer: events in, effects as text. No shell, no clock, no store.

mod matrix;
mod traces;

use std::collections::BTreeMap;
use std::sync::Arc;

use graphs::{CompiledGraph, EffectClass, GraphDigest, OpenCatalog};
use serde_json::{Value, json};

use crate::effect::{Effect, Verdict};
use crate::error::{ErrorClass, TaskError};
use crate::event::{CallRequest, Command, Event, NodeOutput, Question, RequestId, Token};
use crate::ids::{CallIx, Epoch, RunId, Seq, TaskId, ThreadId, Timestamp};
use crate::interlocks::guard::AllowAll;
use crate::record::{CallKind, CallOutcome, Commit, Op, Outcome, RunOptions};
use crate::run::{GraphSource, Parts, Run, Settings};
use crate::state::{TaskStatus, ThreadState};

/// Graphs by name and digest.
#[derive(Default)]
struct Shelf(BTreeMap<String, Arc<CompiledGraph>>);

impl GraphSource for Shelf {
    fn by_digest(&self, digest: &GraphDigest) -> Option<Arc<CompiledGraph>> {
        self.0.values().find(|graph| graph.digest() == digest).cloned()
    }

    fn by_name(&self, name: &str) -> Option<Arc<CompiledGraph>> {
        self.0.get(name).cloned()
    }
}

/// A run with everything around it in the hands of the test.
pub(crate) struct Bench {
    pub(crate) run: Run,
    pub(crate) now: Timestamp,
    graph: Arc<CompiledGraph>,
    shelf: Arc<Shelf>,
    log: Vec<Commit>,
    tokens: BTreeMap<String, (TaskId, Token)>,
    in_flight: Option<Seq>,
    n_requests: u64,
}

impl Bench {
    pub(crate) fn new(yaml: &str) -> Self {
        let (graph, _) = graphs::check("t.yaml", yaml.as_bytes(), &OpenCatalog).unwrap();
        let graph = Arc::new(graph);
        let shelf = Arc::new(Shelf(BTreeMap::from([(graph.name().to_owned(), Arc::clone(&graph))])));
        let run = fresh(&shelf, ThreadState::default(), (Seq(0), Epoch(0)));
        let now = Timestamp(1_000_000);
        Self { run, now, graph, shelf, log: Vec::new(), tokens: BTreeMap::new(), in_flight: None, n_requests: 0 }
    }

    /// Forgets the run and folds what was written, as another process would.
    pub(crate) fn crash(&mut self) {
        let records: Vec<_> = self.log.iter().map(|commit| &commit.record).collect();
        let state = ThreadState::replay(records);
        let head = self.log.last().map_or((Seq(0), Epoch(0)), |commit| (commit.seq, commit.epoch));
        self.in_flight = None;
        self.run = fresh(&self.shelf, state, head);
    }

    /// One event; its effects as text.
    pub(crate) fn feed(&mut self, event: Event) -> String {
        let effects = self.run.apply(self.now, event);
        let lines: Vec<String> = effects.into_iter().filter_map(|effect| self.note(effect)).collect();
        lines.join("; ")
    }

    /// Nothing else is at hand, then the commit in flight is durable, until there is none.
    pub(crate) fn persist(&mut self) -> String {
        let mut lines = vec![self.feed(Event::Idle)];
        while let Some(seq) = self.in_flight.take() {
            lines.push(self.feed(Event::Persisted { seq }));
        }
        lines.retain(|line| !line.is_empty());
        lines.join("; ")
    }

    pub(crate) fn ask(&mut self, command: Command) -> String {
        self.n_requests += 1;
        self.feed(Event::Asked { request: RequestId(self.n_requests), command: Box::new(command) })
    }

    pub(crate) fn start(&mut self) -> String {
        let graph = Arc::clone(&self.graph);
        let options = RunOptions::default();
        self.ask(Command::Start { run: RunId(1), graph, input: json!({}), options, metadata: Value::Null })
    }

    pub(crate) fn of(&self, node: &str) -> (TaskId, Token) {
        self.tokens.get(node).copied().unwrap_or((TaskId(9), Token(9)))
    }

    pub(crate) fn done(&mut self, node: &str, writes: &[(&str, Value)]) -> String {
        let (task, token) = self.of(node);
        let writes = writes.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        self.feed(Event::TaskDone { task, token, output: Box::new(NodeOutput { writes, ..NodeOutput::default() }) })
    }

    pub(crate) fn broke(&mut self, node: &str, class: ErrorClass) -> String {
        let (task, token) = self.of(node);
        self.feed(Event::TaskBroke { task, token, error: TaskError::new(class, "boom") })
    }

    pub(crate) fn call(&mut self, node: &str, ix: u32, effect: EffectClass) -> String {
        let (task, token) = self.of(node);
        let request = CallRequest {
            kind: CallKind::Tool,
            target: "s.t".into(),
            args: Arc::new(json!({"ix": ix})),
            effect,
            env: None,
            role: None,
            can_probe: false,
            worst: Default::default(),
            tool: Default::default(),
        };
        self.feed(Event::CallAsked { task, token, ix: CallIx(ix), request: Box::new(request) })
    }

    pub(crate) fn returned(&mut self, node: &str, ix: u32) -> String {
        let (task, token) = self.of(node);
        self.feed(Event::CallDone {
            task,
            token,
            ix: CallIx(ix),
            outcome: CallOutcome::Ok(Arc::new(json!("ok"))),
            spent: None,
        })
    }

    pub(crate) fn question(&mut self, node: &str, ix: u32) -> String {
        let (task, token) = self.of(node);
        let question = Question { title: "well?".to_owned(), payload: json!(ix), ..Question::default() };
        self.feed(Event::QuestionAsked { task, token, ix: CallIx(ix), question: Box::new(question) })
    }

    /// The status of a task by its node, and of the run.
    pub(crate) fn standing(&self, node: &str) -> String {
        let state = self.run.state();
        let frames = state.frames.values().flat_map(|frame| frame.plan.tasks.iter().zip(&frame.tasks));
        let task = frames.into_iter().find(|(planned, _)| &*planned.node == node).map(|(_, task)| match &task.status {
            TaskStatus::Pending => "pending",
            TaskStatus::Finished { .. } => "finished",
            TaskStatus::Failed => "failed",
        });
        let run = state.run.as_ref().map_or("none", |run| run.outcome.as_ref().map_or("active", outcome_word));
        format!("{}, run {run}", task.unwrap_or("gone"))
    }

    fn note(&mut self, effect: Effect) -> Option<String> {
        Some(match effect {
            Effect::Commit(commit) => {
                self.in_flight = Some(commit.seq);
                let ops: Vec<&str> = commit.record.ops.iter().map(op_word).collect();
                self.log.push(*commit);
                format!("commit({})", ops.join(" "))
            }
            Effect::Dispatch(dispatch) => {
                let node = self.graph.node(dispatch.node).map(|node| node.name.clone()).unwrap_or_default();
                self.tokens.insert(node.clone(), (dispatch.task, dispatch.token));
                format!("dispatch {node}")
            }
            Effect::Abort { .. } => "abort".to_owned(),
            Effect::Abandoned(abandoned) => format!("abandoned({} calls)", abandoned.calls.len()),
            Effect::Verdict { verdict, .. } => verdict_word(&verdict).to_owned(),
            Effect::CacheLook { .. } => "look".to_owned(),
            Effect::CachePut { .. } => "put".to_owned(),
            Effect::CacheRelease { .. } => "release".to_owned(),
            Effect::SetTimer { .. } => "timer".to_owned(),
            Effect::Emit(_) => return None,
            Effect::Reply { reply, .. } => match *reply {
                Ok(_) => "reply".to_owned(),
                Err(refusal) => format!("refuse({})", refusal.to_string().split([':', ',']).next().unwrap_or("")),
            },
            Effect::RunEnded { outcome, .. } => format!("ended {}", outcome_word(&outcome)),
            Effect::Ask(_) => "ask".to_owned(),
            Effect::Clear(_) => "clear".to_owned(),
            Effect::Tell(_) => "tell".to_owned(),
        })
    }
}

fn fresh(shelf: &Arc<Shelf>, state: ThreadState, head: (Seq, Epoch)) -> Run {
    Run::new(Parts {
        thread: ThreadId::new("t").unwrap(),
        state,
        seq: head.0,
        epoch: head.1,
        weight: (0, 0),
        graphs: Arc::clone(shelf) as Arc<dyn GraphSource>,
        policy: Arc::new(AllowAll),
        settings: Settings::default(),
    })
}

fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failed(_) => "failed",
        Outcome::Interrupted => "interrupted",
        Outcome::Waiting => "waiting",
        Outcome::Cancelled => "cancelled",
        Outcome::Drained => "drained",
        Outcome::Superseded => "superseded",
    }
}

fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Recorded(_) => "recorded",
        Verdict::Perform { .. } => "perform",
        Verdict::Probe { .. } => "probe",
        Verdict::Answered(_) => "answered",
        Verdict::Expired => "expired",
    }
}

fn op_word(op: &Op) -> &'static str {
    match op {
        Op::Created { .. } => "created",
        Op::RunAccepted(_) => "accepted",
        Op::RunQueued(_) => "queued",
        Op::RunEnded { .. } => "ended",
        Op::FrameOpened { .. } => "frame+",
        Op::FrameClosed { .. } => "frame-",
        Op::Checkpoint { .. } => "checkpoint",
        Op::Patched { .. } => "patched",
        Op::Rewound { .. } => "rewound",
        Op::TaskFinished { .. } => "finished",
        Op::AttemptFailed { .. } => "attempt",
        Op::TaskFailed { .. } => "failed",
        Op::TaskReset { .. } => "reset",
        Op::CallPlanned { .. } => "planned",
        Op::CallBegun { .. } => "begun",
        Op::CallEnded { .. } => "call-ended",
        Op::InterruptOpened(_) => "asked",
        Op::Answered { .. } => "answered",
        Op::Expired { .. } => "expired",
        Op::Withdrawn { .. } => "withdrawn",
        Op::TimerSet(_) => "timer+",
        Op::TimerCleared { .. } => "timer-",
        Op::Signalled { .. } => "signalled",
        Op::SignalTaken { .. } => "taken",
        Op::Migrated { .. } => "migrated",
        Op::Tagged { .. } => "tagged",
        Op::Audited(_) => "audited",
        Op::Snapshot(_) => "snapshot",
        Op::Held { .. } => "held",
        Op::Charged { .. } => "charged",
        Op::Settled { .. } => "settled",
        Op::FrameHeld { .. } => "frame-held",
        Op::Linked { .. } => "linked",
        Op::HealEnded { .. } => "heal",
        Op::HealTold { .. } => "heal-told",
    }
}
