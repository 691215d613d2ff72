//! The state of a thread as a fold over its records. The live run and recovery use this same fold.

use std::collections::BTreeMap;
use std::sync::Arc;

use graphs::GraphDigest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::channels::{self, Change, Channels};
use crate::error::TaskError;
use crate::ids::{CallIx, CheckpointId, InterruptId, Name, Ns, RunId, TaskId, Timestamp};
use crate::interlocks::track_record::Heal;
use crate::record::{
    Answer, CallHead, CallOutcome, Hop, Interrupt, Outcome, Plan, QueuedRun, RunKind, RunOptions, Source, TimerKey,
};
use crate::spending::Spending;

/// Step number of a frame before its first checkpoint; the input checkpoint is step -1.
pub const STEP_BEFORE_INPUT: i64 = -2;

/// Decided questions remembered, so that a late answer is told who was first.
pub const DECIDED_MAX: usize = 64;

/// Everything durable about one thread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ThreadState {
    /// Name of the graph.
    pub graph: Option<Name>,
    /// Version the thread is pinned to.
    pub digest: Option<GraphDigest>,
    /// Labels.
    pub metadata: Value,
    /// When the first record was written.
    pub created_at: Timestamp,
    /// When the last record was written.
    pub updated_at: Timestamp,
    /// The current or last run.
    pub run: Option<RunState>,
    /// Runs that wait.
    pub queue: Vec<QueuedRun>,
    /// The root frame (empty namespace) and the subgraphs that are alive or kept.
    pub frames: BTreeMap<Ns, Frame>,
    /// Open questions.
    pub interrupts: BTreeMap<InterruptId, Interrupt>,
    /// What is due.
    pub timers: BTreeMap<TimerKey, Timestamp>,
    /// Signals nobody has taken yet.
    pub signals: Vec<(Name, Value)>,
    /// The last questions that were decided: id, by whom, when.
    pub decided: Vec<(InterruptId, String, Timestamp)>,
    /// Supersteps over all runs.
    pub supersteps: u64,
    /// Checkpoints made, for ids in order.
    pub minted: u64,
    /// Calls each node made since the thread's last input, over all pauses and resumes.
    pub calls: BTreeMap<Name, u64>,
    /// What calls hold on the ledger, once one does.
    #[serde(default)]
    pub spending: Option<Box<Spending>>,
    /// Subgraphs whose next superstep does not begin in this run, and why.
    #[serde(default)]
    pub held: BTreeMap<Ns, Outcome>,
    /// Graphs that the thread's graph calls, with the versions they are pinned to.
    #[serde(default)]
    pub links: BTreeMap<Name, GraphDigest>,
    /// Outcomes that the records of their classes do not have yet.
    #[serde(default)]
    pub heals: BTreeMap<TaskId, Heal>,
}

/// A run as far as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The run.
    pub id: RunId,
    /// What was asked.
    pub kind: RunKind,
    /// How.
    pub options: RunOptions,
    /// The thread's input, kept for `input` in expressions.
    pub input: Arc<Value>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Supersteps it took.
    pub supersteps: u32,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
}

/// One graph instance inside a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Name of its graph.
    pub graph: Name,
    /// Version of its graph.
    pub digest: GraphDigest,
    /// Keeps its channels between visits.
    pub keep: bool,
    /// Asleep between visits.
    pub asleep: bool,
    /// The checkpoint its tasks started from.
    pub checkpoint: CheckpointId,
    /// The checkpoint before it.
    pub parent: Option<CheckpointId>,
    /// Why the checkpoint exists.
    pub source: Source,
    /// Number of the superstep; -1 for the input.
    pub step: i64,
    /// When the checkpoint was made.
    pub at: Timestamp,
    /// Channels that have a value.
    pub channels: Arc<Channels>,
    /// Joins and deferred nodes that wait, and the tasks' plan.
    pub plan: Plan,
    /// The tasks, one for each of `plan.tasks`.
    pub tasks: Vec<TaskState>,
}

