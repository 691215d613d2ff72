//! One loop per active thread: receive an event, apply it, perform the effects in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use runtime_core::effect::{Dispatch, Effect, Refusal, Reply};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::{Command, Event, LiveTimer, NodeOutput, RequestId, Token};
use runtime_core::ids::{RunId, Seq, TaskId, Timestamp};
use runtime_core::record::Commit;
use runtime_core::run::Run;
use runtime_core::stream::Modes;
use tokio::sync::{mpsc, oneshot};

use crate::context::{Context, Outside, Waiting};
use crate::engine::{Ended, Services};
use crate::interlocks;
use crate::ports::store::StoreError;
use crate::subscribers::Subscribers;

/// Events of nodes that may wait for the loop.
pub(crate) const NODE_EVENTS_MAX: usize = 1024;

/// Requests to one thread that may wait.
pub(crate) const REQUESTS_MAX: usize = 256;

/// Events handled in a row before other threads get their turn.
const BURST_MAX: u32 = 256;

/// How long the trace of calls that only read waits for more of its kind, so that an agent that looks around quickly does not
/// pay for a commit at every look. In microseconds.
const LINGER_US: i64 = 2_000;

/// What the engine asks of a thread's driver.
pub(crate) enum Request {
    /// A command for the run, with who follows what it starts: one request, so that the driver cannot park in between.
    Command(Box<Ask>),
    /// Subscribe to events.
    Subscribe(Modes, mpsc::Sender<runtime_core::stream::StreamEvent>),
    /// Tell when the run that is active ends.
    Join(oneshot::Sender<Ended>),
    /// Listeners are let go: the engine is shutting down.
    Leave,
    /// A copy of the state.
    State(oneshot::Sender<Box<runtime_core::state::ThreadState>>),
}

/// A command and its audience.
pub(crate) struct Ask {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply, EngineFault>>,
    /// Told when a run ends: this one, or any when it names none.
    pub(crate) follow: Option<(Option<RunId>, oneshot::Sender<Ended>)>,
    /// Told what happens from now on.
    pub(crate) listen: Option<(Modes, mpsc::Sender<runtime_core::stream::StreamEvent>)>,
}

/// Why a request had no reply.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineFault {
    /// The run refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed; the thread is safe at its last durable checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    Stopped,
}

type NodeDone = (TaskId, Token, Result<NodeOutput, TaskError>);

/// A node at work.
type Work = BoxFuture<'static, NodeDone>;

/// Drives one thread until it is parked.
pub(crate) struct Driver {
    pub(crate) run: Run,
    services: Arc<Services>,
    requests: mpsc::Receiver<Request>,
    node_events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    waiting: Waiting,
    /// Nodes that were handed over and have not begun.
    fresh: VecDeque<(TaskId, Token, Work)>,
    /// Nodes that began and wait for something.
    nodes: FuturesUnordered<Abortable<Work>>,
    /// Nodes that returned: what they sent before they returned is handled first.
    finished: VecDeque<NodeDone>,
    /// The dispatch of each node that has not returned; with a handle once it waits.
    aborts: BTreeMap<TaskId, (Token, Option<AbortHandle>)>,
    lookups: FuturesUnordered<BoxFuture<'static, Event>>,
    /// A commit that was decided in this turn of the loop.
    unsent: Option<Box<Commit>>,
    commit: Option<BoxFuture<'static, Result<Seq, StoreError>>>,
    /// Until when what waits to be written may wait for more, and the end of that time.
    lingers: Option<(Timestamp, BoxFuture<'static, ()>)>,
    timers: BTreeSet<(Timestamp, LiveTimer)>,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<Reply, EngineFault>>>,
    next_request: u64,
    joins: Vec<(Option<RunId>, oneshot::Sender<Ended>)>,
    subscribers: Subscribers,
}

/// How a loop ended.
pub(crate) enum Stop {
    /// Nothing to do; requests that came too late are given back.
    Parked,
    /// The store refused a commit; what was not durable is forgotten.
    Failed(StoreError),
}

impl Driver {
    pub(crate) fn new(run: Run, services: Arc<Services>, requests: mpsc::Receiver<Request>) -> Self {
        Self {
            run,
            services,
            requests,
            node_events: mpsc::channel(NODE_EVENTS_MAX),
            waiting: Waiting::default(),
            fresh: VecDeque::new(),
            nodes: FuturesUnordered::new(),
            finished: VecDeque::new(),
            aborts: BTreeMap::new(),
            lookups: FuturesUnordered::new(),
            unsent: None,
            commit: None,
            lingers: None,
            timers: BTreeSet::new(),
            replies: BTreeMap::new(),
            next_request: 0,
            joins: Vec::new(),
            subscribers: Subscribers::default(),
        }
    }

