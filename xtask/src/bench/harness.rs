//! Running the cells in turn: one process at a time, under a time limit, with the disk's limit measured beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use super::cells::Cell;
use super::results::{self, RawOwn, Record};
use super::{contract, raw};
use crate::shell;

/// Batches the disk's limit is always measured at.
const RAW_BATCHES: &[usize] = &[1, 64, 200];
/// How long the disk is measured for one batch, on each side of a cell.
const RAW_SPAN: Duration = Duration::from_millis(400);
/// How long the idle share is watched before a cell.
const IDLE_SPAN: Duration = Duration::from_millis(200);
/// How often a running cell is looked at.
const POLL_SPAN: Duration = Duration::from_millis(20);

/// Where the peers are; a side that is not set up is left out.
pub(super) struct Sides {
    pub(super) peers: Option<PathBuf>,
    pub(super) python: PathBuf,
    pub(super) rust_peers: Option<PathBuf>,
}

impl Sides {
    /// Whether the cell's side can run here.
    pub(super) fn have(&self, cell: &Cell) -> bool {
        match cell.side {
            _ if cell.is_ours() => true,
            "langgraph" | "restate" => self.peers.is_some(),
            name => self.peers.is_some() && self.rust_peer(name).is_some_and(|program| program.is_file()),
        }
    }

    fn rust_peer(&self, name: &str) -> Option<PathBuf> {
        Some(self.rust_peers.as_ref()?.join(format!("peer_{name}")))
    }

    /// The program of a peer with its first arguments.
    fn command(&self, cell: &Cell) -> Option<Command> {
        let scripts = self.peers.as_ref()?;
        let mut command = match cell.side {
            "langgraph" => with_script(&self.python, &scripts.join("peer_langgraph.py")),
            "restate" => with_script(Path::new("node"), &scripts.join("peer_restate.mjs")),
            name => Command::new(self.rust_peer(name)?),
        };
        command.current_dir(scripts);
        Some(command)
    }
}

fn with_script(program: &Path, script: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(script);
    command
}

/// Builds our program and tells where it is.
///
/// # Errors
/// It does not build.
pub(super) fn build_ours(root: &Path, profile: &str) -> Result<PathBuf> {
    println!("building interlock with profile {profile}");
    let mut command =
        shell::command(root, &["cargo", "build", "--locked", "--package", "interlock", "--profile", profile]);
    let status = command.status().context("cannot start cargo")?;
    anyhow::ensure!(status.success(), "interlock does not build");
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(shell::target_dir(root).join(folder).join("interlock"))
}

/// The state of one run of the benchmarks.
pub(super) struct Bench {
    pub(super) program: PathBuf,
    pub(super) sides: Sides,
    /// Scratch folder; must be on a real disk.
    pub(super) work: PathBuf,
    /// Where the lines are kept.
    pub(super) file: PathBuf,
    pub(super) limit: Duration,
}

impl Bench {
    /// Runs every cell once; odd rounds go through each workload backwards, so that no side is always first.
    ///
    /// # Errors
    /// The results cannot be written; a cell that fails is a result.
    pub(super) fn round(&mut self, round: usize, cells: &[Cell]) -> Result<()> {
        for of_workload in cells.chunk_by(|a, b| a.workload == b.workload) {
            let mut in_turn: Vec<&Cell> = of_workload.iter().collect();
            if round % 2 == 1 {
                in_turn.reverse();
            }
            for cell in in_turn {
                let record = self.cell(round, cell)?;
                results::append(&self.file, &record)?;
                println!(
                    "round {round} {:<34} idle {:.2} {:>6.1} s  {}",
                    record.cell,
                    record.idle,
                    record.wall_s,
                    headline(&record)
                );
            }
        }
        Ok(())
    }

    fn cell(&self, round: usize, cell: &Cell) -> Result<Record> {
        let at =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
        let before = if cell.is_bound_by_sync() { self.raw(RAW_BATCHES)? } else { BTreeMap::new() };
        let idle = idle_share().unwrap_or_default();
        let started = Instant::now();
        let outcome = self.run(cell);
        let wall_s = started.elapsed().as_secs_f64();
        let mut record = Record {
            cell: cell.name(),
            round,
            line: None,
            error: None,
            raw: BTreeMap::new(),
            raw_own: None,
            at,
            wall_s,
            idle,
        };
        match outcome {
            Ok(line) => record.line = Some(line),
            Err(error) => record.error = Some(format!("{error:#}")),
        }
        if cell.is_bound_by_sync() {
            if let Some(batch) = record.line.as_ref().and_then(results::reported_batch) {
                record.raw_own = Some(RawOwn { batch, per_s: self.raw_at(batch)? });
            }
            let after = self.raw(RAW_BATCHES)?;
            record.raw = after
                .into_iter()
                .map(|(batch, rate)| (batch, before.get(&batch).map_or(rate, |first| (first + rate) / 2.0)))
                .collect();
        }
        Ok(record)
    }

    fn raw(&self, batches: &[usize]) -> Result<BTreeMap<usize, f64>> {
        batches.iter().map(|batch| Ok((*batch, self.raw_at((*batch, raw::RECORD_BYTES))?))).collect()
    }

