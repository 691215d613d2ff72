//! G11 at the border of the kernel: `strace` lets the k-th call of one kind fail in every thread of a real process. What
//! failed is reported or harmless, and nothing acknowledged is missing afterwards.

use std::fs;
use std::process::Command;

use checkpoints::kv::SyncPolicy;

use super::{Backend, Level, Orders, run, verify};

/// Calls that a store makes durable things with.
const CALLS: [&str; 5] = ["fsync", "fdatasync", "pwrite64", "write", "ftruncate"];
const ERRORS: [&str; 2] = ["EIO", "ENOSPC"];
/// Points of the short run for each store; `INTERLOCK_FAULT_POINTS` sets another number.
const POINTS_SHORT: usize = 10;
/// The k-th calls that fail: k runs through all of these, in leaps.
const PLACES: usize = 40;
const PLACE_STEP: usize = 7;
/// The first calls of `write` are the test harness's own.
const WRITES_SKIPPED: usize = 6;
/// Exit status of a child whose store did not open and said so, whose commit failed, and whose harness could not print.
const NOT_OPENED: i32 = 3;
const REPORTED: i32 = 4;
const HARNESS: i32 = 101;

/// What the points of one store showed.
#[derive(Default)]
struct Tally {
    points: usize,
    injected: usize,
    reported: usize,
    acks: u64,
    /// Calls of which at least one was made to fail.
    calls: std::collections::BTreeSet<&'static str>,
}

fn fail_one(backend: Backend, point: usize, tally: &mut Tally) {
    let (call, error) = (CALLS[point % CALLS.len()], ERRORS[point / CALLS.len() % ERRORS.len()]);
    let skipped = if call == "write" { WRITES_SKIPPED } else { 0 };
    let at = 1 + skipped + point * PLACE_STEP % PLACES;
    let root = tempfile::tempdir().unwrap();
    let (folder, trace) = (root.path().join("store"), root.path().join("trace"));
    let (seed, level) = (point as u64 + 1, Level::Map);
    let orders = Orders { folder, backend, seed, commits: 20, sync: SyncPolicy::Full, level };
    let child = orders.command();
    let mut command = Command::new("strace");
    command
        .args(["-f", "--seccomp-bpf", "-o"])
        .arg(&trace)
        .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error={error}:when={at}")])
        .arg(child.get_program())
        .args(child.get_args())
        .envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = run(command);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let injected = fs::read_to_string(&trace).unwrap_or_default().contains("(INJECTED)");
    let place = format!("{backend:?}: {call} number {at} fails with {error}");
    match output.status.code() {
        Some(0) => {}
        Some(REPORTED | NOT_OPENED) => {
            assert!(words.contains("commit failed") || words.contains("does not open"), "{place}: {words}");
            tally.reported += 1;
        }
        Some(HARNESS) if call == "write" && words.contains("io error") => {}
        status => panic!("{place}: {status:?}\n{words}"),
    }
    tally.points += 1;
    tally.injected += usize::from(injected);
    if injected {
        tally.calls.insert(call);
    }
    tally.acks += verify(&orders).unwrap_or_else(|why| panic!("{place}: {why}"));
}

fn failing_calls_lose_nothing(backend: Backend) {
    let n_points = std::env::var("INTERLOCK_FAULT_POINTS").ok().map_or(POINTS_SHORT, |n| n.parse().expect("a number"));
    let mut tally = Tally::default();
    for point in 0..n_points {
        fail_one(backend, point, &mut tally);
    }
    let Tally { points, injected, reported, acks, calls } = tally;
    let calls = Vec::from_iter(calls).join(",");
    println!(
        "G11 backend={backend:?} by=strace points={points} injected={injected} calls={calls} reported={reported} \
         acks={acks} lost=0"
    );
    assert!(injected * 4 >= points, "the faults hit no call of the store: {injected} of {points}");
    assert!(reported > 0 && acks > 0, "nothing was reported, or no work was done");
}

#[test]
fn failing_calls_lose_nothing_on_sled() {
    failing_calls_lose_nothing(Backend::Sled);
}

#[test]
fn failing_calls_lose_nothing_on_fjall() {
    failing_calls_lose_nothing(Backend::Fjall);
}
