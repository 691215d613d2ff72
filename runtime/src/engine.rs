//! The engine: a cheap handle that owns one driver per active thread.
//!
//! A thread that waits costs nothing here: its driver ends when it parks and comes back with the next request or timer.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use graphs::{CompiledGraph, Kind};
use parking_lot::Mutex;
use runtime_core::effect::{Dispatch, Reply};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::{AnswerInput, Command, Edit, Rewind, Steer};
use runtime_core::ids::{CheckpointId, Epoch, Name, Ns, RunId, Seq, ThreadId};
use runtime_core::interlocks::guard::{AllowAll, Policy};
use runtime_core::record::{Interrupt, Outcome, RunOptions};
use runtime_core::run::{Parts, Run, Settings};
use runtime_core::state::ThreadState;
use runtime_core::stream::{Modes, StreamEvent};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::abandon::Farewells;
use crate::cache::NodeCache;
use crate::driver::{Ask, Driver, EngineFault, REQUESTS_MAX, Request, Stop};
use crate::graphs_loaded::LoadedGraphs;
use crate::history;
use crate::ports::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::ports::node::NodeKind;
use crate::ports::store::{Store, StoreError, ThreadFilter, ThreadStatus};
use crate::rehearsal::StandIn;
use crate::subscribers::LAG_MAX;

/// Times a request is handed to a fresh driver when the old one was just ending.
const HANDOVERS_MAX: usize = 16;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The run.
    pub run: RunId,
    /// How.
    pub outcome: Outcome,
}

/// Who hears about a command: of the end of a run (of any when it names none), and of events.
type Audience = (Option<(Option<RunId>, oneshot::Sender<Ended>)>, Option<Listener>);

/// Called when a question was opened (durably).
pub type OnAsk = Arc<dyn Fn(&ThreadId, &Interrupt) + Send + Sync>;

/// What drivers share.
pub(crate) struct Services {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache: Arc<NodeCache>,
    pub(crate) stand_in: Option<Arc<dyn StandIn>>,
    entropy: Arc<dyn Entropy>,
    graphs: Arc<LoadedGraphs>,
    policy: Arc<dyn Policy>,
    kinds: BTreeMap<&'static str, Arc<dyn NodeKind>>,
    functions: BTreeMap<String, Arc<dyn NodeKind>>,
    on_ask: Option<OnAsk>,
    pub(crate) farewells: Farewells,
    settings: Settings,
}

impl Services {
    /// The code behind a dispatched node.
    pub(crate) fn kind_of(&self, dispatch: &Dispatch) -> Result<Arc<dyn NodeKind>, TaskError> {
        let node = dispatch.graph.node(dispatch.node).ok_or_else(|| TaskError::bug("a task lost its node"))?;
        let found = match &node.kind {
            Kind::Function(name) => self.functions.get(name),
            kind => self.kinds.get(kind.name()),
        };
        found.cloned().ok_or_else(|| {
            let what = match &node.kind {
                Kind::Function(name) => format!("function `{name}`"),
                kind => format!("node kind `{}`", kind.name()),
            };
            TaskError::new(ErrorClass::NotFound, format!("{what} is not registered with this engine"))
        })
    }

    pub(crate) fn asked(&self, thread: &ThreadId, interrupt: &Interrupt) {
        if let Some(on_ask) = &self.on_ask {
            on_ask(thread, interrupt);
        }
    }
}

/// Puts an engine together.
pub struct EngineBuilder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    policy: Arc<dyn Policy>,
    kinds: BTreeMap<&'static str, Arc<dyn NodeKind>>,
    functions: BTreeMap<String, Arc<dyn NodeKind>>,
    on_ask: Option<OnAsk>,
    pub(crate) farewells: Farewells,
    stand_in: Option<Arc<dyn StandIn>>,
    grace: std::time::Duration,
}

impl EngineBuilder {
    /// Code behind a node kind: `agent`, `tool` or `spawn`.
    #[must_use]
    pub fn kind(mut self, name: &'static str, kind: Arc<dyn NodeKind>) -> Self {
        self.kinds.insert(name, kind);
        self
    }