    fn raw_at(&self, batch: (usize, usize)) -> Result<f64> {
        raw::records_per_second(&self.work.join("raw"), batch, RAW_SPAN)
    }

    /// Runs the cell's process and reads its line.
    fn run(&self, cell: &Cell) -> Result<contract::Line> {
        let store = self.work.join("store");
        let mut command = if cell.is_ours() {
            // A store of a former cell must not help or hinder this one.
            let _ = std::fs::remove_dir_all(&store);
            std::fs::create_dir_all(&store)?;
            let mut command = Command::new(&self.program);
            command.args(["bench", "--json"]).env("PEERS_WORK", &store);
            command
        } else {
            self.sides.command(cell).context("this peer is not set up")?
        };
        command.args(["--workload", cell.workload]).args(cell.flags.split_whitespace());
        if !cell.backend.is_empty() {
            command.args(["--backend", cell.backend]);
        }
        let stdout = self.stdout_within_limit(command)?;
        contract::read(&stdout, cell.workload, cell.is_ours()).map_err(anyhow::Error::msg)
    }

    /// Standard output of a process; over the limit it is ended with all its children.
    fn stdout_within_limit(&self, mut command: Command) -> Result<String> {
        let (out, err) = (self.work.join("stdout"), self.work.join("stderr"));
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let deadline = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                end_group(&mut child)?;
                anyhow::bail!("took longer than {} s and was ended", self.limit.as_secs_f64());
            }
            std::thread::sleep(POLL_SPAN);
        };
        let stdout = std::fs::read_to_string(&out).unwrap_or_default();
        if !status.success() && !stdout.contains('{') {
            let said = std::fs::read_to_string(&err).unwrap_or_default();
            anyhow::bail!("{status}: {}", said.lines().last().unwrap_or("it said nothing"));
        }
        Ok(stdout)
    }
}

/// Ends a process that leads a group of its own, and the group.
fn end_group(child: &mut Child) -> Result<()> {
    let group = format!("-{}", child.id());
    Command::new("kill").args(["-KILL", "--", &group]).status().context("cannot start kill")?;
    child.wait()?;
    Ok(())
}

/// The figure to show while it runs.
fn headline(record: &Record) -> String {
    const SHOWN: &[&str] = &[
        "steps_per_s",
        "p99_ms",
        "superstep_ms",
        "store_logical",
        "park_per_s",
        "resume_p99_ms",
        "start_to_first_step_ms",
        "reexecuted_steps",
    ];
    let Some(line) = &record.line else { return format!("FAILED: {}", record.error.as_deref().unwrap_or("no line")) };
    let shown = SHOWN.iter().filter_map(|name| Some(format!("{name} {:.1}", line.metric(name)?)));
    let wrong = if line.ok { "" } else { "WRONG RESULT " };
    format!("{wrong}{}", shown.collect::<Vec<_>>().join(", "))
}

/// Share of the processors that is idle now, from the kernel's counters.
fn idle_share() -> Option<f64> {
    let read = || -> Option<(u64, u64)> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().take(8).sum()))
    };
    let (idle_before, all_before) = read()?;
    std::thread::sleep(IDLE_SPAN);
    let (idle_after, all_after) = read()?;
    Some((idle_after - idle_before) as f64 / (all_after - all_before).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::cells;
    use super::*;

    /// A bench whose program is the given shell script.
    fn bench(dir: &Path, script: &str) -> Bench {
        let program = dir.join("runner");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let sides = Sides { peers: None, python: "python3".into(), rust_peers: None };
        Bench {
            program,
            sides,
            work: dir.to_owned(),
            file: dir.join("results.jsonl"),
            limit: Duration::from_millis(100),
        }
    }

    fn memory_cell() -> Cell {
        cells::all().into_iter().find(|cell| cell.name() == "interlock W1 memory").unwrap()
    }

    #[test]
    fn a_runner_gets_the_flags_of_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"echo "{\"schema\":1,\"peer\":\"x\",\"version\":\"1\",\"workload\":\"W1\",\"ok\":true,\"metrics\":{\"steps_per_s\":5,\"cpu_s\":1,\"store_disk\":0},\"params\":{\"flags\":\"$*\"}}""#;
        let record = bench(dir.path(), script).cell(0, &memory_cell()).unwrap();
        assert_eq!(record.error, None);
        let flags = record.line.unwrap().params["flags"].as_str().unwrap().to_owned();
        assert_eq!(flags, "bench --json --workload W1 --durability sync --n 1000 --backend memory");
    }

    #[test]
    fn a_runner_that_fails_or_hangs_is_a_result() {
        let dir = tempfile::tempdir().unwrap();
        let error = |script: &str| bench(dir.path(), script).cell(0, &memory_cell()).unwrap().error.unwrap();
        assert_eq!(error("echo broken >&2; exit 3"), "exit status: 3: broken");
        assert_eq!(error("echo hello"), "the runner printed no JSON line");
        assert_eq!(error("sleep 30"), "took longer than 0.1 s and was ended");
    }

    #[test]
    fn sides_that_are_not_set_up_are_left_out() {
        let sides = Sides { peers: None, python: "python3".into(), rust_peers: None };
        assert!(cells::all().iter().all(|cell| sides.have(cell) == cell.is_ours()));
    }
}
