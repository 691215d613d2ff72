//! The strict double of a store: everything in memory, and every liberty a real store might take is refused.
//!
//! It refuses a stale epoch, a gap, a reused place and a commit after a failure, and checks after each commit that the fold of
//! the log can be stored and read back. It can be told to die at the n-th commit, before or after the write.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::GraphDigest;
use parking_lot::Mutex;
use runtime::ports::store::{
    Account, AuditRecord, Finding, InterruptRow, Loaded, Prune, Reservation, Store, StoreError, StoreSize,
    ThreadFilter, ThreadRow, ThreadStatus, TimerRow,
};
use runtime_core::ids::{Epoch, InterruptId, RunId, Seq, ThreadId, Timestamp};
use runtime_core::record::{Commit, Outcome, Record};
use runtime_core::state::ThreadState;
use serde_json::Value;

/// When the store dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Before the n-th commit (counted from 1) is written.
    Before(u64),
    /// After it is written, before anybody is told: the answer is lost.
    After(u64),
    /// At the n-th commit the one before it is lost too, though it was acknowledged: a store that lies.
    LoseTail(u64),
}

/// How a store is weakened on purpose: the checks of what it holds must then fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Documents are acknowledged and not kept.
    ForgetsDocuments,
    /// A reservation is checked and not added.
    ChecksWithoutReserving,
}

#[derive(Default)]
struct Inside {
    threads: BTreeMap<ThreadId, Vec<(Seq, Record)>>,
    graphs: BTreeMap<GraphDigest, (String, String)>,
    cache: BTreeMap<String, (Value, Option<Timestamp>)>,
    documents: BTreeMap<String, Value>,
    accounts: BTreeMap<String, Account>,
    reservations: BTreeMap<(String, String), (u64, bool)>,
    n_commits: u64,
}

/// What is on the disk of this double; survives the store that wrote it.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Inside>>);

/// A strict store over a disk.
pub struct StrictStore {
    disk: Disk,
    death: Option<Death>,
    lie: Option<Lie>,
    closed: Mutex<Option<String>>,
}

impl Disk {
    /// Commits so far.
    pub fn n_commits(&self) -> u64 {
        self.0.lock().n_commits
    }

    /// The log of a thread.
    pub fn log(&self, thread: &ThreadId) -> Vec<(Seq, Record)> {
        self.0.lock().threads.get(thread).cloned().unwrap_or_default()
    }
}

impl StrictStore {
    /// A store over a disk.
    pub fn on(disk: &Disk) -> Self {
        Self { disk: disk.clone(), death: None, lie: None, closed: Mutex::new(None) }
    }

    /// A store that dies.
    pub fn dying(disk: &Disk, death: Death) -> Self {
        Self { death: Some(death), ..Self::on(disk) }
    }

    /// A store that lies.
    pub fn lying(disk: &Disk, lie: Lie) -> Self {
        Self { lie: Some(lie), ..Self::on(disk) }
    }

    fn alive(&self) -> Result<(), StoreError> {
        match &*self.closed.lock() {
            Some(why) => Err(StoreError::Closed(why.clone())),
            None => Ok(()),
        }
    }

    /// The process that writes through this store is dead.
    pub fn kill(&self) {
        *self.closed.lock() = Some("the process died".to_owned());
    }

    fn die(&self) -> StoreError {
        self.kill();
        StoreError::Closed("the process died".to_owned())
    }
}

fn epoch_and_head(log: &[(Seq, Record)]) -> (Epoch, Seq) {
    log.last().map_or((Epoch(0), Seq(0)), |(seq, record)| (record.epoch, *seq))
}

fn state_of(log: &[(Seq, Record)]) -> ThreadState {
    ThreadState::replay(log.iter().map(|(_, record)| record))
}

fn stored_form_is_faithful(record: &Record) {
    let text = serde_json::to_string(record).expect("a record can be stored");
    let back: Record = serde_json::from_str(&text).expect("a stored record can be read");
    assert_eq!(&back, record, "a record changed on its way through the store");
}

fn status_of(state: &ThreadState) -> ThreadStatus {
    match state.run.as_ref().map(|run| &run.outcome) {
        Some(None) => ThreadStatus::Busy,
        Some(Some(Outcome::Failed(_))) => ThreadStatus::Error,
        Some(Some(Outcome::Interrupted)) => ThreadStatus::Interrupted,
        Some(Some(Outcome::Waiting)) => ThreadStatus::Waiting,
        _ => ThreadStatus::Idle,
    }
}