/// One task as far as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// The task.
    pub id: TaskId,
    /// Where it stands.
    pub status: TaskStatus,
    /// Attempts that failed.
    pub attempts: u32,
    /// The last failure.
    pub error: Option<TaskError>,
    /// How often the journal was cut after a failure; part of later calls' keys.
    pub generation: u32,
    /// Its calls in the order in which they were asked for.
    pub calls: BTreeMap<CallIx, CallEntry>,
}

/// Where a task stands, durably. Running and waiting are not stored: they follow from the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TaskStatus {
    /// To run, or to run again.
    Pending,
    /// Its writes and routing wait for the end of the superstep.
    Finished {
        /// Writes.
        changes: Vec<Change>,
        /// Routing.
        route: Vec<Hop>,
        /// Taken from the node cache.
        cached: bool,
    },
    /// Failed for good.
    Failed,
}

/// One call in a task's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallEntry {
    /// What it is.
    pub head: CallHead,
    /// Generation of the journal it belongs to.
    pub generation: u32,
    /// Its intent is recorded.
    pub begun: bool,
    /// The question it waits for or waited for.
    pub interrupt: Option<InterruptId>,
    /// The deciding answer.
    pub answer: Option<Answer>,
    /// Digest of the guard's question that it answers.
    #[serde(default)]
    pub approved: Option<String>,
    /// The question expired undecided.
    pub expired: bool,
    /// What people found out about the call in doubt; used up when the call is begun again.
    pub doubt: Option<Answer>,
    /// Questions asked about it.
    pub asked: u32,
    /// How it ended.
    pub outcome: Option<CallOutcome>,
    /// Attempt of the task in which it ended.
    pub attempt: u32,
    /// What people said about an interlock that stopped it.
    #[serde(default)]
    pub leave: Option<Box<Leave>>,
}

/// What people said about the interlocks that stopped a call; used up when the call ends.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Leave {
    /// The last answer about a budget.
    pub budget: Option<Answer>,
    /// Walls that this call may pass.
    pub lifted: Vec<Name>,
    /// The answer about a breaker.
    pub breaker: Option<Answer>,
}

impl CallEntry {
    /// An entry that only says what the call is.
    pub fn new(head: CallHead, generation: u32) -> Self {
        Self {
            head,
            generation,
            begun: false,
            interrupt: None,
            answer: None,
            approved: None,
            expired: false,
            doubt: None,
            asked: 0,
            outcome: None,
            attempt: 0,
            leave: None,
        }
    }
}

impl TaskState {
    fn new(id: TaskId) -> Self {
        Self { id, status: TaskStatus::Pending, attempts: 0, error: None, generation: 0, calls: BTreeMap::new() }
    }

    /// The journal entry of a call.
    pub fn call(&self, ix: CallIx) -> Option<&CallEntry> {
        self.calls.get(&ix)
    }

    pub(crate) fn entry(&mut self, ix: CallIx, head: Option<&CallHead>) -> Option<&mut CallEntry> {
        if let Some(head) = head {
            let generation = self.generation;
            self.calls.entry(ix).or_insert_with(|| CallEntry::new(head.clone(), generation));
        }
        self.calls.get_mut(&ix)
    }
}

/// Bits of a task id that hold its place in the plan, so that a task is found without a search.
const TASK_INDEX_BITS: u32 = 24;

/// Most tasks of one superstep.
pub const FAN_OUT_MAX: usize = 100_000;

