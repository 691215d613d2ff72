//! Workloads that need processes of their own: W6 (start) and W7 (kill), and the cold half of W5.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use runtime::ports::store::ThreadFilter;
use serde_json::{Value, json};

use super::graphs_used::{CHAIN, compile};
use super::measure::{Marks, allocated_bytes, quantile, rss_mb};
use super::workloads::{Bench, block_on};
use super::{BenchArgs, Outcome};

/// Longest wait for a child to reach half of its work.
const HALF_WAIT: Duration = Duration::from_secs(50);

fn command(args: &BenchArgs, extra: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "--workload", &args.workload, "--backend", &args.backend, "--durability", &args.durability]);
    for (flag, value) in [("--n", args.n), ("--steps", args.steps), ("--size", args.size)] {
        if let Some(value) = value {
            command.args([flag, &value.to_string()]);
        }
    }
    if let Some(folder) = &args.backend_folder {
        command.args(["--backend-folder", folder]);
    }
    command.args(extra);
    Ok(command)
}

/// Runs this workload again in a fresh process and reads its JSON line.
pub(super) fn again(args: &BenchArgs, extra: &[&str]) -> anyhow::Result<Value> {
    let output = command(args, extra)?.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().context("the child printed nothing")?;
    Ok(serde_json::from_str(last)?)
}

/// The child side.
pub(super) fn run(args: &BenchArgs, child: &str) -> anyhow::Result<()> {
    match child {
        "start" => start(args),
        "run" => run_half(args),
        "recover" => recover(args),
        "open" => super::parked::open_and_rest(args),
        other => anyhow::bail!("--child `{other}`: use start, run, recover or open"),
    }
}

fn start(args: &BenchArgs) -> anyhow::Result<()> {
    block_on(async {
        let bench = Bench::open(args, false, Marks::default(), None)?;
        let graph = compile(CHAIN)?;
        let thread = format!("w6-{}", std::process::id());
        let input = json!({"tid": 0, "n": 1, "size": args.size.unwrap_or(1024), "counter": 0, "payload": ""});
        bench.run(&graph, &thread, input).await?;
        println!("done");
        std::io::stdin().read_exact(&mut [0]).ok();
        Ok(())
    })
}

pub(super) fn w6(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let folder = args.folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for round in 0..=args.repeat {
        let began = Instant::now();
        let (mut child, line) = until_done(args, "start")?;
        let elapsed = began.elapsed().as_secs_f64() * 1e3;
        let rss = rss_mb(&child.id().to_string());
        drop(child.stdin.take());
        child.wait()?;
        // The first start warms the file cache.
        if round > 0 && line.trim() == "done" {
            times.push(elapsed);
            sizes.push(rss);
        }
    }
    let metrics = json!({"start_to_first_step_ms": quantile(&times, 0.5), "idle_rss_mb": quantile(&sizes, 0.5)});
    Ok(Outcome { metrics, params: json!({"repeat": args.repeat}), ok: times.len() == args.repeat })
}

/// Starts a child and waits for its first line, which says that it is done and waits.
fn until_done(args: &BenchArgs, role: &str) -> anyhow::Result<(Child, String)> {
    let mut child = command(args, &["--child", role])?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok((child, line))
}

/// Resident allocated bytes of a child that has done its part and waits.
pub(super) fn idle_rss(args: &BenchArgs, role: &str) -> anyhow::Result<f64> {
    let (mut child, line) = until_done(args, role)?;
    let rss = allocated_bytes(&child.id().to_string());
    drop(child.stdin.take());
    child.wait()?;
    anyhow::ensure!(line.trim() == "done", "the child did not come to rest");
    Ok(rss)
}

fn log_path(args: &BenchArgs) -> std::path::PathBuf {
    args.folder().with_extension("w7.log")
}

fn open_log(args: &BenchArgs) -> anyhow::Result<std::fs::File> {
    let path = log_path(args);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(std::fs::OpenOptions::new().create(true).append(true).open(path)?)
}

fn sizes(args: &BenchArgs) -> (usize, usize, usize) {
    (args.n.unwrap_or(100), args.steps.unwrap_or(50), args.size.unwrap_or(1024))
}

