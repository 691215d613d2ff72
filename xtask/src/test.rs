//! `cargo xtask test`: every check there is, as a table of stages run one after the other.
//!
//! Each stage's output goes to a log of its own; the terminal shows one line a stage, and the log of the one that failed.
//! The last line is the sum over all stages, `N passed, N failed`: this is what CI reads.

mod conformance;
mod counts;
mod providers;
mod purity;
mod third_party;
pub(crate) mod tools;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::counts::Counts;
use self::tools::Tool;
use crate::{airflow, guarantees, shell, tidy};

/// Lines of a failed stage's log that are shown; the rest is in the file.
const MAX_SHOWN_LINES: usize = 400;

/// Worlds, orders of finishing and mutated graphs of the stage `sim`.
const SIM_SEEDS: &str = "1000000";
const SIM_SCHEDULES: &str = "100000";
const SIM_MUTANTS: &str = "100000";

/// The command of [`Work::Filtered`], but for the filter. The whole workspace, so that nothing is built twice.
const FILTERED_TESTS: &[&str] =
    &["cargo", "nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--success-output", "immediate", "-E"];

/// When a stage runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Always.
    Light,
    /// Not with `--quick`: minutes, real processes that are killed, or programs from registries.
    Heavy,
    /// Only when it is named: it sets up an installation that takes longer than everything else.
    Named,
}

/// What a stage does.
enum Work {
    /// A program that succeeds or not; counts as one check.
    Program(&'static [&'static str]),
    /// A test runner; its closing lines are counted, and running no test is a failure.
    Tests(&'static [&'static str]),
    /// The tests of the workspace that a filter of nextest chooses; what they print is kept.
    Filtered(&'static str),
    /// A function of this crate.
    Function(fn(&Context) -> Result<StageEnd>),
}

/// One line of the table.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    about: &'static str,
    weight: Weight,
    needs: &'static [Tool],
    env: Settings,
    /// What `--deep` sets instead, where the promised number takes longer than every run may.
    deep: Settings,
    work: Work,
}

/// Environment of a stage's program.
type Settings = &'static [(&'static str, &'static str)];

impl Stage {
    const fn light(name: &'static str, about: &'static str, needs: &'static [Tool], work: Work) -> Self {
        Self { name, about, weight: Weight::Light, needs, env: &[], deep: &[], work }
    }

    /// Left out unless it is named.
    const fn only_when_named(self) -> Self {
        Self { weight: Weight::Named, ..self }
    }

    /// Left out with `--quick`.
    const fn only_in_full_runs(self) -> Self {
        Self { weight: Weight::Heavy, ..self }
    }

    /// Tests that also run in `nextest`, here with the settings that make them long.
    const fn heavy(name: &'static str, about: &'static str, env: Settings, filter: &'static str) -> Self {
        let needs = &[tools::CC, tools::STRACE, tools::NEXTEST];
        Self { name, about, weight: Weight::Heavy, needs, env, deep: &[], work: Work::Filtered(filter) }
    }

    /// With these settings when the run is a deep one.
    const fn deeper(self, deep: Settings) -> Self {
        Self { deep, ..self }
    }
}

