//! What a node sees: its snapshot, its variables, and the one way to make an effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use graphs::{CompiledGraph, EffectClass, Node};
use parking_lot::Mutex;
use runtime_core::deep::bounded;
use runtime_core::effect::{Dispatch, Verdict};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::{CallRequest, Event, Probe, Question, Said, Token};
use runtime_core::ids::{CallIx, Name, RunId, TaskId, ThreadId};
use runtime_core::interlocks::budget::Cost;
use runtime_core::interlocks::guard::ToolFacts;
use runtime_core::record::{Answer, CallKind, CallOutcome};
use runtime_core::scope::TaskScope;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use crate::rehearsal::{StandIn, StoodIn, Unmade};

/// Where verdicts for waiting calls are delivered.
pub(crate) type Waiting = Arc<Mutex<BTreeMap<(TaskId, Token, CallIx), oneshot::Sender<Verdict>>>>;

/// Handle of a running task. Cheap to clone; clones share the order of calls.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    dispatch: Dispatch,
    thread: ThreadId,
    outside: Outside,
    next_call: AtomicU32,
}

/// Where a node's words go, and who answers them.
pub(crate) struct Outside {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) waiting: Waiting,
    /// Answers calls in place of the world.
    pub(crate) stand_in: Option<Arc<dyn StandIn>>,
}

/// A call as a node asks for it.
#[derive(Debug, Clone)]
pub struct CallSpec {
    /// Sort of effect.
    pub kind: CallKind,
    /// `server.tool`, model or graph.
    pub target: Name,
    /// Arguments, exactly as they will be sent.
    pub args: Value,
    /// Whether it may be repeated. From declared configuration, never from a model.
    pub effect: EffectClass,
    /// Environment it acts on.
    pub env: Option<Name>,
    /// Role of the agent that asks.
    pub role: Option<Name>,
    /// What it costs at most; reserved before it is made.
    pub worst: Cost,
    /// What is known about the tool.
    pub tool: ToolFacts,
}

impl CallSpec {
    /// A call without environment or role.
    pub fn new(kind: CallKind, target: &str, args: Value, effect: EffectClass) -> Self {
        let (worst, tool) = (Cost::FREE, ToolFacts::default());
        Self { kind, target: target.into(), args, effect, env: None, role: None, worst, tool }
    }
}

/// Permission to make one call now.
#[derive(Debug, Clone)]
pub struct Permit {
    /// Stable key to hand to the other side: the same over retries, restarts and workers.
    pub key: String,
    /// The arguments to send: as asked, or as edited by an approver.
    pub args: Arc<Value>,
    /// Where the call says what it really cost.
    pub meter: Meter,
}

/// What a call really cost. One that says nothing has cost its worst case.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Option<Cost>>>);

impl Meter {
    /// Says what was spent; the last word counts.
    pub fn spent(&self, cost: Cost) {
        *self.0.lock() = Some(cost);
    }
}

