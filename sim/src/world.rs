//! A world: one thread, workers that crash, pause and steal it, an outside that counts effects, a careful person.
//!
//! Every step is one choice of the seed. Production and the simulator call the same `Run::apply`; only the performer here
//! differs. A world with `early` set is weakened on purpose and must be caught.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use graphs::{CompiledGraph, EffectClass};
use runtime_core::effect::{Clear, Dispatch, Effect, Verdict};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::{
    AnswerInput, CallRequest, Cleared, Command, Event, LiveTimer, NodeOutput, Passed, Principal, Question, RequestId,
    Token, Told,
};
use runtime_core::ids::{CallIx, RunId, TaskId, ThreadId, Timestamp};
use runtime_core::interlocks::guard::AllowAll;
use runtime_core::record::{CallKind, CallOutcome, Commit, InterruptKind, Op, Outcome, RunOptions};
use runtime_core::run::{GraphSource, Parts, Run, Settings};
use runtime_core::state::ThreadState;
use serde_json::{Value, json};

use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::rng::Rng;
use crate::shapes::{Known, SHAPES};

/// Steps after which a world that has not ended is stuck.
const STEPS_MAX: u32 = 20_000;

/// Steps without a new record after which a run is at rest, or stuck: one in 100,000 worlds has bad luck for 600 of them.
const IDLE_STEPS_MAX: u32 = 6_000;

/// Deliberate faults of the performer or the store; the checkers must find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// None: the real rules.
    None,
    /// Says that a commit is durable before it is.
    Early,
    /// The store does not compare epochs and sequence numbers.
    Unfenced,
}

/// How often things go wrong, drawn anew for each seed.
#[derive(Debug, Clone, Copy)]
struct Knobs {
    crash: u8,
    lose_answer: u8,
    steal: u8,
    late_timer: u8,
    calls: usize,
    failures: u8,
}

/// What a world came to.
#[derive(Debug, Clone)]
pub struct End {
    /// Final state of the thread.
    pub state: ThreadState,
    /// Hash of everything that happened.
    pub trace: u64,
    /// Crashes and stolen threads.
    pub faults: u32,
    /// In-doubt calls that people were asked about.
    pub doubts: u32,
    /// Effects that happened outside.
    pub effects: usize,
    /// Steps it took.
    pub steps: u32,
}

struct Node {
    dispatch: Dispatch,
    failing: u32,
    calls: usize,
    ask_at: Option<usize>,
    at: usize,
    waiting: bool,
    permit: Option<(CallIx, String, EffectClass)>,
    sum: u64,
}

#[derive(Default)]
struct Worker {
    run: Option<Run>,
    nodes: BTreeMap<(TaskId, Token), Node>,
    inbox: VecDeque<Event>,
    commit: Option<Commit>,
    timers: BTreeMap<LiveTimer, Timestamp>,
    ended: bool,
}

/// The world of one seed.
pub struct World {
    seed: u64,
    rng: Rng,
    knobs: Knobs,
    weakness: Weakness,
    traced: bool,
    /// Whether a call is known by its task: in a graph of the caller's several tasks of a superstep may look alike. In ours
    /// they never do, and a name without the task also finds a task that was made twice.
    by_task: bool,
    graph: Arc<CompiledGraph>,
    graphs: Arc<Known>,
    options: RunOptions,
    disk: Disk,
    ledger: Ledger,
    workers: Vec<Worker>,
    now: Timestamp,
    started: bool,
    next_request: u64,
    end: End,
}

/// Whose event it is: events of one task keep their order, those of different tasks do not.
fn sender(event: &Event) -> Option<TaskId> {
    match event {
        Event::TaskDone { task, .. }
        | Event::TaskBroke { task, .. }
        | Event::CallAsked { task, .. }
        | Event::CallDone { task, .. }
        | Event::QuestionAsked { task, .. } => Some(*task),
        _ => None,
    }
}

