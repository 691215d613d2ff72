//! The commit log: two files that take turns, frames that prove themselves.
//!
//! A frame starts on a 4 KiB border and no later write touches its sectors, so a torn write can only hurt a frame that
//! nobody was told about. Frames carry a rising number; what the engine has taken over is known by number, so a file is
//! used again by writing over it: after the first round every write goes to blocks the file already has, and a sync
//! needs no journal transaction of the file system (1.5 to 2 times as many syncs per second as an appended file).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::{KvError, SyncPolicy, Value, WriteMap};

/// Frames start on this border; a power cut is assumed to damage at most whole blocks of this size that were being written.
const BLOCK: usize = 4_096;
const FRAME_HEADER_LEN: usize = 32;
const FRAME_MAGIC: u32 = 0x494c_4b31;
/// Zeros written ahead of the frames, at least and at most.
const GROW_MIN: u64 = 256 * 1024;
const GROW_MAX: u64 = 1024 * 1024;
/// A file larger than this gives its blocks back when its turn is over.
const KEEP_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// A larger file is not read: no writer makes one.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const TOMBSTONE: u32 = u32::MAX;

/// Names of the two files in the store's folder.
pub(super) const FILE_NAMES: [&str; 2] = ["log-a", "log-b"];

/// The writing end; owned by the committer.
pub(super) struct CommitLog {
    files: [LogFile; 2],
    current: usize,
    next: u64,
    salt: u64,
    sync: SyncPolicy,
    frame: Vec<u8>,
}

/// What one file holds beyond what the engine has.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) map: WriteMap,
    pub(super) last: u64,
}

/// A log just opened.
pub(super) struct Opened {
    pub(super) log: CommitLog,
    /// Writes of the file whose turn was over when the process ended, then of the file in use.
    pub(super) older: Recovered,
    pub(super) newer: Recovered,
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// Where the next frame goes.
    tail: u64,
    /// Bytes that have blocks.
    allocated: u64,
}

impl CommitLog {
    /// Opens both files and reads every frame after `applied`.
    pub(super) fn open(folder: &Path, salt: u64, applied: u64, sync: SyncPolicy) -> Result<Opened, KvError> {
        let [a, b] = FILE_NAMES.map(|name| LogFile::open(folder.join(name)));
        let mut files = [a?, b?];
        let mut found = [files[0].read(salt, applied)?, files[1].read(salt, applied)?];
        let current = usize::from(found[1].last_number() > found[0].last_number());
        check_numbers(&files, &found, applied)?;
        for (file, frames) in files.iter_mut().zip(&found) {
            file.tail = frames.tail;
            if !frames.frames.is_empty() {
                // A frame may be in the page cache only: nobody may see it before it is on the disk.
                file.sync()?;
            }
        }
        let newer = fold(&files[current], std::mem::take(&mut found[current]))?;
        let older = fold(&files[1 - current], std::mem::take(&mut found[1 - current]))?;
        let next = newer.last.max(applied) + 1;
        let log = Self { files, current, next, salt, sync, frame: Vec::new() };
        Ok(Opened { log, older, newer })
    }

    /// Appends `writes` as one frame and makes it durable; returns its number.
    pub(super) fn append(&mut self, writes: &WriteMap) -> Result<u64, KvError> {
        let number = self.next;
        encode_frame(&mut self.frame, writes, self.salt, number);
        let file = &mut self.files[self.current];
        file.write(&self.frame)?;
        fail::fail_point!("store-before-sync");
        if self.sync != SyncPolicy::LogUnsynced {
            file.sync()?;
        }
        self.next += 1;
        // One commit of 64 MiB must not keep its memory for ever.
        self.frame.shrink_to(GROW_MAX as usize);
        Ok(number)
    }

    /// Bytes of frames in the file in use.
    pub(super) fn current_bytes(&self) -> u64 {
        self.files[self.current].tail
    }

    /// Changes to the other file, whose frames the engine must have durably.
    pub(super) fn turn(&mut self) -> Result<(), KvError> {
        self.current = 1 - self.current;
        self.files[self.current].restart()
    }

    /// Gives all blocks back; every frame must be in the engine durably.
    pub(super) fn clear(&mut self) -> Result<(), KvError> {
        self.files.iter_mut().try_for_each(LogFile::clear)
    }

