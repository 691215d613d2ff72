//! The store port: atomic, durable, fenced commits; reads; retention.
//!
//! Contract, proven by `checkpoints::conformance` for every implementation:
//! * [`Store::commit`] is atomic and, when it returned `Ok`, survives power loss. It appends only when `seq` is the head's
//!   successor and the epoch fits (`claim`: one above the head's epoch; else equal to it; a new thread is claimed with
//!   epoch 1). Of concurrent writers one wins, the others get [`StoreError::Fenced`].
//! * Projections (thread list, open interrupts, timers, audit chain) change in the same atomic step.
//! * After an error of a write or sync the store is closed: every later call fails with [`StoreError::Closed`].
//! * A record that does not decode, or does not belong where it was found, is [`StoreError::Corrupt`], never skipped.

use std::sync::Arc;

use async_trait::async_trait;
use graphs::GraphDigest;
use runtime_core::ids::{Epoch, InterruptId, Name, RunId, Seq, ThreadId, Timestamp};
use runtime_core::record::{AuditEntry, Commit, Interrupt, Record, TimerKey};
use runtime_core::state::ThreadState;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest page of any listing.
pub const PAGE_MAX: usize = 1000;

/// Why a store refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer owns the thread or wrote first.
    #[error("thread {thread}: another writer is ahead (epoch {epoch}, record {seq}); reload it before writing")]
    Fenced { thread: ThreadId, epoch: Epoch, seq: Seq },
    /// Stored bytes are damaged.
    #[error("thread {thread}, record {seq}: {why}; run `interlock fsck` and restore this thread")]
    Corrupt { thread: String, seq: Seq, why: String },
    /// Reading or writing failed.
    #[error("store: {0}")]
    Io(String),
    /// An earlier write or sync failed; nothing after it was accepted.
    #[error("the store is closed after a failed write ({0}); restart to continue from the last durable checkpoint")]
    Closed(String),
    /// Another process has the store open.
    #[error("the store at {path} is held by {holder}")]
    Held { path: String, holder: String },
    /// A record is over the size limit.
    #[error("thread {thread}: a record of {bytes} bytes is over the limit of {limit}; keep large results as artifacts")]
    TooLarge { thread: ThreadId, bytes: usize, limit: usize },
    /// The thing asked for is not there.
    #[error("no such {0}")]
    Missing(String),
}

/// A thread as loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its state after the head record.
    pub state: ThreadState,
    /// The head record's place.
    pub seq: Seq,
    /// The head record's epoch.
    pub epoch: Epoch,
    /// Bytes written since the last snapshot, and the size of that snapshot.
    pub since_snapshot: usize,
    /// Size of the last snapshot in bytes; 0 when there is none.
    pub snapshot: usize,
}

/// A thread in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// The thread.
    pub id: ThreadId,
    /// Its graph.
    pub graph: Name,
    /// Version it is pinned to.
    pub digest: GraphDigest,
    /// `idle`, `busy`, `interrupted`, `waiting` or `error`.
    pub status: ThreadStatus,
    /// Its current or last run.
    pub run: Option<RunId>,
    /// Labels.
    pub metadata: Value,
    /// When it began.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreadStatus {
    /// Its last run ended well, or it has none.
    Idle,
    /// A run is going on (or was, when its process died).
    Busy,
    /// People are asked.
    Interrupted,
    /// A timer or signal is awaited.
    Waiting,
    /// Its last run failed.
    Error,
}

/// Which threads to list. Fields that are `None` or empty do not filter.
#[derive(Debug, Clone, Default)]
pub struct ThreadFilter {
    /// Of this graph.
    pub graph: Option<String>,
    /// With this status.
    pub status: Option<ThreadStatus>,
    /// Whose metadata has these top-level values.
    pub metadata: Vec<(String, Value)>,
    /// Ids after this one (paging; lists are sorted by id).
    pub after: Option<ThreadId>,
    /// At most this many; `PAGE_MAX` at most.
    pub limit: usize,
}

/// An open question with its thread.
#[derive(Debug, Clone, PartialEq)]
pub struct InterruptRow {
    /// The thread.
    pub thread: ThreadId,
    /// The question.
    pub interrupt: Interrupt,
}

/// A due timer with its thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerRow {
    /// The thread.
    pub thread: ThreadId,
    /// What is due.
    pub key: TimerKey,
    /// When.
    pub at: Timestamp,
}

/// One record of the audit chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Place in the chain; the first is 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The thread.
    pub thread: ThreadId,
    /// The run.
    pub run: Option<RunId>,
    /// The decision.
    pub entry: AuditEntry,
    /// Hash of the record before it (64 hex digits; zeros for the first).
    pub previous: String,
    /// SHA-256 over `previous` and this record.
    pub hash: String,
}

/// What to keep of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Only the head.
    KeepLatest,
    /// Nothing.
    Delete,
}