fn hash(bytes: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

impl World {
    /// A world; `faults` off gives the reference that faults must not change.
    pub fn new(seed: u64, faults: bool, weakness: Weakness) -> Self {
        let mut rng = Rng::new(seed);
        let graph = Arc::clone(&SHAPES[rng.below(SHAPES.len())]);
        let (calls, failures) = (rng.below(4), [0, 0, 20, 50][rng.below(4)]);
        let drawn = [rng.below(4), rng.below(60), rng.below(3), rng.below(30)];
        let level = |at: usize| if faults { u8::try_from(drawn[at]).unwrap_or(0) } else { 0 };
        let knobs =
            Knobs { crash: level(0), lose_answer: level(1), steal: level(2), late_timer: level(3), calls, failures };
        let disk = Disk { unfenced: weakness == Weakness::Unfenced, ..Disk::default() };
        let end = End { state: ThreadState::default(), trace: seed, faults: 0, doubts: 0, effects: 0, steps: 0 };
        Self {
            seed,
            rng,
            knobs,
            weakness,
            traced: false,
            by_task: false,
            graphs: Arc::new(Known::with(&graph)),
            options: RunOptions::default(),
            graph,
            disk,
            ledger: Ledger::default(),
            workers: vec![Worker::default(), Worker::default()],
            now: Timestamp(1_000_000),
            started: false,
            next_request: 0,
            end,
        }
    }

    /// The same world with a graph of the caller's, and at most this many supersteps.
    #[must_use]
    pub fn running(self, graph: &Arc<CompiledGraph>, supersteps: u32) -> Self {
        let options = RunOptions { recursion_limit: Some(supersteps), ..RunOptions::default() };
        Self { graphs: Arc::new(Known::with(graph)), graph: Arc::clone(graph), by_task: true, options, ..self }
    }

    /// Hashes everything that happens, to hold two runs of one seed against each other.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Runs to the end; the error is the first violation.
    pub fn run(mut self) -> Result<End, String> {
        while self.end.steps < STEPS_MAX {
            self.end.steps += 1;
            self.step()?;
            if let Some(what) = self.ledger.violation() {
                return Err(what);
            }
            if self.finished() {
                self.end.state = self.disk.state.clone();
                self.end.effects = self.ledger.total();
                return Ok(self.end);
            }
        }
        Err(format!("stuck after {STEPS_MAX} steps with {} records", self.disk.records.len()))
    }

    /// Runs a graph of the caller's until it ends or waits for what no world brings. The error is the first violation: also a
    /// run that ends by a defect of the engine, and one that neither moves nor waits.
    pub fn run_to_rest(mut self) -> Result<Option<End>, String> {
        let (mut n_records, mut idle_steps) = (0, 0);
        while idle_steps < IDLE_STEPS_MAX && self.end.steps < STEPS_MAX && !self.finished() {
            self.end.steps += 1;
            self.step()?;
            if let Some(what) = self.ledger.violation() {
                return Err(what);
            }
            let moved = self.disk.records.len() > n_records;
            idle_steps = if moved { 0 } else { idle_steps + 1 };
            n_records = self.disk.records.len();
        }
        let outcome = self.disk.state.run.as_ref().map(|run| run.outcome.clone());
        match outcome {
            Some(Some(Outcome::Failed(error))) if error.class == ErrorClass::Bug => Err(error.message),
            Some(None) if idle_steps >= IDLE_STEPS_MAX => Err(format!("stuck with {n_records} records")),
            _ => {
                self.end.effects = self.ledger.total();
                let over = self.finished();
                self.end.state = self.disk.state;
                Ok(over.then_some(self.end))
            }
        }
    }

    fn finished(&self) -> bool {
        let last = self.disk.records.last().is_some_and(|record| {
            record
                .ops
                .iter()
                .any(|op| matches!(op, Op::RunEnded { outcome: Outcome::Success | Outcome::Failed(_), .. }))
        });
        last && self.started
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.rng.below(self.workers.len());
        if self.workers[at].run.is_none() {
            let alone = self.workers.iter().all(|worker| worker.run.is_none());
            if alone || self.rng.percent(self.knobs.steal) {
                self.boot(at);
            }
            return Ok(());
        }
        if self.rng.percent(self.knobs.crash) {
            self.crash(at);
            return Ok(());
        }
        match self.rng.below(4) {
            0 => self.settle_commit(at),
            1 => self.deliver(at),
            2 => self.advance_node(at)?,
            _ => self.time_passes(at),
        }
        Ok(())
    }

    fn boot(&mut self, at: usize) {
        let (seq, epoch) = self.disk.head();
        let state = self.disk.state.clone();
        let fresh = self.disk.records.is_empty();
        let over = state.active_run().is_none() && state.interrupts.is_empty() && state.timers.is_empty() && !fresh;
        let thread = ThreadId::new("t").unwrap_or_else(|error| panic!("{error}"));
        let run = Run::new(Parts {
            thread,
            state,
            seq,
            epoch,
            weight: (0, 0),
            graphs: Arc::clone(&self.graphs) as Arc<dyn GraphSource>,
            policy: Arc::new(AllowAll),
            settings: Settings { grace: Duration::from_secs(30), seed: self.seed },
        });
        self.workers[at] = Worker { run: Some(run), ..Worker::default() };
        let run = RunId(u128::from(self.rng.bits()));
        if fresh {
            self.started = true;
            let graph = Arc::clone(&self.graph);
            let options = self.options.clone();
            let command = Command::Start { run, graph, input: json!({}), options, metadata: Value::Null };
            self.ask(at, command);
        } else if !over {
            self.ask(at, Command::Wake { run });
        }
    }

    fn ask(&mut self, at: usize, command: Command) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.workers[at].inbox.push_back(Event::Asked { request, command: Box::new(command) });
    }

    /// Memory is lost; a commit in flight is lost, or applied with its answer lost.
    fn crash(&mut self, at: usize) {
        self.end.faults += 1;
        if let Some(commit) = self.workers[at].commit.take()
            && self.weakness != Weakness::Early
            && self.rng.percent(self.knobs.lose_answer)
        {
            self.disk.commit(&commit);
        }
        self.workers[at] = Worker::default();
    }

    fn settle_commit(&mut self, at: usize) {
        let Some(commit) = self.workers[at].commit.take() else { return };
        if self.disk.commit(&commit) {
            if self.weakness != Weakness::Early {
                self.workers[at].inbox.push_front(Event::Persisted { seq: commit.seq });
            }
        } else {
            self.workers[at] = Worker::default();
        }
    }

    fn deliver(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let chosen = match worker.inbox.len() {
            n if n > 1 && self.rng.percent(20) => self.rng.below(n),
            _ => 0,
        };
        let of = worker.inbox.get(chosen).and_then(sender);
        let first = worker.inbox.iter().position(|event| sender(event) == of).unwrap_or(chosen);
        let event = worker.inbox.remove(first).unwrap_or(Event::Idle);
        self.apply(at, event);
    }

    fn apply(&mut self, at: usize, event: Event) {
        let Some(run) = self.workers[at].run.as_mut() else { return };
        let effects = run.apply(self.now, event);
        for effect in effects {
            self.perform(at, effect);
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        if self.traced {
            self.end.trace = hash(format!("{effect:?}").as_bytes(), self.end.trace);
        }
        let worker = &mut self.workers[at];
        match effect {
            Effect::Commit(commit) => {
                if self.weakness == Weakness::Early {
                    worker.inbox.push_front(Event::Persisted { seq: commit.seq });
                    // The liar's disk gets it only if no crash comes first.
                    if let Some(before) = worker.commit.replace(*commit) {
                        self.disk.commit(&before);
                    }
                } else {
                    worker.commit = Some(*commit);
                }
            }
            Effect::Dispatch(dispatch) => {
                let node = self.script(*dispatch);
                self.workers[at].nodes.insert((node.dispatch.task, node.dispatch.token), node);
            }
            Effect::Abort { task, token } => drop(worker.nodes.remove(&(task, token))),
            Effect::Verdict { task, token, ix, verdict } => self.verdict(at, (task, token), ix, verdict),
            Effect::SetTimer { timer, at: due } => drop(worker.timers.insert(timer, due)),
            Effect::RunEnded { .. } => worker.ended = true,
            // No walls and no failures are in these records: what they cost is shown where they are real.
            Effect::Clear(asked) => {
                let Clear { task, token, ix, hold, .. } = *asked;
                let cleared = Box::new(Cleared { hold, turn: None, passed: Passed::Go, record: None });
                worker.inbox.push_back(Event::Cleared { task, token, ix, cleared });
            }
            Effect::Tell(tell) => {
                let settled = tell.settle.map(|(hold, _)| hold);
                let heal = tell.heal.map(|(task, heal)| (task, heal.class, false));
                worker.inbox.push_back(Event::Told(Box::new(Told { settled, heal, ..Told::default() })));
            }
            Effect::CacheLook { task, token, key } => {
                worker.inbox.push_back(Event::CacheLooked { task, token, key, hit: None });
            }
            _ => {}
        }
    }

    /// What a node does is a function of the seed, its name and its step: the same in every life.
    fn script(&self, dispatch: Dispatch) -> Node {
        let name = dispatch.graph.node(dispatch.node).map_or("", |node| node.name.as_str());
        let breaks = dispatch
            .graph
            .node(dispatch.node)
            .is_some_and(|n| matches!(&n.kind, graphs::Kind::Function(f) if f == "breaks"));
        let item = dispatch.vars.get("item").cloned().unwrap_or_default();
        let chance = hash(format!("{}/{name}/{}/{item}", dispatch.graph.name(), dispatch.step).as_bytes(), self.seed);
        let retries = dispatch.graph.node(dispatch.node).is_some_and(|node| !node.retry.is_empty());
        let failing = match (breaks, retries && chance % 100 < u64::from(self.knobs.failures)) {
            (true, _) => u32::MAX,
            (false, true) => 1 + u32::try_from(chance >> 20 & 1).unwrap_or(0),
            _ => 0,
        };
        let calls =
            if self.knobs.calls == 0 { 0 } else { usize::try_from(chance >> 8).unwrap_or(0) % (self.knobs.calls + 1) };
        let ask_at = (chance >> 40).is_multiple_of(5).then_some(calls / 2);
        Node { dispatch, failing, calls, ask_at, at: 0, waiting: false, permit: None, sum: 0 }
    }

    fn logical(&self, node: &Node, ix: usize) -> String {
        if self.by_task {
            return format!("{}/{ix}", node.dispatch.task);
        }
        let name = node.dispatch.graph.node(node.dispatch.node).map_or("", |n| n.name.as_str());
        let item = node.dispatch.vars.get("item").cloned().unwrap_or_default();
        format!("{}/{name}/{}/{item}/{ix}", node.dispatch.ns.split(':').next().unwrap_or(""), node.dispatch.step)
    }

    /// Lets one node do its next thing.
    fn advance_node(&mut self, at: usize) -> Result<(), String> {
        let n_nodes = self.workers[at].nodes.len();
        let Some(key) = self.workers[at].nodes.keys().nth(self.rng.below(n_nodes)).copied() else { return Ok(()) };
        let Some(mut node) = self.workers[at].nodes.remove(&key) else { return Ok(()) };
        let (task, token) = key;
        if let Some((ix, permit, effect)) = node.permit.take() {
            self.make_call(&node, ix, &permit, effect)?;
            node.sum += u64::from(ix.0) + 1;
            node.at += 1;
            let outcome = CallOutcome::Ok(Arc::new(json!(u64::from(ix.0) + 1)));
            self.workers[at].inbox.push_back(Event::CallDone { task, token, ix, outcome, spent: None });
        } else if !node.waiting {
            match self.next_move(&mut node) {
                Some(event) => self.workers[at].inbox.push_back(event),
                None => {
                    let event = self.finish(&node);
                    self.workers[at].inbox.push_back(event);
                    return Ok(());
                }
            }
        }
        self.workers[at].nodes.insert(key, node);
        Ok(())
    }

    fn next_move(&self, node: &mut Node) -> Option<Event> {
        let (task, token) = (node.dispatch.task, node.dispatch.token);
        let n_moves = node.calls + usize::from(node.ask_at.is_some());
        if node.at >= n_moves {
            return None;
        }
        node.waiting = true;
        let ix = CallIx(u32::try_from(node.at).unwrap_or(u32::MAX));
        if node.ask_at == Some(node.at) {
            let question =
                Question { title: "?".to_owned(), payload: json!(self.logical(node, node.at)), ..Question::default() };
            return Some(Event::QuestionAsked { task, token, ix, question: Box::new(question) });
        }
        let effect = [EffectClass::AtMostOnce, EffectClass::Idempotent, EffectClass::ReadOnly][node.at % 3];
        let request = CallRequest {
            kind: CallKind::Tool,
            target: "tool".into(),
            args: Arc::new(json!(self.logical(node, node.at))),
            effect,
            env: None,
            role: None,
            can_probe: false,
            worst: runtime_core::interlocks::budget::Cost::FREE,
            tool: Default::default(),
        };
        Some(Event::CallAsked { task, token, ix, request: Box::new(request) })
    }

    fn finish(&self, node: &Node) -> Event {
        let (task, token) = (node.dispatch.task, node.dispatch.token);
        if node.dispatch.attempts < node.failing {
            let class = ErrorClass::Transient;
            return Event::TaskBroke { task, token, error: TaskError::new(class, "scripted") };
        }
        let name = node.dispatch.graph.node(node.dispatch.node).map_or("", |n| n.name.as_str());
        let item = node.dispatch.vars.get("item").cloned().unwrap_or_default();
        let written = [("log", json!(format!("{name}/{item}"))), ("total", json!(node.sum))];
        let known = written.into_iter().filter(|(channel, _)| node.dispatch.graph.channel(channel).is_some());
        let writes = known.map(|(channel, value)| (channel.into(), value)).collect();
        Event::TaskDone { task, token, output: Box::new(NodeOutput { writes, ..NodeOutput::default() }) }
    }

    /// The effect happens outside. Its intent must be durable unless it only reads.
    fn make_call(&mut self, node: &Node, ix: CallIx, key: &str, effect: EffectClass) -> Result<(), String> {
        let logical = self.logical(node, usize::try_from(ix.0).unwrap_or(0));
        let task = node.dispatch.task;
        let durable = |op: &Op| matches!(op, Op::CallBegun { task: of, ix: at, .. } if *of == task && *at == ix);
        let has_intent = self.disk.records.iter().flat_map(|record| &record.ops).any(durable);
        if effect != EffectClass::ReadOnly && !has_intent {
            return Err(format!("{logical} was made before its intent was durable"));
        }
        self.ledger.happen(&logical, effect, key);
        Ok(())
    }

    fn verdict(&mut self, at: usize, node: (TaskId, Token), ix: CallIx, verdict: Verdict) {
        let Some(node) = self.workers[at].nodes.get_mut(&node) else { return };
        node.waiting = false;
        match verdict {
            Verdict::Perform { key, .. } => {
                let effect = [EffectClass::AtMostOnce, EffectClass::Idempotent, EffectClass::ReadOnly][node.at % 3];
                node.permit = Some((ix, key, effect));
            }
            Verdict::Recorded(outcome) => {
                if let CallOutcome::Ok(value) = &outcome {
                    node.sum += value.as_u64().unwrap_or(0);
                }
                node.at += 1;
            }
            Verdict::Answered(_) | Verdict::Expired => node.at += 1,
            Verdict::Probe { .. } => {}
        }
    }

    /// Time moves to the next timer, or a person answers.
    fn time_passes(&mut self, at: usize) {
        if self.rng.percent(50) {
            self.person(at);
            return;
        }
        let worker = &mut self.workers[at];
        let next = worker.timers.iter().min_by_key(|(_, due)| **due).map(|(timer, due)| (timer.clone(), *due));
        if let Some((timer, due)) = next {
            worker.timers.remove(&timer);
            let late = if self.rng.percent(self.knobs.late_timer) { Duration::from_secs(60) } else { Duration::ZERO };
            self.now = self.now.max(due.plus(late));
            self.workers[at].inbox.push_back(Event::TimerFired { timer });
        } else if let Some(due) = self.disk.state.timers.values().min().copied() {
            self.now = self.now.max(due);
            let run = RunId(u128::from(self.rng.bits()));
            self.ask(at, Command::Wake { run });
        }
    }

    /// A worker that was paused with a permission in hand may wake up and use it: a careful person stops it first.
    fn stop_others(&mut self, at: usize) {
        for (other, worker) in self.workers.iter_mut().enumerate() {
            if other != at {
                *worker = Worker::default();
            }
        }
    }

    /// A careful person answers the first open question, after a look at the outside.
    fn person(&mut self, at: usize) {
        let open = self.disk.state.interrupts.values().next().cloned();
        let Some(question) = open else { return };
        let value = match question.kind {
            InterruptKind::InDoubt => {
                let logical = question.payload["args"].as_str().unwrap_or("").to_owned();
                self.end.doubts += 1;
                self.stop_others(at);
                match self.ledger.has(&logical) {
                    true => json!({"choice": runtime_core::HAPPENED, "result": u64::from(question.ix.0) + 1}),
                    false => json!({"choice": runtime_core::REPEAT}),
                }
            }
            InterruptKind::Question => json!("yes"),
            _ => json!(question.choices.first().map_or("approve", String::as_str)),
        };
        let by = Principal { user: "person".to_owned(), groups: Vec::new() };
        let answer = AnswerInput { id: question.id, digest: Some(question.digest.clone()), value, by };
        let run = RunId(u128::from(self.rng.bits()));
        self.ask(at, Command::Answer { run, answers: vec![answer], update: Value::Null });
    }
}
