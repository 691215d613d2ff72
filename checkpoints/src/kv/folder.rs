//! A store's folder: who holds it, what is in it, and how a new one comes to be without a moment in which a power cut
//! leaves something that neither opens nor can be begun again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::KvError;
use super::log::FILE_NAMES;

/// Version of the folder's layout and of the stored records.
pub const FORMAT_VERSION: u32 = 1;

const LOCK_FILE: &str = "interlock.lock";
const FORMAT_FILE: &str = "format";
const FORMAT_TEMP: &str = "format.new";
const FORMAT_WORD: &str = "interlock-store";
/// A longer format or lock file was not written by us.
const SMALL_FILE_BYTES_MAX: u64 = 4_096;
const COMMAND_CHARS_MAX: usize = 200;

/// A folder that this process holds, ready for its engine.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    engine: &'static str,
    salt: u64,
    /// Kept open: the lock lasts as long as the file.
    _lock: File,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Creating,
    Ready,
}

impl Folder {
    /// Takes the folder for `engine`, making or finishing a new store if there is none.
    pub fn open(path: &Path, engine: &'static str) -> Result<Self, KvError> {
        refuse_foreign(path)?;
        fs::create_dir_all(path).map_err(|e| KvError::io("creating the store's folder", path, &e))?;
        let lock = take_lock(path)?;
        let salt = match read_format(path, engine)? {
            Some((Stage::Ready, salt)) => salt,
            Some((Stage::Creating, _)) => {
                remove_unfinished(path, engine)?;
                create(path, engine)?
            }
            None => create(path, engine)?,
        };
        Ok(Self { path: path.to_path_buf(), engine, salt, _lock: lock })
    }

    /// Names the engine of an existing store, without taking it; `None` if there is no store.
    pub fn engine_of(path: &Path) -> Result<Option<String>, KvError> {
        let Some(text) = read_small(&path.join(FORMAT_FILE))? else { return Ok(None) };
        Ok(text.lines().find_map(|l| l.strip_prefix("engine ")).map(str::to_owned))
    }

    /// Marks a new store as complete; call it when the engine has opened.
    pub fn finish(&self) -> Result<(), KvError> {
        if matches!(read_format(&self.path, self.engine)?, Some((Stage::Ready, _))) {
            return Ok(());
        }
        write_format(&self.path, self.engine, self.salt, &Stage::Ready)
    }

