//! The process that crashes, one level up: records as the engine writes them, through the store port. After the crash every
//! thread loads, is where its last acknowledged record left it, and the store's own check finds nothing.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use checkpoints::open::{Address, OpenOptions as StoreOptions, open};
use runtime::ports::store::{Store, StoreError};
use runtime_core::channels::{Change, ChangeOp};
use runtime_core::ids::{CallIx, CheckpointId, Epoch, InterruptId, RunId, Seq, TaskId, ThreadId, Timestamp};
use runtime_core::record::{
    Answer, AuditEntry, Commit, Interrupt, InterruptKind, Op, Outcome, Plan, PlannedTask, Record, RunAccepted, RunKind,
    RunOptions, Source, Timer, TimerKey,
};
use serde_json::{Value, json};

use super::child::{TASKS, orders};
use super::{Backend, Dice, Orders};

/// Not a test: the body of the process that the crash tests start. Alone it does nothing.
#[test]
#[ignore = "started by the crash tests with orders in its environment"]
fn child() {
    let Some(orders) = orders() else { return };
    #[cfg(feature = "failpoints")]
    super::failpoints::arm();
    let store = match open_store(&orders) {
        Ok(store) => store,
        Err(e) => {
            eprintln!("does not open: {e}");
            std::process::exit(3);
        }
    };
    let acks = Arc::new(OpenOptions::new().append(true).create(true).open(orders.acks()).unwrap());
    let failed = orders.run_writers(TASKS, |n| write(store.clone(), acks.clone(), n, orders.clone()));
    if let Some(e) = failed {
        panic!("a commit failed: {e}");
    }
}

fn open_store(orders: &Orders) -> Result<Arc<dyn Store>, StoreError> {
    let address = match orders.backend {
        Backend::Sled => Address::Sled(orders.folder.clone()),
        Backend::Fjall => Address::Fjall(orders.folder.clone()),
    };
    open(&address, &StoreOptions { durable: orders.options(), ..StoreOptions::default() })
}

fn thread(n: u64) -> ThreadId {
    ThreadId::new(&format!("incident-{n}")).unwrap()
}

async fn write(store: Arc<dyn Store>, acks: Arc<fs::File>, n: u64, orders: Orders) -> Result<(), StoreError> {
    let thread = thread(n);
    let mut dice = Dice::new(orders.seed * TASKS + n);
    let loaded = store.load(&thread).await?;
    let (first, epoch) = loaded.map_or((1, Epoch(1)), |loaded| (loaded.seq.0 + 1, loaded.epoch.next()));
    for seq in first..first + orders.commits {
        let mut ops = ops(seq, dice.below(3_000) as usize);
        if seq.is_multiple_of(16) {
            let before = store.load(&thread).await?.expect("the thread is there").state;
            ops.insert(0, Op::Snapshot(Box::new(before)));
        }
        let record = Record { at: Timestamp(seq as i64 * 1_000), epoch, run: Some(RunId(1)), ops };
        let claim = seq == first;
        let commit = Commit { thread: thread.clone(), seq: Seq(seq), epoch, claim, record };
        if orders.writes_here() {
            store.commit_here(commit).await?;
        } else {
            store.commit(commit).await?;
        }
        (&*acks).write_all(format!("{n} {seq}\n").as_bytes()).unwrap();
    }
    Ok(())
}

