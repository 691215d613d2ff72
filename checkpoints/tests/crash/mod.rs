//! Crash proof (G1, G11): cut the power, fail an operation, kill the process; open again; nothing acknowledged is missing.

mod calls;
mod child;
#[cfg(feature = "failpoints")]
mod failpoints;
mod faults;
mod power;
mod threads;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use checkpoints::kv::{Durable, DurableOptions, Engine, SyncPolicy};

/// Exit status of a process whose power was cut.
const CUT: i32 = 99;

/// Which engine a child writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sled,
    Fjall,
}

/// What a child writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Keys and values.
    Map,
    /// Records of threads.
    Store,
}

/// A small generator; the sequences must be the same on every machine.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What a child is told.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) folder: PathBuf,
    pub(crate) backend: Backend,
    pub(crate) seed: u64,
    pub(crate) commits: u64,
    pub(crate) sync: SyncPolicy,
    pub(crate) level: Level,
}

impl Orders {
    fn acks(&self) -> PathBuf {
        self.folder.with_extension("acks")
    }

    fn report(&self) -> PathBuf {
        self.folder.with_extension("report")
    }

    /// The same test binary again, as the process that will crash.
    fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let body = if self.level == Level::Map { "crash::child::child" } else { "crash::threads::child" };
        command
            .args(["--exact", body, "--ignored", "--nocapture", "--test-threads=1"])
            .env("CHILD_FOLDER", &self.folder)
            .env("CHILD_BACKEND", format!("{:?}", self.backend))
            .env("CHILD_SEED", self.seed.to_string())
            .env("CHILD_COMMITS", self.commits.to_string())
            .env("CHILD_SYNC", format!("{:?}", self.sync));
        command
    }

    /// Half of the children write on the calling thread where they can, half of those one writer after the other.
    fn writes_here(&self) -> bool {
        !self.seed.is_multiple_of(2)
    }

    fn takes_turns(&self) -> bool {
        self.seed % 4 == 1
    }

    /// Runs what each of `n` writers does; the error of one that failed.
    fn run_writers<E, W>(&self, n: u64, writer: impl Fn(u64) -> W) -> Option<E>
    where
        E: Send + 'static,
        W: Future<Output = Result<(), E>> + Send + 'static,
    {
        use tokio::runtime::Builder;
        let several = || Builder::new_multi_thread().worker_threads(2).build();
        let runtime = if self.writes_here() { several() } else { Builder::new_current_thread().build() };
        runtime.unwrap().block_on(async {
            let mut failed = None;
            let mut tasks = Vec::new();
            for n in 0..n {
                let task = tokio::spawn(writer(n));
                if self.takes_turns() {
                    failed = task.await.unwrap().err().or(failed);
                } else {
                    tasks.push(task);
                }
            }
            for task in tasks {
                failed = task.await.unwrap().err().or(failed);
            }
            failed
        })
    }

    fn options(&self) -> DurableOptions {
        let turn_bytes = [32 << 10, 256 << 10, 4 << 20][(self.seed % 3) as usize];
        DurableOptions { turn_bytes, sync: self.sync, ..DurableOptions::default() }
    }
}

/// Builds the shim once per test process.
fn shim() -> &'static Path {
    static SHIM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-support/powercut.c");
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("powercut-{}.so", std::process::id()));
        let built = Command::new("gcc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("the crash tests need gcc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    })
}

/// Between its fork and its exec a child holds the locks of its parent, so nobody may look at a store at that moment.
static FORKING: Mutex<()> = Mutex::new(());

fn run(mut command: Command) -> Output {
    let forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(forking);
    child.wait_with_output().unwrap()
}

/// Opens the store of `orders` and checks it against the acknowledgements; the error says what is wrong.
fn verify(orders: &Orders) -> Result<u64, String> {
    let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    if orders.level == Level::Store {
        return threads::check(orders);
    }
    match orders.backend {
        Backend::Sled => verify_as::<checkpoints::kv::SledEngine>(orders),
        Backend::Fjall => verify_as::<checkpoints::kv::FjallEngine>(orders),
    }
}

fn verify_as<E: Engine>(orders: &Orders) -> Result<u64, String> {
    let kv = Durable::<E>::open(&orders.folder, orders.options()).map_err(|e| format!("does not open: {e}"))?;
    child::check(&kv, &orders.acks())
}
