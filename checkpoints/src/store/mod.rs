//! The engine's store port over any ordered map of bytes.

mod audit;
mod chain;
pub(crate) mod codec;
mod commit;
mod documents;
mod fsck;
mod head;
mod layout;
mod ledger;
mod maintain;
mod projection;
mod read;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use graphs::GraphDigest;
use parking_lot::RwLock;
use runtime::ports::store::{
    Account, AuditRecord, Finding, InterruptRow, Loaded, Prune, Reservation, Store, StoreError, StoreSize,
    ThreadFilter, ThreadRow, TimerRow,
};
use runtime_core::ids::{InterruptId, RunId, Seq, ThreadId, Timestamp};
use runtime_core::record::{Commit, Record};
use serde_json::Value;

pub use audit::{GENESIS, hash_of as audit_hash};
pub use chain::ChainCheck;
pub use commit::RECORD_BYTES_MAX;
pub use maintain::{Copied, copy_store};

use crate::envelope::Sealer;
use crate::kv::{Kv, Txn};

/// Pauses while closing waits for calls that are still under way.
const CLOSE_PAUSE: Duration = Duration::from_millis(5);
const CLOSE_PAUSES_MAX: usize = 2_000;

/// A store over the backend `K`.
pub struct KvStore<K: Kv> {
    /// Gone once the store is closed.
    kv: RwLock<Option<Arc<K>>>,
    sealer: Arc<Sealer>,
    name: &'static str,
}

impl<K: Kv> KvStore<K> {
    /// A store over `kv` whose records `sealer` seals.
    pub fn new(kv: K, sealer: Sealer) -> Self {
        let name = kv.engine_name();
        Self { kv: RwLock::new(Some(Arc::new(kv))), sealer: Arc::new(sealer), name }
    }

    /// The backend, unless the store is closed.
    pub fn backend(&self) -> Result<Arc<K>, StoreError> {
        self.kv.read().clone().ok_or_else(|| StoreError::Closed("it was closed".to_owned()))
    }

    /// Runs `job` in a transaction with everything it needs by value.
    async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Txn<'_>, &Arc<Sealer>) -> Result<T, StoreError> + Send + 'static,
    {
        let sealer = self.sealer.clone();
        self.backend()?.transact(move |txn| job(txn, &sealer)).await
    }
}

