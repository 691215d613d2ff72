//! The one writer of a durable store: decides, logs, syncs, publishes, acknowledges; in batches, without waiting.
//!
//! While one sync runs, commits queue up; the next batch takes them all. A commit that arrives alone is synced alone: by
//! the committer's thread, or by the thread that brought it, which saves two changes of threads that cost as much as the sync.
//! With the feature `failpoints` a test can act at `store-before-log`, `store-before-sync`, `store-before-publish` and `store-before-answer`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::durable::{Queued, Shared};
use super::log::CommitLog;
use super::memory::panic_text;
use super::overlay::Layer;
use super::{Engine, KvError, Reader, Txn, WriteMap, decide};

/// Most transactions in one frame.
const BATCH_MAX: usize = 512;
/// A frame takes no further transaction beyond this.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Frames are padded to whole blocks: many small ones fill the log sooner than the memory.
const LOG_TURN_BYTES: u64 = 16 * 1024 * 1024;
/// Recent writes may grow to this multiple of a turn while the engine is behind; then writers wait.
const BEHIND_MAX: usize = 3;

/// What the committer is asked.
pub(super) enum Job {
    /// A transaction.
    Run(Box<dyn Work>),
    /// Let the applier have what there is.
    Turn,
    /// The same, then wait for it and empty the log.
    Settle(oneshot::Sender<Result<(), KvError>>),
}

/// A transaction and the way back to whoever waits for it.
pub(super) trait Work: Send {
    /// Decides what is written; nothing if it fails.
    fn decide(&mut self, view: &dyn Reader) -> WriteMap;
    /// Answers, once what it saw and wrote is durable or has failed.
    fn answer(self: Box<Self>, durable: Result<(), KvError>);
}

/// `Work` out of a closure.
pub(super) struct Task<T, E, F> {
    job: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
    queued: Queued,
}

impl<T, E, F> Task<T, E, F> {
    pub(super) fn new(job: F, reply: oneshot::Sender<Result<T, E>>, queued: Queued) -> Self {
        Self { job: Some(job), outcome: None, reply, queued }
    }
}

impl<T, E, F> Work for Task<T, E, F>
where
    T: Send,
    E: From<KvError> + Send,
    F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send,
{
    fn decide(&mut self, view: &dyn Reader) -> WriteMap {
        let Some(job) = self.job.take() else { return WriteMap::new() };
        let (outcome, writes) = decide(job, view);
        self.outcome = Some(outcome);
        writes
    }

    fn answer(self: Box<Self>, durable: Result<(), KvError>) {
        let Self { outcome, reply, queued, .. } = *self;
        drop(queued);
        let outcome = match (durable, outcome) {
            (Err(e), _) => Err(e.into()),
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => return,
        };
        // Nobody waits any more: the commit stands all the same.
        let _gone = reply.send(outcome);
    }
}

/// The committer's own state.
struct Committer<E: Engine> {
    shared: Arc<Shared<E>>,
    writer: Arc<Mutex<Writer<E>>>,
    jobs: mpsc::Receiver<Job>,
    applier: Option<JoinHandle<()>>,
}

/// Starts the thread that writes what is queued.
pub(super) fn start<E: Engine>(
    shared: Arc<Shared<E>>,
    writer: Arc<Mutex<Writer<E>>>,
    jobs: mpsc::Receiver<Job>,
    applier: JoinHandle<()>,
) -> Result<JoinHandle<()>, KvError> {
    let path = shared.folder.path().to_path_buf();
    let mut committer = Committer { shared, writer, jobs, applier: Some(applier) };
    let thread = std::thread::Builder::new().name("store-committer".to_owned());
    thread.spawn(move || committer.run()).map_err(|e| KvError::io("starting the committer", &path, &e))
}

impl<E: Engine> Committer<E> {
    fn run(&mut self) {
        while let Some(job) = self.jobs.blocking_recv() {
            let round = catch_unwind(AssertUnwindSafe(|| self.round(job)));
            if let Err(panic) = round {
                self.shared.close(&KvError::Bug { cause: panic_text(&*panic) });
            }
        }
        self.finish();
    }

    /// One batch: everything that is queued now, within the bounds.
    fn round(&mut self, first: Job) {
        // Before anything is decided: what a thread writes by itself must be seen.
        let mut writer = self.writer.lock();
        let mut batch = Batch::default();
        let mut next = Some(first);
        let mut settle = None;
        while let Some(job) = next {
            match job {
                Job::Run(work) => batch.add(&*self.shared, work),
                Job::Turn => batch.turn = true,
                Job::Settle(reply) => settle = Some(reply),
            }
            next = if settle.is_some() || batch.is_full() { None } else { self.jobs.try_recv().ok() };
        }
        let durable = writer.make_durable(batch.staged, batch.works.len());
        if batch.turn && settle.is_none() && !writer.applier_is_busy() {
            writer.turn();
        }
        // Who is answered may come again at once, and must not find its own last transaction in the way.
        drop(writer);
        fail::fail_point!("store-before-answer");
        for work in batch.works {
            work.answer(durable.clone());
        }
        if let Some(reply) = settle {
            let _gone = reply.send(self.writer.lock().settle());
        }
    }

