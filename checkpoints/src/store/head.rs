//! The head of a thread: what a commit compares itself with.

use runtime::ports::store::StoreError;
use runtime_core::ids::{Epoch, Seq, ThreadId};
use serde::{Deserialize, Serialize};

use super::codec;
use super::layout::{Kind, thread_key};
use crate::envelope::Sealer;
use crate::kv::Reader;

/// Epoch and place of the last record, where the log begins, and where folding can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    /// First record that is still there.
    pub(super) first: Seq,
    /// Last record with a snapshot; 0 when there is none.
    pub(super) snapshot_at: Seq,
    /// Bytes of that record's body.
    pub(super) snapshot: u64,
    /// Bytes of the bodies after it.
    pub(super) since_snapshot: u64,
}

impl Head {
    pub(super) fn read(view: &dyn Reader, sealer: &Sealer, thread: &ThreadId) -> Result<Option<Self>, StoreError> {
        let key = thread_key(Kind::Head, thread);
        view.get(&key)?.map(|stored| codec::open(sealer, &key, &stored)).transpose()
    }

    /// Where a fold begins.
    pub(super) fn fold_from(&self) -> Seq {
        self.first.max(self.snapshot_at)
    }

    /// The head after one more record.
    pub(super) fn advanced(&self, epoch: Epoch, body_len: u64, has_snapshot: bool) -> Self {
        let seq = self.seq.next();
        let first = if self.first == Seq(0) { seq } else { self.first };
        if has_snapshot {
            Self { epoch, seq, first, snapshot_at: seq, snapshot: body_len, since_snapshot: 0 }
        } else {
            Self { epoch, seq, first, since_snapshot: self.since_snapshot.saturating_add(body_len), ..*self }
        }
    }
}
