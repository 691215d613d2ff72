//! What can happen to a run: one closed list.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use graphs::{CompiledGraph, EffectClass};
use serde_json::Value;

use crate::channels::Change;
use crate::error::TaskError;
use crate::ids::{CallIx, CheckpointId, InterruptId, Name, Ns, RunId, Seq, TaskId, Timestamp};
use crate::interlocks::breaker::Turn;
use crate::interlocks::budget::Cost;
use crate::interlocks::guard::ToolFacts;
use crate::interlocks::track_record::TrackRecord;
use crate::record::{CallKind, CallOutcome, Hop, RunOptions, TimerKey};
use crate::state::Frame;

/// Names a request whose answer is an [`crate::effect::Effect::Reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One dispatch of a task: results of an older dispatch are recognised and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request from outside.
    Asked { request: RequestId, command: Box<Command> },
    /// A node returned.
    TaskDone { task: TaskId, token: Token, output: Box<NodeOutput> },
    /// A node failed.
    TaskBroke { task: TaskId, token: Token, error: TaskError },
    /// A node wants to make a call.
    CallAsked { task: TaskId, token: Token, ix: CallIx, request: Box<CallRequest> },
    /// A permitted call ended; `spent` is what it took where it said so, else its worst case counts.
    CallDone { task: TaskId, token: Token, ix: CallIx, outcome: CallOutcome, spent: Option<Cost> },
    /// A probe found out about an in-doubt call.
    Probed { task: TaskId, token: Token, ix: CallIx, found: Probe },
    /// A node asks people.
    QuestionAsked { task: TaskId, token: Token, ix: CallIx, question: Box<Question> },
    /// A node is alive.
    Beat { task: TaskId, token: Token },
    /// A node streams something (`custom` or `messages`).
    Said { task: TaskId, token: Token, said: Said },
    /// The node cache was looked up.
    CacheLooked { task: TaskId, token: Token, key: String, hit: Option<Arc<Cached>> },
    /// The shared records were asked whether a call (or a whole task) may go on.
    Cleared { task: TaskId, token: Token, ix: CallIx, cleared: Box<Cleared> },
    /// The shared records were told how a call ended.
    Told(Box<Told>),
    /// A commit is durable.
    Persisted { seq: Seq },
    /// A timer of this process fired.
    TimerFired { timer: LiveTimer },
    /// Nothing else is at hand: buffered writes may be flushed.
    Idle,
}

/// A request from outside.
#[derive(Debug, Clone)]
pub enum Command {
    /// New input.
    Start { run: RunId, graph: Arc<CompiledGraph>, input: Value, options: RunOptions, metadata: Value },
    /// On from the last checkpoint; failed tasks run again.
    Continue { run: RunId, options: RunOptions, steer: Steer },
    /// Answers to questions, all checked before any is written.
    Answer { run: RunId, answers: Vec<AnswerInput>, update: Value },
    /// A due durable timer woke the thread.
    Wake { run: RunId },
    /// A named signal.
    Signal { run: RunId, name: Name, payload: Value },
    /// State of a frame is edited as if nodes had written it: each inner list is one superstep.
    Update { ns: Ns, supersteps: Vec<Vec<Edit>>, at: Option<Box<Rewind>> },
    /// Continue from an older checkpoint.
    Replay { run: RunId, at: Box<Rewind>, options: RunOptions },
    /// Stop now; running tasks are abandoned.
    Cancel { why: String },
    /// Stop before the next superstep.
    Drain,
    /// Move to another graph version.
    Migrate { graph: Arc<CompiledGraph>, renames: BTreeMap<Name, Name> },
    /// Merge labels into the thread's metadata.
    Tag { metadata: Value },
    /// Put a decision of a person about something shared into the audit chain.
    Note { actor: String, action: String, detail: Value },
}

/// An older state to go on from.
#[derive(Debug, Clone)]
pub struct Rewind {
    /// The checkpoint.
    pub to: CheckpointId,
    /// The root frame as it was at that checkpoint, its tasks fresh.
    pub frame: Frame,
    /// Subgraphs that keep their state between visits, as they were then.
    pub kept: BTreeMap<Ns, Frame>,
}

/// What a continued run does besides what is pending.
#[derive(Debug, Clone, Default)]
pub struct Steer {
    /// Channel values, applied before anything runs; `Null` for none.
    pub update: Value,
    /// Nodes to run beside the pending ones.
    pub goto: Vec<Name>,
}

