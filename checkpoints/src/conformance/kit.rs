//! What the cases are made of: a bench with a store, writers with their place in a thread, short names for ops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use graphs::{EffectClass, GraphDigest};
use runtime::ports::store::{Loaded, Store, StoreError};
use runtime_core::channels::{Change, ChangeOp};
use runtime_core::ids::{CallIx, CheckpointId, Epoch, InterruptId, RunId, Seq, TaskId, ThreadId, Timestamp};
use runtime_core::record::{
    Answer, AuditEntry, CallHead, CallKind, Commit, Hop, Interrupt, InterruptKind, Op, Outcome, Plan, PlannedTask,
    Record, RunAccepted, RunKind, RunOptions, Source, Timer, TimerKey,
};
use runtime_core::state::{ThreadState, task_id};
use serde_json::{Value, json};

use super::Place;

/// Every second commit is made for a caller that has nothing else to do: the two ways must meet.
static N_SENT: AtomicUsize = AtomicUsize::new(0);

/// A place and the store opened there.
pub(super) struct Bench {
    pub(super) place: Arc<dyn Place>,
    pub(super) store: Arc<dyn Store>,
}

impl Bench {
    pub(super) fn new(place: Arc<dyn Place>) -> Result<Self, StoreError> {
        let store = place.open()?;
        Ok(Self { place, store })
    }

    pub(super) fn writer(&self, id: &str) -> Writer {
        Writer::new(&self.store, id)
    }

    /// A thread with a graph, a run and a checkpoint of the root frame.
    pub(super) async fn begun(&self, id: &str) -> Writer {
        let mut writer = self.writer(id);
        writer.begin().await;
        writer
    }

    pub(super) async fn state(&self, id: &str) -> ThreadState {
        self.loaded(id).await.state
    }

    pub(super) async fn loaded(&self, id: &str) -> Loaded {
        self.store.load(&thread(id)).await.expect("the thread loads").expect("the thread is there")
    }

    pub(super) async fn is_absent(&self, id: &str) -> bool {
        self.store.load(&thread(id)).await.expect("a load of nothing is no error").is_none()
    }

    pub(super) async fn records(&self, id: &str) -> Vec<(Seq, Record)> {
        self.store.records(&thread(id), Seq(1), 1000).await.expect("the records are readable")
    }

    pub(super) async fn findings(&self) -> Vec<String> {
        let findings = self.store.check().await.expect("the check runs");
        findings.into_iter().map(|f| format!("{} {:?} {:?}: {}", f.kind, f.thread, f.seq, f.what)).collect()
    }
}

/// A writer with its place in one thread.
pub(super) struct Writer {
    store: Arc<dyn Store>,
    pub(super) thread: ThreadId,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) run: Option<RunId>,
    pub(super) minted: u128,
    clock: i64,
}

impl Writer {
    pub(super) fn new(store: &Arc<dyn Store>, id: &str) -> Self {
        let (epoch, seq) = (Epoch(0), Seq(0));
        Self { store: store.clone(), thread: thread(id), epoch, seq, run: None, minted: 0, clock: 1_000_000 }
    }

    /// Appends; the first commit claims.
    pub(super) async fn write(&mut self, ops: Vec<Op>) {
        self.try_write(ops).await.expect("the commit is accepted");
    }

    pub(super) async fn try_write(&mut self, ops: Vec<Op>) -> Result<(), StoreError> {
        let claim = self.epoch == Epoch(0);
        let commit = self.commit(ops, claim);
        self.send(commit).await
    }

    pub(super) async fn claim(&mut self, ops: Vec<Op>) -> Result<(), StoreError> {
        let commit = self.commit(ops, true);
        self.send(commit).await
    }

    pub(super) fn commit(&mut self, ops: Vec<Op>, claim: bool) -> Commit {
        self.clock += 1000;
        let epoch = if claim { self.epoch.next() } else { self.epoch };
        let record = Record { at: Timestamp(self.clock), epoch, run: self.run, ops };
        Commit { thread: self.thread.clone(), seq: self.seq.next(), epoch, claim, record }
    }

