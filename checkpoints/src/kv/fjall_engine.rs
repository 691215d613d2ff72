//! fjall 3 as the engine under the commit log.
//!
//! fjall keeps a journal of its own and is asked to sync it only once per chunk: until then the commit log has the data.

use std::fs::File;
use std::ops::Bound;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Engine, KeyRange, KvError, Order, Page, Reader, SyncPolicy, Value};

const CACHE_BYTES: u64 = 8 * 1024 * 1024;
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// The least that fjall accepts.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
const WORKERS: usize = 1;
const APPLIED: &[u8] = b"applied";

/// A fjall database.
pub struct FjallEngine {
    db: Database,
    data: Keyspace,
    meta: Keyspace,
    policy: SyncPolicy,
}

impl Engine for FjallEngine {
    const NAME: &'static str = "fjall";

    fn open(folder: &Path, policy: SyncPolicy) -> Result<Self, KvError> {
        let builder = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true);
        let db = builder.open().map_err(|e| failed("open", &e))?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = |name: &str| db.keyspace(name, options).map_err(|e| failed("open a keyspace", &e));
        let (data, meta) = (keyspace("data")?, keyspace("meta")?);
        let engine = Self { db, data, meta, policy };
        engine.sync()?;
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(|e| KvError::io("syncing the fjall folder", folder, &e))?;
        Ok(engine)
    }

    fn apply(&self, changes: &[(&Vec<u8>, &Option<Value>)]) -> Result<(), KvError> {
        let mut batch = self.db.batch();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.data, key.as_slice(), &value[..]),
                None => batch.remove(&self.data, key.as_slice()),
            }
        }
        batch.commit().map_err(|e| failed("write", &e))
    }

    fn sync(&self) -> Result<(), KvError> {
        let mode =
            if self.policy == SyncPolicy::EngineFlushOnly { PersistMode::Buffer } else { PersistMode::SyncData };
        self.db.persist(mode).map_err(|e| failed("sync its journal", &e))
    }

    fn applied(&self) -> Result<u64, KvError> {
        let stored = self.meta.get(APPLIED).map_err(|e| failed("read its position", &e))?;
        let Some(stored) = stored else { return Ok(0) };
        let bytes = stored[..].try_into();
        bytes.map(u64::from_be_bytes).map_err(|_| KvError::Engine {
            engine: Self::NAME,
            what: "read its position",
            cause: "it is not a number".to_owned(),
        })
    }

    fn set_applied(&self, number: u64) -> Result<(), KvError> {
        self.meta.insert(APPLIED, number.to_be_bytes()).map_err(|e| failed("write its position", &e))?;
        self.sync()
    }
}

impl Reader for FjallEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError> {
        let value = self.data.get(key).map_err(|e| failed("read", &e))?;
        Ok(value.map(|v| Value::from(&v[..])))
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page, KvError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let start = Bound::Included(range.start.clone());
        let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries = self.data.range::<Vec<u8>, _>((start, end));
        let mut page = Page::default();
        loop {
            let entry = match order {
                Order::Forward => entries.next(),
                Order::Reverse => entries.next_back(),
            };
            let Some(entry) = entry else { return Ok(page) };
            if page.entries.len() == limit {
                page.more = true;
                return Ok(page);
            }
            let (key, value) = entry.into_inner().map_err(|e| failed("scan", &e))?;
            page.entries.push((key.to_vec(), Value::from(&value[..])));
        }
    }
}

fn failed(what: &'static str, e: &fjall::Error) -> KvError {
    KvError::Engine { engine: FjallEngine::NAME, what, cause: e.to_string() }
}