#[async_trait]
impl<K: Kv> Store for KvStore<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let prepared = commit::Prepared::new(&self.sealer, commit)?;
        self.write(move |txn, sealer| prepared.apply(txn, sealer)).await
    }

    async fn commit_here(&self, commit: Commit) -> Result<(), StoreError> {
        let prepared = commit::Prepared::new(&self.sealer, commit)?;
        let sealer = self.sealer.clone();
        self.backend()?.transact_here(move |txn| prepared.apply(txn, &sealer)).await
    }

    async fn load(&self, thread: &ThreadId) -> Result<Option<Loaded>, StoreError> {
        read::load(&*self.backend()?, &self.sealer, thread)
    }

    async fn records(&self, thread: &ThreadId, from: Seq, limit: usize) -> Result<Vec<(Seq, Record)>, StoreError> {
        read::records(&*self.backend()?, &self.sealer, thread, from, limit)
    }

    async fn threads(&self, filter: &ThreadFilter) -> Result<Vec<ThreadRow>, StoreError> {
        read::threads(&*self.backend()?, &self.sealer, filter)
    }

    async fn interrupts(&self, thread: Option<&ThreadId>, limit: usize) -> Result<Vec<InterruptRow>, StoreError> {
        read::interrupts(&*self.backend()?, &self.sealer, thread, limit)
    }

    async fn interrupt(&self, id: InterruptId) -> Result<Option<InterruptRow>, StoreError> {
        read::interrupt(&*self.backend()?, &self.sealer, id)
    }

    async fn timers(&self, until: Timestamp, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        read::timers(&*self.backend()?, &self.sealer, until, limit)
    }

    async fn audit(&self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        read::audit(&*self.backend()?, &self.sealer, from, limit)
    }

    async fn delete_thread(&self, thread: &ThreadId) -> Result<(), StoreError> {
        let thread = thread.clone();
        self.write(move |txn, sealer| retention::delete(txn, sealer, &thread)).await
    }

    async fn delete_runs(&self, thread: &ThreadId, runs: &[RunId]) -> Result<(), StoreError> {
        retention::delete_runs(&*self.backend()?, &self.sealer, thread, runs).await
    }

    async fn copy_thread(&self, from: &ThreadId, to: &ThreadId) -> Result<(), StoreError> {
        retention::copy(&*self.backend()?, &self.sealer, from, to).await
    }

    async fn prune(&self, thread: &ThreadId, how: Prune) -> Result<(), StoreError> {
        match how {
            Prune::KeepLatest => retention::keep_latest(&*self.backend()?, &self.sealer, thread).await,
            Prune::Delete => self.delete_thread(thread).await,
        }
    }

    async fn put_graph(&self, digest: &GraphDigest, name: &str, source: &str) -> Result<(), StoreError> {
        let (digest, name, source) = (digest.to_string(), name.to_owned(), source.to_owned());
        self.write(move |txn, sealer| documents::put_graph(txn, sealer, &digest, &name, &source)).await
    }

    async fn graph(&self, digest: &GraphDigest) -> Result<Option<(String, String)>, StoreError> {
        documents::graph(&*self.backend()?, &self.sealer, digest.as_str())
    }

    async fn cache_get(&self, key: &str, now: Timestamp) -> Result<Option<Arc<Value>>, StoreError> {
        let kv = self.backend()?;
        match documents::cached(&*kv, &self.sealer, key, now)? {
            documents::Found::Fresh(value) => Ok(Some(value)),
            documents::Found::Nothing => Ok(None),
            documents::Found::Expired(_) => {
                let name = key.to_owned();
                let drop_expired = move |txn: &mut Txn<'_>, sealer: &Arc<Sealer>| {
                    // It may have been cached anew meanwhile.
                    if let documents::Found::Expired(key) = documents::cached(txn, sealer, &name, now)? {
                        txn.delete(key);
                    }
                    Ok(())
                };
                self.write(drop_expired).await?;
                Ok(None)
            }
        }
    }

    async fn cache_put(&self, key: &str, value: &Value, expires: Option<Timestamp>) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), Arc::new(value.clone()));
        self.write(move |txn, sealer| documents::put_cached(txn, sealer, &key, &value, expires)).await
    }

    async fn reserve(&self, reservation: &Reservation) -> Result<Result<Account, Account>, StoreError> {
        let reservation = reservation.clone();
        self.write(move |txn, sealer| ledger::reserve(txn, sealer, &reservation)).await
    }

    async fn settle(&self, account: &str, key: &str, spent: u64) -> Result<Account, StoreError> {
        let (account, key) = (account.to_owned(), key.to_owned());
        self.write(move |txn, sealer| ledger::settle(txn, sealer, &account, &key, spent)).await
    }

    async fn account(&self, account: &str) -> Result<Account, StoreError> {
        ledger::read_account(&*self.backend()?, &self.sealer, account)
    }

    async fn swap_document(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, StoreError> {
        let (name, expected, new) = (name.to_owned(), expected.cloned(), new.clone());
        self.write(move |txn, sealer| documents::swap(txn, sealer, &name, expected.as_ref(), &new)).await
    }

    async fn document(&self, name: &str) -> Result<Option<Value>, StoreError> {
        documents::document(&*self.backend()?, &self.sealer, name)
    }

    async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        fsck::check(&*self.backend()?, &self.sealer)
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        maintain::size(&*self.backend()?)
    }

    async fn rotate(&self) -> Result<u64, StoreError> {
        maintain::rotate(&*self.backend()?, &self.sealer).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        let taken = self.kv.write().take();
        let Some(mut kv) = taken else { return Ok(()) };
        let settled = kv.settle().await;
        for _ in 0..CLOSE_PAUSES_MAX {
            match Arc::try_unwrap(kv) {
                Ok(last) => {
                    // Dropping waits for threads and the disk.
                    let dropped = tokio::task::spawn_blocking(move || drop(last)).await;
                    dropped.map_err(|e| StoreError::Io(format!("closing the store: {e}")))?;
                    return Ok(settled?);
                }
                Err(shared) => kv = shared,
            }
            tokio::time::sleep(CLOSE_PAUSE).await;
        }
        Err(StoreError::Io("calls are still under way after 10 s; the store closes with the last of them".to_owned()))
    }
}
