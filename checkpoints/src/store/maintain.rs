//! The whole store at once: its size, new keys, a copy into another store.

use std::sync::Arc;

use runtime::ports::store::{Store, StoreError, StoreSize};

use super::layout::{self, KINDS};
use super::{KvStore, codec};
use crate::envelope::{Plain, Sealer};
use crate::kv::{KeyRange, Kv, Order, Reader, SCAN_PAGE};

/// Bytes that a copy writes at a time.
const COPY_BYTES: usize = 4 * 1024 * 1024;

/// What a copy moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Entries of every kind.
    pub entries: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Bytes of all values, and of the files.
pub(super) fn size<K: Kv>(kv: &K) -> Result<StoreSize, StoreError> {
    let mut logical = 0;
    for kind in KINDS {
        let mut rest = layout::all(kind);
        loop {
            let page = kv.scan(&rest, Order::Forward, SCAN_PAGE)?;
            logical += page.entries.iter().map(|(_, value)| value.len() as u64).sum::<u64>();
            match page.entries.last() {
                Some((last, _)) if page.more => rest = rest.after(last),
                _ => break,
            }
        }
    }
    Ok(StoreSize { logical, disk: kv.disk_bytes()? })
}

/// Writes every record that is not sealed with the current key anew; returns how many.
pub(super) async fn rotate<K: Kv>(kv: &K, sealer: &Arc<Sealer>) -> Result<u64, StoreError> {
    let reading = Arc::new(sealer.with_plain(Plain::Accept));
    let mut n_written = 0;
    for kind in KINDS {
        let mut rest = Some(layout::all(kind));
        while let Some(range) = rest {
            let (sealer, reading) = (sealer.clone(), reading.clone());
            let page = kv.transact(move |txn| {
                let page = txn.scan(&range, Order::Forward, SCAN_PAGE)?;
                let mut n_stale = 0;
                for (key, stored) in &page.entries {
                    if !sealer.is_current(stored) {
                        let body = reading.open(key, stored).map_err(|e| codec::corrupt(key, e.to_string()))?;
                        txn.put(key.clone(), sealer.seal(key, &body));
                        n_stale += 1;
                    }
                }
                Ok::<_, StoreError>((rest_of(&range, &page), n_stale))
            });
            let (next, n_stale) = page.await?;
            n_written += n_stale;
            rest = next;
        }
    }
    Ok(n_written)
}

/// Copies everything into an empty store, whatever its backend and keys.
pub async fn copy_store<A: Kv, B: Kv>(from: &KvStore<A>, to: &KvStore<B>) -> Result<Copied, StoreError> {
    let (source, target) = (from.backend()?, to.backend()?);
    if !target.scan(&KeyRange::all(), Order::Forward, 1)?.entries.is_empty() {
        let e = format!("the {} store to copy into is not empty; give a new folder", to.name());
        return Err(StoreError::Io(e));
    }
    let mut copied = Copied::default();
    for kind in KINDS {
        let mut rest = Some(layout::all(kind));
        while let Some(range) = rest {
            let page = source.scan(&range, Order::Forward, SCAN_PAGE)?;
            rest = rest_of(&range, &page);
            let mut batch = Vec::new();
            let mut bytes = 0;
            for (key, stored) in page.entries {
                let body = from.sealer.open(&key, &stored).map_err(|e| codec::corrupt(&key, e.to_string()))?;
                copied.entries += 1;
                copied.bytes += body.len() as u64;
                bytes += body.len();
                batch.push((to.sealer.seal(&key, &body), key));
                if bytes >= COPY_BYTES {
                    put_all(&*target, std::mem::take(&mut batch)).await?;
                    bytes = 0;
                }
            }
            put_all(&*target, batch).await?;
        }
    }
    target.settle().await?;
    Ok(copied)
}

async fn put_all<K: Kv>(kv: &K, batch: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
    kv.transact(move |txn| {
        for (stored, key) in batch {
            txn.put(key, stored);
        }
        Ok(())
    })
    .await
}

fn rest_of(range: &KeyRange, page: &crate::kv::Page) -> Option<KeyRange> {
    page.entries.last().filter(|_| page.more).map(|(last, _)| range.after(last))
}