    /// The loop.
    pub(crate) async fn drive(&mut self) -> Stop {
        let mut burst = 0;
        loop {
            let event = match self.ready_event() {
                Some(event) => event,
                None if !self.lingers() && self.apply(Event::Idle) => continue,
                None if self.may_park() => return Stop::Parked,
                None => {
                    self.let_go_of_idle_joins();
                    self.next_event().await
                }
            };
            match event {
                Ok(Some(event)) => drop(self.apply(event)),
                Ok(None) => {}
                Err(error) => return self.fail(error),
            }
            burst += 1;
            if burst >= BURST_MAX {
                burst = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether nothing is written yet, although there is something to write.
    fn lingers(&mut self) -> bool {
        if !self.run.may_linger() {
            self.lingers = None;
            return false;
        }
        let now = self.services.clock.now();
        let (until, _) = self.lingers.get_or_insert_with(|| {
            let (clock, until) = (Arc::clone(&self.services.clock), Timestamp(now.0 + LINGER_US));
            (until, async move { clock.sleep_until(until).await }.fuse().boxed())
        });
        now < *until
    }

    /// Applies an event and performs its effects; whether there were any.
    fn apply(&mut self, event: Event) -> bool {
        let effects = self.run.apply(self.services.clock.now(), event);
        let any = !effects.is_empty();
        for effect in effects {
            self.perform(effect);
        }
        self.send_commit();
        any
    }

    /// An event that is at hand, without waiting. Memory stores and code nodes are served from here.
    fn ready_event(&mut self) -> Option<Result<Option<Event>, StoreError>> {
        if let Some(done) = self.commit.as_mut().and_then(FutureExt::now_or_never) {
            self.commit = None;
            return Some(done.map(|seq| Some(Event::Persisted { seq })));
        }
        if let Ok(event) = self.node_events.1.try_recv() {
            return Some(Ok(Some(event)));
        }
        if let Some(done) = self.finished.pop_front() {
            return Some(Ok(Some(self.node_done(done))));
        }
        if let Some((task, token, work)) = self.fresh.pop_front() {
            self.begin(task, token, work);
            return Some(Ok(None));
        }
        if let Some(Some(done)) = self.nodes.next().now_or_never() {
            self.finished.extend(done);
            return Some(Ok(None));
        }
        if let Some(Some(event)) = self.lookups.next().now_or_never() {
            return Some(Ok(Some(event)));
        }
        if let Ok(request) = self.requests.try_recv() {
            return Some(Ok(self.request(request)));
        }
        self.due_timer().map(|timer| Ok(Some(Event::TimerFired { timer })))
    }

    async fn next_event(&mut self) -> Result<Option<Event>, StoreError> {
        let clock = Arc::clone(&self.services.clock);
        let next_timer = self.timers.first().map(|(at, _)| *at);
        tokio::select! {
            biased;
            done = async { match self.commit.as_mut() { Some(commit) => commit.await, None => std::future::pending().await } } => {
                self.commit = None;
                done.map(|seq| Some(Event::Persisted { seq }))
            }
            Some(event) = self.node_events.1.recv() => Ok(Some(event)),
            Some(done) = self.nodes.next(), if !self.nodes.is_empty() => {
                self.finished.extend(done);
                Ok(None)
            }
            Some(event) = self.lookups.next(), if !self.lookups.is_empty() => Ok(Some(event)),
            Some(request) = self.requests.recv() => Ok(self.request(request)),
            () = self.subscribers.gone(), if !self.subscribers.is_empty() => {
                self.subscribers.close();
                Ok(None)
            }
            () = async { match self.lingers.as_mut() { Some((_, end)) => end.await, None => std::future::pending().await } } => Ok(None),
            () = async { match next_timer { Some(at) => clock.sleep_until(at).await, None => std::future::pending().await } } => {
                Ok(self.due_timer().map(|timer| Event::TimerFired { timer }))
            }
        }
    }

    fn due_timer(&mut self) -> Option<LiveTimer> {
        let first = self.timers.first()?;
        if first.0 > self.services.clock.now() {
            return None;
        }
        self.timers.pop_first().map(|(_, timer)| timer)
    }

    fn may_park(&self) -> bool {
        self.run.is_parked()
            && self.commit.is_none()
            && self.fresh.is_empty()
            && self.nodes.is_empty()
            && self.finished.is_empty()
            && self.lookups.is_empty()
            && self.replies.is_empty()
            && self.subscribers.is_empty()
    }

    /// Nothing is active and everything is durable: who waits for whatever run there is, is told that there is none.
    fn let_go_of_idle_joins(&mut self) {
        if self.run.is_parked() && self.commit.is_none() {
            self.joins.retain(|(run, _)| run.is_some());
        }
    }

    fn node_done(&mut self, done: NodeDone) -> Event {
        let (task, token, result) = done;
        if self.aborts.get(&task).is_some_and(|(known, _)| *known == token) {
            self.aborts.remove(&task);
        }
        match result {
            Ok(output) => Event::TaskDone { task, token, output: Box::new(output) },
            Err(error) => Event::TaskBroke { task, token, error },
        }
    }

    fn request(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::Command(ask) => {
                let Ask { command, reply, follow, listen } = *ask;
                self.joins.extend(follow);
                if let Some((modes, sender)) = listen {
                    self.listen(modes, sender);
                }
                self.next_request += 1;
                let request = RequestId(self.next_request);
                self.replies.insert(request, reply);
                return Some(Event::Asked { request, command: Box::new(command) });
            }
            Request::Subscribe(modes, sender) => self.listen(modes, sender),
            Request::Join(sender) => self.joins.push((None, sender)),
            Request::Leave => self.subscribers.close(),
            Request::State(sender) => drop(sender.send(Box::new(self.run.state().clone()))),
        }
        None
    }

    fn listen(&mut self, modes: Modes, sender: mpsc::Sender<runtime_core::stream::StreamEvent>) {
        self.subscribers.add(modes, sender);
        self.run.set_modes(self.subscribers.modes());
    }

    /// Tells those who follow this run, or any.
    fn tell_ended(&mut self, ended: &Ended) {
        let (told, others) =
            std::mem::take(&mut self.joins).into_iter().partition(|(run, _)| run.is_none_or(|run| run == ended.run));
        self.joins = others;
        let told: Vec<(Option<RunId>, oneshot::Sender<Ended>)> = told;
        for (_, sender) in told {
            drop(sender.send(ended.clone()));
        }
    }

    /// Makes the commit of this turn of the loop: on this thread if nothing else is at hand; beside the loop if nothing waits for
    /// it, so that the node at work is not held up.
    fn send_commit(&mut self) {
        let Some(commit) = self.unsent.take() else { return };
        let (store, seq) = (Arc::clone(&self.services.store), commit.seq);
        let lingered = self.lingers.take().is_some();
        let is_alone = !lingered && self.fresh.is_empty() && self.nodes.is_empty() && self.lookups.is_empty();
        let work = async move {
            let done = if is_alone { store.commit_here(*commit) } else { store.commit(*commit) };
            done.await.map(|()| seq)
        };
        self.commit = Some(if lingered { beside(work).boxed() } else { work.boxed() });
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Commit(commit) => {
                self.unsent = Some(commit);
            }
            Effect::Dispatch(dispatch) => self.dispatch(*dispatch),
            Effect::Abort { task, token } => self.abort(task, token),
            Effect::Abandoned(abandoned) => self.services.farewells.begin(*abandoned),
            Effect::Verdict { task, token, ix, verdict } => {
                if let Some(sender) = self.waiting.lock().remove(&(task, token, ix)) {
                    drop(sender.send(verdict));
                }
            }
            Effect::CacheLook { task, token, key } => {
                let cache = Arc::clone(&self.services.cache);
                let look = async move {
                    let hit = cache.look(&key).await;
                    Event::CacheLooked { task, token, key, hit }
                };
                self.lookups.push(look.boxed());
            }
            Effect::Clear(asked) => {
                let (store, now) = (Arc::clone(&self.services.store), self.services.clock.now());
                self.lookups.push(interlocks::clear(store, now, self.run.thread().clone(), *asked).boxed());
            }
            Effect::Tell(ended) => {
                let (store, now) = (Arc::clone(&self.services.store), self.services.clock.now());
                self.lookups.push(interlocks::tell(store, now, self.run.thread().clone(), *ended).boxed());
            }
            Effect::CachePut { key, value, expires } => self.services.cache.put(key, value, expires),
            Effect::CacheRelease { key } => self.services.cache.release(&key),
            Effect::SetTimer { timer, at } => drop(self.timers.insert((at, timer))),
            Effect::Emit(event) => {
                self.subscribers.send(*event);
                self.run.set_modes(self.subscribers.modes());
            }
            Effect::Reply { request, reply } => {
                if let Some(sender) = self.replies.remove(&request) {
                    drop(sender.send(reply.map_err(EngineFault::from)));
                }
            }
            Effect::RunEnded { run, outcome } => {
                self.tell_ended(&Ended { run, outcome });
                if self.run.state().active_run().is_none() {
                    self.subscribers.close();
                }
            }
            Effect::Ask(interrupt) => self.services.asked(self.run.thread(), &interrupt),
        }
    }

    fn dispatch(&mut self, dispatch: Dispatch) {
        let (task, token) = (dispatch.task, dispatch.token);
        let kind = self.services.kind_of(&dispatch);
        let events = self.node_events.0.clone();
        let outside = Outside { events, waiting: Arc::clone(&self.waiting), stand_in: self.services.stand_in.clone() };
        let context = Context::new(dispatch, self.run.thread().clone(), outside);
        let work = async move {
            match kind {
                Ok(kind) => kind.run(context).await,
                Err(error) => Err(error),
            }
        };
        let guarded = std::panic::AssertUnwindSafe(work).catch_unwind();
        let done = guarded.map(move |result| (task, token, result.unwrap_or_else(|panic| Err(panicked(&*panic)))));
        self.aborts.insert(task, (token, None));
        self.fresh.push_back((task, token, done.boxed()));
    }

    /// Runs a node up to its first wait. Most nodes of code never wait: they need no place among those that do.
    fn begin(&mut self, task: TaskId, token: Token, mut work: Work) {
        let Some((_, abort)) = self.aborts.get_mut(&task).filter(|(known, _)| *known == token) else { return };
        match (&mut work).now_or_never() {
            Some(done) => self.finished.push_back(done),
            None => {
                let (handle, registration) = AbortHandle::new_pair();
                *abort = Some(handle);
                self.nodes.push(Abortable::new(work, registration));
            }
        }
    }

    fn abort(&mut self, task: TaskId, token: Token) {
        if self.aborts.get(&task).is_some_and(|(known, _)| *known == token)
            && let Some((_, Some(handle))) = self.aborts.remove(&task)
        {
            handle.abort();
        }
        self.waiting.lock().retain(|(waiting, of, _), _| (*waiting, *of) != (task, token));
    }

    fn fail(&mut self, error: StoreError) -> Stop {
        for (_, reply) in std::mem::take(&mut self.replies) {
            drop(reply.send(Err(error.clone().into())));
        }
        let message = TaskError::new(ErrorClass::Resource, error.to_string());
        let run = self.run.state().run.as_ref().map(|run| run.id);
        for (wanted, sender) in self.joins.drain(..) {
            if let Some(run) = wanted.or(run) {
                let outcome = runtime_core::record::Outcome::Failed(message.clone());
                drop(sender.send(Ended { run, outcome }));
            }
        }
        self.subscribers.close();
        Stop::Failed(error)
    }

    /// Requests that arrived while the loop was ending, those included whose senders are just handing them over.
    pub(crate) async fn leftovers(&mut self) -> Vec<Request> {
        self.requests.close();
        let mut left = Vec::new();
        while let Some(request) = self.requests.recv().await {
            left.push(request);
        }
        left
    }
}

/// A commit that nothing waits for, as a task of its own.
fn beside(
    work: impl Future<Output = Result<Seq, StoreError>> + Send + 'static,
) -> impl Future<Output = Result<Seq, StoreError>> {
    tokio::spawn(work)
        .map(|done| done.unwrap_or_else(|why| Err(StoreError::Io(format!("a commit did not end: {why}")))))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> TaskError {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    TaskError::bug(format!("the node panicked: {}", text.unwrap_or_else(|| "no message".to_owned())))
}
