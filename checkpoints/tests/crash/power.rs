//! Power cuts: the shim forgets what was not synced. `INTERLOCK_CUTS` sets the number of cuts per engine.

use std::fs;
use std::path::Path;

use checkpoints::kv::SyncPolicy;

use super::{Backend, CUT, Dice, Level, Orders, run, shim, verify};

/// Cuts per engine in the normal suite.
const CUTS: u64 = 100;
/// Cuts that one store lives through before a new one is begun.
const CUTS_PER_STORE: u64 = 6;
/// Later operations than this are hardly reached by a run.
const CUT_AT_MAX: u64 = 700;

/// What a series of cuts showed.
#[derive(Debug, Default)]
struct Tally {
    cuts: u64,
    acks: u64,
    wrong: Vec<String>,
}

#[test]
fn power_cuts_lose_nothing_on_sled() {
    check_power_cuts(Backend::Sled, Level::Map);
}

#[test]
fn power_cuts_lose_nothing_on_fjall() {
    check_power_cuts(Backend::Fjall, Level::Map);
}

#[test]
fn store_power_cuts_lose_nothing_on_sled() {
    check_power_cuts(Backend::Sled, Level::Store);
}

#[test]
fn store_power_cuts_lose_nothing_on_fjall() {
    check_power_cuts(Backend::Fjall, Level::Store);
}

#[test]
fn without_the_log_sync_power_cuts_lose_records() {
    let tally = series((Backend::Sled, Level::Store), SyncPolicy::LogUnsynced, 60, false);
    assert!(!tally.wrong.is_empty(), "the test would not notice a missing sync: {tally:?}");
    println!("G1 weakened=log_not_synced level=Store lost_within_cuts={} teeth=ok", tally.cuts);
}

#[test]
fn without_the_log_sync_power_cuts_lose() {
    let tally = series((Backend::Sled, Level::Map), SyncPolicy::LogUnsynced, 60, false);
    assert!(!tally.wrong.is_empty(), "the test would not notice a missing sync: {tally:?}");
    println!("G1 weakened=log_not_synced level=Map lost_within_cuts={} teeth=ok", tally.cuts);
}

#[test]
fn without_the_sync_of_sleds_file_power_cuts_lose() {
    let tally = series((Backend::Sled, Level::Map), SyncPolicy::EngineFlushOnly, 60, false);
    assert!(!tally.wrong.is_empty(), "the test would not notice a missing sync: {tally:?}");
    println!("G1 weakened=sled_flush_alone level=Map lost_within_cuts={} teeth=ok", tally.cuts);
}

fn check_power_cuts(backend: Backend, level: Level) {
    let cuts = std::env::var("INTERLOCK_CUTS").ok().map_or(CUTS, |n| n.parse().expect("INTERLOCK_CUTS is a number"));
    // The two levels share an engine's cuts.
    let tally = series((backend, level), SyncPolicy::Full, cuts.div_ceil(2), true);
    println!(
        "G1 backend={backend:?} level={level:?} cuts={} acks={} wrong={}",
        tally.cuts,
        tally.acks,
        tally.wrong.len()
    );
    assert!(tally.acks > tally.cuts, "work was done: {tally:?}");
    assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
}

/// Runs stores through cuts until `cuts` happened; every finding names the seed that shows it again.
fn series(what: (Backend, Level), sync: SyncPolicy, cuts: u64, keep_going: bool) -> Tally {
    let root = tempfile::tempdir().unwrap();
    let mut tally = Tally::default();
    let first = std::env::var("INTERLOCK_CUT_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1_u64);
    for store in first.. {
        if tally.cuts >= cuts || (!keep_going && !tally.wrong.is_empty()) {
            break;
        }
        let folder = root.path().join(format!("store-{store}"));
        one_store(&folder, what, sync, store, &mut tally);
        if !tally.wrong.is_empty() && std::env::var_os("INTERLOCK_KEEP").is_some() {
            println!("kept: {}", root.keep().display());
            return tally;
        }
        fs::remove_dir_all(&folder).unwrap();
        let _absent = fs::remove_dir_all(folder.with_extension("removed"));
        let _absent = fs::remove_dir_all(root.path().join(format!("store-{store}.removed")));
    }
    tally
}

fn one_store(folder: &Path, (backend, level): (Backend, Level), sync: SyncPolicy, store: u64, tally: &mut Tally) {
    let mut dice = Dice::new(store);
    let mut acks = 0;
    for cut in 0..CUTS_PER_STORE {
        let seed = store * CUTS_PER_STORE + cut;
        let orders = Orders { folder: folder.to_path_buf(), backend, seed, commits: 120, sync, level };
        let at = if cut == 0 { 1 + dice.below(60) } else { 1 + dice.below(CUT_AT_MAX) };
        let mut command = orders.command();
        command
            .env("LD_PRELOAD", shim())
            .env("POWERCUT_DIR", folder)
            .env("POWERCUT_AT", at.to_string())
            .env("POWERCUT_SEED", seed.to_string())
            .env("POWERCUT_REPORT", orders.report());
        let output = run(command);
        let found = match output.status.code() {
            Some(CUT) => {
                tally.cuts += 1;
                // Half of the stores are opened by the next process that will crash, not by us.
                if cut + 1 == CUTS_PER_STORE || dice.below(2) == 0 { verify(&orders) } else { Ok(acks) }
            }
            Some(0) => verify(&orders),
            _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        };
        match found {
            Ok(n) => acks = n,
            Err(wrong) => {
                tally.wrong.push(format!("store {store} cut {cut} at operation {at}: {wrong}"));
                break;
            }
        }
    }
    tally.acks += acks;
}