    /// Code behind `function: name`.
    #[must_use]
    pub fn function(mut self, name: &str, function: Arc<dyn NodeKind>) -> Self {
        self.functions.insert(name.to_owned(), function);
        self
    }

    /// What decides on calls; everything is allowed without one.
    #[must_use]
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policy = policy;
        self
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of chance, for tests.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// How long siblings of a failed task may finish.
    #[must_use]
    pub fn grace(mut self, grace: std::time::Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Told about every question after it is durable.
    #[must_use]
    pub fn on_ask(mut self, on_ask: OnAsk) -> Self {
        self.on_ask = Some(on_ask);
        self
    }

    /// Answers every call in place of the world: none is made.
    #[must_use]
    pub fn stand_in(mut self, stand_in: Arc<dyn StandIn>) -> Self {
        self.stand_in = Some(stand_in);
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        let seed = u64::try_from(self.entropy.bits() & u128::from(u64::MAX)).unwrap_or(0);
        let services = Services {
            cache: Arc::new(NodeCache::new(Arc::clone(&self.store), Arc::clone(&self.clock))),
            store: self.store,
            clock: self.clock,
            entropy: self.entropy,
            graphs: Arc::new(LoadedGraphs::default()),
            policy: self.policy,
            kinds: self.kinds,
            functions: self.functions,
            on_ask: self.on_ask,
            farewells: self.farewells,
            stand_in: self.stand_in,
            settings: Settings { grace: self.grace, seed },
        };
        Engine { services: Arc::new(services), threads: Arc::default(), tracker: TaskTracker::new() }
    }
}

/// A handle to the engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) services: Arc<Services>,
    pub(crate) threads: Arc<Mutex<BTreeMap<ThreadId, mpsc::Sender<Request>>>>,
    tracker: TaskTracker,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// The graph.
    pub graph: Arc<CompiledGraph>,
    /// The thread; it is made when it does not exist.
    pub thread: ThreadId,
    /// Channel values.
    pub input: Value,
    /// How.
    pub options: RunOptions,
    /// Labels of the thread.
    pub metadata: Value,
}

/// Who hears the events of a run.
type Listener = (Modes, mpsc::Sender<StreamEvent>);

/// A run to follow.
pub struct Running {
    /// The thread.
    pub thread: ThreadId,
    /// Its run.
    pub run: RunId,
    ended: oneshot::Receiver<Ended>,
}

impl Running {
    /// Waits for the run to end or pause.
    pub async fn ended(self) -> Result<Ended, EngineFault> {
        self.ended.await.map_err(|_| EngineFault::Stopped)
    }
}

