//! G15 for the files of a store: bytes are changed, cut and swapped in any file of a folder; the store opens and says what is
//! wrong, or refuses with a reason. It never panics, hangs, or gives a state that nobody wrote.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use checkpoints::open::{self, Address, OpenOptions};
use runtime::ports::store::Store;
use serde_json::{Value, json};

use super::{fill, setting, thread};

/// Damaged folders of the short run, for each store; `INTERLOCK_FOLDERS` sets another number.
const FOLDERS_SHORT: usize = 60;
/// Longest time of one open and check, of whatever else the machine does.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Bytes changed at most in one place.
const PIECE_BYTES: usize = 64;
const RECORDS: u64 = 6;

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
}

/// What a damaged folder led to.
#[derive(Default)]
struct Tally {
    refused: usize,
    found: usize,
    /// The damage hit nothing that counts: space that is not used, or a copy.
    unharmed: usize,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn damage(path: &Path, chance: &mut Chance) {
    let mut bytes = fs::read(path).unwrap();
    // Zeros ahead of what is written are most of a file: damage there says little.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let at = chance.below(used + 1).min(bytes.len());
    let end = (at + 1 + chance.below(PIECE_BYTES)).min(bytes.len());
    match chance.below(6) {
        0 => bytes.truncate(at),
        1 => bytes[at..end].fill(0),
        2 => bytes[at..end].iter_mut().for_each(|byte| *byte = chance.below(256) as u8),
        3 => bytes.extend_from_slice(&[0xa5; PIECE_BYTES]),
        4 => bytes.clear(),
        _ if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        _ => {}
    }
    fs::write(path, bytes).unwrap();
}

fn address(kind: &str, folder: &Path) -> Address {
    if kind == "sled" { Address::Sled(folder.to_owned()) } else { Address::Fjall(folder.to_owned()) }
}

/// What the threads of a whole store say.
async fn said(store: &dyn Store, id: &str) -> Option<Value> {
    Some(store.load(&thread(id)).await.ok()??.state.metadata["n"].clone())
}

/// Opens a damaged folder and looks at all of it.
async fn look(kind: &str, folder: &Path) -> Result<(), bool> {
    let store = open::open(&address(kind, folder), &OpenOptions::default()).map_err(|error| {
        assert!(!error.to_string().is_empty(), "a refusal says why");
        false
    })?;
    let findings = store.check().await.map_err(|_| false);
    // `b` was in the log only when its process died: a log whose end is damaged looks like one whose end was never written.
    if let Some(n) = said(&*store, "a").await {
        let is_whole = n == json!(RECORDS);
        assert!(
            is_whole || !matches!(&findings, Ok(found) if found.is_empty()),
            "a thread lost records in silence: {n}"
        );
    }
    drop(store.close().await);
    match findings {
        Ok(found) if found.is_empty() => Ok(()),
        _ => Err(true),
    }
}

fn damaged_folders_open_or_say_why(kind: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let (whole, copy) = (root.path().join("whole"), root.path().join("copy"));
    runtime.block_on(async {
        let store = open::open(&address(kind, &whole), &OpenOptions::default()).unwrap();
        fill(&*store, "a", RECORDS).await;
        store.close().await.unwrap();
        let store = open::open(&address(kind, &whole), &OpenOptions::default()).unwrap();
        fill(&*store, "b", RECORDS).await;
        // As a kill leaves it: the newest commits in the log only.
        let copied = std::process::Command::new("cp").arg("-r").arg(&whole).arg(root.path().join("killed")).status();
        assert!(copied.unwrap().success());
        store.close().await.unwrap();
    });
    let n_folders = setting("INTERLOCK_FOLDERS", FOLDERS_SHORT);
    let mut tally = Tally::default();
    for number in 0..n_folders {
        let mut chance = Chance(number as u64);
        let from = if chance.below(2) == 0 { "whole" } else { "killed" };
        drop(fs::remove_dir_all(&copy));
        let copied = std::process::Command::new("cp").arg("-r").arg(root.path().join(from)).arg(&copy).status();
        assert!(copied.unwrap().success());
        let all = files(&copy);
        let path = &all[chance.below(all.len())];
        damage(path, &mut chance);
        let began = Instant::now();
        let looked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(look(kind, &copy))));
        let place = path.strip_prefix(&copy).unwrap().display();
        let looked =
            looked.unwrap_or_else(|_| panic!("{kind}, folder {number}: damage in {place} of `{from}` is a panic"));
        assert!(began.elapsed() < TIME_MAX, "{kind}, folder {number}: damage in {place} hangs");
        match looked {
            Ok(()) => tally.unharmed += 1,
            Err(true) => tally.found += 1,
            Err(false) => tally.refused += 1,
        }
    }
    let Tally { refused, found, unharmed } = tally;
    println!(
        "G15 input=store_files store={kind} inputs={n_folders} refused={refused} found={found} unharmed={unharmed} panics=0"
    );
    assert!(refused + found > n_folders / 10, "the damage hardly hit anything");
}

#[test]
fn damaged_folders_open_or_say_why_on_sled() {
    damaged_folders_open_or_say_why("sled");
}

#[test]
fn damaged_folders_open_or_say_why_on_fjall() {
    damaged_folders_open_or_say_why("fjall");
}

/// fjall panics on some of its own bookkeeping, in a destructor too, which no caller could catch: it must never see it damaged.
#[test]
fn a_damaged_version_of_fjall_is_refused_by_name_whatever_byte_it_is() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("store");
    runtime.block_on(async {
        let store = open::open(&address("fjall", &folder), &OpenOptions::default()).unwrap();
        fill(&*store, "a", RECORDS).await;
        store.close().await.unwrap();
    });
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name == "current");
    let mut n_flips = 0;
    for current in files(&folder).into_iter().filter(named) {
        let number = u64::from_le_bytes(fs::read(&current).unwrap()[..8].try_into().unwrap());
        let version = current.with_file_name(format!("v{number}"));
        for path in [&current, &version] {
            let whole = fs::read(path).unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                fs::write(path, &bytes).unwrap();
                let opened = open::open(&address("fjall", &folder), &OpenOptions::default());
                let error = opened.err().unwrap_or_else(|| panic!("byte {at} of {} is believed", path.display()));
                assert!(error.to_string().contains("keyspaces"), "{error}");
                n_flips += 1;
            }
            fs::write(path, whole).unwrap();
        }
    }
    assert!(n_flips > 100, "hardly anything was damaged: {n_flips}");
    assert!(open::open(&address("fjall", &folder), &OpenOptions::default()).is_ok(), "whole again, it opens");
}
