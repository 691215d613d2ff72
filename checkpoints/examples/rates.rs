//! Commits per second of a store beside what the disk itself does, in the same run, on the same disk.
//!
//! `cargo run --release -p checkpoints --example rates -- sled:FOLDER [WRITERS] [SECONDS] [BYTES]`

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use checkpoints::kv::{Durable, Engine, FjallEngine, SledEngine};
use checkpoints::open::{Address, OpenOptions};
use checkpoints::store::KvStore;
use runtime::ports::store::Store;
use runtime_core::channels::{Change, ChangeOp};
use runtime_core::ids::{CheckpointId, Epoch, RunId, Seq, ThreadId, Timestamp};
use runtime_core::record::{Commit, Op, Plan, Record, Source};

/// Appends of one record in the raw measurement.
const SMALL_BYTES: usize = 200;

struct Load {
    writers: u64,
    time: Duration,
    bytes: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |n: usize, default: u64| args.get(n).map_or(default, |a| a.parse().expect("a number"));
    let address: Address = args.get(1).map_or("memory", String::as_str).parse().expect("a store address");
    let load = Load {
        writers: number(2, 1),
        time: Duration::from_secs(number(3, 3)),
        bytes: usize::try_from(number(4, 1000)).expect("a length"),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let options = OpenOptions::default();
    match &address {
        Address::Memory => {
            let store = Arc::new(checkpoints::open::memory(&options));
            let (commits, time) = runtime.block_on(run(store, &load));
            println!("memory: {commits} commits, {:.0} ns each", time.as_nanos() as f64 / commits as f64);
        }
        Address::Sled(path) => durable::<SledEngine>(&runtime, path, &load),
        Address::Fjall(path) => durable::<FjallEngine>(&runtime, path, &load),
    }
}

fn durable<E: Engine>(runtime: &tokio::runtime::Runtime, path: &std::path::Path, load: &Load) {
    let raw_small = raw(path, SMALL_BYTES, 1);
    let opened = Instant::now();
    let kv = Durable::<E>::open(path, Default::default()).expect("the store opens");
    let opened = opened.elapsed();
    let store = Arc::new(KvStore::new(kv, checkpoints::envelope::Sealer::default()));
    let (commits, time) = runtime.block_on(run(store.clone(), load));
    let statistics = store.backend().expect("it is open").statistics();
    let rate = commits as f64 / time.as_secs_f64();
    let batch = (statistics.commits as f64 / statistics.syncs as f64).round().max(1.0) as usize;
    let raw_batch = raw(path, load.bytes, batch) * batch as f64;
    println!("{}: {rate:.0} commits/s, batch {batch}, open {opened:?}, turns {}", E::NAME, statistics.turns);
    println!("  raw small append+sync {raw_small:.0}/s, ratio {:.2}", rate / raw_small);
    println!("  raw append+sync of {} B at batch {batch}: {raw_batch:.0}/s, ratio {:.2}", load.bytes, rate / raw_batch);
    let closed = Instant::now();
    runtime.block_on(store.close()).expect("it closes");
    println!("  close {:?}", closed.elapsed());
}

/// Appends of `batch` records to a growing file, each followed by a sync, per second.
fn raw(path: &std::path::Path, bytes: usize, batch: usize) -> f64 {
    let place = path.with_extension("raw");
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&place).expect("a file");
    let data = vec![7; bytes * batch];
    let begun = Instant::now();
    let mut n = 0_u32;
    while begun.elapsed() < Duration::from_millis(700) {
        file.write_all(&data).and_then(|()| file.sync_data()).expect("the disk works");
        n += 1;
    }
    let rate = f64::from(n) / begun.elapsed().as_secs_f64();
    fs::remove_file(&place).expect("the file can be removed");
    rate
}

async fn run<S: Store>(store: Arc<S>, load: &Load) -> (u64, Duration) {
    let total = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..load.writers)
        .map(|n| tokio::spawn(write(store.clone(), n, begun + load.time, load.bytes, total.clone())))
        .collect();
    for task in tasks {
        task.await.expect("the writer ends well");
    }
    (total.load(Ordering::Relaxed), begun.elapsed())
}

async fn write<S: Store>(store: Arc<S>, n: u64, until: Instant, bytes: usize, total: Arc<AtomicU64>) {
    let thread = ThreadId::new(&format!("thread-{n}")).expect("a valid id");
    let text = incompressible(n, bytes);
    let mut seq = Seq(0);
    while Instant::now() < until {
        seq = seq.next();
        let text = format!("{:016x}{}", seq.0, &text[16.min(text.len())..]);
        let value = Arc::new(serde_json::Value::String(text));
        let changes = vec![Change { channel: "value".into(), op: ChangeOp::Set(value) }];
        let id = CheckpointId(u128::from(seq.0));
        let op = Op::Checkpoint { ns: "".into(), id, source: Source::Loop, changes, plan: Plan::default() };
        let record = Record { at: Timestamp(1), epoch: Epoch(1), run: Some(RunId(1)), ops: vec![op] };
        let claim = seq == Seq(1);
        let commit = Commit { thread: thread.clone(), seq, epoch: Epoch(1), claim, record };
        store.commit(commit).await.expect("the commit is accepted");
        total.fetch_add(1, Ordering::Relaxed);
    }
}

fn incompressible(seed: u64, bytes: usize) -> String {
    let mut noise = seed;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:016x}", noise ^ (noise >> 29)));
    }
    text
}