    /// Where the engine keeps its files.
    pub fn engine_path(&self) -> PathBuf {
        self.path.join(self.engine)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number that tells this store's log frames from any other bytes.
    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    /// Bytes that the folder's files occupy.
    pub fn disk_bytes(&self) -> Result<u64, KvError> {
        occupied(&self.path).map_err(|e| KvError::io("measuring the store", &self.path, &e))
    }
}

fn occupied(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Engines remove files while we look.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        total += if meta.is_dir() { occupied(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(total)
}

/// A folder with other things in it is not ours to write to.
fn refuse_foreign(path: &Path) -> Result<(), KvError> {
    let foreign = |found: String| {
        let remedy = "Give a folder that is empty, absent, or an Interlock store";
        Err(KvError::Format { path: path.to_path_buf(), found, remedy })
    };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return foreign("is a file, not a folder".to_owned());
        }
        Err(e) => return Err(KvError::io("reading the store's folder", path, &e)),
    };
    if path.join(FORMAT_FILE).exists() {
        return Ok(());
    }
    for entry in entries {
        let entry = entry.map_err(|e| KvError::io("reading the store's folder", path, &e))?;
        let name = entry.file_name();
        if name != LOCK_FILE && name != FORMAT_TEMP {
            return foreign(format!("is not an Interlock store: it has `{}` and no `format`", name.to_string_lossy()));
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, KvError> {
    let lock_path = path.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&lock_path);
    let mut file = file.map_err(|e| KvError::io("opening the lock", &lock_path, &e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = read_small(&lock_path)?.filter(|h| !h.trim().is_empty());
            let holder = holder.map_or_else(|| "another process".to_owned(), |h| h.trim().to_owned());
            return Err(KvError::Held { path: path.to_path_buf(), holder });
        }
        Err(TryLockError::Error(e)) => return Err(KvError::io("locking the store", &lock_path, &e)),
    }
    let command: String = std::env::args().collect::<Vec<_>>().join(" ").chars().take(COMMAND_CHARS_MAX).collect();
    let text = format!("process {} (`{command}`), which opened it at {}\n", std::process::id(), jiff::Timestamp::now());
    file.set_len(0)
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(|e| KvError::io("writing the lock", &lock_path, &e))?;
    Ok(file)
}

fn read_small(path: &Path) -> Result<Option<String>, KvError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(KvError::io("reading a small file of the store", path, &e)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| KvError::io("reading a small file of the store", path, &e))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn read_format(path: &Path, engine: &'static str) -> Result<Option<(Stage, u64)>, KvError> {
    let Some(text) = read_small(&path.join(FORMAT_FILE))? else { return Ok(None) };
    let failed = |found: String, remedy| Err(KvError::Format { path: path.to_path_buf(), found, remedy });
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name).and_then(|l| l.strip_prefix(' ')));
    let version = field(FORMAT_WORD).and_then(|v| v.parse::<u32>().ok());
    let salt = field("salt").and_then(|s| u64::from_str_radix(s, 16).ok());
    let stage = match field("stage") {
        Some("creating") => Some(Stage::Creating),
        Some("ready") => Some(Stage::Ready),
        _ => None,
    };
    match (version, field("engine"), stage, salt) {
        (Some(v), ..) if v > FORMAT_VERSION => failed(
            format!("has format {v}; this program knows formats up to {FORMAT_VERSION}"),
            "Use the program version that wrote it, or a newer one",
        ),
        (Some(_), Some(found), ..) if found != engine => failed(
            format!("is a store of the engine `{found}`, opened as `{engine}`"),
            "Name the right engine, or move it with `interlock store copy`",
        ),
        (Some(_), Some(_), Some(stage), Some(salt)) => Ok(Some((stage, salt))),
        _ => failed(
            "has an unreadable `format` file".to_owned(),
            "If the folder is an Interlock store, restore that file from a copy",
        ),
    }
}

fn write_format(path: &Path, engine: &str, salt: u64, stage: &Stage) -> Result<(), KvError> {
    let stage = match stage {
        Stage::Creating => "creating",
        Stage::Ready => "ready",
    };
    let text = format!("{FORMAT_WORD} {FORMAT_VERSION}\nengine {engine}\nsalt {salt:016x}\nstage {stage}\n");
    let (temp, place) = (path.join(FORMAT_TEMP), path.join(FORMAT_FILE));
    let written = File::create(&temp).and_then(|mut f| {
        f.write_all(text.as_bytes())?;
        f.sync_all()
    });
    written
        .and_then(|()| fs::rename(&temp, &place))
        .and_then(|()| File::open(path)?.sync_all())
        .map_err(|e| KvError::io("writing the format file", &place, &e))
}

/// Order matters: the mark `creating` is durable before anything else exists, so that a half-made store is known as one.
fn create(path: &Path, engine: &'static str) -> Result<u64, KvError> {
    let salt = rand::random();
    sync_parent(path)?;
    write_format(path, engine, salt, &Stage::Creating)?;
    let engine_path = path.join(engine);
    fs::create_dir_all(&engine_path).map_err(|e| KvError::io("creating the engine's folder", &engine_path, &e))?;
    for name in FILE_NAMES {
        let log = path.join(name);
        File::create(&log).and_then(|f| f.sync_all()).map_err(|e| KvError::io("creating the commit log", &log, &e))?;
    }
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| KvError::io("syncing the store's folder", path, &e))?;
    Ok(salt)
}

fn sync_parent(path: &Path) -> Result<(), KvError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|f| f.sync_all()).map_err(|e| KvError::io("syncing the folder above", parent, &e))
}

/// A store whose creation was cut short has never acknowledged anything.
fn remove_unfinished(path: &Path, engine: &'static str) -> Result<(), KvError> {
    let engine_path = path.join(engine);
    match fs::remove_dir_all(&engine_path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(KvError::io("removing a half-made store", &engine_path, &e)),
    }
}
