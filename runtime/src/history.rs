//! Time travel: what a thread was at each checkpoint, by folding its log.

use runtime_core::event::Rewind;
use runtime_core::ids::{CheckpointId, Ns, RunId, Seq, ThreadId, Timestamp};
use runtime_core::record::{Op, Record};
use runtime_core::state::{Frame, ThreadState};

use crate::ports::store::{Store, StoreError};

/// Records read at once.
const RECORDS_PAGE: usize = 512;

/// One checkpoint of a thread.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Namespace of its frame.
    pub ns: Ns,
    /// Its id.
    pub id: CheckpointId,
    /// The one before it.
    pub parent: Option<CheckpointId>,
    /// The run that made it.
    pub run: Option<RunId>,
    /// When.
    pub at: Timestamp,
    /// The frame as it was right after, its tasks fresh.
    pub frame: Frame,
    /// The frame's tasks as far as they came before the next checkpoint.
    pub tasks: Vec<runtime_core::state::TaskState>,
    /// Questions asked by those tasks, answered ones too.
    pub interrupts: Vec<runtime_core::record::Interrupt>,
}

/// Calls `visit` with the state after each op, until it returns `false`.
async fn fold(
    store: &dyn Store,
    thread: &ThreadId,
    mut visit: impl FnMut(&ThreadState, &Record, &Op) -> bool + Send,
) -> Result<(), StoreError> {
    let mut state = ThreadState::default();
    let mut from = Seq(1);
    loop {
        let records = store.records(thread, from, RECORDS_PAGE).await?;
        let Some((last, _)) = records.last() else { return Ok(()) };
        from = last.next();
        let n_records = records.len();
        for (_, record) in &records {
            for op in &record.ops {
                state.apply(op, record.at);
                if !visit(&state, record, op) {
                    return Ok(());
                }
            }
        }
        if n_records < RECORDS_PAGE {
            return Ok(());
        }
    }
}

/// All records of a thread, oldest first. What was pruned is not among them.
pub async fn records(store: &dyn Store, thread: &ThreadId) -> Result<Vec<(Seq, Record)>, StoreError> {
    let mut all: Vec<(Seq, Record)> = Vec::new();
    loop {
        let from = all.last().map_or(Seq(1), |(last, _)| last.next());
        let page = store.records(thread, from, RECORDS_PAGE).await?;
        let is_last = page.len() < RECORDS_PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// All checkpoints of a thread, oldest first.
pub async fn checkpoints(store: &dyn Store, thread: &ThreadId) -> Result<Vec<Checkpoint>, StoreError> {
    let mut list: Vec<Checkpoint> = Vec::new();
    fold(store, thread, |state, record, op| {
        match op {
            Op::Checkpoint { ns, .. } => list.extend(made(state, record, ns)),
            Op::Snapshot(snapshot) if list.is_empty() => {
                list.extend(snapshot.frames.keys().filter_map(|ns| made(state, record, ns)));
            }
            Op::InterruptOpened(interrupt) => {
                if let Some(last) = list.iter_mut().rev().find(|known| known.ns == interrupt.ns) {
                    last.interrupts.push((**interrupt).clone());
                }
                refresh(&mut list, state);
            }
            _ => refresh(&mut list, state),
        }
        true
    })
    .await?;
    Ok(list)
}

fn made(state: &ThreadState, record: &Record, ns: &Ns) -> Option<Checkpoint> {
    let frame = state.frames.get(ns)?;
    Some(Checkpoint {
        ns: ns.clone(),
        id: frame.checkpoint,
        parent: frame.parent,
        run: record.run,
        at: frame.at,
        frame: frame.clone(),
        tasks: frame.tasks.clone(),
        interrupts: Vec::new(),
    })
}

/// Tasks of the newest checkpoint of each frame go on until the next one.
fn refresh(list: &mut [Checkpoint], state: &ThreadState) {
    for (ns, frame) in &state.frames {
        let newest = list.iter_mut().rev().find(|known| known.ns == *ns);
        if let Some(newest) = newest.filter(|known| known.id == frame.checkpoint) {
            newest.tasks.clone_from(&frame.tasks);
        }
    }
}

/// A thread's root as it was at a checkpoint, to go on from; at the checkpoint of an input, as it entered the graph.
pub async fn rewind_to(store: &dyn Store, thread: &ThreadId, id: CheckpointId) -> Result<Option<Rewind>, StoreError> {
    let mut found: Option<Rewind> = None;
    let mut entering = false;
    fold(store, thread, |state, _, op| {
        let at_root = matches!(op, Op::Checkpoint { ns, .. } if ns.is_empty()) || matches!(op, Op::Snapshot(_));
        let Some(root) = state.root().filter(|_| at_root) else { return true };
        if root.checkpoint != id && !entering {
            return true;
        }
        entering = root.is_at_entry();
        let kept = state.frames.iter().filter(|(ns, frame)| !ns.is_empty() && frame.asleep);
        let kept = kept.map(|(ns, frame)| (ns.clone(), frame.clone())).collect();
        found = Some(Rewind { to: root.checkpoint, frame: root.afresh(""), kept });
        entering
    })
    .await?;
    Ok(found)
}