impl Context {
    pub(crate) fn new(dispatch: Dispatch, thread: ThreadId, outside: Outside) -> Self {
        let inner = Inner { dispatch, thread, outside, next_call: AtomicU32::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// The graph.
    pub fn graph(&self) -> &CompiledGraph {
        &self.inner.dispatch.graph
    }

    /// The node; an error only if the runtime lost it.
    pub fn node(&self) -> Result<&Node, TaskError> {
        let dispatch = &self.inner.dispatch;
        dispatch.graph.node(dispatch.node).ok_or_else(|| TaskError::bug("a task lost its node"))
    }

    /// A channel's value in the snapshot; `null` when it has none.
    pub fn get(&self, channel: &str) -> &Value {
        static NULL: Value = Value::Null;
        let dispatch = &self.inner.dispatch;
        if let Some(slot) = dispatch.channels.get(channel) {
            return &slot.value;
        }
        dispatch.untracked.get(channel).unwrap_or(&NULL)
    }

    /// Variables: rendered `with`, variables it was sent with, `error` of a handler.
    pub fn vars(&self) -> &Map<String, Value> {
        &self.inner.dispatch.vars
    }

    /// A variable; `null` when absent.
    pub fn var(&self, name: &str) -> &Value {
        static NULL: Value = Value::Null;
        self.vars().get(name).unwrap_or(&NULL)
    }

    /// All channels that have a value, as one object.
    pub fn state(&self) -> Value {
        runtime_core::channels::values(&self.inner.dispatch.channels)
    }

    /// The thread's input.
    pub fn input(&self) -> &Value {
        &self.inner.dispatch.input
    }

    /// The thread.
    pub fn thread(&self) -> &ThreadId {
        &self.inner.thread
    }

    /// The run.
    pub fn run_id(&self) -> RunId {
        self.inner.dispatch.run
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.inner.dispatch.task
    }

    /// Attempts that failed before this one.
    pub fn attempts(&self) -> u32 {
        self.inner.dispatch.attempts
    }

    /// Number of the superstep.
    pub fn step(&self) -> i64 {
        self.inner.dispatch.step
    }

    /// Supersteps left in this run after this one.
    pub fn steps_left(&self) -> u32 {
        self.inner.dispatch.steps_left
    }

    /// What expressions of this node see.
    pub fn scope(&self) -> TaskScope<'_> {
        let dispatch = &self.inner.dispatch;
        let mut scope = TaskScope::new(&dispatch.graph, &dispatch.channels, &dispatch.vars);
        scope.untracked = &dispatch.untracked;
        scope.input = &dispatch.input;
        scope.facts.thread = Some(self.inner.thread.clone());
        scope.facts.run = Some(dispatch.run);
        scope.facts.step = dispatch.step;
        scope.facts.attempts = dispatch.attempts;
        scope
    }

    /// Makes one call: `make` runs only if the run permits it; otherwise the recorded outcome is returned.
    pub async fn call<F, Fut>(&self, spec: CallSpec, make: F) -> Result<Arc<Value>, TaskError>
    where
        F: FnOnce(Permit) -> Fut + Send,
        Fut: Future<Output = Result<Value, TaskError>> + Send,
    {
        self.call_or_probe(spec, make, None::<fn(String) -> std::future::Ready<Probe>>).await
    }

    /// As [`Context::call`], with a way to find out whether an in-doubt call happened.
    pub async fn call_or_probe<F, Fut, P, PFut>(
        &self,
        spec: CallSpec,
        make: F,
        probe: Option<P>,
    ) -> Result<Arc<Value>, TaskError>
    where
        F: FnOnce(Permit) -> Fut + Send,
        Fut: Future<Output = Result<Value, TaskError>> + Send,
        P: FnOnce(String) -> PFut + Send,
        PFut: Future<Output = Probe> + Send,
    {
        let ix = self.next_ix();
        let args = Arc::new(bounded(spec.args, &format!("arguments of `{}`", spec.target))?);
        let (kind, target) = (spec.kind, spec.target.clone());
        let request = CallRequest {
            kind,
            target: spec.target,
            args: Arc::clone(&args),
            effect: spec.effect,
            env: spec.env,
            role: spec.role,
            can_probe: probe.is_some(),
            worst: spec.worst,
            tool: spec.tool,
        };
        let (task, token) = self.ids();
        let mut probe = probe;
        let mut event = Event::CallAsked { task, token, ix, request: Box::new(request) };
        loop {
            match self.ask_run(ix, event).await? {
                Verdict::Recorded(CallOutcome::Ok(value)) => return Ok(value),
                Verdict::Recorded(CallOutcome::Err(error)) => return Err(error),
                Verdict::Perform { key, args: permitted } => {
                    let args = if permitted.is_null() { Arc::clone(&args) } else { permitted };
                    let meter = Meter::default();
                    if let Some(answer) = self.stand_in((kind, &target, &args), &meter)? {
                        return self.perform(ix, &target, (std::future::ready(answer), meter)).await;
                    }
                    let made = make(Permit { key, args, meter: meter.clone() });
                    return self.perform(ix, &target, (made, meter)).await;
                }
                Verdict::Probe { key } => {
                    let found = match probe.take() {
                        Some(probe) if self.inner.outside.stand_in.is_none() => match probe(key).await {
                            Probe::Happened(result) => {
                                Probe::Happened(bounded(result, &format!("result of `{target}`"))?)
                            }
                            found => found,
                        },
                        _ => Probe::Unknown,
                    };
                    event = Event::Probed { task, token, ix, found };
                }
                Verdict::Answered(_) | Verdict::Expired => {
                    return Err(TaskError::bug("a call was answered as a question"));
                }
            }
        }
    }

    /// The answer to a call that is not made, where somebody stands in for the world.
    fn stand_in(
        &self,
        (kind, target, args): (CallKind, &str, &Value),
        meter: &Meter,
    ) -> Result<Option<Result<Value, TaskError>>, TaskError> {
        let Some(stand_in) = &self.inner.outside.stand_in else { return Ok(None) };
        let StoodIn { outcome, spent } = stand_in.answer(&Unmade { node: &self.node()?.name, kind, target, args });
        if let Some(spent) = spent {
            meter.spent(spent);
        }
        Ok(Some(outcome))
    }

    async fn perform(
        &self,
        ix: CallIx,
        target: &str,
        call: (impl Future<Output = Result<Value, TaskError>>, Meter),
    ) -> Result<Arc<Value>, TaskError> {
        let (made, meter) = call;
        let outcome = match made.await.and_then(|value| bounded(value, &format!("result of `{target}`"))) {
            Ok(value) => CallOutcome::Ok(Arc::new(value)),
            Err(error) => CallOutcome::Err(error),
        };
        let (task, token) = self.ids();
        let spent = *meter.0.lock();
        self.send(Event::CallDone { task, token, ix, outcome: outcome.clone(), spent }).await?;
        match outcome {
            CallOutcome::Ok(value) => Ok(value),
            CallOutcome::Err(error) => Err(error),
        }
    }

    /// Asks people. Returns when the question was answered, perhaps in another process; while it is open the node does not
    /// exist, so there is nothing to catch. `None` when it expired.
    pub async fn ask(&self, mut question: Question) -> Result<Option<Answer>, TaskError> {
        question.payload = bounded(question.payload, &format!("payload of question `{}`", question.title))?;
        let ix = self.next_ix();
        let (task, token) = self.ids();
        match self.ask_run(ix, Event::QuestionAsked { task, token, ix, question: Box::new(question) }).await? {
            Verdict::Answered(answer) => Ok(Some(answer)),
            Verdict::Expired => Ok(None),
            _ => Err(TaskError::bug("a question was answered as a call")),
        }
    }

    /// Says that the node is alive.
    pub async fn heartbeat(&self) -> Result<(), TaskError> {
        let (task, token) = self.ids();
        self.send(Event::Beat { task, token }).await
    }

    /// Streams a custom event.
    pub async fn emit(&self, value: Value) -> Result<(), TaskError> {
        let value = bounded(value, "a custom event")?;
        let (task, token) = self.ids();
        self.send(Event::Said { task, token, said: Said::Custom(value) }).await
    }

    /// Streams a message or a chunk of one, with metadata.
    pub async fn message(&self, message: Value, metadata: Value) -> Result<(), TaskError> {
        let (message, metadata) = (bounded(message, "a message"), bounded(metadata, "metadata of a message"));
        let (message, metadata) = (message?, metadata?);
        let (task, token) = self.ids();
        self.send(Event::Said { task, token, said: Said::Message(message, metadata) }).await
    }

    fn ids(&self) -> (TaskId, Token) {
        (self.inner.dispatch.task, self.inner.dispatch.token)
    }

    fn next_ix(&self) -> CallIx {
        CallIx(self.inner.next_call.fetch_add(1, Ordering::Relaxed))
    }

    async fn ask_run(&self, ix: CallIx, event: Event) -> Result<Verdict, TaskError> {
        let (task, token) = self.ids();
        let (sender, receiver) = oneshot::channel();
        self.inner.outside.waiting.lock().insert((task, token, ix), sender);
        self.send(event).await?;
        receiver.await.map_err(|_| stopped())
    }

    async fn send(&self, event: Event) -> Result<(), TaskError> {
        self.inner.outside.events.send(event).await.map_err(|_| stopped())
    }
}

fn stopped() -> TaskError {
    TaskError::new(ErrorClass::Transient, "the run was stopped")
}
