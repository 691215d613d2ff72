//! sled 0.34 as the engine under the commit log.
//!
//! Two things sled does not do for us. It takes data for durable that is not: see `sled_sync`. And a leaf that outgrows a
//! quarter of a segment goes to a file of its own that nobody syncs: leaves split at 16 entries, so values are cut into
//! pieces small enough that 17 of them stay below that size.

use std::fs::{self, File};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::memory::panic_text;
use super::{Engine, KeyRange, KvError, Order, Page, Reader, SyncPolicy, Value, WriteMap, sled_sync};

/// Longest value that sled sees in one piece.
pub const PIECE_BYTES_MAX: usize = 4_000;
/// sled allocates a write buffer of this size; a leaf above a quarter of it would become a file of its own.
const SEGMENT_BYTES: usize = 512 * 1024;
/// The system's page cache is behind it; what is hot is in the recent writes.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Most pieces one value can have, so that a damaged count cannot ask for endless reads.
const PIECES_MAX: u32 = (super::VALUE_BYTES_MAX / PIECE_BYTES_MAX) as u32 + 1;

/// What sled says of a file that is locked.
const LOCKED: &str = "could not acquire lock";
/// How long the threads of a closed database may keep its lock, and how often that is looked at.
const LET_GO_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const WHOLE: u8 = 0;
const PIECES: u8 = 1;
const APPLIED: &[u8] = b"applied";
const OPENED: &[u8] = b"opened";
/// Ending of a snapshot that sled has not finished.
const UNFINISHED: &str = ".generating";

/// A sled database.
pub struct SledEngine {
    db: sled::Db,
    data: sled::Tree,
    pieces: sled::Tree,
    meta: sled::Tree,
    file: File,
    path: PathBuf,
    policy: SyncPolicy,
}

impl SledEngine {
    fn open_parts(folder: &Path, policy: SyncPolicy) -> Result<Self, KvError> {
        let config = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None)
            .use_compression(false);
        let db = open_when_let_go(&config)?;
        let tree = |name: &str| guarded("open a tree", || db.open_tree(name));
        let (data, pieces, meta) = (tree("data")?, tree("pieces")?, tree("meta")?);
        let path = folder.join("db");
        let file = File::open(&path).map_err(|e| KvError::io("opening sled's file", &path, &e))?;
        Ok(Self { db, data, pieces, meta, file, path, policy })
    }

    /// A build in which sled's syncs bypass ours would lose data: it must not open a store.
    fn check_syncs(&self) -> Result<(), KvError> {
        let before = sled_sync::calls();
        // A new value each time: sled writes nothing when nothing changes.
        let mark: u64 = rand::random();
        guarded("write its mark", || self.meta.insert(OPENED, &mark.to_be_bytes()))?;
        self.sync()?;
        if sled_sync::calls() > before {
            return Ok(());
        }
        let cause = "its syncs reach the C library; link `sync_file_range` of this crate before it".to_owned();
        Err(KvError::Engine { engine: Self::NAME, what: "be made durable in this build", cause })
    }

    fn sync(&self) -> Result<(), KvError> {
        guarded("flush", || self.db.flush())?;
        if self.policy == SyncPolicy::EngineFlushOnly {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| KvError::io("syncing sled's file", &self.path, &e))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), KvError> {
        if value.len() <= PIECE_BYTES_MAX {
            let old = guarded("write", || self.data.insert(key, with_tag(WHOLE, value)))?;
            return self.drop_pieces(key, 0, old);
        }
        let count = value.len().div_ceil(PIECE_BYTES_MAX) as u32;
        for (i, piece) in value.chunks(PIECE_BYTES_MAX).enumerate() {
            guarded("write a piece", || self.pieces.insert(piece_key(key, i as u32), piece))?;
        }
        let old = guarded("write", || self.data.insert(key, with_tag(PIECES, &count.to_be_bytes())))?;
        self.drop_pieces(key, count, old)
    }

    fn delete(&self, key: &[u8]) -> Result<(), KvError> {
        let old = guarded("delete", || self.data.remove(key))?;
        self.drop_pieces(key, 0, old)
    }

    /// Removes the pieces of a former value from number `kept` on.
    fn drop_pieces(&self, key: &[u8], kept: u32, old: Option<sled::IVec>) -> Result<(), KvError> {
        let count = old.as_deref().and_then(piece_count).unwrap_or(0);
        (kept..count).try_for_each(|i| guarded("delete a piece", || self.pieces.remove(piece_key(key, i))).map(drop))
    }

    fn assemble(&self, key: &[u8], stored: &[u8]) -> Result<Value, KvError> {
        match stored.split_first() {
            Some((&WHOLE, value)) => return Ok(value.into()),
            Some((&PIECES, _)) => {}
            _ => return Err(self.damaged(key, "its first byte is unknown")),
        }
        let count = piece_count(stored).ok_or_else(|| self.damaged(key, "its number of pieces is unreadable"))?;
        let mut value = Vec::new();
        for i in 0..count {
            let piece = guarded("read a piece", || self.pieces.get(piece_key(key, i)))?;
            value.extend_from_slice(&piece.ok_or_else(|| self.damaged(key, "a piece of it is missing"))?);
        }
        Ok(value.into())
    }

    fn damaged(&self, key: &[u8], how: &str) -> KvError {
        let detail = format!("entry {}: {how}", hex::encode(key));
        KvError::Damaged { what: "the sled store", path: self.path.clone(), detail }
    }
}

