//! A durable backend: a commit log in front of an engine, recent writes in memory.
//!
//! A transaction is acknowledged when its frame is synced in the log. Recent writes are read from memory; the applier
//! moves them to the engine in the background, in sorted chunks, each followed by a sync, and only then is the log used
//! again. So an acknowledgement costs one sync of one file however the engine syncs, and keys that change with every
//! commit reach the engine once per turn of the log instead of once per commit.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::OnceLock;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};

use super::applier::Applier;
use super::committer::{self, Job, Task, Writer};
use super::log::CommitLog;
use super::overlay::Layer;
use super::{Engine, Folder, KeyRange, Kv, KvError, Order, Page, Reader, Txn, Value, WriteMap};

/// Commits that wait for the committer; a writer beyond that waits for a place.
const QUEUE_MAX: usize = 1_024;

/// What is synced before an acknowledgement. Anything but `Full` exists so that the crash tests can show that they
/// would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Everything that a power cut could take.
    #[default]
    Full,
    /// Loses acknowledged commits: the log is written and not synced.
    LogUnsynced,
    /// Loses applied commits: the engine's own flush, without a sync of its file.
    EngineFlushOnly,
}

/// Settings of a durable backend.
#[derive(Debug, Clone, Copy)]
pub struct DurableOptions {
    /// Bytes of recent writes after which they go to the engine.
    pub turn_bytes: usize,
    /// What is synced.
    pub sync: SyncPolicy,
    /// Called when the store has come to rest and holds no recent write: gives freed memory back to the system. The allocator is
    /// the program's; `None` leaves it alone.
    pub at_rest: Option<fn()>,
}

impl Default for DurableOptions {
    fn default() -> Self {
        Self { turn_bytes: 4 * 1024 * 1024, sync: SyncPolicy::Full, at_rest: None }
    }
}

/// Counters since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Transactions acknowledged.
    pub commits: u64,
    /// Log frames synced; `commits / syncs` is the mean batch.
    pub syncs: u64,
    /// Bytes of those frames with their padding; `bytes / syncs` is what a sync carries.
    pub bytes: u64,
    /// Turns of the log taken over by the engine.
    pub turns: u64,
}

/// A commit log in front of the engine `E`. Dropping it moves everything to the engine and waits for that.
pub struct Durable<E: Engine> {
    shared: Arc<Shared<E>>,
    writer: Arc<Mutex<Writer<E>>>,
    /// Transactions that wait or are being written by the committer.
    queued: Arc<AtomicUsize>,
    jobs: Option<mpsc::Sender<Job>>,
    committer: Option<JoinHandle<()>>,
}

/// What the committer, the applier and the readers share.
pub(super) struct Shared<E> {
    pub(super) folder: Folder,
    pub(super) engine: E,
    pub(super) tables: RwLock<Tables>,
    pub(super) turns: Mutex<Turns>,
    pub(super) turned: Condvar,
    at_rest: Option<fn()>,
    pub(super) closed: OnceLock<KvError>,
    /// Transactions of the last batch: 1 where nobody else writes.
    pub(super) last_batch: AtomicUsize,
    pub(super) commits: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) n_turns: AtomicU64,
}

/// Recent writes. Only the committer adds to `active`; only the applier empties `frozen`.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) active: WriteMap,
    pub(super) active_bytes: usize,
    pub(super) frozen: Option<Arc<WriteMap>>,
}

/// What the committer and the applier tell each other.
#[derive(Default)]
pub(super) struct Turns {
    /// Last frame of the frozen writes, while there are any.
    pub(super) frozen_last: Option<u64>,
    /// Whether `active` has writes that nobody asked to move yet.
    pub(super) dirty: bool,
    pub(super) stop: bool,
}

impl<E: Engine> Durable<E> {
    /// Opens or makes the store in `path`.
    pub fn open(path: &Path, options: DurableOptions) -> Result<Self, KvError> {
        let folder = Folder::open(path, E::NAME)?;
        let engine = E::open(&folder.engine_path(), options.sync)?;
        let opened = CommitLog::open(folder.path(), folder.salt(), engine.applied()?, options.sync)?;
        folder.finish()?;
        let mut tables = Tables::default();
        tables.publish(opened.newer.map);
        let frozen_last = (opened.older.last > 0).then_some(opened.older.last);
        tables.frozen = frozen_last.map(|_| Arc::new(opened.older.map));
        let turns = Turns { frozen_last, dirty: !tables.active.is_empty(), stop: false };
        let shared = Arc::new(Shared {
            folder,
            engine,
            tables: RwLock::new(tables),
            turns: Mutex::new(turns),
            turned: Condvar::new(),
            at_rest: options.at_rest,
            closed: OnceLock::new(),
            last_batch: AtomicUsize::new(1),
            commits: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            n_turns: AtomicU64::new(0),
        });
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let applier = Applier::start(shared.clone(), sender.downgrade())?;
        let writer = Arc::new(Mutex::new(Writer::new(shared.clone(), opened.log, options.turn_bytes)));
        let committer = committer::start(shared.clone(), writer.clone(), receiver, applier)?;
        // What engine and log were read with.
        shared.come_to_rest();
        let queued = Arc::new(AtomicUsize::new(0));
        Ok(Self { shared, writer, queued, jobs: Some(sender), committer: Some(committer) })
    }