fn row_of(id: &ThreadId, state: &ThreadState) -> Option<ThreadRow> {
    Some(ThreadRow {
        id: id.clone(),
        graph: state.graph.clone()?,
        digest: state.digest.clone()?,
        status: status_of(state),
        run: state.run.as_ref().map(|run| run.id),
        metadata: state.metadata.clone(),
        created_at: state.created_at,
        updated_at: state.updated_at,
    })
}

#[async_trait]
impl Store for StrictStore {
    fn name(&self) -> &'static str {
        "strict"
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.alive()?;
        let mut inside = self.disk.0.lock();
        let number = inside.n_commits + 1;
        if self.death == Some(Death::Before(number)) {
            return Err(self.die());
        }
        if self.death == Some(Death::LoseTail(number)) {
            inside.threads.entry(commit.thread.clone()).or_default().pop();
            return Err(self.die());
        }
        stored_form_is_faithful(&commit.record);
        assert_eq!(commit.epoch, commit.record.epoch, "a record names the epoch it is written with");
        assert!(!commit.record.ops.is_empty(), "an empty record was written");
        let log = inside.threads.entry(commit.thread.clone()).or_default();
        let (epoch, head) = epoch_and_head(log);
        let wanted = if commit.claim { epoch.next() } else { epoch };
        if commit.seq != head.next() || commit.epoch != wanted {
            return Err(StoreError::Fenced { thread: commit.thread, epoch, seq: head });
        }
        log.push((commit.seq, commit.record));
        inside.n_commits = number;
        if self.death == Some(Death::After(number)) {
            return Err(self.die());
        }
        Ok(())
    }

    async fn load(&self, thread: &ThreadId) -> Result<Option<Loaded>, StoreError> {
        self.alive()?;
        let inside = self.disk.0.lock();
        let Some(log) = inside.threads.get(thread).filter(|log| !log.is_empty()) else { return Ok(None) };
        let (epoch, seq) = epoch_and_head(log);
        Ok(Some(Loaded { state: state_of(log), seq, epoch, since_snapshot: 0, snapshot: 0 }))
    }

    async fn records(&self, thread: &ThreadId, from: Seq, limit: usize) -> Result<Vec<(Seq, Record)>, StoreError> {
        self.alive()?;
        let inside = self.disk.0.lock();
        let log = inside.threads.get(thread).map(Vec::as_slice).unwrap_or_default();
        Ok(log.iter().filter(|(seq, _)| *seq >= from).take(limit).cloned().collect())
    }

    async fn threads(&self, filter: &ThreadFilter) -> Result<Vec<ThreadRow>, StoreError> {
        self.alive()?;
        let inside = self.disk.0.lock();
        let rows = inside.threads.iter().filter_map(|(id, log)| row_of(id, &state_of(log)));
        let rows = rows.filter(|row| {
            filter.status.is_none_or(|status| status == row.status)
                && filter.after.as_ref().is_none_or(|after| row.id > *after)
        });
        Ok(rows.take(filter.limit).collect())
    }

    async fn interrupts(&self, thread: Option<&ThreadId>, limit: usize) -> Result<Vec<InterruptRow>, StoreError> {
        self.alive()?;
        let inside = self.disk.0.lock();
        let logs = inside.threads.iter().filter(|(id, _)| thread.is_none_or(|wanted| wanted == *id));
        let rows = logs.flat_map(|(id, log)| {
            let open = state_of(log).interrupts;
            open.into_values().map(|interrupt| InterruptRow { thread: id.clone(), interrupt })
        });
        Ok(rows.take(limit).collect())
    }

    async fn interrupt(&self, id: InterruptId) -> Result<Option<InterruptRow>, StoreError> {
        let all = self.interrupts(None, usize::MAX).await?;
        Ok(all.into_iter().find(|row| row.interrupt.id == id))
    }

    async fn timers(&self, until: Timestamp, limit: usize) -> Result<Vec<TimerRow>, StoreError> {
        self.alive()?;
        let inside = self.disk.0.lock();
        let mut rows: Vec<TimerRow> = Vec::new();
        for (id, log) in &inside.threads {
            let timers = state_of(log).timers;
            rows.extend(timers.into_iter().map(|(key, at)| TimerRow { thread: id.clone(), key, at }));
        }
        rows.retain(|row| row.at <= until);
        rows.sort_by_key(|row| row.at);
        rows.truncate(limit);
        Ok(rows)
    }

    async fn audit(&self, _: u64, _: usize) -> Result<Vec<AuditRecord>, StoreError> {
        Ok(Vec::new())
    }

    async fn delete_thread(&self, thread: &ThreadId) -> Result<(), StoreError> {
        self.disk.0.lock().threads.remove(thread);
        Ok(())
    }

    async fn delete_runs(&self, _: &ThreadId, _: &[RunId]) -> Result<(), StoreError> {
        Err(StoreError::Missing("retention in the strict double".to_owned()))
    }

    async fn copy_thread(&self, _: &ThreadId, _: &ThreadId) -> Result<(), StoreError> {
        Err(StoreError::Missing("copies in the strict double".to_owned()))
    }

    async fn prune(&self, _: &ThreadId, _: Prune) -> Result<(), StoreError> {
        Err(StoreError::Missing("retention in the strict double".to_owned()))
    }

    async fn put_graph(&self, digest: &GraphDigest, name: &str, source: &str) -> Result<(), StoreError> {
        self.alive()?;
        self.disk.0.lock().graphs.insert(digest.clone(), (name.to_owned(), source.to_owned()));
        Ok(())
    }

    async fn graph(&self, digest: &GraphDigest) -> Result<Option<(String, String)>, StoreError> {
        self.alive()?;
        Ok(self.disk.0.lock().graphs.get(digest).cloned())
    }

    async fn cache_get(&self, key: &str, now: Timestamp) -> Result<Option<Arc<Value>>, StoreError> {
        self.alive()?;
        let inside = self.disk.0.lock();
        let hit = inside.cache.get(key).filter(|(_, expires)| expires.is_none_or(|at| at > now));
        Ok(hit.map(|(value, _)| Arc::new(value.clone())))
    }

    async fn cache_put(&self, key: &str, value: &Value, expires: Option<Timestamp>) -> Result<(), StoreError> {
        self.alive()?;
        self.disk.0.lock().cache.insert(key.to_owned(), (value.clone(), expires));
        Ok(())
    }

    async fn reserve(&self, reservation: &Reservation) -> Result<Result<Account, Account>, StoreError> {
        self.alive()?;
        let mut inside = self.disk.0.lock();
        let account = inside.accounts.get(&reservation.account).copied().unwrap_or_default();
        let key = (reservation.account.clone(), reservation.key.clone());
        if inside.reservations.contains_key(&key) {
            return Ok(Ok(account));
        }
        let held = u128::from(account.spent) + u128::from(account.reserved) + u128::from(reservation.amount);
        if held > u128::from(reservation.limit) {
            return Ok(Err(account));
        }
        let amount = if self.lie == Some(Lie::ChecksWithoutReserving) { 0 } else { reservation.amount };
        let account = Account { reserved: account.reserved + amount, ..account };
        inside.reservations.insert(key, (amount, false));
        inside.accounts.insert(reservation.account.clone(), account);
        Ok(Ok(account))
    }

    async fn settle(&self, account: &str, key: &str, spent: u64) -> Result<Account, StoreError> {
        self.alive()?;
        let mut inside = self.disk.0.lock();
        let key = (account.to_owned(), key.to_owned());
        let Some((amount, settled)) = inside.reservations.get(&key).copied() else {
            return Err(StoreError::Missing(format!("reservation {} in {account}", key.1)));
        };
        let mut held = inside.accounts.get(account).copied().unwrap_or_default();
        if !settled {
            held = Account { spent: held.spent + spent, reserved: held.reserved - amount };
            inside.reservations.insert(key, (amount, true));
            inside.accounts.insert(account.to_owned(), held);
        }
        Ok(held)
    }

    async fn account(&self, account: &str) -> Result<Account, StoreError> {
        Ok(self.disk.0.lock().accounts.get(account).copied().unwrap_or_default())
    }

    async fn swap_document(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, StoreError> {
        self.alive()?;
        let mut inside = self.disk.0.lock();
        let fits = inside.documents.get(name) == expected;
        if fits && self.lie != Some(Lie::ForgetsDocuments) {
            inside.documents.insert(name.to_owned(), new.clone());
        }
        Ok(fits)
    }

    async fn document(&self, name: &str) -> Result<Option<Value>, StoreError> {
        Ok(self.disk.0.lock().documents.get(name).cloned())
    }

    async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(Vec::new())
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        Ok(StoreSize::default())
    }

    async fn rotate(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