impl Engine {
    /// Starts putting an engine together over a store.
    pub fn builder(store: Arc<dyn Store>) -> EngineBuilder {
        EngineBuilder {
            store,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            policy: Arc::new(AllowAll),
            kinds: BTreeMap::new(),
            functions: BTreeMap::new(),
            on_ask: None,
            farewells: Farewells::default(),
            stand_in: None,
            grace: Settings::default().grace,
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.services.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.services.clock
    }

    /// Makes a graph known, for subgraphs, spawns and pinned threads, and keeps its source in the store.
    pub async fn add_graph(&self, graph: Arc<CompiledGraph>) -> Result<(), StoreError> {
        self.services.store.put_graph(graph.digest(), graph.name(), graph.source()).await?;
        self.services.graphs.add(graph);
        Ok(())
    }

    /// Names of the graphs that are known.
    pub fn graph_names(&self) -> Vec<String> {
        self.services.graphs.names()
    }

    /// A new random id for a thread.
    pub fn new_thread_id(&self) -> ThreadId {
        let id = RunId(self.uuid()).to_string();
        ThreadId::new(&id).unwrap_or_else(|_| unreachable!("a UUID is a thread id"))
    }

    fn uuid(&self) -> u128 {
        let ms = u128::try_from(self.services.clock.now().0.max(0) / 1000).unwrap_or(0) & 0xffff_ffff_ffff;
        let chance = self.services.entropy.bits();
        (ms << 80) | (0x7 << 76) | (((chance >> 64) & 0xfff) << 64) | (0b10 << 62) | (chance & ((1 << 62) - 1))
    }

    fn run_id(&self) -> RunId {
        RunId(self.uuid())
    }

    /// Starts a run; it is durable before this returns.
    pub async fn start(&self, start: Start) -> Result<Running, EngineFault> {
        self.add_graph(Arc::clone(&start.graph)).await?;
        let Start { graph, thread, input, options, metadata } = start;
        let run = self.run_id();
        self.follow(thread, run, Command::Start { run, graph, input, options, metadata }, None).await
    }

    /// Starts a run and streams its events.
    pub async fn stream(
        &self,
        start: Start,
        modes: Modes,
    ) -> Result<(Running, mpsc::Receiver<StreamEvent>), EngineFault> {
        let (sender, receiver) = mpsc::channel(LAG_MAX);
        self.add_graph(Arc::clone(&start.graph)).await?;
        let Start { graph, thread, input, options, metadata } = start;
        let run = self.run_id();
        let command = Command::Start { run, graph, input, options, metadata };
        let running = self.follow(thread, run, command, Some((modes, sender))).await?;
        Ok((running, receiver))
    }

    /// Goes on from the last checkpoint; failed tasks run again.
    pub async fn resume(&self, thread: &ThreadId, options: RunOptions) -> Result<Running, EngineFault> {
        let run = self.run_id();
        self.follow(thread.clone(), run, Command::Continue { run, options, steer: Steer::default() }, None).await
    }

    /// As [`Engine::resume`], with the run's events.
    pub async fn resume_stream(
        &self,
        thread: &ThreadId,
        options: RunOptions,
        modes: Modes,
    ) -> Result<(Running, mpsc::Receiver<StreamEvent>), EngineFault> {
        let (sender, receiver) = mpsc::channel(LAG_MAX);
        let run = self.run_id();
        let command = Command::Continue { run, options, steer: Steer::default() };
        Ok((self.follow(thread.clone(), run, command, Some((modes, sender))).await?, receiver))
    }

    /// As [`Engine::resume`], with an update and further nodes to run beside what is pending.
    pub async fn resume_steered(
        &self,
        thread: &ThreadId,
        options: RunOptions,
        steer: Steer,
    ) -> Result<Running, EngineFault> {
        let run = self.run_id();
        self.follow(thread.clone(), run, Command::Continue { run, options, steer }, None).await
    }

    /// Answers questions. The run that goes on can be followed with [`Engine::join`].
    pub async fn answer(
        &self,
        thread: &ThreadId,
        answers: Vec<AnswerInput>,
        update: Value,
    ) -> Result<Reply, EngineFault> {
        let run = self.run_id();
        self.command(thread, Command::Answer { run, answers, update }).await
    }

    /// Answers questions and waits until the thread pauses or ends.
    pub async fn answer_and_join(
        &self,
        thread: &ThreadId,
        answers: Vec<AnswerInput>,
        update: Value,
    ) -> Result<(Reply, Option<Ended>), EngineFault> {
        let (reply, running) = self.answer_and_follow(thread, answers, update, None).await?;
        let ended = match running {
            Some(running) => running.ended().await.ok(),
            None => None,
        };
        Ok((reply, ended))
    }

    /// Answers questions; the run that goes on, if one does, with its events.
    pub async fn answer_stream(
        &self,
        thread: &ThreadId,
        answers: Vec<AnswerInput>,
        update: Value,
        modes: Modes,
    ) -> Result<(Reply, Option<(Running, mpsc::Receiver<StreamEvent>)>), EngineFault> {
        let (sender, receiver) = mpsc::channel(LAG_MAX);
        let (reply, running) = self.answer_and_follow(thread, answers, update, Some((modes, sender))).await?;
        Ok((reply, running.map(|running| (running, receiver))))
    }

    async fn answer_and_follow(
        &self,
        thread: &ThreadId,
        answers: Vec<AnswerInput>,
        update: Value,
        listener: Option<Listener>,
    ) -> Result<(Reply, Option<Running>), EngineFault> {
        let run = self.run_id();
        let (sender, ended) = oneshot::channel();
        let reply =
            self.ask(thread, Command::Answer { run, answers, update }, (Some((None, sender)), listener)).await?;
        let decided = matches!(&reply, Reply::Answered(taken)
            if taken.iter().any(|taken| matches!(taken, Ok(runtime_core::effect::Taken::Decided))));
        Ok((reply, decided.then(|| Running { thread: thread.clone(), run, ended })))
    }

    /// Sends a named signal.
    pub async fn signal(&self, thread: &ThreadId, name: Name, payload: Value) -> Result<(), EngineFault> {
        let run = self.run_id();
        self.command(thread, Command::Signal { run, name, payload }).await.map(drop)
    }

    /// Edits state; `at` forks from an older checkpoint.
    pub async fn update(
        &self,
        thread: &ThreadId,
        edits: Vec<Edit>,
        at: Option<CheckpointId>,
    ) -> Result<CheckpointId, EngineFault> {
        let at = match at {
            Some(id) => Some(Box::new(self.rewind(thread, id).await?)),
            None => None,
        };
        let supersteps = edits.into_iter().map(|edit| vec![edit]).collect();
        self.edit(thread, Command::Update { ns: "".into(), supersteps, at }).await
    }

    /// Replays a whole history of edits: each inner list is one superstep, each edit in it names its node.
    pub async fn bulk_update(
        &self,
        thread: &ThreadId,
        supersteps: Vec<Vec<Edit>>,
    ) -> Result<CheckpointId, EngineFault> {
        if let Some(why) = runtime_core::bulk_problem(&supersteps) {
            return Err(EngineFault::Refused(runtime_core::effect::Refusal::Invalid(TaskError::invalid(why))));
        }
        self.edit(thread, Command::Update { ns: "".into(), supersteps, at: None }).await
    }

    /// Edits the state of a subgraph that is open.
    pub async fn update_in(&self, thread: &ThreadId, ns: Ns, edit: Edit) -> Result<CheckpointId, EngineFault> {
        self.edit(thread, Command::Update { ns, supersteps: vec![vec![edit]], at: None }).await
    }

    async fn edit(&self, thread: &ThreadId, command: Command) -> Result<CheckpointId, EngineFault> {
        match self.command(thread, command).await? {
            Reply::Updated { checkpoint } => Ok(checkpoint),
            other => Err(refused(format!("an update was answered with {other:?}"))),
        }
    }

    /// Runs again from an older checkpoint; `None` when it is final and nothing is left to run.
    pub async fn replay(
        &self,
        thread: &ThreadId,
        at: CheckpointId,
        options: RunOptions,
    ) -> Result<Option<Running>, EngineFault> {
        let at = Box::new(self.rewind(thread, at).await?);
        if at.frame.plan.tasks.is_empty() {
            return Ok(None);
        }
        let run = self.run_id();
        self.follow(thread.clone(), run, Command::Replay { run, at, options }, None).await.map(Some)
    }

    /// As [`Engine::replay`], with the run's events.
    pub async fn replay_stream(
        &self,
        thread: &ThreadId,
        at: CheckpointId,
        options: RunOptions,
        modes: Modes,
    ) -> Result<Option<(Running, mpsc::Receiver<StreamEvent>)>, EngineFault> {
        let at = Box::new(self.rewind(thread, at).await?);
        if at.frame.plan.tasks.is_empty() {
            return Ok(None);
        }
        let (sender, receiver) = mpsc::channel(LAG_MAX);
        let run = self.run_id();
        let running =
            self.follow(thread.clone(), run, Command::Replay { run, at, options }, Some((modes, sender))).await?;
        Ok(Some((running, receiver)))
    }

    async fn rewind(&self, thread: &ThreadId, id: CheckpointId) -> Result<Rewind, EngineFault> {
        let rewind = history::rewind_to(&*self.services.store, thread, id).await?;
        Ok(rewind.ok_or_else(|| StoreError::Missing(format!("checkpoint {id} in thread {thread}")))?)
    }

    /// Stops a run, or withdraws what a paused thread waits for.
    pub async fn cancel(&self, thread: &ThreadId, why: &str) -> Result<(), EngineFault> {
        self.command(thread, Command::Cancel { why: why.to_owned() }).await.map(drop)
    }

    /// Stops a run before its next superstep.
    pub async fn drain(&self, thread: &ThreadId) -> Result<(), EngineFault> {
        self.command(thread, Command::Drain).await.map(drop)
    }

    /// Moves a thread to another graph version.
    pub async fn migrate(
        &self,
        thread: &ThreadId,
        graph: Arc<CompiledGraph>,
        renames: BTreeMap<Name, Name>,
    ) -> Result<(), EngineFault> {
        self.add_graph(Arc::clone(&graph)).await?;
        self.command(thread, Command::Migrate { graph, renames }).await.map(drop)
    }

    /// Merges labels into a thread's metadata.
    pub async fn tag(&self, thread: &ThreadId, metadata: Value) -> Result<(), EngineFault> {
        self.command(thread, Command::Tag { metadata }).await.map(drop)
    }

    /// The state of a thread now: from its driver when it runs, else from the store.
    pub async fn state(&self, thread: &ThreadId) -> Result<Option<ThreadState>, EngineFault> {
        let driver = self.threads.lock().get(thread).cloned();
        if let Some(driver) = driver {
            let (sender, receiver) = oneshot::channel();
            if driver.send(Request::State(sender)).await.is_ok()
                && let Ok(state) = receiver.await
            {
                return Ok(Some(*state));
            }
        }
        Ok(self.services.store.load(thread).await?.map(|loaded| loaded.state))
    }

    /// Subscribes to the events of a thread from now on.
    pub async fn subscribe(&self, thread: &ThreadId, modes: Modes) -> Result<mpsc::Receiver<StreamEvent>, EngineFault> {
        let (sender, receiver) = mpsc::channel(LAG_MAX);
        self.send(thread, Request::Subscribe(modes, sender)).await?;
        Ok(receiver)
    }

    /// Waits for the active run of a thread; `None` when none is active.
    pub async fn join(&self, thread: &ThreadId) -> Result<Option<Ended>, EngineFault> {
        let driver = self.threads.lock().get(thread).cloned();
        let Some(driver) = driver else { return Ok(None) };
        let (sender, receiver) = oneshot::channel();
        if driver.send(Request::Join(sender)).await.is_err() {
            return Ok(None);
        }
        Ok(receiver.await.ok())
    }

    /// Finds threads that a dead process left behind and wakes them; returns how many.
    pub async fn recover(&self) -> Result<usize, EngineFault> {
        let mut after = None;
        let mut n_woken = 0;
        loop {
            let limit = crate::ports::store::PAGE_MAX;
            let filter = ThreadFilter { status: Some(ThreadStatus::Busy), after, limit, ..ThreadFilter::default() };
            let rows = self.services.store.threads(&filter).await?;
            for row in &rows {
                self.wake(&row.id).await?;
                n_woken += 1;
            }
            match rows.last() {
                Some(last) if rows.len() == limit => after = Some(last.id.clone()),
                _ => return Ok(n_woken),
            }
        }
    }

    /// Fires the durable timers that are due; returns when the next one is.
    pub async fn fire_timers(&self) -> Result<Option<runtime_core::ids::Timestamp>, EngineFault> {
        let now = self.services.clock.now();
        let due = self.services.store.timers(now, crate::ports::store::PAGE_MAX).await?;
        for row in &due {
            self.wake(&row.thread).await?;
        }
        let next = self.services.store.timers(runtime_core::ids::Timestamp(i64::MAX), 1).await?;
        Ok(next.first().map(|row| row.at))
    }

    async fn wake(&self, thread: &ThreadId) -> Result<(), EngineFault> {
        let run = self.run_id();
        self.command(thread, Command::Wake { run }).await.map(drop)
    }

    /// Waits until every driver has parked; no new ones are started by this handle's clones meanwhile.
    pub async fn shutdown(&self) -> Result<(), EngineFault> {
        let threads: Vec<ThreadId> = self.threads.lock().keys().cloned().collect();
        for thread in &threads {
            drop(self.drain(thread).await);
            let driver = self.threads.lock().get(thread).cloned();
            if let Some(driver) = driver {
                drop(driver.send(Request::Leave).await);
            }
        }
        self.tracker.close();
        self.tracker.wait().await;
        self.all_told().await;
        self.services.store.close().await?;
        Ok(())
    }

    async fn follow(
        &self,
        thread: ThreadId,
        run: RunId,
        command: Command,
        listener: Option<Listener>,
    ) -> Result<Running, EngineFault> {
        let (sender, ended) = oneshot::channel();
        self.ask(&thread, command, (Some((Some(run), sender)), listener)).await?;
        Ok(Running { thread, run, ended })
    }

    pub(crate) async fn command(&self, thread: &ThreadId, command: Command) -> Result<Reply, EngineFault> {
        self.ask(thread, command, (None, None)).await
    }

    async fn ask(&self, thread: &ThreadId, command: Command, audience: Audience) -> Result<Reply, EngineFault> {
        let (reply, receiver) = oneshot::channel();
        let (follow, listen) = audience;
        self.send(thread, Request::Command(Box::new(Ask { command, reply, follow, listen }))).await?;
        receiver.await.map_err(|_| EngineFault::Stopped)?
    }

    /// Hands a request to the thread's driver, starting one when there is none.
    async fn send(&self, thread: &ThreadId, mut request: Request) -> Result<(), EngineFault> {
        for _ in 0..HANDOVERS_MAX {
            let known = self.threads.lock().get(thread).cloned();
            let Some(driver) = known else {
                match self.start_driver(thread, request).await? {
                    None => return Ok(()),
                    Some(back) => request = back,
                }
                continue;
            };
            match driver.send(request).await {
                Ok(()) => return Ok(()),
                Err(back) => request = back.0,
            }
            let mut threads = self.threads.lock();
            if threads.get(thread).is_some_and(|known| known.same_channel(&driver)) {
                threads.remove(thread);
            }
        }
        Err(EngineFault::Stopped)
    }

    /// Starts a driver with its first request at hand, so that it does not end as idle before it has one. Gives the request
    /// back when somebody else was first.
    async fn start_driver(&self, thread: &ThreadId, first: Request) -> Result<Option<Request>, EngineFault> {
        let run = self.load(thread).await?;
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        {
            let mut threads = self.threads.lock();
            if threads.contains_key(thread) {
                return Ok(Some(first));
            }
            if let Err(full) = sender.try_send(first) {
                return Ok(Some(full.into_inner()));
            }
            threads.insert(thread.clone(), sender.clone());
        }
        let driver = Driver::new(run, Arc::clone(&self.services), requests);
        self.tracker.spawn(self.clone().host(driver, thread.clone(), sender));
        Ok(None)
    }

    /// Boxed because the last step may start another driver.
    fn host(self, driver: Driver, thread: ThreadId, own: mpsc::Sender<Request>) -> BoxFuture<'static, ()> {
        async move { self.host_to_end(driver, thread, own).await }.boxed()
    }

