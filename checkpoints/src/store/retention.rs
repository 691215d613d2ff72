//! Forgetting and copying: a thread, the records of runs, history.
//!
//! Large threads are folded outside the one writer; the transaction that follows compares the head first and is tried again
//! if a commit came between.

use std::sync::Arc;

use runtime::ports::store::StoreError;
use runtime_core::ids::{RunId, Seq, ThreadId};
use runtime_core::record::{Op, Record};
use runtime_core::state::ThreadState;

use super::head::Head;
use super::layout::{self, Kind};
use super::projection::{Projection, all_of};
use super::{codec, commit, read};
use crate::envelope::Sealer;
use crate::kv::{Kv, Reader, Txn};

/// Attempts against a thread that is being written.
const ATTEMPTS_MAX: usize = 16;

/// What a thread's log becomes.
struct Rewrite {
    head: Head,
    /// New bodies by place; places before `head.first` are removed, others stay.
    records: Vec<(Seq, Record)>,
    /// The state at the head, if it is another one than before.
    state: Option<ThreadState>,
}

pub(super) fn delete(txn: &mut Txn<'_>, sealer: &Sealer, thread: &ThreadId) -> Result<(), StoreError> {
    // A damaged projection must not keep a thread from being deleted.
    let before = Projection::read(txn, sealer, thread).unwrap_or_else(|_| Projection::empty());
    Projection::empty().write(txn, sealer, thread, &before)?;
    for kind in layout::THREAD_KINDS {
        txn.delete_range(&layout::of_thread(kind, thread))?;
    }
    Ok(())
}

/// Only the head stays, as one snapshot.
pub(super) async fn keep_latest<K: Kv>(kv: &K, sealer: &Arc<Sealer>, thread: &ThreadId) -> Result<(), StoreError> {
    rewrite(kv, sealer, thread, |head, records| {
        let Some(last) = records.last() else { return Ok(None) };
        if records.len() == 1 && matches!(last.ops[..], [Op::Snapshot(_)]) {
            return Ok(None);
        }
        let state = ThreadState::replay(records);
        let record = Record { ops: vec![Op::Snapshot(Box::new(state))], ..last.clone() };
        let head = Head { first: head.seq, ..*head };
        Ok(Some(Rewrite { head, records: vec![(head.seq, record)], state: None }))
    })
    .await
}

/// Removes the records of `runs`. Where records that stay follow removed ones, a snapshot stands in for them; if the newest
/// records go, the thread is again as it was before them, and whoever owned it is fenced off.
pub(super) async fn delete_runs<K: Kv>(
    kv: &K,
    sealer: &Arc<Sealer>,
    thread: &ThreadId,
    runs: &[RunId],
) -> Result<(), StoreError> {
    rewrite(kv, sealer, thread, |head, records| Ok(without_runs(head, records, runs))).await
}

fn without_runs(head: &Head, records: &[Record], runs: &[RunId]) -> Option<Rewrite> {
    let goes = |record: &Record| record.run.is_some_and(|run| runs.contains(&run));
    if !records.iter().any(goes) {
        return None;
    }
    let last_kept = records.iter().rposition(|record| !goes(record));
    let mut state = ThreadState::default();
    // The state that stays when the newest records go.
    let mut kept_state = ThreadState::default();
    let mut changed = Vec::new();
    let mut first = head.first;
    for (ix, record) in records.iter().enumerate() {
        let seq = Seq(head.first.0 + ix as u64);
        state.apply_record(record);
        if Some(ix) == last_kept {
            kept_state = state.clone();
        }
        if !goes(record) {
            continue;
        }
        let next_stays = records.get(ix + 1).is_some_and(|next| !goes(next));
        let is_leading = records[..ix].iter().all(goes);
        let ops = if next_stays { vec![Op::Snapshot(Box::new(state.clone()))] } else { Vec::new() };
        changed.push((seq, Record { run: None, ops, ..record.clone() }));
        if is_leading && next_stays {
            first = seq;
        }
    }
    let tail_goes = records.last().is_some_and(goes);
    if tail_goes {
        if last_kept.is_none() {
            kept_state = begun(&state);
            first = head.seq;
        }
        if let Some((_, last)) = changed.last_mut() {
            last.ops = vec![Op::Snapshot(Box::new(kept_state.clone()))];
        }
    }
    changed.retain(|(seq, _)| *seq >= first);
    let epoch = if tail_goes { head.epoch.next() } else { head.epoch };
    Some(Rewrite { head: Head { first, epoch, ..*head }, records: changed, state: tail_goes.then_some(kept_state) })
}

