//! The workloads W1 to W7, with the command line and the JSON line of the peers' runners, so that both sides run in turn.
//!
//! Nodes are pure functions; there is no model and no tool. A result that is wrong (counter, sum, list length) makes `ok`
//! false.

mod child;
mod graphs_used;
mod measure;
mod parked;
mod stores;
mod workloads;

use std::path::PathBuf;

use clap::Args;
use runtime_core::record::Durability;
use serde_json::{Value, json};

/// Arguments of a workload run; the same flags as the peers' runners.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// W1 chain, W2 many threads, W3 fan-out, W4 appends, W5 parked threads, W6 start, W7 kill
    #[arg(long)]
    pub workload: String,
    /// memory, sled or fjall
    #[arg(long, default_value = "sled")]
    pub backend: String,
    /// sync, async or exit
    #[arg(long, default_value = "sync")]
    pub durability: String,
    /// Size: steps (W1, W4), threads (W2, W7), fan-out (W3), parked threads (W5)
    #[arg(long)]
    pub n: Option<usize>,
    /// Steps of each thread (W2, W7)
    #[arg(long)]
    pub steps: Option<usize>,
    /// Payload bytes
    #[arg(long)]
    pub size: Option<usize>,
    /// Rounds inside one process (W3)
    #[arg(long, default_value_t = 0)]
    pub rounds: usize,
    /// Accepted for symmetry: lists are always deltas here
    #[arg(long)]
    pub channel: Option<String>,
    /// Accepted for symmetry
    #[arg(long)]
    pub api: Option<String>,
    /// park, resume or all (W5)
    #[arg(long, default_value = "all")]
    pub phase: String,
    /// Parked threads to resume (W5)
    #[arg(long, default_value_t = 500)]
    pub sample: usize,
    /// First thread number (W5)
    #[arg(long, default_value_t = 0)]
    pub offset: usize,
    /// Threads in flight while parking (W5)
    #[arg(long, default_value_t = 64)]
    pub parallel: usize,
    /// Process starts (W6)
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
    /// Name of the store's folder, if not that of its backend
    #[arg(long, hide = true)]
    pub backend_folder: Option<String>,
    /// Keep the store of a former run (W5)
    #[arg(long)]
    pub keep: bool,
    /// Accepted for symmetry: the output is always one JSON line
    #[arg(long)]
    pub json: bool,
    /// Part of a workload run as a child process
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

impl BenchArgs {
    fn durability(&self) -> anyhow::Result<Durability> {
        match self.durability.as_str() {
            "sync" => Ok(Durability::Sync),
            "async" => Ok(Durability::Async),
            "exit" => Ok(Durability::Exit),
            other => anyhow::bail!("--durability `{other}`: use sync, async or exit"),
        }
    }

    /// Folder of the store, on a real disk: below `PEERS_WORK`, else in the working folder.
    fn folder(&self) -> PathBuf {
        let base = std::env::var_os("PEERS_WORK").map_or_else(|| PathBuf::from(".interlock"), PathBuf::from);
        let name = self.backend_folder.as_deref().unwrap_or(&self.backend);
        base.join("data").join(format!("interlock-{name}"))
    }
}

/// Metrics of a run and whether its result was right.
struct Outcome {
    metrics: Value,
    params: Value,
    ok: bool,
}

/// Runs one workload and prints its JSON line.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    if let Some(child) = args.child.clone() {
        return child::run(args, &child);
    }
    let outcome = match args.workload.as_str() {
        "W1" => workloads::w1(args)?,
        "W2" => workloads::w2(args)?,
        "W3" => workloads::w3(args)?,
        "W4" => workloads::w4(args)?,
        "W5" => parked::w5(args)?,
        "W6" => child::w6(args)?,
        "W7" => child::w7(args)?,
        other => anyhow::bail!("--workload `{other}`: use W1 to W7"),
    };
    let line = json!({
        "schema": 1, "peer": "interlock", "version": env!("CARGO_PKG_VERSION"), "workload": args.workload,
        "backend": args.backend, "durability": args.durability, "api": "async", "ok": outcome.ok,
        "metrics": outcome.metrics, "params": outcome.params,
    });
    println!("{line}");
    Ok(())
}