    async fn host_to_end(self, mut driver: Driver, thread: ThreadId, own: mpsc::Sender<Request>) {
        if let Stop::Failed(error) = driver.drive().await {
            tracing::error!(%thread, %error, "the thread stopped at its last durable checkpoint");
        }
        {
            let mut threads = self.threads.lock();
            if threads.get(&thread).is_some_and(|known| known.same_channel(&own)) {
                threads.remove(&thread);
            }
        }
        for request in driver.leftovers().await {
            drop(self.send(&thread, request).await);
        }
    }

    async fn load(&self, thread: &ThreadId) -> Result<Run, EngineFault> {
        let loaded = self.services.store.load(thread).await?;
        let (state, seq, epoch, weight) = match loaded {
            Some(loaded) => (loaded.state, loaded.seq, loaded.epoch, (loaded.since_snapshot, loaded.snapshot)),
            None => (ThreadState::default(), Seq(0), Epoch(0), (0, 0)),
        };
        for frame in state.frames.values() {
            self.services.graphs.fetch(&*self.services.store, &frame.digest).await?;
        }
        for digest in state.digest.iter().chain(state.links.values()) {
            self.services.graphs.fetch(&*self.services.store, digest).await?;
        }
        Ok(Run::new(Parts {
            thread: thread.clone(),
            state,
            seq,
            epoch,
            weight,
            graphs: Arc::clone(&self.services.graphs) as Arc<dyn runtime_core::run::GraphSource>,
            policy: Arc::clone(&self.services.policy),
            settings: self.services.settings,
        }))
    }
}

fn refused(text: String) -> EngineFault {
    EngineFault::Refused(runtime_core::effect::Refusal::Invalid(TaskError::bug(text)))
}