/// Every stage, in the order they run: the quick and telling ones first.
pub(crate) const STAGES: &[Stage] = &[
    Stage::light(
        "fmt",
        "the code is formatted",
        &[tools::RUSTFMT],
        Work::Program(&["cargo", "fmt", "--all", "--check", "--", "--color", "never", "-l"]),
    ),
    Stage::light("tidy", "the house rules hold (`cargo xtask tidy`)", &[], Work::Function(tidy_stage)),
    Stage::light(
        "purity",
        "the pure crates depend on nothing that reaches the world",
        &[],
        Work::Function(purity::stage),
    ),
    Stage::light(
        "clippy",
        "no warning in any target",
        &[tools::CC, tools::CLIPPY],
        Work::Program(&["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    ),
    Stage::light(
        "nextest",
        "unit, property, conformance and end-to-end tests",
        &[tools::CC, tools::STRACE, tools::POSTGRES, tools::NEXTEST],
        Work::Tests(&["cargo", "nextest", "run", "--workspace", "--locked", "--no-fail-fast"]),
    ),
    Stage::light(
        "doctests",
        "the examples in the documentation run",
        &[tools::CC],
        Work::Tests(&["cargo", "test", "--doc", "--workspace", "--locked"]),
    ),
    Stage::light(
        "conformance",
        "the official MCP suite: our hub as the client, the stack of our servers as the server",
        &[tools::CC, tools::NPM],
        Work::Function(conformance::stage),
    )
    .only_in_full_runs(),
    Stage::light(
        "third-party",
        "MCP servers of other people, attached for real: era, tools, a call, nothing of our environment",
        &[tools::CC, tools::NPM, tools::PYTHON],
        Work::Function(third_party::stage),
    )
    .only_in_full_runs(),
    Stage::light(
        "providers",
        "our providers of models against LiteLLM's proxy and mocks of the official descriptions of OpenAI and Anthropic",
        &[tools::CC, tools::NPM, tools::PYTHON],
        Work::Function(providers::stage),
    )
    .only_in_full_runs(),
    Stage::light(
        "airflow",
        "the ETL bot on a real Airflow 3 and PostgreSQL that are broken on command, judged by the kit that breaks them",
        &[tools::CC, tools::POSTGRES, tools::PYTHON],
        Work::Function(airflow_stage),
    )
    .only_when_named(),
    Stage::light(
        "sim",
        "the engine in seeded worlds full of faults: same end, no repeated effect, no stale writer",
        &[tools::CC],
        Work::Program(&[
            "cargo",
            "run",
            "--locked",
            "--release",
            "--package",
            "sim",
            "--",
            "--seeds",
            SIM_SEEDS,
            "--schedules",
            SIM_SCHEDULES,
            "--mutants",
            SIM_MUTANTS,
        ]),
    )
    .only_in_full_runs(),
    Stage::heavy(
        "fuzz-bodies",
        "2,000 mutated inputs of each kind: no panic, no wait, no memory",
        &[("INTERLOCK_FUZZ_INPUTS", "2000")],
        "binary(inputs) | test(fuzz_)",
    )
    .deeper(&[("INTERLOCK_FUZZ_INPUTS", "100000")]),
    Stage::heavy(
        "power-cuts",
        "2,000 power cuts, half on each store, lose nothing that was acknowledged",
        &[("INTERLOCK_CUTS", "1000")],
        "package(checkpoints) & test(power_cuts_lose)",
    ),
    Stage::heavy(
        "approvals",
        "2,800 attacks on approvals let no call leave",
        &[("INTERLOCK_APPROVALS", "200")],
        "package(tests) & binary(approvals)",
    )
    .deeper(&[("INTERLOCK_APPROVALS", "1000")]),
    Stage::light(
        "failpoints",
        "a process that dies around a commit loses nothing that was acknowledged",
        &[tools::CC, tools::NEXTEST],
        Work::Tests(&[
            "cargo",
            "nextest",
            "run",
            "--package",
            "checkpoints",
            "--features",
            "failpoints",
            "--locked",
            "--success-output",
            "immediate",
            "-E",
            "test(deaths_around_a_commit)",
        ]),
    )
    .only_in_full_runs(),
    Stage::heavy(
        "faults",
        "calls that fail, full disks, flipped bits and damaged files are reported or harmless",
        &[("INTERLOCK_FAULT_POINTS", "20"), ("INTERLOCK_FLIPS", "2000"), ("INTERLOCK_FOLDERS", "100")],
        "test(failing_calls) | test(failing_disk) | test(full_disk) | test(short_writes) | test(flipped_bit) \
         | test(damaged_folders)",
    )
    .deeper(&[("INTERLOCK_FAULT_POINTS", "100"), ("INTERLOCK_FLIPS", "10000"), ("INTERLOCK_FOLDERS", "1000")]),
    Stage::heavy(
        "kills",
        "300 kills of a process with 100 threads lose and repeat nothing, whatever the moment",
        &[("INTERLOCK_KILLS", "300")],
        "package(tests) & test(kills_)",
    ),
    Stage::heavy(
        "owners",
        "an owner that is paused and taken over can neither commit nor answer nor call",
        &[("INTERLOCK_PAUSES", "100"), ("INTERLOCK_TAKEOVERS", "500")],
        "package(tests) & (test(stale_engines) | test(pauses_) | test(dies_stopped))",
    )
    .deeper(&[("INTERLOCK_PAUSES", "500"), ("INTERLOCK_TAKEOVERS", "1000")]),
];

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these stages (separated by commas; see --list).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out the heavy stages.
    #[arg(long)]
    quick: bool,
    /// The numbers that the guarantees promise where they take too long for every run: add about an hour on two cores.
    #[arg(long, conflicts_with = "quick")]
    deep: bool,
    /// Run the later stages although one failed.
    #[arg(long)]
    keep_going: bool,
    /// Name the stages and stop.
    #[arg(long)]
    list: bool,
}

/// What a stage may use.
struct Context {
    root: PathBuf,
    logs: PathBuf,
    deep: bool,
}

/// How a stage ended.
struct StageEnd {
    counts: Counts,
    output: String,
}

impl StageEnd {
    /// A single check that held or not.
    fn one(success: bool, output: String) -> Self {
        Self { counts: Counts::one(success), output }
    }
}

/// Runs the chosen stages.
///
/// # Errors
/// The choice names no stage, or this program cannot write its logs.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        print!("{}", listing());
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(args)?;
    let root = shell::repo_root()?;
    let context = Context { logs: shell::target_dir(&root).join("xtask"), root, deep: args.deep };
    std::fs::create_dir_all(&context.logs).with_context(|| format!("cannot create {}", context.logs.display()))?;
    let started = Instant::now();
    let mut total = Counts::default();
    let mut failed = Vec::new();
    for (stage_idx, stage) in chosen.iter().enumerate() {
        let counts = run_stage(&context, stage);
        total = total.plus(counts);
        if counts.failed > 0 {
            failed.push(stage.name);
            if !args.keep_going {
                for skipped in &chosen[stage_idx + 1..] {
                    println!("{:<12} not run", skipped.name);
                }
                break;
            }
        }
    }
    Ok(close(&failed, total, started.elapsed()))
}

fn listing() -> String {
    let line = |stage: &Stage| {
        let weight = match stage.weight {
            Weight::Light => "",
            Weight::Heavy => " (heavy)",
            Weight::Named => " (only when named)",
        };
        format!("{:<12} {}{weight}\n", stage.name, stage.about)
    };
    STAGES.iter().map(line).collect()
}

fn choose(args: &Args) -> Result<Vec<&'static Stage>> {
    let known: BTreeSet<&str> = STAGES.iter().map(|stage| stage.name).collect();
    if let Some(unknown) = args.only.iter().find(|name| !known.contains(name.as_str())) {
        anyhow::bail!("no stage is called {unknown:?}; there are {}", Vec::from_iter(known).join(", "));
    }
    let is_chosen = |stage: &&Stage| {
        let named = args.only.iter().any(|name| name == stage.name);
        let by_weight = match stage.weight {
            Weight::Light => true,
            Weight::Heavy => !args.quick,
            Weight::Named => false,
        };
        named || args.only.is_empty() && by_weight
    };
    Ok(STAGES.iter().filter(is_chosen).collect())
}

