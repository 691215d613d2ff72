//! One commit: fence, record, head, projections, audit chain; all or nothing.

use std::sync::Arc;

use runtime::ports::store::StoreError;
use runtime_core::ids::{Epoch, Seq, ThreadId};
use runtime_core::record::{Commit, Op};

use super::head::Head;
use super::layout::{self, Kind};
use super::projection::{self, Projection};
use super::{audit, codec};
use crate::envelope::Sealer;
use crate::kv::Txn;

/// Longest body of one record. Larger results belong into artifacts.
pub const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A commit, encoded and sealed by its caller so that the one writer only decides and writes.
pub(super) struct Prepared {
    commit: Commit,
    key: Vec<u8>,
    stored: Vec<u8>,
    body_len: u64,
    has_snapshot: bool,
    touches_projection: bool,
    audited: Vec<audit::Loose>,
}

impl Prepared {
    pub(super) fn new(sealer: &Sealer, mut commit: Commit) -> Result<Self, StoreError> {
        let body = codec::encode(&commit.record)?;
        if body.len() > RECORD_BYTES_MAX {
            let (thread, bytes) = (commit.thread, body.len());
            return Err(StoreError::TooLarge { thread, bytes, limit: RECORD_BYTES_MAX });
        }
        let key = layout::record_key(&commit.thread, commit.seq);
        let has_snapshot = commit.record.ops.iter().any(|op| matches!(op, Op::Snapshot(_)));
        let audited = audit::take(&commit.thread, &mut commit.record);
        // What only the encoded body needs is freed here, by many callers, and not by the one writer.
        commit.record.ops.retain(projection::touches);
        let touches_projection = !commit.record.ops.is_empty();
        let (stored, body_len) = (sealer.seal(&key, &body), body.len() as u64);
        Ok(Self { stored, key, body_len, has_snapshot, touches_projection, audited, commit })
    }

    /// Runs on the store's one writer.
    pub(super) fn apply(self, txn: &mut Txn<'_>, sealer: &Arc<Sealer>) -> Result<(), StoreError> {
        let Self { commit, key, stored, body_len, audited, .. } = self;
        let thread = &commit.thread;
        let head = Head::read(txn, sealer, thread)?.unwrap_or_default();
        fence(&commit, &head)?;
        txn.put(key, stored);
        write_head(txn, sealer, thread, &head.advanced(commit.epoch, body_len, self.has_snapshot))?;
        if self.touches_projection {
            let before = Projection::read(txn, sealer, thread)?;
            before.after(thread, &commit.record).write(txn, sealer, thread, &before)?;
        }
        audit::append(txn, sealer, (commit.record.at, thread, commit.record.run), audited)
    }
}

/// Compare and append: the one place that decides between two writers.
fn fence(commit: &Commit, head: &Head) -> Result<(), StoreError> {
    let epoch = if commit.claim { head.epoch.next() } else { head.epoch };
    // Without a record there is no owner: the first commit has to claim.
    let is_owned = head.epoch != Epoch(0) || commit.claim;
    if commit.seq == head.seq.next() && commit.epoch == epoch && is_owned {
        return Ok(());
    }
    Err(StoreError::Fenced { thread: commit.thread.clone(), epoch: head.epoch, seq: head.seq })
}

pub(super) fn write_head(txn: &mut Txn<'_>, sealer: &Sealer, thread: &ThreadId, head: &Head) -> Result<(), StoreError> {
    debug_assert!(head.seq >= head.first && head.first > Seq(0), "a head without records");
    let key = layout::thread_key(Kind::Head, thread);
    let stored = codec::seal(sealer, &key, head)?;
    txn.put(key, stored);
    Ok(())
}
