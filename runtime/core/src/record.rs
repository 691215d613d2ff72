//! What is written: ops, records and commits. Plain data with explicit forms; the only module of the core (with
//! [`crate::state`], [`crate::channels`] and [`crate::ids`]) whose types are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use graphs::{EffectClass, GraphDigest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::channels::Change;
use crate::error::TaskError;
use crate::ids::{CallIx, CheckpointId, Epoch, InterruptId, Name, Ns, RunId, Seq, TaskId, ThreadId, Timestamp};
use crate::interlocks::track_record::Heal;
use crate::spending::Hold;
use crate::state::{Frame, ThreadState};

/// One atomic, durable append to one thread.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The thread.
    pub thread: ThreadId,
    /// Place of the record; must be the head's successor.
    pub seq: Seq,
    /// The writer's epoch. With `claim` it must be one above the head's epoch, else equal to it.
    pub epoch: Epoch,
    /// The first commit of a new owner.
    pub claim: bool,
    /// What becomes true.
    pub record: Record,
}

/// The ops that became true together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was decided.
    pub at: Timestamp,
    /// Who wrote it.
    pub epoch: Epoch,
    /// The run on whose behalf; `None` for edits outside a run.
    pub run: Option<RunId>,
    /// The facts, in order.
    pub ops: Vec<Op>,
}

/// One durable fact of a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// The thread begins, pinned to a graph.
    Created { graph: Name, digest: GraphDigest, metadata: Value },
    /// A run was accepted: it is durable before its id is told.
    RunAccepted(Box<RunAccepted>),
    /// A run waits until the one before it has ended.
    RunQueued(Box<QueuedRun>),
    /// The current run ended.
    RunEnded { run: RunId, outcome: Outcome },
    /// A subgraph (or the root) begins.
    FrameOpened { ns: Ns, graph: Name, digest: GraphDigest, keep: bool },
    /// A subgraph ended; a kept one stays asleep with its channels.
    FrameClosed { ns: Ns },
    /// A superstep ended: changes of the finished tasks, then `changes`, become state; `plan` is what runs next.
    Checkpoint { ns: Ns, id: CheckpointId, source: Source, changes: Vec<Change>, plan: Plan },
    /// Values written beside the tasks of the superstep under way (an answer that carries an update).
    Patched { ns: Ns, changes: Vec<Change> },
    /// The frame continues from an older state (fork, replay): the state itself, so that folding follows no branch.
    Rewound { ns: Ns, to: CheckpointId, frame: Box<Frame> },
    /// A task finished: its writes and its routing, together.
    TaskFinished { task: TaskId, changes: Vec<Change>, route: Vec<Hop>, cached: bool },
    /// One attempt failed and another one is due.
    AttemptFailed { task: TaskId, error: TaskError, retry_at: Timestamp },
    /// A task failed for good.
    TaskFailed { task: TaskId, error: TaskError },
    /// A failed task is to run again.
    TaskReset { task: TaskId },
    /// A call was asked for and waits for people.
    CallPlanned { task: TaskId, ix: CallIx, head: CallHead },
    /// A call that is not read-only is about to be made.
    CallBegun { task: TaskId, ix: CallIx, head: CallHead },
    /// A call ended. `head` is there when no `CallBegun` preceded it.
    CallEnded { task: TaskId, ix: CallIx, head: Option<CallHead>, outcome: CallOutcome },
    /// A question was put to people.
    InterruptOpened(Box<Interrupt>),
    /// A person answered; `decides` when the question is closed by it.
    Answered { id: InterruptId, answer: Answer, decides: bool },
    /// The deadline passed without a decision.
    Expired { id: InterruptId },
    /// The question was taken back (new input, cancel, fork).
    Withdrawn { id: InterruptId, why: String },
    /// Something is due at a time.
    TimerSet(Timer),
    /// It is not due any more.
    TimerCleared { key: TimerKey },
    /// A named signal arrived.
    Signalled { name: Name, payload: Value },
    /// A waiting task took the signal.
    SignalTaken { name: Name },
    /// The thread moved to another graph version.
    Migrated { digest: GraphDigest, renames: BTreeMap<Name, Name> },
    /// Metadata merged into the thread's.
    Tagged { metadata: Value },
    /// A decision, for the audit chain.
    Audited(Box<AuditEntry>),
    /// The whole state: folding may start here.
    Snapshot(Box<ThreadState>),
    /// A call is about to reserve on the ledger: written first, so that a crash in between can be put right.
    Held { key: Name, hold: Box<Hold> },
    /// What a call really took is known, in the order of its hold's takes; the ledger is to be told.
    Charged { key: Name, spent: Vec<u64> },
    /// The ledger has it.
    Settled { key: Name },
    /// The next superstep of a subgraph does not begin in this run.
    FrameHeld { ns: Ns, why: Outcome },
    /// The versions of the graphs that the thread's graph calls, directly or not.
    Linked { links: BTreeMap<Name, GraphDigest> },
    /// How a task's act ended for the record of its class; that record is to be told.
    HealEnded { task: TaskId, heal: Box<Heal> },
    /// The record has it.
    HealTold { task: TaskId },
}

/// A run as accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunAccepted {
    /// The run.
    pub id: RunId,
    /// What was asked.
    pub kind: RunKind,
    /// How.
    pub options: RunOptions,
    /// The input of a `Start`.
    pub input: Arc<Value>,
}

/// A run that waits for its turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueuedRun {
    /// The run.
    pub id: RunId,
    /// Its input.
    pub input: Arc<Value>,
    /// Its options.
    pub options: RunOptions,
}

/// What a run does to its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// New input.
    Start,
    /// An answered interrupt, a due timer or a signal.
    Resume,
    /// On from the last checkpoint without anything new.
    Continue,
}