fn run_half(args: &BenchArgs) -> anyhow::Result<()> {
    let (threads, steps, size) = sizes(args);
    block_on(async {
        let bench = Bench::open(args, true, Marks::default(), Some(open_log(args)?))?;
        let graph = compile(CHAIN)?;
        println!("go");
        let input = |tid: usize| json!({"tid": tid, "n": steps, "size": size, "counter": 0, "payload": ""});
        bench
            .run_all(&graph, (0..threads).map(|tid| (format!("t{tid}"), input(tid))).collect(), |thread| {
                println!("{thread}")
            })
            .await?;
        Ok(())
    })
}

/// The restart: it finds what was going on by itself; the caller names no thread.
fn recover(args: &BenchArgs) -> anyhow::Result<()> {
    let (threads, steps, _) = sizes(args);
    block_on(async {
        let began = Instant::now();
        let bench = Bench::open(args, false, Marks::default(), Some(open_log(args)?))?;
        bench.engine.add_graph(compile(CHAIN)?).await?;
        let found = bench.engine.recover().await?;
        let filter = ThreadFilter { limit: runtime::ports::store::PAGE_MAX, ..ThreadFilter::default() };
        let rows = bench.store.threads(&filter).await?;
        for row in &rows {
            bench.engine.join(&row.id).await?;
        }
        let mut finished = 0;
        for row in &rows {
            finished += usize::from(bench.value(row.id.as_str(), "counter").await? == json!(steps));
        }
        let missing = threads - rows.len().min(threads);
        println!("recovered {finished} {missing} {} {found}", began.elapsed().as_secs_f64());
        Ok(())
    })
}

fn read_log(args: &BenchArgs) -> BTreeMap<(u64, u64), u64> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(log_path(args)).unwrap_or_default().lines() {
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok());
        if let (Some(thread), Some(step)) = (fields.next(), fields.next()) {
            *counts.entry((thread, step)).or_insert(0) += 1;
        }
    }
    counts
}

/// Steps that had run, and the threads whose start was acknowledged: what was killed sooner than that was promised nothing.
fn kill_at_half(args: &BenchArgs, child: &mut Child) -> anyhow::Result<(u64, Vec<u64>)> {
    let (threads, steps, _) = sizes(args);
    let mut said = BufReader::new(child.stdout.take().context("no output")?);
    said.read_line(&mut String::new())?;
    let half = (threads * steps / 2) as u64;
    let began = Instant::now();
    while began.elapsed() < HALF_WAIT && child.try_wait()?.is_none() {
        if read_log(args).values().sum::<u64>() >= half {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()?;
    let acknowledged = said.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix('t')?.parse().ok());
    Ok((read_log(args).values().sum(), acknowledged.collect()))
}

pub(super) fn w7(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let (threads, steps, size) = sizes(args);
    drop(std::fs::remove_file(log_path(args)));
    let mut child = command(args, &["--child", "run"])?.stdout(Stdio::piped()).spawn()?;
    let (before, acknowledged) = kill_at_half(args, &mut child)?;
    let began = Instant::now();
    let output = command(args, &["--child", "recover"])?.stderr(Stdio::inherit()).output()?;
    let wall = began.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields: Vec<f64> =
        text.lines().last().unwrap_or("").split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let [finished, without, seconds, found] = fields.as_slice() else { anyhow::bail!("the restart failed: {text}") };
    let after = read_log(args);
    let again: u64 = after.values().map(|count| count - 1).sum();
    let worst = worst_thread(&after);
    let ran = |thread: u64| after.range((thread, 0)..(thread + 1, 0)).count();
    let missing: usize = acknowledged.iter().map(|thread| steps - ran(*thread).min(steps)).sum();
    let metrics = json!({
        "executed_before_kill": before, "reexecuted_steps": again, "reexecuted_share": again as f64 / before.max(1) as f64,
        "reexecuted_per_thread_max": worst, "missing_steps": missing, "threads_without_checkpoint": without, "threads_acknowledged": acknowledged.len(),
        "recover_s": seconds, "recover_process_s": wall, "auto_discovery": 1, "threads_found": found,
    });
    let ok = missing == 0 && !acknowledged.is_empty() && *finished + *without == threads as f64;
    Ok(Outcome { metrics, params: json!({"threads": threads, "steps": steps, "size": size}), ok })
}

fn worst_thread(counts: &BTreeMap<(u64, u64), u64>) -> u64 {
    let mut by_thread: BTreeMap<u64, u64> = BTreeMap::new();
    for ((thread, _), count) in counts {
        *by_thread.entry(*thread).or_insert(0) += count - 1;
    }
    by_thread.values().copied().max().unwrap_or(0)
}
