//! What the engine must do, in the order given.

use std::sync::Arc;

use graphs::{Breaker as Rule, CompiledGraph, NodeIx};
use serde_json::{Map, Value};

use crate::channels::Channels;
use crate::error::TaskError;
use crate::event::{Cached, LiveTimer, RequestId, Token};
use crate::ids::{CallIx, CheckpointId, InterruptId, Name, Ns, RunId, TaskId, Timestamp};
use crate::interlocks::breaker::{Press, Sign};
use crate::interlocks::track_record::Heal;
use crate::record::{Answer, CallHead, CallOutcome, Commit, Interrupt, Outcome};
use crate::spending::Take;
use crate::stream::StreamEvent;

/// Something to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Make durable, then report `Persisted`.
    Commit(Box<Commit>),
    /// Run a node.
    Dispatch(Box<Dispatch>),
    /// Drop a node's future; its results do not count any more.
    Abort { task: TaskId, token: Token },
    /// A task will never go on (durably): what its calls left running outside may be ended.
    Abandoned(Box<Abandoned>),
    /// Answer a node's call request.
    Verdict { task: TaskId, token: Token, ix: CallIx, verdict: Verdict },
    /// Look a task up in the node cache (single flight), then report `CacheLooked`.
    CacheLook { task: TaskId, token: Token, key: String },
    /// Put a finished task into the node cache.
    CachePut { key: String, value: Arc<Cached>, expires: Option<Timestamp> },
    /// A task with a cache key will put nothing: let the next one run.
    CacheRelease { key: String },
    /// Ask the shared records whether a call may go on, then report `Cleared`.
    Clear(Box<Clear>),
    /// Tell the shared records how a call ended, then report `Told`.
    Tell(Box<Tell>),
    /// Report `TimerFired` at a time.
    SetTimer { timer: LiveTimer, at: Timestamp },
    /// Tell subscribers.
    Emit(Box<StreamEvent>),
    /// Answer a request.
    Reply { request: RequestId, reply: Box<Result<Reply, Refusal>> },
    /// The run ended (durably).
    RunEnded { run: RunId, outcome: Outcome },
    /// Questions were opened (durably): tell the approval channels.
    Ask(Box<Interrupt>),
}

/// A task that nobody comes back for.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// The task.
    pub task: TaskId,
    /// Its calls that have ended, in the order in which they were asked for.
    pub calls: Vec<(CallHead, CallOutcome)>,
}

/// A task to run.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The task.
    pub task: TaskId,
    /// This dispatch.
    pub token: Token,
    /// Its frame.
    pub ns: Ns,
    /// Its graph.
    pub graph: Arc<CompiledGraph>,
    /// Its node.
    pub node: NodeIx,
    /// The snapshot all tasks of the superstep read.
    pub channels: Arc<Channels>,
    /// Channels that live in memory only.
    pub untracked: Arc<Map<String, Value>>,
    /// Variables: rendered `with`, send variables, `error` of a handler.
    pub vars: Arc<Map<String, Value>>,
    /// The thread's input.
    pub input: Arc<Value>,
    /// Attempts before this one.
    pub attempts: u32,
    /// The run.
    pub run: RunId,
    /// Superstep.
    pub step: i64,
    /// Journal generation and stable key prefix of its calls.
    pub generation: u32,
    /// Supersteps left in this run.
    pub steps_left: u32,
}

/// A breaker as a node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// The record: `agent:GRAPH/ROLE`, `tool:SERVER`, `model:NAME` …
    pub name: Name,
    /// When it opens and for how long.
    pub rule: Rule,
    /// Who asks; the same over restarts.
    pub by: Name,
}

/// What is asked of the shared records before a call.
#[derive(Debug, Clone)]
pub struct Clear {
    /// The task.
    pub task: TaskId,
    /// Its dispatch.
    pub token: Token,
    /// The call.
    pub ix: CallIx,
    /// The breaker it passes, and what a person decided about it.
    pub gate: Option<(Gate, Option<Press>)>,
    /// Names the reservations.
    pub hold: Option<Name>,
    /// What it reserves, each with its wall.
    pub takes: Vec<(Take, u64)>,
    /// The class whose track record is looked at, and until when a person has forgiven its failures.
    pub record: Option<(Name, Option<Timestamp>)>,
}