/// How writes become durable relative to the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Each superstep is durable before the next begins.
    #[default]
    Sync,
    /// Saving overlaps with the next superstep.
    Async,
    /// Saved when the run pauses, fails or ends (and whenever an effect must not be repeated).
    Exit,
}

/// What to do with a run on a thread that is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Multitask {
    /// Refuse it.
    #[default]
    Reject,
    /// Run it after the current one.
    Queue,
    /// Cancel the current one and run it.
    Supersede,
}

/// Options of one run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunOptions {
    /// See [`Durability`].
    pub durability: Durability,
    /// See [`Multitask`].
    pub multitask: Multitask,
    /// Supersteps this run may take; the graph's limit when absent.
    pub recursion_limit: Option<u32>,
    /// Nodes to pause before (`*` for all).
    pub interrupt_before: Vec<Name>,
    /// Nodes to pause after (`*` for all).
    pub interrupt_after: Vec<Name>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing is left to run.
    Success,
    /// A task failed for good, or a limit was reached.
    Failed(TaskError),
    /// People are asked, or a breakpoint was reached.
    Interrupted,
    /// Timers or signals are awaited.
    Waiting,
    /// Stopped on request.
    Cancelled,
    /// Stopped before the next superstep on request; resumable.
    Drained,
    /// Replaced by a newer run.
    Superseded,
}

/// Why a checkpoint exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Input was applied.
    Input,
    /// A superstep ended.
    Loop,
    /// State was edited.
    Update,
    /// A branch began.
    Fork,
}

impl Source {
    /// LangGraph's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Loop => "loop",
            Self::Update => "update",
            Self::Fork => "fork",
        }
    }
}

/// What runs next, explicitly.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Tasks in path order: nodes in declaration order, then sends by emitting task and index.
    pub tasks: Vec<PlannedTask>,
    /// Joins that wait: node to the sources that finished since it last ran.
    pub joins: BTreeMap<Name, BTreeSet<Name>>,
    /// Triggered nodes that wait until nothing else is left.
    pub deferred: BTreeSet<Name>,
}

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTask {
    /// The node.
    pub node: Name,
    /// Variables it was sent with; `None` for a task started by an edge.
    pub send: Option<Arc<Value>>,
}

/// Where a finished task leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Hop {
    /// To a node.
    Node(Name),
    /// To a node with variables of its own.
    Send(Name, Arc<Value>),
}

/// What a call is, before it is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallHead {
    /// Sort of effect.
    pub kind: CallKind,
    /// Tool, model or graph called.
    pub target: Name,
    /// SHA-256 of the canonical arguments, in hex.
    #[serde(with = "graphs::hex_form")]
    pub digest: String,
    /// Whether it may be repeated.
    pub effect: EffectClass,
}

/// Sorts of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// An MCP tool.
    Tool,
    /// A model.
    Model,
    /// A message to people.
    Notify,
    /// Another thread.
    Spawn,
    /// A question asked from inside a task.
    Question,
    /// Code of the host.
    Custom,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// Its result.
    Ok(Arc<Value>),
    /// Its failure.
    Err(TaskError),
}

/// Why people are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptKind {
    /// An `approval` node.
    Approval,
    /// Policy wants an approval of a call.
    Guard,
    /// Code asks.
    Question,
    /// A call was begun and has no result.
    InDoubt,
    /// A budget is used up.
    Budget,
    /// A breaker is open, or the class of a remedy is stopped.
    Breaker,
}

/// A durable question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interrupt {
    /// Commits to task, call and payload.
    pub id: InterruptId,
    /// Why.
    pub kind: InterruptKind,
    /// Frame of the asking task.
    pub ns: Ns,
    /// The asking task.
    pub task: TaskId,
    /// Its node.
    pub node: Name,
    /// The call it belongs to.
    pub ix: CallIx,
    /// One line.
    pub title: String,
    /// Text below it.
    pub body: String,
    /// What is asked about, exactly.
    pub payload: Arc<Value>,
    /// SHA-256 of the canonical payload, in hex: an answer must carry it.
    #[serde(with = "graphs::hex_form")]
    pub digest: String,
    /// Accepted values of `choice`; empty when the answer is free.
    pub choices: Vec<String>,
    /// JSON Schema of the answer.
    pub schema: Option<Value>,
    /// Who may answer: `user:NAME` or `group:NAME`; empty means anyone who may use the surface.
    pub approvers: Vec<String>,
    /// Approvals needed.
    pub quorum: u32,
    /// The requester may not answer.
    pub four_eyes: bool,
    /// When it was asked.
    pub opened_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Answers so far.
    pub votes: Vec<Answer>,
}

/// An answer of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What was answered; for choices an object with `choice`.
    pub value: Arc<Value>,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Names a timer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TimerKey {
    /// A failed attempt is repeated.
    Retry(TaskId),
    /// A `wait` node goes on.
    Wait(TaskId),
    /// A question expires.
    Expire(InterruptId),
    /// A ledger or a track record is to be told what it may have missed.
    Settle,
}

/// Something due at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// What.
    pub key: TimerKey,
    /// When.
    pub at: Timestamp,
}

/// One decision in the audit chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Who or what decided: `agent:NAME`, `user:NAME`, `policy`, `runtime`.
    pub actor: String,
    /// What: `call.permitted`, `call.denied`, `interrupt.answered`, `gate.routed` …
    pub action: String,
    /// Node and task.
    pub node: Name,
    /// The task.
    pub task: Option<TaskId>,
    /// Target, rule, digest, reason …; secrets are not put here.
    pub detail: Value,
}

/// A call's time limit and idle limit as decided at dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// For the whole attempt.
    pub run: Option<Duration>,
    /// Without a sign of life.
    pub idle: Option<Duration>,
}