impl Engine for SledEngine {
    const NAME: &'static str = "sled";

    fn open(folder: &Path, policy: SyncPolicy) -> Result<Self, KvError> {
        if policy == SyncPolicy::EngineFlushOnly {
            sled_sync::weaken();
        }
        let is_new = !folder.join("db").exists();
        remove_unfinished_snapshots(folder)?;
        let engine = Self::open_parts(folder, policy)?;
        engine.check_syncs()?;
        sync_folder(folder)?;
        if is_new {
            // sled writes its settings without a sync; a store without them would not open again.
            sync_folder(&folder.join("conf"))?;
            sync_folder(&folder.join("blobs"))?;
        }
        Ok(engine)
    }

    fn take_over(&self, writes: &WriteMap, number: u64) -> Result<(), KvError> {
        for (key, value) in writes {
            match value {
                Some(value) => self.put(key, value)?,
                None => self.delete(key)?,
            }
        }
        self.sync()?;
        guarded("write its position", || self.meta.insert(APPLIED, &number.to_be_bytes()))?;
        self.sync()
    }

    fn applied(&self) -> Result<u64, KvError> {
        let stored = guarded("read its position", || self.meta.get(APPLIED))?;
        let Some(stored) = stored else { return Ok(0) };
        let bytes = stored.as_ref().try_into().map_err(|_| self.damaged(APPLIED, "it is not a number"))?;
        Ok(u64::from_be_bytes(bytes))
    }
}

impl Reader for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError> {
        match guarded("read", || self.data.get(key))? {
            Some(stored) => self.assemble(key, &stored).map(Some),
            None => Ok(None),
        }
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
                Order::Forward => guarded("scan", || entries.next().transpose())?,
                Order::Reverse => guarded("scan", || entries.next_back().transpose())?,
            };
            let Some((key, stored)) = entry else { return Ok(page) };
            if page.entries.len() == limit {
                page.more = true;
                return Ok(page);
            }
            let value = self.assemble(&key, &stored)?;
            page.entries.push((key.to_vec(), value));
        }
    }
}

/// Opens the database once its last owner has let go. Its lock lives as long as the last of sled's own threads, which on a busy
/// machine outlives the close that it belongs to; who may open the folder at all was decided before, by the folder's lock.
fn open_when_let_go(config: &sled::Config) -> Result<sled::Db, KvError> {
    let until = Instant::now() + LET_GO_MAX;
    loop {
        match guarded("open", || config.open()) {
            Err(KvError::Engine { cause, .. }) if cause.contains(LOCKED) && Instant::now() < until => {
                std::thread::sleep(LOOK_AGAIN);
            }
            opened => return opened,
        }
    }
}

/// sled takes a snapshot whose writing was cut short for its newest one and then refuses to open. Without it sled reads the
/// one before, or its log.
fn remove_unfinished_snapshots(folder: &Path) -> Result<(), KvError> {
    let failed = |e| KvError::io("removing an unfinished snapshot of sled", folder, &e);
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

fn sync_folder(path: &Path) -> Result<(), KvError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| KvError::io("syncing sled's folder", path, &e))
}

fn with_tag(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut res = Vec::with_capacity(bytes.len() + 1);
    res.push(tag);
    res.extend_from_slice(bytes);
    res
}

fn piece_count(stored: &[u8]) -> Option<u32> {
    let (&tag, count) = stored.split_first()?;
    let count = u32::from_be_bytes(count.try_into().ok().filter(|_| tag == PIECES)?);
    (count <= PIECES_MAX).then_some(count)
}

/// The key's length goes first, so that no key's pieces lie between those of another.
fn piece_key(key: &[u8], i: u32) -> Vec<u8> {
    let mut res = Vec::with_capacity(key.len() + 6);
    res.extend((key.len() as u16).to_be_bytes());
    res.extend_from_slice(key);
    res.extend(i.to_be_bytes());
    res
}

/// sled panics on some damage; a damaged file must be an error of the store, not the end of the process.
fn guarded<T>(what: &'static str, call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, KvError> {
    let failed = |cause| KvError::Engine { engine: SledEngine::NAME, what, cause };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(res) => res.map_err(|e| failed(e.to_string())),
        Err(panic) => Err(failed(panic_text(&*panic))),
    }
}
