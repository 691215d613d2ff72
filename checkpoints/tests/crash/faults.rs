//! Failed operations and killed processes: what failed is reported, the store closes itself, and the next open has every
//! acknowledged commit.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use checkpoints::kv::SyncPolicy;

use super::{Backend, Dice, Level, Orders, run, shim, verify};

/// Operations at which each fault happens.
const POINTS: u64 = 24;
/// Exit status of a child whose commit failed and was reported.
const REPORTED: i32 = 4;
/// Exit status of a child whose store did not open and said so.
const NOT_OPENED: i32 = 3;
const KILLS: u64 = 12;

fn orders(folder: &std::path::Path, backend: Backend, seed: u64) -> Orders {
    Orders { folder: folder.to_path_buf(), backend, seed, commits: 40, sync: SyncPolicy::Full, level: Level::Map }
}

/// G11: `fault` at many operations of one run each.
fn check_faults(backend: Backend, fault: &str) {
    let mut n_reported = 0;
    let mut n_reached = 0;
    let mut n_acks = 0;
    for point in 0..POINTS {
        let root = tempfile::tempdir().unwrap();
        let orders = orders(&root.path().join("store"), backend, point + 1);
        let at = 1 + point * 5;
        let mut command = orders.command();
        command
            .env("LD_PRELOAD", shim())
            .env("POWERCUT_DIR", &orders.folder)
            .env("POWERCUT_AT", at.to_string())
            .env("POWERCUT_FAULT", fault)
            .env("POWERCUT_REPORT", orders.report());
        let output = run(command);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => {}
            Some(REPORTED | NOT_OPENED) => {
                assert!(words.contains("commit failed") || words.contains("does not open"), "{words}");
                n_reported += 1;
            }
            status => panic!("{fault} at operation {at}: {status:?}\n{words}"),
        }
        n_acks += verify(&orders).unwrap_or_else(|e| panic!("{fault} at operation {at}: {e}"));
        let report = fs::read_to_string(orders.report()).unwrap();
        let n_operations: u64 = report.trim().rsplit(' ').next().unwrap().parse().unwrap();
        n_reached += u64::from(n_operations >= at);
    }
    println!("G11 backend={backend:?} fault={fault} points={POINTS} reported={n_reported} acks={n_acks} lost=0");
    assert!(n_reached > POINTS * 3 / 4, "only {n_reached} of {POINTS} faults happened");
    // Half a write is completed by the next one; the others must be noticed.
    assert!(fault == "SHORT" || n_reported > POINTS / 2, "only {n_reported} of {POINTS} faults were reported");
}

#[test]
fn a_failing_disk_loses_nothing_on_sled() {
    check_faults(Backend::Sled, "EIO");
}

#[test]
fn a_full_disk_loses_nothing_on_sled() {
    check_faults(Backend::Sled, "ENOSPC");
}

#[test]
fn short_writes_lose_nothing_on_sled() {
    check_faults(Backend::Sled, "SHORT");
}

#[test]
fn a_failing_disk_loses_nothing_on_fjall() {
    check_faults(Backend::Fjall, "EIO");
}

#[test]
fn a_full_disk_loses_nothing_on_fjall() {
    check_faults(Backend::Fjall, "ENOSPC");
}

/// A kill at an operation of the shim would be a cut; here the process is killed from outside, at any moment.
fn check_kills(backend: Backend) {
    let root = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(7);
    let mut n_killed = 0;
    let mut acks = 0;
    for round in 0..KILLS {
        let orders = Orders { commits: 100_000, ..orders(&root.path().join("store"), backend, round + 1) };
        let mut child = orders.command().stdout(std::process::Stdio::null()).spawn().unwrap();
        // The moment is chosen by progress, not by the clock: after some more acknowledgements.
        let enough = acks + dice.below(400);
        let path = orders.acks();
        while fs::read_to_string(&path).unwrap_or_default().lines().count() as u64 <= enough {
            assert_eq!(child.try_wait().unwrap(), None, "the child ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        n_killed += u64::from(child.wait().unwrap().signal().is_some());
        acks = verify(&orders).unwrap_or_else(|e| panic!("kill {round}: {e}"));
    }
    println!("kills backend={backend:?} kills={n_killed} acks={acks} lost=0");
    assert_eq!(n_killed, KILLS);
}

#[test]
fn killed_processes_lose_nothing_on_sled() {
    check_kills(Backend::Sled);
}

#[test]
fn killed_processes_lose_nothing_on_fjall() {
    check_kills(Backend::Fjall);
}
