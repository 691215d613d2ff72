//! The backend without a disk: a sorted map behind one lock, transactions run inline.

use std::future::{Future, ready};

use parking_lot::{Mutex, RwLock};

use super::overlay::map_range;
use super::{KeyRange, Kv, KvError, Order, Page, Reader, Txn, Value, WriteMap, decide};

/// An ordered map in memory. Nothing survives the process.
#[derive(Default)]
pub struct MemoryKv {
    map: RwLock<Map>,
    /// Held by the transaction that runs; readers only wait for the moment of its publication.
    turn: Mutex<()>,
}

/// Values are never `None` here; the shape is shared with the overlay so that ranges read alike.
#[derive(Default)]
struct Map(WriteMap);

impl MemoryKv {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    fn run<T, E, F>(&self, job: F) -> Result<T, E>
    where
        E: From<KvError>,
        F: FnOnce(&mut Txn<'_>) -> Result<T, E>,
    {
        let _turn = self.turn.lock();
        let (decided, writes) = decide(job, self);
        let map = &mut self.map.write().0;
        for (key, value) in writes {
            match value {
                Some(value) => map.insert(key, Some(value)),
                None => map.remove(&key),
            };
        }
        decided
    }
}

/// The words of a caught panic.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

impl Reader for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError> {
        Ok(self.map.read().0.get(key).cloned().flatten())
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page, KvError> {
        let map = self.map.read();
        let mut entries = map_range(&map.0, range, order).filter_map(|(k, v)| v.clone().map(|v| (k.clone(), v)));
        let taken: Vec<_> = entries.by_ref().take(limit).collect();
        Ok(Page { more: entries.next().is_some(), entries: taken })
    }
}

impl Kv for MemoryKv {
    fn transact<T, E, F>(&self, job: F) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<KvError> + Send + 'static,
        F: FnOnce(&mut Txn<'_>) -> Result<T, E> + Send + 'static,
    {
        ready(self.run(job))
    }

    fn settle(&self) -> impl Future<Output = Result<(), KvError>> + Send {
        ready(Ok(()))
    }

    fn disk_bytes(&self) -> Result<u64, KvError> {
        Ok(0)
    }

    fn engine_name(&self) -> &'static str {
        "memory"
    }
}
