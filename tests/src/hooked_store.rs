//! A store with a hook around each commit: how tests pause a writer, or weaken the order of writes on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::GraphDigest;
use parking_lot::Mutex;
use runtime::ports::store::{
    Account, AuditRecord, Finding, InterruptRow, Loaded, Prune, Reservation, Store, StoreError, StoreSize,
    ThreadFilter, ThreadRow, TimerRow,
};
use runtime_core::ids::{InterruptId, RunId, Seq, ThreadId, Timestamp};
use runtime_core::record::{Commit, Op, Record};
use serde_json::Value;

/// What happens in place of a commit.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Commits to `inner`, or not.
    async fn commit(&self, inner: &dyn Store, commit: Commit) -> Result<(), StoreError>;
}

/// A store whose commits go through a hook; everything else is the inner store's.
pub struct HookedStore {
    inner: Arc<dyn Store>,
    hook: Arc<dyn Hook>,
}

impl HookedStore {
    /// `inner`, its commits through `hook`.
    pub fn new(inner: Arc<dyn Store>, hook: Arc<dyn Hook>) -> Self {
        Self { inner, hook }
    }
}

/// Weakened on purpose: the intent of a call counts as durable at once, and is written with the thread's next commit only.
#[derive(Default)]
pub struct EagerIntents(Mutex<BTreeMap<ThreadId, Vec<Commit>>>);

#[async_trait]
impl Hook for EagerIntents {
    async fn commit(&self, inner: &dyn Store, commit: Commit) -> Result<(), StoreError> {
        let has_intent = commit.record.ops.iter().any(|op| matches!(op, Op::CallBegun { .. }));
        if has_intent {
            self.0.lock().entry(commit.thread.clone()).or_default().push(commit);
            return Ok(());
        }
        let held = self.0.lock().remove(&commit.thread).unwrap_or_default();
        for intent in held {
            inner.commit(intent).await?;
        }
        inner.commit(commit).await
    }
}

#[async_trait]
impl Store for HookedStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.hook.commit(&*self.inner, commit).await
    }

    async fn load(&self, thread: &ThreadId) -> Result<Option<Loaded>, StoreError> {
        self.inner.load(thread).await
    }

    async fn records(&self, thread: &ThreadId, from: Seq, limit: usize) -> Result<Vec<(Seq, Record)>, StoreError> {
        self.inner.records(thread, from, limit).await
    }

    async fn threads(&self, filter: &ThreadFilter) -> Result<Vec<ThreadRow>, StoreError> {
        self.inner.threads(filter).await
    }

    async fn interrupts(&self, thread: Option<&ThreadId>, limit: usize) -> Result<Vec<InterruptRow>, StoreError> {
        self.inner.interrupts(thread, limit).await
    }

    async fn interrupt(&self, id: InterruptId) -> Result<Option<InterruptRow>, StoreError> {
        self.inner.interrupt(id).await
    }

    async fn timers(&self, until: Timestamp, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        self.inner.timers(until, limit).await
    }

    async fn audit(&self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.inner.audit(from, limit).await
    }

    async fn delete_thread(&self, thread: &ThreadId) -> Result<(), StoreError> {
        self.inner.delete_thread(thread).await
    }

    async fn delete_runs(&self, thread: &ThreadId, runs: &[RunId]) -> Result<(), StoreError> {
        self.inner.delete_runs(thread, runs).await
    }

    async fn copy_thread(&self, from: &ThreadId, to: &ThreadId) -> Result<(), StoreError> {
        self.inner.copy_thread(from, to).await
    }

    async fn prune(&self, thread: &ThreadId, how: Prune) -> Result<(), StoreError> {
        self.inner.prune(thread, how).await
    }

    async fn put_graph(&self, digest: &GraphDigest, name: &str, source: &str) -> Result<(), StoreError> {
        self.inner.put_graph(digest, name, source).await
    }

    async fn graph(&self, digest: &GraphDigest) -> Result<Option<(String, String)>, StoreError> {
        self.inner.graph(digest).await
    }

    async fn cache_get(&self, key: &str, now: Timestamp) -> Result<Option<Arc<Value>>, StoreError> {
        self.inner.cache_get(key, now).await
    }

    async fn cache_put(&self, key: &str, value: &Value, expires: Option<Timestamp>) -> Result<(), StoreError> {
        self.inner.cache_put(key, value, expires).await
    }

    async fn reserve(&self, reservation: &Reservation) -> Result<Result<Account, Account>, StoreError> {
        self.inner.reserve(reservation).await
    }

    async fn settle(&self, account: &str, key: &str, spent: u64) -> Result<Account, StoreError> {
        self.inner.settle(account, key, spent).await
    }

    async fn account(&self, account: &str) -> Result<Account, StoreError> {
        self.inner.account(account).await
    }
    async fn swap_document(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, StoreError> {
        self.inner.swap_document(name, expected, new).await
    }

    async fn document(&self, name: &str) -> Result<Option<Value>, StoreError> {
        self.inner.document(name).await
    }

    async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        self.inner.check().await
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        self.inner.size().await
    }

    async fn rotate(&self) -> Result<u64, StoreError> {
        self.inner.rotate().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
