//! Kill suite: a real process with 100 threads is killed at random moments and restarted until every thread is done.
//!
//! An outside ledger shows that nothing acknowledged was lost, nothing recorded was repeated, and every call whose outcome
//! nobody knew was put to people (G1 for SIGKILL, G3, G4). A process that is stopped and goes on keeps its store to itself
//! (G5). `INTERLOCK_KILLS` sets the number of kills, `INTERLOCK_PAUSES` the number of stops.

mod ledger;
mod pauses;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ledger::{Boundaries, Figures, check};

/// Kills of the short run, both stores together.
const KILLS_SHORT: u32 = 24;
/// Threads of the killed process.
const THREADS: u64 = 100;
/// Steps of each thread.
const STEPS: u64 = 5;
/// Longest time one process may take when nobody kills it.
const PATIENCE: Duration = Duration::from_secs(180);
/// A process lives until the ledger has grown by less than this: some ten lives make a run.
const GROWTH_BYTES_MAX: u64 = 12_000;
/// One life in so many ends by the clock, wherever the process is: mostly while it recovers.
const BY_CLOCK_EVERY: u64 = 5;
const BY_CLOCK_MS_MAX: u64 = 120;
/// A run with fewer kills is too short to ask that each boundary was hit.
const BOUNDARIES_FROM_KILLS: u32 = 60;
/// Kills after which the weakened process must have been caught.
const WEAK_KILLS_MAX: u32 = 60;

pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// It may finish.
    Whole,
    /// After this many more bytes of ledger.
    Grows(u64),
    /// After this time.
    Lasts(Duration),
}

/// One store and ledger, and the processes that work on them.
pub(crate) struct Scene {
    store: &'static str,
    folder: tempfile::TempDir,
    weak: Option<&'static str>,
}

impl Scene {
    pub(crate) fn new(store: &'static str) -> Self {
        Self { store, folder: tempfile::tempdir().expect("a folder"), weak: None }
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    pub(crate) fn store_folder(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn spawn(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_crash_child"))
            .args([self.store.as_ref(), self.store_folder().as_os_str(), self.ledger().as_os_str()])
            .args([THREADS.to_string(), STEPS.to_string()])
            .args(self.weak)
            .stdout(Stdio::null())
            .spawn()
            .expect("the child starts")
    }

    pub(crate) fn figures(&self) -> Result<Figures, String> {
        check(&std::fs::read_to_string(self.ledger()).unwrap_or_default())
    }

    /// Runs the child once. Returns whether it finished by itself.
    fn live_once(&self, life: Life) -> bool {
        let before = length(&self.ledger());
        let mut child = self.spawn();
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                assert!(status.success(), "the child failed by itself: {status}");
                return true;
            }
            let over = match life {
                Life::Whole => false,
                Life::Grows(bytes) => length(&self.ledger()) > before + bytes,
                Life::Lasts(time) => began.elapsed() >= time,
            };
            if over {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "the child did not finish within {PATIENCE:?}");
            std::thread::sleep(Duration::from_micros(300));
        }
        child.kill().expect("the child can be killed");
        child.wait().expect("the child can be waited for");
        false
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn life(chance: &mut Chance) -> Life {
    match chance.below(BY_CLOCK_EVERY) {
        0 => Life::Lasts(Duration::from_millis(1 + chance.below(BY_CLOCK_MS_MAX))),
        _ => Life::Grows(chance.below(GROWTH_BYTES_MAX)),
    }
}

fn kills_lose_nothing(store: &'static str, kills: u32, seed: u64) {
    let mut chance = Chance(seed);
    let (mut killed, mut n_runs) = (0, 0);
    let (mut sum, mut at) = (Figures::default(), Boundaries::default());
    while killed < kills {
        let scene = Scene::new(store);
        loop {
            let life = if killed < kills { life(&mut chance) } else { Life::Whole };
            let finished = scene.live_once(life);
            let figures = scene.figures().unwrap_or_else(|why| panic!("{store}, seed {seed}, kill {killed}: {why}"));
            if finished {
                n_runs += 1;
                sum.acks += figures.acks;
                sum.calls += figures.calls;
                sum.surfaced += figures.surfaced;
                at.add(figures.kills_at);
                break;
            }
            killed += 1;
        }
    }
    println!(
        "G3 store={store} kills={killed} runs={n_runs} acks={} calls={} unknown_put_to_people={} before_intent={} \
         after_intent={} during_call={} before_persist={} lost=0 repeated=0",
        sum.acks, sum.calls, sum.surfaced, at.before_intent, at.after_intent, at.during_call, at.before_persist
    );
    // What a restart finishes by itself has nobody who is told: with many kills in one run only a part is acknowledged.
    assert!(sum.acks * 2 >= n_runs * THREADS, "too little was acknowledged: the run proved nothing");
    assert!(sum.surfaced > u64::from(killed), "kills hardly met a call: {sum:?}");
    let is_long = kills >= BOUNDARIES_FROM_KILLS;
    assert!(!is_long || at.least() > 0, "a boundary was never hit: {at:?}");
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn kills_lose_nothing_on_sled() {
    kills_lose_nothing("sled", setting("INTERLOCK_KILLS", KILLS_SHORT).div_ceil(2), 7);
}

#[test]
fn kills_lose_nothing_on_fjall() {
    kills_lose_nothing("fjall", setting("INTERLOCK_KILLS", KILLS_SHORT).div_ceil(2), 11);
}

/// Teeth of G3: calls that leave before their intent is durable are caught by the same check of the same ledger.
#[test]
fn kills_catch_calls_that_leave_before_their_intent() {
    let mut chance = Chance(5);
    let mut killed = 0;
    while killed < WEAK_KILLS_MAX {
        let scene = Scene { weak: Some("eager"), ..Scene::new("sled") };
        while killed < WEAK_KILLS_MAX && !scene.live_once(life(&mut chance)) {
            killed += 1;
            if let Err(why) = scene.figures() {
                println!("G3 weakened=intents_not_durable caught_after_kills={killed} teeth=ok");
                assert!(why.contains("made twice") || why.contains("without asking"), "{why}");
                return;
            }
        }
    }
    panic!("{killed} kills did not show that calls leave before their intent");
}

#[test]
fn the_ledger_check_has_teeth() {
    let ok = "life\nrun 1 1\nidem 1 1 k\nwant 1 1\npermit 1 1\nlife\nload 1 0\nrun 1 1\nidem 1 1 k\nwant 1 1\ndoubt 1 1\n\
              permit 1 1\nonce 1 1 j\ntold 1 1\nack 1 1\nload 1 1\nrun 1 2\n";
    let figures = check(ok).expect("a good ledger");
    assert_eq!((figures.acks, figures.calls, figures.surfaced), (1, 3, 1));
    assert_eq!(figures.kills_at.after_intent, 1);
    for bad in [
        "ack 1 2\nload 1 1\n",
        "ack 1 1\nrun 1 1\n",
        "permit 1 1\nonce 1 1 k\nonce 1 1 k\n",
        "idem 1 1 k\nidem 1 1 other\n",
        "ack 1 3\nidem 1 2 k\n",
        "permit 1 1\nlife\nwant 1 1\npermit 1 1\n",
        "permit 1 1\nonce 1 1 k\nlife\nack 1 1\n",
    ] {
        assert!(check(bad).is_err(), "accepted: {bad}");
    }
}