    pub(super) fn last_number(&self) -> u64 {
        self.next - 1
    }
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Self, KvError> {
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|e| KvError::io("opening the commit log", &path, &e))?;
        let allocated = file.metadata().map_err(|e| KvError::io("reading the commit log", &path, &e))?.len();
        Ok(Self { path, file, tail: 0, allocated })
    }

    fn damaged(&self, detail: String) -> KvError {
        KvError::Damaged { what: "the commit log", path: self.path.clone(), detail }
    }

    fn write(&mut self, frame: &[u8]) -> Result<(), KvError> {
        let end = self.tail + frame.len() as u64;
        self.file.write_all_at(frame, self.tail).map_err(|e| KvError::io("writing a commit", &self.path, &e))?;
        if end > self.allocated {
            let grow = self.allocated.clamp(GROW_MIN, GROW_MAX);
            let zeros = vec![0; grow as usize];
            self.file.write_all_at(&zeros, end).map_err(|e| KvError::io("growing the commit log", &self.path, &e))?;
            self.allocated = end + grow;
        }
        self.tail = end;
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        // Data and size; times do not matter.
        self.file.sync_data().map_err(|e| KvError::io("syncing a commit", &self.path, &e))
    }

    fn restart(&mut self) -> Result<(), KvError> {
        self.tail = 0;
        if self.allocated > KEEP_BYTES_MAX { self.clear() } else { Ok(()) }
    }

    fn clear(&mut self) -> Result<(), KvError> {
        self.tail = 0;
        self.allocated = 0;
        self.file.set_len(0).map_err(|e| KvError::io("emptying the commit log", &self.path, &e))
    }

    /// Every whole frame numbered above `applied`.
    fn read(&self, salt: u64, applied: u64) -> Result<Found, KvError> {
        if self.allocated > FILE_BYTES_MAX {
            return Err(self.damaged(format!("it has {} bytes, more than any writer makes", self.allocated)));
        }
        let mut bytes = vec![0; self.allocated as usize];
        self.file.read_exact_at(&mut bytes, 0).map_err(|e| KvError::io("reading the commit log", &self.path, &e))?;
        let mut found = Found::default();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some((number, payload)) = decode_frame(rest, salt) else {
                at += BLOCK;
                continue;
            };
            let len = padded(FRAME_HEADER_LEN + payload.len());
            if number > applied {
                found.frames.push((number, payload.to_vec()));
                found.tail = (at + len) as u64;
            }
            at += len;
        }
        Ok(found)
    }
}

#[derive(Default)]
struct Found {
    frames: Vec<(u64, Vec<u8>)>,
    tail: u64,
}

impl Found {
    fn last_number(&self) -> u64 {
        self.frames.last().map_or(0, |(number, _)| *number)
    }
}

/// The numbers after `applied` must follow each other without a gap, older file first.
fn check_numbers(files: &[LogFile; 2], found: &[Found; 2], applied: u64) -> Result<(), KvError> {
    let first = usize::from(found[1].last_number() < found[0].last_number());
    let mut expected = applied + 1;
    for i in [first, 1 - first] {
        for (number, _) in &found[i].frames {
            if *number != expected {
                let detail = format!("commit {expected} is missing, yet commit {number} follows it");
                return Err(files[i].damaged(detail));
            }
            expected += 1;
        }
    }
    Ok(())
}

fn fold(file: &LogFile, found: Found) -> Result<Recovered, KvError> {
    let mut res = Recovered { last: found.last_number(), ..Recovered::default() };
    for (number, payload) in found.frames {
        decode_writes(&payload, &mut res.map)
            .ok_or_else(|| file.damaged(format!("commit {number} has a good checksum and unreadable content")))?;
    }
    Ok(res)
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

fn checksum(header: &[u8], payload: &[u8], salt: u64) -> u64 {
    let mut hasher = Xxh3::with_seed(salt);
    hasher.update(header);
    hasher.update(payload);
    hasher.digest()
}

/// Header: magic u32, payload length u32, number u64, spare u64, checksum u64 of all before it and of the payload.
fn encode_frame(out: &mut Vec<u8>, writes: &WriteMap, salt: u64, number: u64) {
    out.clear();
    out.resize(FRAME_HEADER_LEN, 0);
    for (key, value) in writes {
        out.extend((key.len() as u32).to_le_bytes());
        out.extend(value.as_ref().map_or(TOMBSTONE, |v| v.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let len = (out.len() - FRAME_HEADER_LEN) as u32;
    out[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    out[4..8].copy_from_slice(&len.to_le_bytes());
    out[8..16].copy_from_slice(&number.to_le_bytes());
    let sum = checksum(&out[..24], &out[FRAME_HEADER_LEN..], salt);
    out[24..32].copy_from_slice(&sum.to_le_bytes());
    out.resize(padded(out.len()), 0);
}

fn decode_frame(bytes: &[u8], salt: u64) -> Option<(u64, &[u8])> {
    let (header, rest) = bytes.split_at_checked(FRAME_HEADER_LEN)?;
    if u32_at(header, 0)? != FRAME_MAGIC {
        return None;
    }
    let payload = rest.get(..u32_at(header, 4)? as usize)?;
    let sum = u64::from_le_bytes(header.get(24..32)?.try_into().ok()?);
    let number = u64::from_le_bytes(header.get(8..16)?.try_into().ok()?);
    (checksum(&header[..24], payload, salt) == sum).then_some((number, payload))
}

fn decode_writes(mut bytes: &[u8], map: &mut WriteMap) -> Option<()> {
    while !bytes.is_empty() {
        let (key_len, value_len) = (u32_at(bytes, 0)? as usize, u32_at(bytes, 4)?);
        let (key, rest) = bytes.get(8..)?.split_at_checked(key_len)?;
        let (value, rest) = match value_len {
            TOMBSTONE => (None, rest),
            len => rest.split_at_checked(len as usize).map(|(v, rest)| (Some(Value::from(v)), rest))?,
        };
        map.insert(key.to_vec(), value);
        bytes = rest;
    }
    Some(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
