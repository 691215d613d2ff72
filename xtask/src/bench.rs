//! `cargo xtask bench`: the workloads W1 to W7 on this engine and, where they are set up, on the peers, in turn on one machine.
//!
//! Rounds are interleaved, the order of the sides changes from round to round, and the disk's own limit is measured next to
//! each durable cell: on a shared machine only figures of the same minutes can be compared. Every line a runner prints is
//! kept in `results.jsonl`; the page `docs/benchmarks.md` is written from that file alone.

mod cells;
mod contract;
mod figures;
mod harness;
mod page;
mod raw;
mod results;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use self::cells::Cell;
use self::harness::{Bench, Sides};
use self::results::Results;
use crate::shell;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often everything runs; the page shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these workloads: W1,W2,…
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these backends of ours: memory, sled, fjall.
    #[arg(long, value_delimiter = ',')]
    backend: Vec<String>,
    /// Leave the peers out.
    #[arg(long)]
    ours: bool,
    /// The folder with the peers' scripts.
    #[arg(long, env = "PEERS_DIR")]
    peers: Option<PathBuf>,
    /// The Python that has the peers' packages.
    #[arg(long, env = "PEERS_PYTHON", default_value = "python3")]
    python: PathBuf,
    /// The folder with the programs of the Rust peers.
    #[arg(long, env = "PEERS_RUST_BIN")]
    rust_peers: Option<PathBuf>,
    /// Our own program, when it is built already: to set two builds side by side.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Cargo profile of our own program.
    #[arg(long, default_value = "dist")]
    profile: String,
    /// Seconds a cell may take before it is ended and counts as failed.
    #[arg(long, default_value_t = 180)]
    limit: u64,
    /// Keep the lines of former runs and add to them.
    #[arg(long)]
    add: bool,
    /// Run nothing: make the page from the lines of former runs.
    #[arg(long)]
    report: bool,
    /// Write docs/benchmarks.md although only a part ran.
    #[arg(long)]
    write: bool,
    /// Name the cells that would run and stop.
    #[arg(long)]
    list: bool,
}

/// Measures, prints the table, and writes the page when everything ran.
///
/// # Errors
/// Our program does not build, or a folder cannot be written.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = shell::repo_root()?;
    let work = shell::target_dir(&root).join("bench");
    std::fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let sides = Sides {
        peers: args.peers.clone().filter(|_| !args.ours),
        python: args.python.clone(),
        rust_peers: args.rust_peers.clone(),
    };
    let chosen = choose(args, &sides);
    if args.list {
        chosen.iter().for_each(|cell| println!("{}", cell.name()));
        return Ok(ExitCode::SUCCESS);
    }
    let file = work.join("results.jsonl");
    if !args.report {
        if !args.add {
            std::fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
        }
        let program = args.program.clone().map_or_else(|| harness::build_ours(&root, &args.profile), Ok)?;
        let mut bench = Bench { program, sides, work, file: file.clone(), limit: Duration::from_secs(args.limit) };
        for round in 0..args.rounds {
            bench.round(round, &chosen)?;
        }
    }
    let results = Results::read(&file)?;
    let table = page::table(&results);
    println!("\n{table}");
    if args.write || args.report || args.only.is_empty() && args.backend.is_empty() && !args.ours {
        page::write(&root, &table)?;
        println!("written: {}", page::PATH);
    }
    let wrong = results.failed_cells();
    wrong.iter().for_each(|name| println!("not ok: {name}"));
    Ok(if wrong.iter().any(|name| name.starts_with(cells::OURS)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The cells of the chosen workloads and backends whose side is set up here.
fn choose(args: &Args, sides: &Sides) -> Vec<Cell> {
    let is_named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let is_chosen = |cell: &Cell| {
        let backend = !cell.is_ours() || is_named(&args.backend, cell.backend);
        is_named(&args.only, cell.workload) && backend && sides.have(cell)
    };
    cells::all().into_iter().filter(is_chosen).collect()
}
