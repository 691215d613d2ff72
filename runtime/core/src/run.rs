//! The run: a state machine from events to effects. All control flow meets in [`Run::apply`] and [`Run::advance`].
//!
//! Invariants: what is decided becomes an op, is folded into the state at once and buffered for the next commit (I-1);
//! an effect that the outside can see is held until the commit it depends on is durable (I-2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use graphs::{CompiledGraph, GraphDigest};
use serde_json::{Map, Value};

use crate::effect::{Effect, Refusal, Reply};
use crate::error::{ErrorClass, TaskError};
use crate::event::{Command, Event, RequestId, Token};
use crate::guarding::LetGo;
use crate::ids::{CallIx, CheckpointId, Epoch, Name, Ns, RunId, Seq, TaskId, ThreadId, Timestamp, ordered_id};
use crate::interlocks::guard::Policy;
use crate::log::Log;
use crate::record::{AuditEntry, CallHead, Durability, Op, Outcome, TimerKey};
use crate::state::{TaskState, ThreadState};
use crate::stream::{Modes, StreamEvent};

/// Where graphs come from: compiled before the run needs them.
pub trait GraphSource: Send + Sync {
    /// The graph of a version.
    fn by_digest(&self, digest: &GraphDigest) -> Option<Arc<CompiledGraph>>;
    /// The current version of a named graph.
    fn by_name(&self, name: &str) -> Option<Arc<CompiledGraph>>;
}

/// Supersteps of a run whose graph cannot be read.
const RECURSION_DEFAULT: u32 = 1000;

/// Numbers a run needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long siblings of a failed task may finish.
    pub grace: Duration,
    /// Decides jitter; drawn by the host.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: Duration::from_secs(30), seed: 0 }
    }
}

/// What a run is made from.
pub struct Parts {
    /// The thread.
    pub thread: ThreadId,
    /// Its state as loaded.
    pub state: ThreadState,
    /// The head record's place; zero for a new thread.
    pub seq: Seq,
    /// The head record's epoch.
    pub epoch: Epoch,
    /// Bytes since the last snapshot and its size.
    pub weight: (usize, usize),
    /// Graphs.
    pub graphs: Arc<dyn GraphSource>,
    /// Decides on calls.
    pub policy: Arc<dyn Policy>,
    /// Numbers.
    pub settings: Settings,
}

/// A graph with its names shared, so that ops do not copy them.
pub(crate) struct View {
    pub(crate) graph: Arc<CompiledGraph>,
    nodes: Vec<Name>,
    channels: Vec<Name>,
}

impl View {
    fn new(graph: Arc<CompiledGraph>) -> Self {
        let nodes = graph.nodes().iter().map(|node| node.name.as_str().into()).collect();
        let channels = graph.channels().iter().map(|channel| channel.name.as_str().into()).collect();
        Self { graph, nodes, channels }
    }

    pub(crate) fn node_name(&self, ix: graphs::NodeIx) -> Name {
        self.nodes.get(ix.index()).cloned().unwrap_or_else(|| "".into())
    }

    pub(crate) fn channel_name(&self, ix: graphs::ChannelIx) -> Name {
        self.channels.get(ix.index()).cloned().unwrap_or_else(|| "".into())
    }
}

/// A task that was dispatched and has not come back.
pub(crate) struct Live {
    pub(crate) token: Token,
    pub(crate) ns: Ns,
    pub(crate) last_sign: Timestamp,
    pub(crate) permitted: BTreeMap<CallIx, CallHead>,
    /// What the outcome of each permitted call is recorded with.
    pub(crate) let_go: BTreeMap<CallIx, LetGo>,
    pub(crate) suspending: bool,
    /// Calls on their way through shared records, and the task itself under [`crate::spending::WHOLE_TASK`].
    pub(crate) passing: BTreeMap<CallIx, crate::clearance::Passing>,
    /// The worst case of calls that have a price.
    pub(crate) worst: BTreeMap<CallIx, crate::interlocks::budget::Cost>,
    pub(crate) cache_key: Option<String>,
    pub(crate) cache_asked: bool,
    pub(crate) starting: crate::dispatch::Starting,
}

impl Live {
    /// Whether a call is being made, or on its way to be.
    pub(crate) fn is_asking(&self, ix: CallIx) -> bool {
        self.permitted.contains_key(&ix) || self.passing.contains_key(&ix)
    }
}

/// See [`Run::mark`].
pub(crate) struct Mark {
    state: ThreadState,
    written: u64,
    n_effects: usize,
}