/// A thread that exists and has done nothing.
fn begun(state: &ThreadState) -> ThreadState {
    ThreadState {
        graph: state.graph.clone(),
        digest: state.digest.clone(),
        metadata: state.metadata.clone(),
        created_at: state.created_at,
        updated_at: state.updated_at,
        ..ThreadState::default()
    }
}

pub(super) async fn copy<K: Kv>(
    kv: &K,
    sealer: &Arc<Sealer>,
    from: &ThreadId,
    to: &ThreadId,
) -> Result<(), StoreError> {
    let (sealer, from, to) = (sealer.clone(), from.clone(), to.clone());
    kv.transact(move |txn| {
        let head = Head::read(txn, &sealer, &from)?.ok_or_else(|| StoreError::Missing(format!("thread {from}")))?;
        if Head::read(txn, &sealer, &to)?.is_some() {
            return Err(StoreError::Io(format!("thread {to} exists already; delete it or choose another id")));
        }
        for (key, stored) in all_of(txn, layout::of_thread(Kind::Record, &from))? {
            let body = sealer.open(&key, &stored).map_err(|e| codec::corrupt(&key, e.to_string()))?;
            let seq = layout::seq_of(&key).unwrap_or_default();
            let copy = layout::record_key(&to, seq);
            let stored = sealer.seal(&copy, &body);
            txn.put(copy, stored);
        }
        commit::write_head(txn, &sealer, &to, &head)?;
        let mut projection = Projection::read(txn, &sealer, &from)?;
        if let Some(row) = &mut projection.row {
            row.id = to.clone();
        }
        projection.write(txn, &sealer, &to, &Projection::empty())
    })
    .await
}

/// Reads the whole log, lets `plan` decide, and writes the outcome if the head is still the same.
async fn rewrite<K: Kv>(
    kv: &K,
    sealer: &Arc<Sealer>,
    thread: &ThreadId,
    plan: impl Fn(&Head, &[Record]) -> Result<Option<Rewrite>, StoreError>,
) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(head) = Head::read(kv, sealer, thread)? else { return Ok(()) };
        let mut records = Vec::new();
        let read = read::fold_to(kv, sealer, thread, (head.first, head.seq), |r| records.push(r.clone()));
        if let Err(e) = read {
            // Another rewrite may have moved the log's beginning meanwhile.
            if Head::read(kv, sealer, thread)? == Some(head) {
                return Err(e);
            } else {
                continue;
            };
        }
        let Some(rewrite) = plan(&head, &records)? else { return Ok(()) };
        let (sealer, thread) = (sealer.clone(), thread.clone());
        let is_done = kv.transact(move |txn| {
            if Head::read(txn, &sealer, &thread)? != Some(head) {
                return Ok::<_, StoreError>(false);
            }
            rewrite.write(txn, &sealer, &thread)?;
            Ok(true)
        });
        if is_done.await? {
            return Ok(());
        }
    }
    let e = format!("thread {thread} is written to all the time; stop its run and try again");
    Err(StoreError::Io(e))
}

impl Rewrite {
    fn write(self, txn: &mut Txn<'_>, sealer: &Sealer, thread: &ThreadId) -> Result<(), StoreError> {
        txn.delete_range(&layout::records_before(thread, self.head.first))?;
        for (seq, record) in &self.records {
            let key = layout::record_key(thread, *seq);
            let stored = codec::seal(sealer, &key, record)?;
            txn.put(key, stored);
        }
        let head = measured(txn, sealer, thread, self.head)?;
        commit::write_head(txn, sealer, thread, &head)?;
        if let Some(state) = &self.state {
            let before = Projection::read(txn, sealer, thread)?;
            Projection::of(thread, state, before.row.as_ref()).write(txn, sealer, thread, &before)?;
        }
        Ok(())
    }
}

/// The head with its snapshot's place and sizes found again.
fn measured(view: &dyn Reader, sealer: &Sealer, thread: &ThreadId, head: Head) -> Result<Head, StoreError> {
    let before = Head {
        seq: Seq(head.first.0 - 1),
        first: head.first,
        snapshot_at: Seq(0),
        snapshot: 0,
        since_snapshot: 0,
        ..head
    };
    let mut res = before;
    for (key, stored) in all_of(view, layout::records_from(thread, head.first))? {
        let body = sealer.open(&key, &stored).map_err(|e| codec::corrupt(&key, e.to_string()))?;
        let record: Record = codec::decode(&body).map_err(|e| codec::corrupt(&key, e))?;
        let has_snapshot = record.ops.iter().any(|op| matches!(op, Op::Snapshot(_)));
        res = res.advanced(head.epoch, body.len() as u64, has_snapshot);
    }
    Ok(res)
}