    fn finish(&mut self) {
        // After a failure the log stays as it is: the next open reads it.
        if self.shared.check_open().is_ok()
            && let Err(e) = self.writer.lock().settle()
        {
            self.shared.close(&e);
        }
        self.shared.turns.lock().stop = true;
        self.shared.turned.notify_all();
        if let Some(applier) = self.applier.take() {
            // A panic of the applier closed the store and is logged there.
            let _ended = applier.join();
        }
    }
}

/// The writing end of a store. Whoever holds its lock is the one writer.
pub(super) struct Writer<E: Engine> {
    shared: Arc<Shared<E>>,
    log: CommitLog,
    turn_bytes: usize,
}

impl<E: Engine> Writer<E> {
    pub(super) fn new(shared: Arc<Shared<E>>, log: CommitLog, turn_bytes: usize) -> Self {
        Self { shared, log, turn_bytes }
    }

    /// One transaction, on the calling thread.
    pub(super) fn alone<T, F2, F>(&mut self, job: F) -> Result<T, F2>
    where
        F2: From<KvError>,
        F: FnOnce(&mut Txn<'_>) -> Result<T, F2>,
    {
        let written = catch_unwind(AssertUnwindSafe(|| {
            let (outcome, writes) = decide(job, &*self.shared);
            let durable = self.make_durable(writes, 1);
            fail::fail_point!("store-before-answer");
            durable.map_err(F2::from).and(outcome)
        }));
        written.unwrap_or_else(|panic| {
            let bug = KvError::Bug { cause: panic_text(&*panic) };
            self.shared.close(&bug);
            Err(bug.into())
        })
    }

    fn make_durable(&mut self, staged: WriteMap, n_commits: usize) -> Result<(), KvError> {
        let res = self.shared.check_open().and_then(|()| self.write(staged));
        match &res {
            Err(e) => self.shared.close(e),
            Ok(()) => {
                self.shared.commits.fetch_add(n_commits as u64, Ordering::Relaxed);
                self.shared.last_batch.store(n_commits, Ordering::Relaxed);
            }
        }
        res
    }

    fn write(&mut self, staged: WriteMap) -> Result<(), KvError> {
        if staged.is_empty() {
            return Ok(());
        }
        self.make_room()?;
        fail::fail_point!("store-before-log");
        let bytes_before = self.log.current_bytes();
        self.log.append(&staged)?;
        self.shared.bytes.fetch_add(self.log.current_bytes() - bytes_before, Ordering::Relaxed);
        fail::fail_point!("store-before-publish");
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        self.shared.tables.write().publish(staged);
        let mut turns = self.shared.turns.lock();
        if !turns.dirty {
            turns.dirty = true;
            self.shared.turned.notify_all();
        }
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), KvError> {
        let active = self.shared.tables.read().active_bytes;
        let log_bytes = self.log.current_bytes();
        if active < self.turn_bytes && log_bytes < LOG_TURN_BYTES {
            return Ok(());
        }
        let behind_max = BEHIND_MAX as u64;
        if active >= BEHIND_MAX * self.turn_bytes || log_bytes >= behind_max * LOG_TURN_BYTES {
            self.wait_applied()?;
        }
        if !self.applier_is_busy() {
            self.turn();
        }
        Ok(())
    }

    fn applier_is_busy(&self) -> bool {
        self.shared.turns.lock().frozen_last.is_some()
    }

    /// The applier is idle: everything in the other file is in the engine. Freezes `active` and changes files.
    fn turn(&mut self) {
        let mut tables = self.shared.tables.write();
        if tables.active.is_empty() {
            return;
        }
        if let Err(e) = self.log.turn() {
            self.shared.close(&e);
            return;
        }
        tables.frozen = Some(Arc::new(std::mem::take(&mut tables.active)));
        tables.active_bytes = 0;
        drop(tables);
        let mut turns = self.shared.turns.lock();
        turns.frozen_last = Some(self.log.last_number());
        turns.dirty = false;
        self.shared.turned.notify_all();
    }

    fn wait_applied(&self) -> Result<(), KvError> {
        let mut turns = self.shared.turns.lock();
        while turns.frozen_last.is_some() {
            self.shared.check_open()?;
            self.shared.turned.wait(&mut turns);
        }
        self.shared.check_open()
    }

    fn settle(&mut self) -> Result<(), KvError> {
        self.wait_applied()?;
        self.turn();
        self.wait_applied()?;
        self.log.clear()
    }
}

#[derive(Default)]
struct Batch {
    staged: WriteMap,
    bytes: usize,
    works: Vec<Box<dyn Work>>,
    turn: bool,
}

impl Batch {
    fn add(&mut self, below: &dyn Reader, mut work: Box<dyn Work>) {
        let view = Layer { map: &self.staged, below };
        let writes = work.decide(&view);
        self.bytes += writes.values().flatten().map(|v| v.len()).sum::<usize>();
        if self.staged.is_empty() {
            self.staged = writes;
        } else {
            self.staged.extend(writes);
        }
        self.works.push(work);
    }

    fn is_full(&self) -> bool {
        self.works.len() >= BATCH_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}
