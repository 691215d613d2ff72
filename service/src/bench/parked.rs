//! W5: threads that park at an interrupt, what each costs on disk and in memory, and their resume in another process.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use graphs::CompiledGraph;
use runtime_core::event::{AnswerInput, Principal};
use runtime_core::ids::ThreadId;
use runtime_core::record::Outcome as RunOutcome;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::child;
use super::graphs_used::{PARK, compile};
use super::measure::{Marks, allocated_bytes, quantile, rss_mb};
use super::workloads::{Bench, block_on, folder_bytes};
use super::{BenchArgs, Outcome};

/// One in so many threads is parked first: what a process needs once, caches of a fixed size included, is not counted as theirs.
const WARM_SHARE: usize = 5;
/// So many times the threads are in the store that a start is compared with: over the smaller one caches are full already.
const MORE: usize = 2;

pub(super) fn w5(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let (n, size) = (args.n.unwrap_or(10_000), args.size.unwrap_or(1024));
    let mut metrics = Map::new();
    let mut ok = true;
    if args.phase != "resume" {
        ok &= block_on(park(args, n, size, &mut metrics))?;
    }
    if args.phase == "all" {
        metrics.insert("open_rss_per_thread_bytes".to_owned(), json!(open_rss(args, n)?));
        // Cold means another process: the resumes run in a child that opens the store by itself.
        let child = child::again(args, &["--phase", "resume", "--keep", "--sample", &args.sample.to_string()])?;
        ok &= child["ok"] == json!(true);
        if let Some(more) = child["metrics"].as_object() {
            metrics.extend(more.clone());
        }
    } else if args.phase == "resume" {
        ok &= block_on(resume(args, n, &mut metrics))?;
    }
    Ok(Outcome { metrics: Value::Object(metrics), params: json!({"threads": n, "size": size}), ok })
}

async fn park(args: &BenchArgs, n: usize, size: usize, metrics: &mut Map<String, Value>) -> anyhow::Result<bool> {
    let bench = Arc::new(Bench::open(args, !args.keep, Marks::default(), None)?);
    let graph = compile(PARK)?;
    let n_warm = n / WARM_SHARE;
    let began = Instant::now();
    let mut ok = park_range(&bench, &graph, args, (args.offset, args.offset + n_warm, size)).await?;
    let warm_s = began.elapsed().as_secs_f64();
    bench.backend.rest().await?;
    let before = allocated_bytes("self");
    let began = Instant::now();
    ok &= park_range(&bench, &graph, args, (args.offset + n_warm, args.offset + n, size)).await?;
    let elapsed = warm_s + began.elapsed().as_secs_f64();
    bench.backend.rest().await?;
    let after = allocated_bytes("self");
    let logical = bench.size().await?.logical;
    if let Some(bench) = Arc::into_inner(bench) {
        bench.close().await?;
    }
    let disk = folder_bytes(&args.folder());
    metrics.extend([
        ("park_s".to_owned(), json!(elapsed)),
        ("park_per_s".to_owned(), json!(n as f64 / elapsed)),
        ("rss_before_mb".to_owned(), json!(before / 1_048_576.0)),
        ("rss_after_mb".to_owned(), json!(after / 1_048_576.0)),
        ("rss_per_thread_bytes".to_owned(), json!((after - before) / (n - n_warm).max(1) as f64)),
        ("store_logical_per_thread".to_owned(), json!(logical / n as u64)),
        ("store_disk_per_thread".to_owned(), json!(disk / n as u64)),
    ]);
    Ok(ok)
}

/// Parks the threads of a range of numbers, several at a time.
async fn park_range(
    bench: &Arc<Bench>,
    graph: &Arc<CompiledGraph>,
    args: &BenchArgs,
    (start, end, size): (usize, usize, usize),
) -> anyhow::Result<bool> {
    let next = Arc::new(AtomicUsize::new(start));
    let mut workers = JoinSet::new();
    for _ in 0..args.parallel {
        let (bench, graph, next) = (Arc::clone(bench), Arc::clone(graph), Arc::clone(&next));
        workers.spawn(async move {
            let mut ok = true;
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= end {
                    return anyhow::Ok(ok);
                }
                let ended = bench.run(&graph, &i.to_string(), json!({"size": size, "counter": 0})).await?;
                ok &= ended.outcome == RunOutcome::Interrupted;
            }
        });
    }
    let mut ok = true;
    while let Some(worker) = workers.join_next().await {
        ok &= worker??;
    }
    Ok(ok)
}

/// What each further parked thread adds to the memory of a process that starts over them.
fn open_rss(args: &BenchArgs, n: usize) -> anyhow::Result<f64> {
    let more = BenchArgs { backend_folder: Some("more".to_owned()), n: Some(MORE * n), ..args.clone() };
    child::again(&more, &["--phase", "park"])?;
    let (more, these) = (child::idle_rss(&more, "open")?, child::idle_rss(args, "open")?);
    Ok((more - these) / (MORE * n - n).max(1) as f64)
}

/// The child that starts over a store and rests.
pub(super) fn open_and_rest(args: &BenchArgs) -> anyhow::Result<()> {
    block_on(async {
        let bench = Bench::open(args, false, Marks::default(), None)?;
        bench.engine.add_graph(compile(PARK)?).await?;
        bench.engine.recover().await?;
        bench.backend.rest().await?;
        println!("done");
        std::io::stdin().read_exact(&mut [0]).ok();
        bench.close().await
    })
}

async fn resume(args: &BenchArgs, n: usize, metrics: &mut serde_json::Map<String, Value>) -> anyhow::Result<bool> {
    let ready = Instant::now();
    let bench = Bench::open(args, false, Marks::default(), None)?;
    let ready_ms = ready.elapsed().as_secs_f64() * 1e3;
    let mut latencies = Vec::new();
    let mut ok = true;
    let mut at = 0x9e37_79b9_usize;
    for _ in 0..args.sample.min(n) {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let thread = (args.offset + (at >> 33) % n).to_string();
        let id = ThreadId::new(&thread)?;
        let began = Instant::now();
        let open = bench.store.interrupts(Some(&id), 1).await?;
        let Some(row) = open.first() else { continue };
        let by = Principal { user: "bench".to_owned(), groups: Vec::new() };
        let answer = AnswerInput { id: row.interrupt.id, digest: None, value: json!("yes"), by };
        let (_, ended) = bench.engine.answer_and_join(&id, vec![answer], Value::Null).await?;
        latencies.push(began.elapsed().as_secs_f64() * 1e3);
        ok &= ended.is_some_and(|ended| ended.outcome == RunOutcome::Success);
        ok &=
            bench.value(&thread, "reply").await? == json!("yes") && bench.value(&thread, "counter").await? == json!(2);
    }
    metrics.extend([
        ("process_ready_ms".to_owned(), json!(ready_ms)),
        ("resume_p50_ms".to_owned(), json!(quantile(&latencies, 0.5))),
        ("resume_p99_ms".to_owned(), json!(quantile(&latencies, 0.99))),
        ("resume_first_ms".to_owned(), json!(latencies.first().copied().unwrap_or(0.0))),
        ("resumed".to_owned(), json!(latencies.len())),
        ("resume_rss_mb".to_owned(), json!(rss_mb("self"))),
    ]);
    bench.close().await?;
    Ok(ok)
}