/// Runs one stage and prints its line; a stage that cannot run at all has failed.
fn run_stage(context: &Context, stage: &Stage) -> Counts {
    let started = Instant::now();
    let log = context.logs.join(format!("{}.log", stage.name));
    let end = tools::ensure(context, stage.needs)
        .and_then(|()| perform(context, stage, &log))
        .unwrap_or_else(|error| StageEnd::one(false, format!("{error:#}\n")));
    let word = if end.counts.failed == 0 { "ok" } else { "FAILED" };
    println!("{:<12} {word:<6} {:>7.1} s   {}", stage.name, started.elapsed().as_secs_f64(), end.counts.describe());
    proofs(&end.output).for_each(|line| println!("    {line}"));
    if let Err(error) = guarantees::keep(&context.logs, stage.name, proofs(&end.output)) {
        println!("    the figures are not kept: {error:#}");
    }
    if end.counts.failed > 0 {
        print!("{}", tail(&end.output, &log));
    }
    end.counts
}

fn perform(context: &Context, stage: &Stage, log: &Path) -> Result<StageEnd> {
    let mut command = match stage.work {
        Work::Function(function) => {
            let end = function(context)?;
            std::fs::write(log, &end.output).with_context(|| format!("cannot write {}", log.display()))?;
            return Ok(end);
        }
        Work::Program(words) | Work::Tests(words) => shell::command(&context.root, words),
        Work::Filtered(filter) => shell::command(&context.root, &[FILTERED_TESTS, &[filter]].concat()),
    };
    command.envs(stage.env.iter().copied());
    if context.deep {
        command.envs(stage.deep.iter().copied()).env("NEXTEST_PROFILE", "deep");
    }
    if std::env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    let finished = shell::run_logged(command, log)?;
    let counts = match stage.work {
        Work::Tests(_) | Work::Filtered(_) => counts::of_tests(&finished.output, finished.success),
        Work::Program(_) | Work::Function(_) => Counts::one(finished.success),
    };
    Ok(StageEnd { counts, output: finished.output })
}

/// The lines in which a test states a guarantee and its figures: `G1 cuts=2000 lost=0`.
fn proofs(output: &str) -> impl Iterator<Item = &str> {
    output.lines().map(str::trim).filter(|line| {
        let number = line.strip_prefix('G').and_then(|rest| rest.split_once(' ')).map(|(number, _)| number);
        number.is_some_and(|number| number.len() <= 2 && number.parse::<u8>().is_ok()) && line.contains('=')
    })
}

/// The end of a failed stage's output, and where the whole is.
fn tail(output: &str, log: &Path) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let n_hidden = lines.len().saturating_sub(MAX_SHOWN_LINES);
    let mut shown = String::new();
    if n_hidden > 0 {
        shown.push_str(&format!("    … {n_hidden} more lines in {}\n", log.display()));
    }
    for line in &lines[n_hidden..] {
        shown.push_str(&format!("    {line}\n"));
    }
    shown
}