/// Something wrong in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `record`, `gap`, `projection`, `audit`, `graph`, `format`.
    pub kind: String,
    /// The thread, where there is one.
    pub thread: Option<String>,
    /// The record's place, where there is one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// Bytes held by a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StoreSize {
    /// Sum of the stored values.
    pub logical: u64,
    /// Files on disk; 0 for memory.
    pub disk: u64,
}

/// An amount to take from a ledger account.
#[derive(Debug, Clone, PartialEq)]
pub struct Reservation {
    /// Which wall: `agent:diagnostic:usd:2026-03-31` …
    pub account: String,
    /// Names this reservation; the same key reserves once.
    pub key: String,
    /// Worst case, in the account's smallest unit.
    pub amount: u64,
    /// The wall.
    pub limit: u64,
}

/// State of a ledger account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Settled.
    pub spent: u64,
    /// Reserved and not settled.
    pub reserved: u64,
}

/// Durable home of threads. See the module documentation for the contract.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// `memory`, `sled`, `fjall` …
    fn name(&self) -> &'static str;

    /// Appends one record. Atomic, durable, fenced.
    async fn commit(&self, commit: Commit) -> Result<(), StoreError>;

    /// The same for a caller that has nothing else to do: a store may hold up its thread while the disk syncs, which saves the
    /// way to another thread and back.
    async fn commit_here(&self, commit: Commit) -> Result<(), StoreError> {
        self.commit(commit).await
    }

    /// A thread's state at its head; `None` when there is no such thread.
    async fn load(&self, thread: &ThreadId) -> Result<Option<Loaded>, StoreError>;

    /// Records from `from` on, oldest first, at most `limit`. A fold may begin at the first one or at any `Snapshot`.
    async fn records(&self, thread: &ThreadId, from: Seq, limit: usize) -> Result<Vec<(Seq, Record)>, StoreError>;

    /// Threads by id order.
    async fn threads(&self, filter: &ThreadFilter) -> Result<Vec<ThreadRow>, StoreError>;

    /// Open questions by (thread, opening) order; of one thread or of all.
    async fn interrupts(&self, thread: Option<&ThreadId>, limit: usize) -> Result<Vec<InterruptRow>, StoreError>;

    /// The thread of an open question.
    async fn interrupt(&self, id: InterruptId) -> Result<Option<InterruptRow>, StoreError>;

    /// Timers due at or before `until`, earliest first; with a far `until` also the next ones.
    async fn timers(&self, until: Timestamp, limit: usize) -> Result<Vec<TimerRow>, StoreError>;

    /// The audit chain from `from` on.
    async fn audit(&self, from: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError>;

    /// Removes a thread and everything of it (the audit chain stays). No error when absent.
    async fn delete_thread(&self, thread: &ThreadId) -> Result<(), StoreError>;

    /// Removes the records of these runs; what remains stays loadable.
    async fn delete_runs(&self, thread: &ThreadId, runs: &[RunId]) -> Result<(), StoreError>;

    /// Copies a thread's whole history to a new thread id.
    async fn copy_thread(&self, from: &ThreadId, to: &ThreadId) -> Result<(), StoreError>;

    /// Forgets history.
    async fn prune(&self, thread: &ThreadId, how: Prune) -> Result<(), StoreError>;

    /// Keeps a graph's source under its digest.
    async fn put_graph(&self, digest: &GraphDigest, name: &str, source: &str) -> Result<(), StoreError>;

    /// The source kept under a digest: name and text.
    async fn graph(&self, digest: &GraphDigest) -> Result<Option<(String, String)>, StoreError>;

    /// A cached value that has not expired at `now`.
    async fn cache_get(&self, key: &str, now: Timestamp) -> Result<Option<Arc<Value>>, StoreError>;

    /// Caches a value; `expires` `None` keeps it.
    async fn cache_put(&self, key: &str, value: &Value, expires: Option<Timestamp>) -> Result<(), StoreError>;

    /// Takes an amount if spent + reserved + amount stays within the limit; `Ok(Err(account))` when it would not.
    async fn reserve(&self, reservation: &Reservation) -> Result<Result<Account, Account>, StoreError>;

    /// Replaces a reservation by what was really spent. Settling twice changes nothing.
    async fn settle(&self, account: &str, key: &str, spent: u64) -> Result<Account, StoreError>;

    /// What an account holds; nothing when it was never used.
    async fn account(&self, account: &str) -> Result<Account, StoreError>;

    /// A small durable document by name (breaker records, adaptive thresholds); `expected` is compared first.
    async fn swap_document(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, StoreError>;

    /// Reads a document.
    async fn document(&self, name: &str) -> Result<Option<Value>, StoreError>;

    /// Checks everything.
    async fn check(&self) -> Result<Vec<Finding>, StoreError>;

    /// Bytes held.
    async fn size(&self) -> Result<StoreSize, StoreError>;

    /// Encrypts every record anew with the current key.
    async fn rotate(&self) -> Result<u64, StoreError>;

    /// Waits until everything is durable and lets go of files and locks.
    async fn close(&self) -> Result<(), StoreError>;
}