/// The id of the task at `index` of a plan made at `checkpoint`.
pub fn task_id(checkpoint: CheckpointId, ns: &str, node: &str, index: usize) -> TaskId {
    let mut bytes = Vec::with_capacity(16 + ns.len() + node.len() + 10);
    bytes.extend_from_slice(&checkpoint.0.to_be_bytes());
    bytes.extend_from_slice(&(index as u64).to_be_bytes());
    bytes.extend_from_slice(ns.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(node.as_bytes());
    let mask = (1 << TASK_INDEX_BITS) - 1;
    TaskId((xxhash_rust::xxh3::xxh3_128(&bytes) & !mask) | (index as u128 & mask))
}

impl ThreadState {
    /// The frame and the task of an id.
    pub fn find_task(&self, id: TaskId) -> Option<(&Ns, &Frame, usize)> {
        let index = place(id);
        let (ns, frame) = self.frames.iter().find(|(_, frame)| frame.tasks.get(index).is_some_and(|t| t.id == id))?;
        Some((ns, frame, index))
    }

    /// The task of an id.
    pub fn task(&self, id: TaskId) -> Option<&TaskState> {
        self.find_task(id).and_then(|(_, frame, index)| frame.tasks.get(index))
    }

    pub(crate) fn task_mut(&mut self, id: TaskId) -> Option<&mut TaskState> {
        let index = place(id);
        self.frames.values_mut().find_map(|frame| frame.tasks.get_mut(index).filter(|task| task.id == id))
    }

    /// The root frame, once there is input.
    pub fn root(&self) -> Option<&Frame> {
        self.frames.get("")
    }

    /// The run that has not ended.
    pub fn active_run(&self) -> Option<&RunState> {
        self.run.as_ref().filter(|run| run.outcome.is_none())
    }
}

fn place(id: TaskId) -> usize {
    usize::try_from(id.0 & ((1 << TASK_INDEX_BITS) - 1)).unwrap_or(usize::MAX)
}

/// Whether `inner` is a namespace inside `outer`.
pub fn is_below(inner: &str, outer: &str) -> bool {
    match inner.strip_prefix(outer) {
        Some(rest) if outer.is_empty() => !rest.is_empty(),
        Some(rest) => rest.starts_with('|'),
        None => false,
    }
}

impl Frame {
    pub(crate) fn checkpoint(
        &mut self,
        ns: &str,
        id: CheckpointId,
        source: Source,
        next: (&[Change], &Plan),
        at: Timestamp,
    ) {
        let (changes, plan) = next;
        let tasks = std::mem::take(&mut self.tasks);
        // New input discards the superstep that was under way, finished tasks included.
        let written = tasks.iter().flat_map(|task| match &task.status {
            TaskStatus::Finished { changes, .. } if source != Source::Input => changes.as_slice(),
            _ => &[],
        });
        let all: Vec<&Change> = written.chain(changes).collect();
        self.step += 1;
        let version = self.version();
        channels::apply(&mut self.channels, &all, version);
        self.parent = (self.checkpoint != CheckpointId(0)).then_some(self.checkpoint);
        self.checkpoint = id;
        self.source = source;
        self.at = at;
        self.plan = plan.clone();
        self.tasks = planned(id, ns, plan);
    }

    /// The frame as it was when its checkpoint was made: no task has begun.
    #[must_use]
    pub fn afresh(&self, ns: &str) -> Self {
        Self { tasks: planned(self.checkpoint, ns, &self.plan), ..self.clone() }
    }

    /// Whether this is the checkpoint of an input, before the graph's entry.
    pub fn is_at_entry(&self) -> bool {
        self.plan.tasks.first().is_some_and(|task| &*task.node == crate::plan::START)
    }

    pub(crate) fn version(&self) -> u64 {
        u64::try_from(self.step.saturating_sub(STEP_BEFORE_INPUT)).unwrap_or(0)
    }

    /// A channel's value.
    pub fn value(&self, channel: &str) -> Option<&Arc<Value>> {
        self.channels.get(channel).map(|slot| &slot.value)
    }
}

fn planned(checkpoint: CheckpointId, ns: &str, plan: &Plan) -> Vec<TaskState> {
    let ids = plan.tasks.iter().enumerate().map(|(index, task)| task_id(checkpoint, ns, &task.node, index));
    ids.map(TaskState::new).collect()
}
