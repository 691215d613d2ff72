//! `cargo xtask airflow`: the ETL bot against a real Airflow 3 and PostgreSQL that are broken on command.
//!
//! ```text
//!  kit: set up once, start ──▶ for each scenario: inject ▶ run the bot, answering for people ▶ ledger from our audit ▶ the kit's judge
//! ```
//!
//! The kit is no part of this repository: it lies beside it, or where `AIRFLOW_KIT` says. Without it there is nothing to
//! prove, and the command fails.

mod judge;
mod kit;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use self::judge::{Expected, Verdict};
use self::kit::Kit;
use crate::shell;

/// Who answers for people.
const PERSON: &str = "platform-lead";
/// What that person answers where no approval is asked: nothing is run by hand, the incident is taken over.
const ANSWERS: &str = "take_over";
/// Incidents of one round that a person may be asked about.
const ANSWERS_MAX: usize = 8;
/// Files of the example that make an installation.
const INSTALLATION: [&str; 6] =
    ["interlock.yaml", "airflow.yaml", "sql.yaml", "estate.yaml", "causes.yaml", "remedies.yaml"];

/// Options of `cargo xtask airflow`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these scenarios of the kit; all of them when none is named.
    scenarios: Vec<String>,
    /// Where the kit keeps its state; it is set up there when it is not [default: target/airflow/home]
    #[arg(long, env = "AIRFLOW_KIT_HOME")]
    home: Option<PathBuf>,
    /// Leave the servers running afterwards.
    #[arg(long)]
    keep: bool,
}

/// Runs the scenarios.
///
/// # Errors
/// There is no kit, or it cannot be set up.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = shell::repo_root()?;
    let place = shell::target_dir(&root).join("airflow");
    let home = args.home.clone().unwrap_or_else(|| place.join("home"));
    let kit = Kit::find(&root, home)?;
    let scenarios = kit.choose(&args.scenarios)?;
    let program = build(&root)?;
    let began = Instant::now();
    kit.start(&place)?;
    println!("kit ready in {:.0} s", began.elapsed().as_secs_f64());
    let bench = Bench { root, place, program, kit: &kit };
    let mut failed = 0;
    for scenario in &scenarios {
        let line = bench.scenario(scenario);
        failed += usize::from(!matches!(&line, Ok(verdict) if verdict.problems.is_empty()));
        match line {
            Ok(verdict) => println!("{}", verdict.line(scenario)),
            Err(error) => println!("{scenario:<24} FAILED {error:#}"),
        }
    }
    if !args.keep {
        kit.stop()?;
    }
    println!("{} passed, {failed} failed in {:.0} s", scenarios.len() - failed, began.elapsed().as_secs_f64());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(root: &Path) -> Result<PathBuf> {
    let mut command = shell::command(root, &["cargo", "build", "--locked", "--package", "interlock"]);
    let status = command.status().context("cannot start cargo")?;
    anyhow::ensure!(status.success(), "the program does not build");
    Ok(shell::target_dir(root).join("debug/interlock"))
}

/// What a scenario is run with.
struct Bench<'a> {
    root: PathBuf,
    place: PathBuf,
    program: PathBuf,
    kit: &'a Kit,
}

/// How long the parts of a scenario took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    pub(crate) inject: Duration,
    pub(crate) bot: Duration,
    pub(crate) verify: Duration,
}

impl Bench<'_> {
    fn scenario(&self, name: &str) -> Result<Verdict> {
        let dir = self.place.join("runs").join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        self.install(&dir)?;
        let mut took = Took::default();
        let mut timed = |slot: fn(&mut Took) -> &mut Duration, work: &dyn Fn() -> Result<Value>| {
            let began = Instant::now();
            let done = work();
            *slot(&mut took) = began.elapsed();
            done
        };
        timed(|took| &mut took.inject, &|| self.kit.inject(name, &dir))?;
        let round = timed(|took| &mut took.bot, &|| self.bot(&dir))?;
        let ledger = dir.join("ledger.jsonl");
        std::fs::write(&ledger, judge::ledger(&self.export(&dir)?))?;
        let judged = timed(|took| &mut took.verify, &|| self.kit.verify(name, &ledger, &dir))?;
        let truth = self.kit.truth(name)?;
        Ok(Verdict::of(&Expected::of(name, &truth), (&round, &judged, &truth), took))
    }

    /// An installation from the example's files, with the kit's ports and this program.
    fn install(&self, dir: &Path) -> Result<()> {
        let example = self.root.join("examples/airflow");
        for file in INSTALLATION {
            let text =
                std::fs::read_to_string(example.join(file)).with_context(|| format!("examples/airflow/{file}"))?;
            let text = self.kit.at_its_ports(&text)?;
            let text = text.replace("command: interlock", &format!("command: {}", self.program.display()));
            std::fs::write(dir.join(file), text.replace("{here}", &dir.display().to_string()))?;
        }
        let answer = format!("- {{ node: ask_on_call, choice: {ANSWERS} }}\n");
        Ok(std::fs::write(dir.join("answers.yaml"), answer.repeat(ANSWERS_MAX))?)
    }

    /// One round of the bot; its result.
    fn bot(&self, dir: &Path) -> Result<Value> {
        let graph = self.root.join("graphs/library/etl-reliability.yaml");
        let mut command = self.command(dir, "run");
        command.arg(graph).args(["--input", "{}", "--yes", "--by", PERSON, "--answers"]).arg(dir.join("answers.yaml"));
        command.args(["--thread", "round"]);
        let finished = shell::run_logged(command, &dir.join("bot.log"))?;
        let mut lines = finished.output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let result = lines.rfind(|line| line["type"] == "result");
        result.with_context(|| format!("the bot gave no result:\n{}", finished.output))
    }

    fn export(&self, dir: &Path) -> Result<String> {
        let mut command = self.command(dir, "audit");
        command.arg("export");
        shell::capture(command)
    }

    fn command(&self, dir: &Path, word: &str) -> std::process::Command {
        let mut command = shell::command(&self.root, &[&self.program]);
        command.arg(word).arg("--json").arg("--config").arg(dir.join("interlock.yaml"));
        command.envs(self.kit.passwords());
        command
    }
}