/// One thread's engine: durable state, what is in flight, and the rules between them.
pub struct Run {
    pub(crate) thread: ThreadId,
    pub(crate) state: ThreadState,
    pub(crate) graphs: Arc<dyn GraphSource>,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) settings: Settings,
    pub(crate) log: Log,
    pub(crate) views: BTreeMap<Ns, Arc<View>>,
    pub(crate) live: BTreeMap<TaskId, Live>,
    pub(crate) ready: VecDeque<TaskId>,
    pub(crate) open_tasks: BTreeMap<Ns, usize>,
    pub(crate) untracked: BTreeMap<Ns, Arc<Map<String, Value>>>,
    pub(crate) modes: Modes,
    pub(crate) now: Timestamp,
    pub(crate) draining: bool,
    /// Frames in which a task failed for good and that are coming to rest.
    pub(crate) failing: BTreeSet<Ns>,
    next_token: u64,
    just_loaded: bool,
    out: Vec<Effect>,
}

impl Run {
    /// A run over a thread as loaded.
    pub fn new(parts: Parts) -> Self {
        let log = Log::new(parts.seq, parts.epoch, parts.weight);
        Self {
            thread: parts.thread,
            state: parts.state,
            graphs: parts.graphs,
            policy: parts.policy,
            settings: parts.settings,
            log,
            views: BTreeMap::new(),
            live: BTreeMap::new(),
            ready: VecDeque::new(),
            open_tasks: BTreeMap::new(),
            untracked: BTreeMap::new(),
            modes: Modes::default(),
            now: Timestamp::default(),
            draining: false,
            failing: BTreeSet::new(),
            next_token: 1,
            just_loaded: true,
            out: Vec::new(),
        }
    }

    /// The state so far; reads of a live thread come from here.
    pub fn state(&self) -> &ThreadState {
        &self.state
    }

    /// The thread.
    pub fn thread(&self) -> &ThreadId {
        &self.thread
    }

    /// The modes somebody listens to.
    pub fn set_modes(&mut self, modes: Modes) {
        self.modes = modes;
    }

    /// Nothing is running, due soon or waiting to be written: the host may let go of this thread.
    pub fn is_parked(&self) -> bool {
        self.live.is_empty() && self.ready.is_empty() && self.log.is_quiet() && self.state.active_run().is_none()
    }

    /// What waits to be written may wait a moment longer: the host need not say [`Event::Idle`] at once.
    pub fn may_linger(&self) -> bool {
        self.log.may_linger()
    }

