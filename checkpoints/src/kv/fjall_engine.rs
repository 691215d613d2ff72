//! fjall 3 as the engine under the commit log.
//!
//! fjall's own journal is not used: a torn end of it can keep fjall from opening, and the commit log has the same data.
//! Every turn of the log becomes one sorted ingestion: table files, synced, made known by one atomic change of version.

use std::fs::File;
use std::io::Read as _;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use xxhash_rust::xxh3::xxh3_128;

use super::{Engine, KeyRange, KvError, Order, Page, Reader, SyncPolicy, Value, WriteMap};

/// The system's page cache is behind it.
const CACHE_BYTES: u64 = 1024 * 1024;
/// The least that fjall accepts.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
const WORKERS: usize = 1;
/// Folder of a database's keyspaces, and the file in each that names its version.
const KEYSPACES: &str = "keyspaces";
const CURRENT: &str = "current";
/// Keyspaces that are looked at: ours, and fjall's own.
const KEYSPACES_MAX: usize = 64;
/// Longest version file; it has some fifty bytes for each table.
const VERSION_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Sorts before every key of a store, so that an ingestion can begin with it.
const APPLIED: &[u8] = &[0];
const FIRST_KEY: &[u8] = &[1];

/// A fjall database.
pub struct FjallEngine {
    /// Kept for its background worker.
    _db: Database,
    data: Keyspace,
}

impl Engine for FjallEngine {
    const NAME: &'static str = "fjall";

    fn open(folder: &Path, _policy: SyncPolicy) -> Result<Self, KvError> {
        check_versions(folder)?;
        let is_new = !folder.exists() || std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        let builder = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true);
        let db = builder.open().map_err(|e| failed("open", &e))?;
        let data = db.keyspace("data", KeyspaceCreateOptions::default).map_err(|e| failed("open a keyspace", &e))?;
        if is_new {
            shorten_journals(folder)?;
        }
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(|e| KvError::io("syncing the fjall folder", folder, &e))?;
        Ok(Self { _db: db, data })
    }

    fn take_over(&self, writes: &WriteMap, number: u64) -> Result<(), KvError> {
        let mut ingestion = self.data.start_ingestion().map_err(|e| failed("begin a table", &e))?;
        ingestion.write(APPLIED, number.to_be_bytes()).map_err(|e| failed("write its position", &e))?;
        for (key, value) in writes {
            match value {
                Some(value) => ingestion.write(key.as_slice(), &value[..]),
                None => ingestion.write_tombstone(key.as_slice()),
            }
            .map_err(|e| failed("write a table", &e))?;
        }
        ingestion.finish().map_err(|e| failed("finish a table", &e))
    }

    fn applied(&self) -> Result<u64, KvError> {
        let stored = self.data.get(APPLIED).map_err(|e| failed("read its position", &e))?;
        let Some(stored) = stored else { return Ok(0) };
        let bytes = stored[..].try_into();
        bytes.map(u64::from_be_bytes).map_err(|_| KvError::Engine {
            engine: Self::NAME,
            what: "read its position",
            cause: "it is not a number".to_owned(),
        })
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
        let start = Bound::Included(range.start.as_slice().max(FIRST_KEY).to_vec());
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

/// Each keyspace names its current version with that file's checksum, which fjall writes and does not compare: it panics on some of
/// what it reads there, and its own destructor panics on top of that, which ends the process. So it is compared here.
fn check_versions(folder: &Path) -> Result<(), KvError> {
    let keyspaces = folder.join(KEYSPACES);
    let failed = |e| KvError::io("reading fjall's keyspaces", &keyspaces, &e);
    let entries = match std::fs::read_dir(&keyspaces) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries.take(KEYSPACES_MAX) {
        let keyspace = entry.map_err(failed)?.path();
        if keyspace.join(CURRENT).exists() {
            check_version(&keyspace)?;
        }
    }
    Ok(())
}

/// `current` is the version's number, the xxh3-128 of its file `v<number>`, both little-endian, and the kind of checksum.
fn check_version(keyspace: &Path) -> Result<(), KvError> {
    let damaged = |path: &Path, detail: &str| {
        let detail = detail.to_owned();
        Err(KvError::Damaged { what: "the fjall store", path: path.to_owned(), detail })
    };
    let current = keyspace.join(CURRENT);
    let named = read(&current)?;
    let Some((number, rest)) = named.split_first_chunk::<8>() else { return damaged(&current, "it is too short") };
    let Some((checksum, [0])) = rest.split_first_chunk::<16>() else {
        return damaged(&current, "it is not a number, a checksum and their kind");
    };
    let version = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
    match xxh3_128(&read(&version)?) == u128::from_le_bytes(*checksum) {
        true => Ok(()),
        false => damaged(&version, "it does not have the checksum that is written down for it"),
    }
}

/// A file of a keyspace's own bookkeeping: small, unless it is damaged.
fn read(path: &Path) -> Result<Vec<u8>, KvError> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(VERSION_BYTES_MAX).read_to_end(&mut bytes));
    file.map(|_| bytes).map_err(|e| KvError::io("reading fjall's version", path, &e))
}

/// fjall makes its journal 64 MiB long ahead of time; nothing is ever written to it, and its next open shortens it too.
fn shorten_journals(folder: &Path) -> Result<(), KvError> {
    let shorten = || {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "jnl") && path.metadata()?.blocks() == 0 {
                let file = File::options().write(true).open(&path)?;
                file.set_len(0)?;
                file.sync_all()?;
            }
        }
        Ok(())
    };
    shorten().map_err(|e| KvError::io("shortening fjall's empty journal", folder, &e))
}

fn failed(what: &'static str, e: &fjall::Error) -> KvError {
    KvError::Engine { engine: FjallEngine::NAME, what, cause: e.to_string() }
}
