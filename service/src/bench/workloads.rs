//! W1 to W5, in this process.

use std::sync::Arc;
use std::time::Instant;

use graphs::CompiledGraph;
use runtime::ports::store::{Store, StoreSize};
use runtime::{Ended, Engine, Start};
use runtime_core::ids::ThreadId;
use runtime_core::record::{Outcome as RunOutcome, RunOptions};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::graphs_used::{APPEND, CHAIN, FANOUT, compile, functions};
use super::measure::{Marks, cpu_s, quantile, rss_mb};
use super::stores::{self, Backend, per_sync};
use super::{BenchArgs, Outcome};

/// An engine over a store of the asked kind.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) store: Arc<dyn Store>,
    pub(super) backend: Backend,
    pub(super) marks: Arc<Marks>,
    args: BenchArgs,
}

/// The tokio runtime of all workloads.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

impl Bench {
    pub(super) fn open(
        args: &BenchArgs,
        fresh: bool,
        marks: Marks,
        log: Option<std::fs::File>,
    ) -> anyhow::Result<Self> {
        let folder = args.folder();
        if fresh && folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        let (store, backend) = stores::open(&args.backend, &folder)?;
        let marks = Arc::new(marks);
        let engine = functions(Engine::builder(Arc::clone(&store)), &marks, log).build();
        Ok(Self { engine, store, backend, marks, args: args.clone() })
    }

    fn start_of(&self, graph: &Arc<CompiledGraph>, thread: &str, input: Value) -> anyhow::Result<Start> {
        let options = RunOptions { durability: self.args.durability()?, ..RunOptions::default() };
        let thread = ThreadId::new(thread)?;
        Ok(Start { graph: Arc::clone(graph), thread, input, options, metadata: Value::Null })
    }

    pub(super) async fn run(&self, graph: &Arc<CompiledGraph>, thread: &str, input: Value) -> anyhow::Result<Ended> {
        Ok(self.engine.start(self.start_of(graph, thread, input)?).await?.ended().await?)
    }

    /// Runs many threads at once and waits for all; `acknowledged` hears of each start that is durable.
    pub(super) async fn run_all(
        &self,
        graph: &Arc<CompiledGraph>,
        inputs: Vec<(String, Value)>,
        acknowledged: fn(&str),
    ) -> anyhow::Result<bool> {
        let mut all = JoinSet::new();
        for (thread, input) in inputs {
            let (engine, start) = (self.engine.clone(), self.start_of(graph, &thread, input)?);
            all.spawn(async move {
                let run = engine.start(start).await?;
                acknowledged(&thread);
                run.ended().await
            });
        }
        let mut ok = true;
        while let Some(ended) = all.join_next().await {
            ok &= ended??.outcome == RunOutcome::Success;
        }
        Ok(ok)
    }

    pub(super) async fn value(&self, thread: &str, channel: &str) -> anyhow::Result<Value> {
        let state = self.engine.state(&ThreadId::new(thread)?).await?;
        let value = state.as_ref().and_then(|state| state.root()).and_then(|root| root.value(channel).cloned());
        Ok(value.map(Arc::unwrap_or_clone).unwrap_or_default())
    }

    pub(super) async fn size(&self) -> anyhow::Result<StoreSize> {
        Ok(self.store.size().await?)
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        Ok(self.engine.shutdown().await?)
    }
}

fn add(metrics: &mut Value, more: serde_json::Map<String, Value>) {
    if let Some(metrics) = metrics.as_object_mut() {
        metrics.extend(more);
    }
}

fn chain_input(tid: usize, n: usize, size: usize) -> Value {
    json!({"tid": tid, "n": n, "size": size, "counter": 0, "payload": ""})
}

pub(super) fn w1(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let (n, size) = (args.n.unwrap_or(1000), args.size.unwrap_or(1024));
    block_on(async {
        let bench = Bench::open(args, true, Marks::default(), None)?;
        let graph = compile(CHAIN)?;
        bench.run(&graph, "warm", chain_input(0, 30, size)).await?;
        let before = bench.backend.statistics()?;
        let (began, cpu) = (Instant::now(), cpu_s());
        bench.run(&graph, "main", chain_input(0, n, size)).await?;
        let elapsed = began.elapsed().as_secs_f64();
        let carried = per_sync(before, bench.backend.statistics()?);
        let ok = bench.value("main", "counter").await? == json!(n);
        let stored = bench.size().await?;
        let mut metrics = json!({
            "steps_per_s": n as f64 / elapsed, "ms_per_step": elapsed * 1e3 / n as f64, "elapsed_s": elapsed,
            "cpu_s": cpu_s() - cpu, "store_logical": stored.logical, "store_disk": stored.disk, "rss_mb": rss_mb("self"),
        });
        add(&mut metrics, carried);
        bench.close().await?;
        Ok(Outcome { metrics, params: json!({"n": n, "size": size}), ok })
    })
}