    /// Handles one event and returns what to do, in order.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        self.now = now.max(self.now);
        if std::mem::take(&mut self.just_loaded) {
            self.settle_left();
            self.pick_up();
        }
        match event {
            Event::Asked { request, command } => self.command(request, *command),
            Event::TaskDone { task, token, output } => self.task_done(task, token, *output),
            Event::TaskBroke { task, token, error } => self.task_broke(task, token, error),
            Event::CallAsked { task, token, ix, request } => self.call_asked(task, token, ix, &request),
            Event::CallDone { task, token, ix, outcome, spent } => self.call_done(task, token, ix, (outcome, spent)),
            Event::Probed { task, token, ix, found } => self.probed(task, token, ix, found),
            Event::QuestionAsked { task, token, ix, question } => self.question_asked(task, token, ix, &question),
            Event::Beat { task, token } => self.beat(task, token),
            Event::Said { task, token, said } => self.said(task, token, said),
            Event::CacheLooked { task, token, key, hit } => self.cache_looked(task, token, (key, hit)),
            Event::Cleared { task, token, ix, cleared } => self.cleared(task, token, ix, *cleared),
            Event::Told(told) => self.told(*told),
            Event::Persisted { seq } => self.persisted(seq),
            Event::TimerFired { timer } => self.timer_fired(timer),
            Event::Idle => self.log.want_flush(),
        }
        self.advance();
        self.flush();
        std::mem::take(&mut self.out)
    }

    /// A run that a dead process left behind goes on from its last durable record.
    fn pick_up(&mut self) {
        if self.state.active_run().is_some() {
            self.requeue();
            self.arm_near();
        }
    }

    fn command(&mut self, request: RequestId, command: Command) {
        let before = self.log.pending();
        let outcome = match crate::deep::bounded_command(command) {
            Ok(command) => self.obey(command),
            Err(error) => Err(Refusal::Invalid(error)),
        };
        let wrote = self.log.pending() > before;
        let effect = Effect::Reply { request, reply: Box::new(outcome) };
        if wrote { self.hold(effect) } else { self.push(effect) }
    }

    fn obey(&mut self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Start { run, graph, input, options, metadata } => {
                self.start(run, &graph, input, (options, metadata))
            }
            Command::Continue { run, options, steer } => self.resume(run, options, &steer),
            Command::Answer { run, answers, update } => self.answer(run, &answers, &update),
            Command::Wake { run } => self.wake(run),
            Command::Signal { run, name, payload } => self.signal(run, name, payload),
            Command::Update { ns, supersteps, at } => self.update(&ns, &supersteps, at),
            Command::Replay { run, at, options } => self.replay(run, *at, options),
            Command::Cancel { why } => self.cancel(&why),
            Command::Drain => self.drain(),
            Command::Migrate { graph, renames } => self.migrate(&graph, renames),
            Command::Tag { metadata } => self.tag(metadata),
            Command::Note { actor, action, detail } => self.note(&actor, &action, detail),
        }
    }

    /// Does what can be done now: dispatches ready tasks, then settles when nothing moves any more.
    fn advance(&mut self) {
        loop {
            while self.state.active_run().is_some() && self.may_dispatch() {
                let Some(task) = self.next_ready() else { break };
                self.begin_task(task);
            }
            if !self.resolve_failed_children() {
                break;
            }
        }
        if self.state.active_run().is_some() && self.live.is_empty() && self.ready.is_empty() {
            self.settle();
        }
    }

    /// A run's tasks start only when its acceptance is durable; with `sync`, those of a superstep only when the checkpoint
    /// they start from is; with `async`, when the one before that is.
    fn may_dispatch(&self) -> bool {
        let saved = match self.state.active_run().map(|run| run.options.durability) {
            Some(Durability::Sync) => self.log.barrier_passed(),
            Some(Durability::Async) => self.log.last_barrier_passed(),
            Some(Durability::Exit) | None => true,
        };
        self.log.floor_passed() && saved
    }

    fn next_ready(&mut self) -> Option<TaskId> {
        for _ in 0..self.ready.len() {
            let task = self.ready.pop_front()?;
            if self.has_room(task) {
                return Some(task);
            }
            self.ready.push_back(task);
        }
        None
    }

    /// Folds an op into the state and buffers it for the next commit.
    pub(crate) fn record(&mut self, op: Op) {
        self.state.apply(&op, self.now);
        self.log.push(op);
    }

    /// Records a decision for the audit chain.
    pub(crate) fn audit(&mut self, actor: &str, action: &str, about: (&Name, Option<TaskId>), detail: Value) {
        let entry = AuditEntry {
            actor: actor.to_owned(),
            action: action.to_owned(),
            node: about.0.clone(),
            task: about.1,
            detail,
        };
        self.record(Op::Audited(Box::new(entry)));
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    /// Holds an effect until everything recorded so far is durable.
    pub(crate) fn hold(&mut self, effect: Effect) {
        match self.log.hold(effect) {
            Some(effect) => self.out.push(effect),
            None => self.log.want_flush(),
        }
    }

    pub(crate) fn push_event(&mut self, event: StreamEvent) {
        self.out.push(Effect::Emit(Box::new(event)));
    }

    fn flush(&mut self) {
        let run = self.state.run.as_ref().map(|run| run.id);
        let snapshot = self.log.snapshot_due().then(|| self.snapshot());
        if let Some(commit) = self.log.flush(&self.thread, self.now, run, snapshot) {
            self.out.push(Effect::Commit(Box::new(commit)));
        }
    }

    fn snapshot(&self) -> Op {
        Op::Snapshot(Box::new(self.state.clone()))
    }

    /// What a command did so far, to take it back when it is refused after all.
    pub(crate) fn mark(&self) -> Mark {
        Mark { state: self.state.clone(), written: self.log.pending(), n_effects: self.out.len() }
    }

    /// Takes back what was recorded since `mark`. Only for commands that find no active run.
    pub(crate) fn take_back(&mut self, mark: Mark) {
        self.state = mark.state;
        self.log.forget_since(mark.written);
        self.out.truncate(mark.n_effects);
        self.views.clear();
    }

    fn persisted(&mut self, seq: Seq) {
        let released = self.log.persisted(seq);
        self.out.extend(released);
    }

    pub(crate) fn mint_token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(crate) fn mint_checkpoint(&self) -> CheckpointId {
        let last = self.state.frames.values().map(|frame| frame.at).max().unwrap_or_default();
        CheckpointId(ordered_id(self.now.max(last), self.thread.as_str().as_bytes(), self.state.minted + 1))
    }

    /// The graph of a frame.
    pub(crate) fn view(&mut self, ns: &Ns) -> Result<Arc<View>, TaskError> {
        if let Some(view) = self.views.get(ns) {
            return Ok(Arc::clone(view));
        }
        let frame = self.state.frames.get(ns).ok_or_else(|| TaskError::bug(format!("no frame `{ns}`")))?;
        let graph = self.graphs.by_digest(&frame.digest).ok_or_else(|| {
            let (graph, digest) = (&frame.graph, &frame.digest);
            TaskError::new(
                ErrorClass::NotFound,
                format!("graph `{graph}` version {digest} is not in the store or on the path"),
            )
        })?;
        let view = Arc::new(View::new(graph));
        self.views.insert(ns.clone(), Arc::clone(&view));
        Ok(view)
    }

    /// The live task, if the token is of its current dispatch.
    pub(crate) fn live(&mut self, task: TaskId, token: Token) -> Option<&mut Live> {
        self.live.get_mut(&task).filter(|live| live.token == token)
    }

    pub(crate) fn task(&self, task: TaskId) -> Option<&TaskState> {
        self.state.task(task)
    }

    /// Supersteps the active run may take.
    pub(crate) fn recursion_limit(&mut self) -> u32 {
        let asked = self.state.active_run().and_then(|run| run.options.recursion_limit);
        let known = self.views.get("").map(|view| view.graph.limits().recursion);
        asked
            .or(known)
            .unwrap_or_else(|| self.view(&root()).map_or(RECURSION_DEFAULT, |view| view.graph.limits().recursion))
    }

    /// Ends the active run and starts the next queued one.
    pub(crate) fn end_run(&mut self, outcome: Outcome) {
        let over = matches!(outcome, Outcome::Success | Outcome::Failed(_) | Outcome::Cancelled);
        self.close_run(outcome);
        if over {
            self.next_queued();
        }
    }

    /// Ends the active run. One that pauses keeps its place before the queued ones.
    pub(crate) fn close_run(&mut self, outcome: Outcome) {
        let Some(run) = self.state.active_run().map(|run| run.id) else { return };
        self.abort_all();
        self.draining = false;
        self.failing.clear();
        self.untracked.clear();
        match outcome {
            Outcome::Interrupted => self.stream_pause(),
            Outcome::Waiting => {}
            _ => self.clear_retries(),
        }
        self.record(Op::RunEnded { run, outcome: outcome.clone() });
        self.remind_of_holds();
        self.log.want_flush();
        self.hold(Effect::RunEnded { run, outcome });
    }

    /// Starts the run that has waited longest.
    pub(crate) fn next_queued(&mut self) {
        if let Some(queued) = self.state.queue.first().cloned() {
            self.start_queued(queued);
        }
    }

    /// Nothing repeats an attempt by itself any more; the tasks stay unfinished.
    pub(crate) fn clear_retries(&mut self) {
        let retries: Vec<TimerKey> =
            self.state.timers.keys().filter(|key| matches!(key, TimerKey::Retry(_))).cloned().collect();
        for key in retries {
            self.record(Op::TimerCleared { key });
        }
    }

    pub(crate) fn abort_all(&mut self) {
        let live: Vec<(TaskId, Token)> = self.live.iter().map(|(task, live)| (*task, live.token)).collect();
        for (task, token) in live {
            self.abort(task, token);
        }
        self.ready.clear();
    }

    pub(crate) fn abort(&mut self, task: TaskId, token: Token) {
        if let Some(live) = self.live.remove(&task) {
            // While the cache is being asked, the flight is not this task's to end.
            if let Some(key) = live.cache_key.filter(|_| !live.cache_asked) {
                self.push(Effect::CacheRelease { key });
            }
            self.push(Effect::Abort { task, token });
            self.abandon(live.passing);
        }
    }
}

/// The root namespace.
pub(crate) fn root() -> Ns {
    "".into()
}

/// Id of the run that a timer of this process starts.
pub(crate) fn follow_up_run(now: Timestamp, thread: &ThreadId, counter: u64) -> RunId {
    RunId(ordered_id(now, thread.as_str().as_bytes(), counter))
}
