//! Kill suite: a real process with 100 threads is killed at random moments and restarted until every thread is done.
//!
//! An outside ledger shows that nothing acknowledged was lost and nothing recorded was repeated (G1 for SIGKILL, G3, G4).
//! `INTERLOCK_KILLS` sets the number of kills (300 in the heavy stage).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Kills of the short run.
const KILLS_SHORT: u32 = 12;
/// Threads of the killed process.
const THREADS: u64 = 100;
/// Steps of each thread.
const STEPS: u64 = 6;
/// Longest time one process may take when nobody kills it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the ledger shows about one thread.
#[derive(Default)]
struct Seen {
    acked: u64,
    once: BTreeMap<u64, u32>,
    keys: BTreeMap<(String, u64), String>,
}

/// Reads a ledger in order; the first violation is the error.
fn check_ledger(text: &str) -> Result<u64, String> {
    let mut threads: BTreeMap<u64, Seen> = BTreeMap::new();
    let mut n_acks = 0;
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let (word, tid, step) = (fields.first().copied().unwrap_or(""), number(1), number(2));
        let seen = threads.entry(tid).or_default();
        match word {
            "ack" => {
                n_acks += 1;
                seen.acked = seen.acked.max(step);
            }
            "load" if step < seen.acked => {
                return Err(format!(
                    "thread {tid}: superstep {} was acknowledged and is gone ({step} loaded)",
                    seen.acked
                ));
            }
            "run" | "idem" | "once" if step <= seen.acked => {
                return Err(format!("thread {tid}: step {step} ran again after it was acknowledged: {line}"));
            }
            "once" | "idem" => {
                let key = fields.get(3).copied().unwrap_or("").to_owned();
                let known = seen.keys.entry((word.to_owned(), step)).or_insert_with(|| key.clone());
                if *known != key {
                    return Err(format!("thread {tid}: step {step} had key {known} and then {key}"));
                }
                let count = seen.once.entry(step).or_insert(0);
                *count += u32::from(word == "once");
                if *count > 1 {
                    return Err(format!("thread {tid}: the once-only call of step {step} was made twice"));
                }
            }
            _ => {}
        }
    }
    Ok(n_acks)
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Runs the child once; kills it after `life` when given. Returns whether it finished.
fn live_once(store: &str, folder: &Path, life: Option<Duration>) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_crash_child"))
        .args([store, &folder.join("store").display().to_string(), &folder.join("ledger").display().to_string()])
        .args([THREADS.to_string(), STEPS.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let began = Instant::now();
    let limit = life.unwrap_or(PATIENCE);
    while began.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            assert!(status.success(), "the child failed by itself: {status}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(life.is_some(), "the child did not finish within {PATIENCE:?}");
    child.kill().expect("the child can be killed");
    child.wait().expect("the child can be waited for");
    false
}

fn kills_lose_nothing(store: &str, kills: u32, seed: u64) {
    let mut chance = Chance(seed);
    let (mut killed, mut n_acks, mut n_runs) = (0, 0, 0);
    while killed < kills {
        let folder = tempfile::tempdir().expect("a folder");
        loop {
            let life = (killed < kills).then(|| Duration::from_millis(5 + chance.below(180)));
            let finished = live_once(store, folder.path(), life);
            let ledger = std::fs::read_to_string(folder.path().join("ledger")).unwrap_or_default();
            match check_ledger(&ledger) {
                Ok(acks) if finished => {
                    n_acks += acks;
                    n_runs += 1;
                    break;
                }
                Ok(_) => killed += 1,
                Err(why) => panic!("{store}, seed {seed}, after {killed} kills: {why}"),
            }
        }
    }
    assert!(n_acks > 0 && n_runs > 0, "nothing was acknowledged: the run proved nothing");
    println!("G3 store={store} kills={killed} runs={n_runs} acks={n_acks} lost=0 repeated=0");
}

fn kills() -> u32 {
    std::env::var("INTERLOCK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS_SHORT)
}

#[test]
fn kills_lose_nothing_on_sled() {
    kills_lose_nothing("sled", kills().div_ceil(2), 7);
}

#[test]
fn kills_lose_nothing_on_fjall() {
    kills_lose_nothing("fjall", kills().div_ceil(2), 11);
}

#[test]
fn the_ledger_check_has_teeth() {
    let ok = "run 1 1\nidem 1 1 k\nonce 1 1 j\nack 1 1\nload 1 1\nrun 1 2\n";
    assert_eq!(check_ledger(ok), Ok(1));
    for bad in [
        "ack 1 2\nload 1 1\n",
        "ack 1 1\nrun 1 1\n",
        "once 1 1 k\nonce 1 1 k\n",
        "idem 1 1 k\nidem 1 1 other\n",
        "ack 1 3\nidem 1 2 k\n",
    ] {
        assert!(check_ledger(bad).is_err(), "accepted: {bad}");
    }
}