    /// Counters since the store was opened.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            commits: self.shared.commits.load(Ordering::Relaxed),
            syncs: self.shared.syncs.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            turns: self.shared.n_turns.load(Ordering::Relaxed),
        }
    }

    /// Why the store takes no more calls, if it does not.
    pub fn closed(&self) -> Option<KvError> {
        self.shared.closed.get().map(KvError::closing)
    }

    fn queue(&self) -> Result<mpsc::Sender<Job>, KvError> {
        self.shared.check_open()?;
        self.jobs.clone().ok_or_else(Shared::<E>::stopped)
    }

    /// Runs `job` on the calling thread, if nobody else writes or is about to, and gives it back otherwise.
    ///
    /// Where many write, the thread stays free and a sync carries what comes together meanwhile. On a runtime of one thread
    /// the others could not even come.
    fn here<T, F2, F>(&self, job: F) -> Result<Result<T, F2>, F>
    where
        F2: From<KvError>,
        F: FnOnce(&mut Txn<'_>) -> Result<T, F2>,
    {
        let is_alone = self.queued.load(Ordering::Acquire) == 0 && self.shared.last_batch.load(Ordering::Relaxed) <= 1;
        let may_block = || Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
        if !is_alone || !may_block() {
            return Err(job);
        }
        let Some(mut writer) = self.writer.try_lock() else { return Err(job) };
        Ok(tokio::task::block_in_place(|| writer.alone(job)))
    }
}

/// One transaction on its way to the committer.
pub(super) struct Queued(Arc<AtomicUsize>);

impl Queued {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<E> Shared<E> {
    pub(super) fn check_open(&self) -> Result<(), KvError> {
        self.closed.get().map_or(Ok(()), |e| Err(e.closing()))
    }

    /// Closes the store because of `e`; the first cause stays.
    pub(super) fn close(&self, e: &KvError) {
        if self.closed.set(e.clone()).is_ok() {
            tracing::error!(error = %e, path = %self.folder.path().display(), "the store closed itself");
        }
        // Under the lock, so that no waiter misses it between its check and its wait.
        let _turns = self.turns.lock();
        self.turned.notify_all();
    }

    pub(super) fn come_to_rest(&self) {
        if let Some(give_back) = self.at_rest {
            give_back();
        }
    }

    pub(super) fn stopped() -> KvError {
        KvError::Closed { cause: "its committer has stopped".to_owned() }
    }
}

impl Tables {
    /// Makes writes visible to all readers.
    pub(super) fn publish(&mut self, writes: WriteMap) {
        for (key, value) in writes {
            let key_len = key.len();
            let len = |v: &Option<Value>| v.as_ref().map_or(0, |v| v.len());
            self.active_bytes += len(&value);
            match self.active.insert(key, value) {
                Some(old) => self.active_bytes -= len(&old),
                None => self.active_bytes += key_len,
            }
        }
    }
}

impl<E: Engine> Reader for Shared<E> {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError> {
        let tables = self.tables.read();
        let recent = tables.active.get(key).or_else(|| tables.frozen.as_ref()?.get(key));
        if let Some(value) = recent {
            return Ok(value.clone());
        }
        drop(tables);
        self.engine.get(key)
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page, KvError> {
        // Held over the read of the engine, so that the page is of one moment.
        let tables = self.tables.read();
        let nothing = WriteMap::new();
        let frozen = Layer { map: tables.frozen.as_deref().unwrap_or(&nothing), below: &self.engine };
        Layer { map: &tables.active, below: &frozen }.scan(range, order, limit)
    }
}

impl<E: Engine> Reader for Durable<E> {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError> {
        self.shared.check_open()?;
        self.shared.get(key)
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page, KvError> {
        self.shared.check_open()?;
        self.shared.scan(range, order, limit)
    }
}

impl<E: Engine> Kv for Durable<E> {
    fn transact<T, F2, F>(&self, job: F) -> impl Future<Output = Result<T, F2>> + Send
    where
        T: Send + 'static,
        F2: From<KvError> + Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, F2> + Send + 'static,
    {
        let queue = self.queue();
        async move {
            let (reply, answer) = oneshot::channel();
            let job = Job::Run(Box::new(Task::new(job, reply, Queued::new(&self.queued))));
            queue?.send(job).await.map_err(|_| Shared::<E>::stopped())?;
            answer.await.map_err(|_| Shared::<E>::stopped())?
        }
    }

    async fn transact_here<T, F2, F>(&self, job: F) -> Result<T, F2>
    where
        T: Send + 'static,
        F2: From<KvError> + Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, F2> + Send + 'static,
    {
        match self.here(job) {
            Ok(outcome) => outcome,
            Err(job) => self.transact(job).await,
        }
    }

    fn settle(&self) -> impl Future<Output = Result<(), KvError>> + Send {
        let queue = self.queue();
        async move {
            let (reply, answer) = oneshot::channel();
            queue?.send(Job::Settle(reply)).await.map_err(|_| Shared::<E>::stopped())?;
            answer.await.map_err(|_| Shared::<E>::stopped())?
        }
    }

    fn disk_bytes(&self) -> Result<u64, KvError> {
        self.shared.folder.disk_bytes()
    }

    fn engine_name(&self) -> &'static str {
        E::NAME
    }
}

impl<E: Engine> Drop for Durable<E> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(committer) = self.committer.take() {
            // Its failures closed the store already and are logged there.
            let _ended = committer.join();
        }
    }
}