    pub(super) async fn send(&mut self, commit: Commit) -> Result<(), StoreError> {
        let (seq, epoch) = (commit.seq, commit.epoch);
        if N_SENT.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            self.store.commit(commit).await?;
        } else {
            self.store.commit_here(commit).await?;
        }
        (self.seq, self.epoch) = (seq, epoch);
        Ok(())
    }

    pub(super) async fn begin(&mut self) {
        let mut ops = vec![created(json!({"team": "data"}))];
        ops.extend(self.start_run(1));
        ops.push(opened(""));
        ops.push(self.checkpoint(vec![set("topic", json!("flights"))], &["a", "b"]));
        self.write(ops).await;
    }

    pub(super) fn start_run(&mut self, id: u128) -> Vec<Op> {
        self.run = Some(RunId(id));
        let (kind, options) = (RunKind::Start, RunOptions::default());
        vec![Op::RunAccepted(Box::new(RunAccepted { id: RunId(id), kind, options, input: Arc::new(json!({"n": 1})) }))]
    }

    pub(super) fn checkpoint(&mut self, changes: Vec<Change>, nodes: &[&str]) -> Op {
        self.checkpoint_in("", changes, nodes)
    }

    pub(super) fn checkpoint_in(&mut self, ns: &str, changes: Vec<Change>, nodes: &[&str]) -> Op {
        self.minted += 1;
        let tasks = nodes.iter().map(|node| PlannedTask { node: (*node).into(), send: None }).collect();
        let plan = Plan { tasks, ..Plan::default() };
        Op::Checkpoint { ns: ns.into(), id: CheckpointId(self.minted), source: Source::Loop, changes, plan }
    }

    /// The id of the task at `index` of the newest checkpoint.
    pub(super) fn task(&self, ns: &str, node: &str, index: usize) -> TaskId {
        task_id(CheckpointId(self.minted), ns, node, index)
    }

    pub(super) async fn end_run(&mut self, outcome: Outcome) {
        let run = self.run.expect("a run was started");
        self.write(vec![Op::RunEnded { run, outcome }]).await;
    }
}

pub(super) fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).expect("a valid id")
}

pub(super) fn digest(text: &str) -> GraphDigest {
    serde_json::from_value(json!(text)).expect("a digest is text")
}

pub(super) fn created(metadata: Value) -> Op {
    created_for("etl", metadata)
}

pub(super) fn created_for(graph: &str, metadata: Value) -> Op {
    Op::Created { graph: graph.into(), digest: digest("d1"), metadata }
}

pub(super) fn opened(ns: &str) -> Op {
    Op::FrameOpened { ns: ns.into(), graph: "etl".into(), digest: digest("d1"), keep: false }
}

pub(super) fn change(channel: &str, op: ChangeOp) -> Change {
    Change { channel: channel.into(), op }
}

pub(super) fn set(channel: &str, value: Value) -> Change {
    change(channel, ChangeOp::Set(Arc::new(value)))
}

pub(super) fn append(channel: &str, value: Value) -> Change {
    change(channel, ChangeOp::Append(vec![value]))
}

pub(super) fn finished(task: TaskId, changes: Vec<Change>) -> Op {
    Op::TaskFinished { task, changes, route: vec![Hop::Node("next".into())], cached: false }
}

pub(super) fn value_of(state: &ThreadState, ns: &str, channel: &str) -> Value {
    let frame = state.frames.get(ns);
    frame.and_then(|frame| frame.value(channel)).map_or(Value::Null, |value| (**value).clone())
}

pub(super) fn call_head(target: &str) -> CallHead {
    CallHead { kind: CallKind::Tool, target: target.into(), digest: "00".repeat(32), effect: EffectClass::AtMostOnce }
}

pub(super) fn question(id: u128, at: i64, task: TaskId) -> Interrupt {
    Interrupt {
        id: InterruptId(id),
        kind: InterruptKind::Approval,
        ns: "".into(),
        task,
        node: "a".into(),
        ix: CallIx(0),
        title: "Apply the migration?".to_owned(),
        body: String::new(),
        payload: Arc::new(json!({"sql": "alter table flights add column gate text"})),
        digest: "11".repeat(32),
        choices: vec!["approve".to_owned(), "deny".to_owned()],
        schema: None,
        approvers: vec!["group:data".to_owned()],
        quorum: 2,
        four_eyes: true,
        opened_at: Timestamp(at),
        expires_at: None,
        votes: Vec::new(),
    }
}

pub(super) fn ask(id: u128, at: i64) -> Op {
    Op::InterruptOpened(Box::new(question(id, at, TaskId(7))))
}

pub(super) fn answer(by: &str) -> Answer {
    Answer { value: Arc::new(json!({"choice": "approve"})), by: by.to_owned(), at: Timestamp(9) }
}

pub(super) fn timer(task: u128, at: i64) -> Op {
    Op::TimerSet(Timer { key: TimerKey::Wait(TaskId(task)), at: Timestamp(at) })
}

pub(super) fn audited(action: &str) -> Op {
    let detail = json!({"rule": "r1", "arguments": {"b": 1, "a": [1, null]}});
    let actor = "policy".to_owned();
    Op::Audited(Box::new(AuditEntry { actor, action: action.to_owned(), node: "a".into(), task: None, detail }))
}

pub(super) async fn snapshot(bench: &Bench, id: &str) -> Op {
    Op::Snapshot(Box::new(bench.state(id).await))
}

pub(super) fn is_fenced(res: &Result<(), StoreError>) -> bool {
    matches!(res, Err(StoreError::Fenced { .. }))
}
