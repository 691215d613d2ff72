//! An ordered map of bytes with atomic, durable transactions: all that a store needs from a backend.
//!
//! It must never know what the bytes mean. Two shapes implement it: `memory` (a map behind a lock) and `durable`
//! (a commit log in front of an engine, for the reasons given there).

mod applier;
mod committer;
mod durable;
mod engine;
mod error;
mod fjall_engine;
mod folder;
mod log;
mod memory;
mod overlay;
mod sled_engine;
mod sled_sync;

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use durable::{Durable, DurableOptions, Statistics, SyncPolicy};
pub use engine::Engine;
pub use error::KvError;
pub use fjall_engine::FjallEngine;
pub use folder::{FORMAT_VERSION, Folder};
pub use memory::MemoryKv;
pub use sled_engine::{PIECE_BYTES_MAX, SledEngine};

/// Longest key a backend accepts.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Longest value a backend accepts.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A stored value, shared so that a read copies no bytes.
pub type Value = Arc<[u8]>;

/// Changes by key; `None` deletes.
pub type WriteMap = BTreeMap<Vec<u8>, Option<Value>>;

/// Keys from `start` (inclusive) to `end` (exclusive; `None`: to the last key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Vec<u8>,
    /// First key after the range.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: prefix.to_vec(), end: after_prefix(prefix) }
    }

    /// All keys.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// The part of the range that a forward scan has not seen yet after `key`.
    pub fn after(&self, key: &[u8]) -> Self {
        let mut start = key.to_vec();
        start.push(0);
        Self { start, end: self.end.clone() }
    }

    /// The part of the range that a reverse scan has not seen yet after `key`.
    pub fn before(&self, key: &[u8]) -> Self {
        Self { start: self.start.clone(), end: Some(key.to_vec()) }
    }

    /// What a scan in `order` has left after `key`.
    pub fn rest(&self, key: &[u8], order: Order) -> Self {
        match order {
            Order::Forward => self.after(key),
            Order::Reverse => self.before(key),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Reverse,
}

/// One bounded piece of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values in the order asked for.
    pub entries: Vec<(Vec<u8>, Value)>,
    /// Whether entries may follow; continue with `KeyRange::rest` of the last key.
    pub more: bool,
}

/// Reads of one consistent view.
pub trait Reader {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError>;
    /// At most `limit` entries of `range`.
    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page, KvError>;
}

/// A transaction: reads see its own writes and everything that was decided before it.
pub struct Txn<'a> {
    below: &'a dyn Reader,
    writes: WriteMap,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(below: &'a dyn Reader) -> Self {
        Self { below, writes: WriteMap::new() }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<Value>) {
        self.writes.insert(key, Some(value.into()));
    }

    /// Removes `key`; no error if it is absent.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// Removes every key of `range`.
    pub fn delete_range(&mut self, range: &KeyRange) -> Result<usize, KvError> {
        let mut rest = range.clone();
        let mut n_deleted = 0;
        loop {
            let page = self.scan(&rest, Order::Forward, SCAN_PAGE)?;
            n_deleted += page.entries.len();
            let Some((last, _)) = page.entries.last() else { return Ok(n_deleted) };
            rest = rest.after(last);
            for (key, _) in page.entries {
                self.delete(key);
            }
        }
    }

    pub(crate) fn into_writes(self) -> Result<WriteMap, KvError> {
        for (key, value) in &self.writes {
            let n_bytes = value.as_ref().map_or(0, |v| v.len());
            debug_assert!(key.first().is_some_and(|first| *first != 0), "keys that begin with zero belong to engines");
            if key.len() > KEY_BYTES_MAX || n_bytes > VALUE_BYTES_MAX {
                return Err(KvError::TooLarge { key_bytes: key.len(), value_bytes: n_bytes });
            }
        }
        Ok(self.writes)
    }
}

impl Reader for Txn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError> {
        overlay::Layer { map: &self.writes, below: self.below }.get(key)
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page, KvError> {
        overlay::Layer { map: &self.writes, below: self.below }.scan(range, order, limit)
    }
}

/// What a job says and what it writes; a job that fails, panics or writes too much writes nothing.
fn decide<T, E, F>(job: F, view: &dyn Reader) -> (Result<T, E>, WriteMap)
where
    E: From<KvError>,
    F: FnOnce(&mut Txn<'_>) -> Result<T, E>,
{
    let mut txn = Txn::new(view);
    let decided = catch_unwind(AssertUnwindSafe(|| job(&mut txn)))
        .unwrap_or_else(|panic| Err(E::from(KvError::Bug { cause: memory::panic_text(&*panic) })));
    let writes = if decided.is_ok() { txn.into_writes() } else { Ok(WriteMap::new()) };
    match writes {
        Ok(writes) => (decided, writes),
        Err(e) => (Err(e.into()), WriteMap::new()),
    }
}

/// Entries that internal walks read at a time.
pub const SCAN_PAGE: usize = 256;

/// An ordered map of bytes with serial, atomic, durable transactions.
pub trait Kv: Reader + Send + Sync + 'static {
    /// Runs `job` alone against the newest state; if it returns `Ok` its writes become durable together before this
    /// future completes, and if it returns `Err` none of them happens.
    ///
    /// The job runs even if the future is dropped once it was accepted.
    fn transact<T, E, F>(&self, job: F) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<KvError> + Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static;

    /// The same for a caller that has nothing else to do: where nobody else writes, the calling thread may write by itself and
    /// is held up for one sync. Other tasks of a runtime of several threads go on.
    fn transact_here<T, E, F>(&self, job: F) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<KvError> + Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
    {
        self.transact(job)
    }

    /// Waits until everything acknowledged is in its final place and gives back what can be given back.
    fn settle(&self) -> impl Future<Output = Result<(), KvError>> + Send;

    /// Bytes on disk (0 for memory).
    fn disk_bytes(&self) -> Result<u64, KvError>;

    /// Name of the engine for messages and the format marker.
    fn engine_name(&self) -> &'static str;
}
