//! A process that dies at each point around a commit, restarts and goes on: nothing acknowledged is missing.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering};

use checkpoints::kv::SyncPolicy;

use super::{Backend, Level, Orders, run, verify};

const POINTS: [&str; 4] = ["store-before-log", "store-before-sync", "store-before-publish", "store-before-answer"];
/// The passes of a point at which the process dies, one process each, all on one store.
const PASSES: [u64; 6] = [1, 2, 7, 30, 3, 90];

/// In the child: lets the process die at the point and pass of its orders.
pub(crate) fn arm() {
    let var = |name: &str| std::env::var(name).ok();
    let (Some(point), Some(at)) = (var("CHILD_DIES_BEFORE"), var("CHILD_DIES_AT")) else { return };
    let at: u64 = at.parse().unwrap();
    let passes = AtomicU64::new(0);
    let die = move || {
        if passes.fetch_add(1, Ordering::Relaxed) + 1 == at {
            std::process::abort();
        }
    };
    fail::cfg_callback(point, die).unwrap();
}

fn check_deaths(backend: Backend) {
    let (mut acks, mut n_acks) = (0, 0);
    for point in POINTS {
        let root = tempfile::tempdir().unwrap();
        for (round, at) in PASSES.into_iter().enumerate() {
            let (folder, seed) = (root.path().join("store"), round as u64 + 1);
            let level = Level::Store;
            let orders = Orders { folder, backend, seed, commits: 120, sync: SyncPolicy::Full, level };
            let mut command = orders.command();
            command.env("CHILD_DIES_BEFORE", point).env("CHILD_DIES_AT", at.to_string());
            let output = run(command);
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.signal().is_some(), "{point}, pass {at}: it did not die\n{words}");
            acks = verify(&orders).unwrap_or_else(|e| panic!("{point}, pass {at}: {e}"));
        }
        assert!(acks > 0, "{point}: work was done");
        n_acks += acks;
    }
    let (points, deaths) = (POINTS.len(), POINTS.len() * PASSES.len());
    println!("G1 backend={backend:?} failpoints={points} deaths={deaths} acks={n_acks} lost=0");
}

#[test]
fn deaths_around_a_commit_lose_nothing_on_sled() {
    check_deaths(Backend::Sled);
}

#[test]
fn deaths_around_a_commit_lose_nothing_on_fjall() {
    check_deaths(Backend::Fjall);
}