/// What the shared records are told after a call.
#[derive(Debug, Clone, Default)]
pub struct Tell {
    /// The breaker, how the call ended for it, and the node.
    pub sign: Option<(Gate, Sign, Name)>,
    /// The hold, with each account and what was really taken.
    pub settle: Option<(Name, Vec<(Name, u64)>)>,
    /// How a task's act ended for the record of its class.
    pub heal: Option<(TaskId, Heal)>,
}

/// Answer to a call request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It was made before; this is how it ended.
    Recorded(CallOutcome),
    /// Make it, with this stable key and these arguments (an approver may have edited them).
    Perform { key: String, args: Arc<Value> },
    /// Find out whether it happened, then report `Probed`.
    Probe { key: String },
    /// A question was answered.
    Answered(Answer),
    /// A question expired undecided.
    Expired,
}

/// What a request led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A run was accepted and is durable.
    Accepted { run: RunId },
    /// A run waits behind the current one and is durable.
    Queued { run: RunId },
    /// Answers were taken, one result for each.
    Answered(Vec<Result<Taken, Refusal>>),
    /// State was edited; the new head.
    Updated { checkpoint: CheckpointId },
    /// Done, nothing to tell.
    Done,
}

/// How an answer was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It decided the question.
    Decided,
    /// More approvals are needed.
    Counted { votes: u32, quorum: u32 },
}

/// Why a request was refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A run is going on.
    #[error("the thread is busy with run {run}: wait, cancel it, or ask for `queue` or `supersede`")]
    Busy { run: RunId },
    /// The thread has no state yet.
    #[error("the thread has nothing to go on from: start it with input")]
    Empty,
    /// The thread is pinned to another version of its graph.
    #[error(
        "the thread runs graph `{graph}` at version {pinned}, not {offered}; continue without naming a graph, or move it: interlock migrate THREAD --to {offered} [--rename old=new]"
    )]
    Pinned { graph: Name, pinned: String, offered: String },
    /// A graph that the thread's graph calls is another version than the one the thread is pinned to.
    #[error(
        "the thread runs graph `{graph}`, called by `{root}`, at version {pinned}, not {offered}; continue without naming a graph, or move the thread: interlock migrate THREAD --to {version}"
    )]
    PinnedPart { root: Name, version: String, graph: Name, pinned: String, offered: String },
    /// Input, values or options do not fit.
    #[error("{0}")]
    Invalid(TaskError),
    /// No such open question.
    #[error("interrupt {id} is not open here; {pending}")]
    UnknownInterrupt { id: InterruptId, pending: String },
    /// Somebody was first.
    #[error("interrupt {id} was already answered by {by} at {at}")]
    AlreadyAnswered { id: InterruptId, by: String, at: Timestamp },
    /// The answer does not fit, is not allowed or too late; the question stays as it is.
    #[error("interrupt {id}: {why}")]
    AnswerRefused { id: InterruptId, why: String },
    /// No active run to cancel or drain.
    #[error("the thread has no active run")]
    NotRunning,
    /// The new graph does not fit the thread's state.
    #[error("cannot migrate: {0}")]
    CannotMigrate(String),
}

impl Refusal {
    /// A word for machines; it does not change.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Empty => "empty",
            Self::Pinned { .. } => "pinned",
            Self::PinnedPart { .. } => "pinned_part",
            Self::Invalid(_) => "invalid",
            Self::UnknownInterrupt { .. } => "unknown_interrupt",
            Self::AlreadyAnswered { .. } => "already_answered",
            Self::AnswerRefused { .. } => "answer_refused",
            Self::NotRunning => "not_running",
            Self::CannotMigrate(_) => "cannot_migrate",
        }
    }
}