fn close(failed: &[&str], total: Counts, elapsed: Duration) -> ExitCode {
    println!("\nall in {:.0} s", elapsed.as_secs_f64());
    for name in failed {
        println!("stage {name} failed; alone: cargo xtask test --only {name}");
    }
    println!("{}", total.closing_line());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn airflow_stage(context: &Context) -> Result<StageEnd> {
    let mut output = String::new();
    let mut say = |line: &str| output.push_str(&format!("{line}\n"));
    let (passed, failed) = airflow::prove(&context.root, &airflow::Args::default(), &mut say)?;
    Ok(StageEnd { counts: Counts { passed, failed, skipped: 0 }, output })
}

fn tidy_stage(_: &Context) -> Result<StageEnd> {
    let report = tidy::check_tree(None)?;
    let counts = Counts { passed: report.checks - report.failed_checks, failed: report.failed_checks, skipped: 0 };
    Ok(StageEnd { counts, output: report.text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(only: &[&str], quick: bool) -> Args {
        Args {
            only: only.iter().map(ToString::to_string).collect(),
            quick,
            deep: false,
            keep_going: false,
            list: false,
        }
    }

    #[test]
    fn stages_have_names_of_their_own() {
        let names: BTreeSet<_> = STAGES.iter().map(|stage| stage.name).collect();
        assert_eq!(names.len(), STAGES.len());
    }

    #[test]
    fn every_stage_is_in_the_page_about_testing() {
        let page = include_str!("../../docs/testing.md");
        for stage in STAGES {
            assert!(
                page.contains(&format!("| `{}` |", stage.name)),
                "docs/testing.md does not tell what {} proves",
                stage.name
            );
        }
    }

    #[test]
    fn the_choice_is_by_name_or_by_weight() {
        let names = |args: &Args| choose(args).map(|stages| stages.iter().map(|stage| stage.name).collect::<Vec<_>>());
        assert_eq!(names(&args(&["doctests", "fmt"], true)).unwrap(), ["fmt", "doctests"]);
        let n_named = STAGES.iter().filter(|stage| stage.weight == Weight::Named).count();
        assert_eq!(names(&args(&[], false)).unwrap().len(), STAGES.len() - n_named);
        assert_eq!(names(&args(&["third-party"], true)).unwrap(), ["third-party"]);
        let quick = choose(&args(&[], true)).unwrap();
        assert!(quick.iter().all(|stage| stage.weight == Weight::Light));
        let error = names(&args(&["fnt"], false)).unwrap_err().to_string();
        assert!(error.starts_with("no stage is called \"fnt\"; there are "), "{error}");
    }

    #[test]
    fn a_deep_run_has_larger_numbers_of_the_same_settings() {
        let number = |settings: Settings, name: &str| {
            let value = settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.parse::<u64>().unwrap());
            value.unwrap_or_default()
        };
        let mut n_deeper = 0;
        for (name, _) in STAGES.iter().flat_map(|stage| stage.deep) {
            let stage = STAGES.iter().find(|stage| number(stage.deep, name) > 0).unwrap();
            let usual = number(stage.env, name);
            assert!(
                usual > 0 && number(stage.deep, name) > usual,
                "{name} of {} is no larger in a deep run",
                stage.name
            );
            n_deeper += 1;
        }
        assert!(n_deeper > 0);
    }

    #[test]
    fn a_stage_that_cannot_start_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context { root: dir.path().to_owned(), logs: dir.path().to_owned(), deep: false };
        let stage = |words| Stage::light("sample", "a sample", &[], Work::Program(words));
        assert_eq!(run_stage(&context, &stage(&["true"])), Counts::one(true));
        assert_eq!(run_stage(&context, &stage(&["false"])), Counts::one(false));
        assert_eq!(run_stage(&context, &stage(&["no-such-program"])), Counts::one(false));
    }

    #[test]
    fn stated_guarantees_are_shown() {
        let output = "running\n    G1 backend=Sled cuts=2000 wrong=0\nG001 is a code=x\nG 1\nGreat a=b\n";
        assert_eq!(proofs(output).collect::<Vec<_>>(), ["G1 backend=Sled cuts=2000 wrong=0"]);
    }

    #[test]
    fn a_long_log_is_cut_and_named() {
        let output: String = (0..MAX_SHOWN_LINES + 3).map(|i| format!("line {i}\n")).collect();
        let shown = tail(&output, Path::new("logs/x.log"));
        assert!(shown.starts_with("    … 3 more lines in logs/x.log\n    line 3\n"), "{}", &shown[..80]);
    }
}