/// One edit of a state update.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Channel values; `Null` for none.
    pub values: Value,
    /// The node it counts as; `None` keeps the plan; `end` clears it; `__start__` enters the graph anew.
    pub as_node: Option<Name>,
}

/// One answer as given.
#[derive(Debug, Clone)]
pub struct AnswerInput {
    /// The question.
    pub id: InterruptId,
    /// Digest of the payload the person saw; checked when given.
    pub digest: Option<String>,
    /// The answer.
    pub value: Value,
    /// Who.
    pub by: Principal,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Principal {
    /// Name of the person or service.
    pub user: String,
    /// Groups it is in now.
    pub groups: Vec<String>,
}

/// What a node returned.
#[derive(Debug, Clone, Default)]
pub struct NodeOutput {
    /// Writes to channels, in order.
    pub writes: Vec<(Name, Value)>,
    /// The node's result, mapped to channels by its `output`.
    pub result: Option<Value>,
    /// Where to go instead of (or besides) the declared edges.
    pub goto: Option<Goto>,
}

/// Routing decided by code.
#[derive(Debug, Clone)]
pub struct Goto {
    /// Targets; empty ends this branch.
    pub to: Vec<Hop>,
    /// Besides the declared edges instead of in their place.
    pub also: bool,
    /// For the parent graph: the subgraph ends, and these writes and targets are the parent's.
    pub parent: bool,
}

/// What a node streams.
#[derive(Debug, Clone)]
pub enum Said {
    /// Anything.
    Custom(Value),
    /// A message or a chunk of one, with its metadata.
    Message(Value, Value),
}

/// A call as asked for.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// Sort of effect.
    pub kind: CallKind,
    /// Tool, model or graph.
    pub target: Name,
    /// Arguments.
    pub args: Arc<Value>,
    /// Whether it may be repeated.
    pub effect: EffectClass,
    /// Environment it acts on.
    pub env: Option<Name>,
    /// The agent role on whose behalf.
    pub role: Option<Name>,
    /// The node can find out whether an in-doubt call happened.
    pub can_probe: bool,
    /// What it costs at most.
    pub worst: Cost,
    /// What the tool side knows about the tool.
    pub tool: ToolFacts,
}

/// What the shared records said.
#[derive(Debug, Clone)]
pub struct Cleared {
    /// The hold it was about.
    pub hold: Option<Name>,
    /// What the asking made of the breaker.
    pub turn: Option<Turn>,
    /// The decision.
    pub passed: Passed,
    /// The track record that was asked for.
    pub record: Option<TrackRecord>,
}

/// Whether a call may go on.
#[derive(Debug, Clone)]
pub enum Passed {
    /// It may; everything it takes is reserved.
    Go,
    /// The breaker is open. Nothing is reserved.
    Open { until: Timestamp, failures: u32, last: Option<String> },
    /// One of its walls, by index, has no room. Nothing is reserved.
    Over { wall: usize, spent: u64, reserved: u64 },
    /// The records could not be read or written.
    Failed(TaskError),
}

/// What telling the shared records led to.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Breaker, what became of it, its failures in a row, and the node whose call did it.
    pub breaker: Option<(Name, Turn, u32, Name)>,
    /// The hold that is settled.
    pub settled: Option<Name>,
    /// The task whose outcome is counted, its class, and whether that stopped the class.
    pub heal: Option<(TaskId, Name, bool)>,
}

/// What a probe found.
#[derive(Debug, Clone)]
pub enum Probe {
    /// It happened, with this result.
    Happened(Value),
    /// It did not happen.
    DidNot,
    /// No way to tell.
    Unknown,
}

/// A question as asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// One line.
    pub title: String,
    /// Text below it.
    pub body: String,
    /// What it is about, exactly.
    pub payload: Value,
    /// Accepted values of `choice`.
    pub choices: Vec<String>,
    /// JSON Schema of the answer.
    pub schema: Option<Value>,
    /// Who may answer.
    pub approvers: Vec<String>,
    /// Approvals needed.
    pub quorum: u32,
    /// The requester may not answer.
    pub four_eyes: bool,
    /// How long it stays open.
    pub expires: Option<Duration>,
}

/// Writes and routing of a task, as cached.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cached {
    /// Writes.
    pub changes: Vec<Change>,
    /// Routing.
    pub route: Vec<Hop>,
}

/// Timers of this process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LiveTimer {
    /// A durable timer that is near.
    Durable(TimerKey),
    /// The attempt's time is up.
    Run(TaskId, Token),
    /// The attempt gave no sign of life.
    Idle(TaskId, Token),
    /// Siblings of a failed task had their time.
    Grace(Ns),
}