pub(super) fn w2(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let (threads, steps, size) = (args.n.unwrap_or(200), args.steps.unwrap_or(20), args.size.unwrap_or(1024));
    block_on(async {
        let bench = Bench::open(args, true, Marks::stamping(), None)?;
        let graph = compile(CHAIN)?;
        bench.run(&graph, "warm", chain_input(threads, steps, size)).await?;
        bench.marks.clear();
        let inputs = (0..threads).map(|tid| (format!("t{tid}"), chain_input(tid, steps, size))).collect();
        let before = bench.backend.statistics()?;
        let (began, cpu) = (Instant::now(), cpu_s());
        let mut ok = bench.run_all(&graph, inputs, |_| ()).await?;
        let elapsed = began.elapsed().as_secs_f64();
        let cpu = cpu_s() - cpu;
        let carried = per_sync(before, bench.backend.statistics()?);
        for tid in 0..threads {
            ok &= bench.value(&format!("t{tid}"), "counter").await? == json!(steps);
        }
        let gaps = bench.marks.gaps_ms();
        let mut metrics = json!({
            "steps_per_s": (threads * steps) as f64 / elapsed, "p50_ms": quantile(&gaps, 0.5), "p99_ms": quantile(&gaps, 0.99),
            "max_ms": quantile(&gaps, 1.0), "elapsed_s": elapsed, "cpu_s": cpu, "rss_mb": rss_mb("self"),
        });
        add(&mut metrics, carried);
        bench.close().await?;
        Ok(Outcome { metrics, params: json!({"threads": threads, "steps": steps, "size": size}), ok })
    })
}

pub(super) fn w3(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let n = args.n.unwrap_or(100);
    let rounds = match args.rounds {
        0 if n <= 100 => 20,
        0 => 5,
        rounds => rounds,
    };
    block_on(async {
        let bench = Bench::open(args, true, Marks::default(), None)?;
        let graph = compile(FANOUT)?;
        let input = |rounds: usize| json!({"n": n, "rounds": rounds, "round": 0, "acc": 0});
        bench.run(&graph, "warm", input(1)).await?;
        bench.marks.clear();
        bench.run(&graph, "main", input(rounds)).await?;
        let ok = bench.value("main", "acc").await? == json!(rounds * n * (n - 1) / 2);
        let spans = bench.marks.pairs_ms();
        let median = quantile(&spans, 0.5);
        let metrics = json!({
            "superstep_ms": median, "superstep_min_ms": quantile(&spans, 0.0), "tasks_per_s": n as f64 / median * 1e3,
            "us_per_task": median * 1e3 / n as f64, "rss_mb": rss_mb("self"),
        });
        bench.close().await?;
        Ok(Outcome { metrics, params: json!({"fanout": n, "rounds": rounds}), ok })
    })
}

pub(super) fn w4(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let (n, size) = (args.n.unwrap_or(500), args.size.unwrap_or(500));
    let mut rows: Vec<(f64, StoreSize)> = Vec::new();
    let mut ok = true;
    for steps in [n / 4, n / 2, n] {
        let (elapsed, stored, right) = block_on(async {
            let bench = Bench::open(args, true, Marks::default(), None)?;
            let graph = compile(APPEND)?;
            let began = Instant::now();
            let input = json!({"n": steps, "size": size, "counter": 0, "messages": []});
            bench.run(&graph, "main", input).await?;
            let elapsed = began.elapsed().as_secs_f64();
            let messages = bench.value("main", "messages").await?;
            let right = messages.as_array().is_some_and(|list| list.len() == steps);
            let logical = bench.size().await?.logical;
            let (folder, durable) = (args.folder(), bench.store.name() != "memory");
            bench.close().await?;
            let disk = if durable { folder_bytes(&folder) } else { 0 };
            Ok((elapsed, StoreSize { logical, disk }, right))
        })?;
        rows.push((elapsed, stored));
        ok &= right;
    }
    let [quarter, half, whole] = rows.as_slice() else { anyhow::bail!("three sizes were run") };
    let growth = (whole.1.logical as f64 / half.1.logical as f64).log2();
    let metrics = json!({
        "total_s": whole.0, "steps_per_s": n as f64 / whole.0, "store_logical": whole.1.logical, "store_disk": whole.1.disk,
        "amplification": whole.1.logical as f64 / (n * size) as f64, "growth_exp_bytes": growth,
        "growth_exp_time": (whole.0 / half.0).log2(), "logical_quarter": quarter.1.logical, "logical_half": half.1.logical,
        "rss_mb": rss_mb("self"),
    });
    Ok(Outcome { metrics, params: json!({"n": n, "size": size, "channel": "delta"}), ok })
}

/// Bytes of the files in a folder.
pub(super) fn folder_bytes(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