/// What record `seq` says; each names its place in the channel `n`, and opens or closes something that lists show.
fn ops(seq: u64, len: usize) -> Vec<Op> {
    let set = |channel: &str, value: Value| Change { channel: channel.into(), op: ChangeOp::Set(Arc::new(value)) };
    let changes = vec![set("n", json!(seq)), set("payload", json!("x7".repeat(len / 2)))];
    let plan = Plan { tasks: vec![PlannedTask { node: "ask".into(), send: None }], ..Plan::default() };
    let id = CheckpointId(u128::from(seq));
    let mut ops = vec![Op::Checkpoint { ns: "".into(), id, source: Source::Loop, changes, plan }];
    let (question, timer) = (InterruptId(u128::from(seq / 4) + 1), TimerKey::Wait(TaskId(u128::from(seq / 4))));
    match seq % 4 {
        1 if seq == 1 => {
            let digest: graphs::GraphDigest = serde_json::from_value(json!("5d".repeat(32))).unwrap();
            let begin = [
                Op::Created { graph: "etl".into(), digest: digest.clone(), metadata: json!({"team": "data"}) },
                accepted(),
                Op::FrameOpened { ns: "".into(), graph: "etl".into(), digest, keep: false },
            ];
            ops.splice(0..0, begin);
        }
        0 => ops.push(Op::TimerSet(Timer { key: timer, at: Timestamp(seq as i64) })),
        1 => ops.push(Op::TimerCleared { key: timer }),
        2 => {
            ops.push(asked(question, seq));
            ops.push(Op::RunEnded { run: RunId(1), outcome: Outcome::Interrupted });
        }
        _ => {
            let answer =
                Answer { value: Arc::new(json!({"choice": "yes"})), by: "user:a".to_owned(), at: Timestamp(1) };
            ops.extend([Op::Answered { id: question, answer, decides: true }, accepted(), audited(seq)]);
        }
    }
    ops
}

fn accepted() -> Op {
    let (kind, options) = (RunKind::Start, RunOptions::default());
    Op::RunAccepted(Box::new(RunAccepted { id: RunId(1), kind, options, input: Arc::new(json!({"n": 1})) }))
}

fn audited(seq: u64) -> Op {
    let (actor, action) = ("user:a".to_owned(), "interrupt.answered".to_owned());
    Op::Audited(Box::new(AuditEntry { actor, action, node: "ask".into(), task: None, detail: json!({"seq": seq}) }))
}

fn asked(id: InterruptId, seq: u64) -> Op {
    Op::InterruptOpened(Box::new(Interrupt {
        id,
        kind: InterruptKind::Approval,
        ns: "".into(),
        task: TaskId(7),
        node: "ask".into(),
        ix: CallIx(0),
        title: "Apply the migration?".to_owned(),
        body: String::new(),
        payload: Arc::new(json!({"sql": "alter table flights add column gate text"})),
        digest: "11".repeat(32),
        choices: vec!["yes".to_owned(), "no".to_owned()],
        schema: None,
        approvers: vec!["group:data".to_owned()],
        quorum: 1,
        four_eyes: false,
        opened_at: Timestamp(seq as i64),
        expires_at: None,
        votes: Vec::new(),
    }))
}

/// Opens the store of `orders` and checks it; gives the number of acknowledged records.
pub(crate) fn check(orders: &Orders) -> Result<u64, String> {
    let text = fs::read_to_string(orders.acks()).unwrap_or_default();
    let mut acked = BTreeMap::<u64, u64>::new();
    for line in text.lines() {
        let (n, seq) = line.split_once(' ').unwrap();
        acked.insert(n.parse().unwrap(), seq.parse().unwrap());
    }
    let store = open_store(orders).map_err(|e| format!("does not open: {e}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for n in 0..TASKS {
            let loaded = store.load(&thread(n)).await.map_err(|e| e.to_string())?;
            let head = loaded.as_ref().map_or(0, |loaded| loaded.seq.0);
            if head < acked.get(&n).copied().unwrap_or(0) {
                return Err(format!("thread {n}: head {head}, acknowledged {:?}", acked.get(&n)));
            }
            let said = loaded.and_then(|loaded| loaded.state.root()?.value("n").map(|v| (**v).clone()));
            if head > 0 && said != Some(json!(head)) {
                return Err(format!("thread {n}: its state is of record {said:?}, its head is {head}"));
            }
        }
        let findings = store.check().await.map_err(|e| e.to_string())?;
        store.close().await.map_err(|e| e.to_string())?;
        if findings.is_empty() { Ok(text.lines().count() as u64) } else { Err(format!("{findings:?}")) }
    })
}
