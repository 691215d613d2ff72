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
/// Names the folder of the kit's state.
const HOME_VARIABLE: &str = "AIRFLOW_KIT_HOME";
/// Files of the example that make an installation.
const INSTALLATION: [&str; 6] =
    ["interlock.yaml", "airflow.yaml", "sql.yaml", "estate.yaml", "causes.yaml", "remedies.yaml"];

/// Options of `cargo xtask airflow`.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Only these scenarios of the kit; all of them when none is named.
    scenarios: Vec<String>,
    /// Where the kit keeps its state; it is set up there when it is not [default: target/airflow/home]
    #[arg(long, env = HOME_VARIABLE)]
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
    let (passed, failed) = prove(&root, args, &mut |line| println!("{line}"))?;
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the scenarios and gives each line to `say`; how many passed and failed.
///
/// # Errors
/// There is no kit, or it cannot be set up.
pub(crate) fn prove(root: &Path, args: &Args, say: &mut dyn FnMut(&str)) -> Result<(usize, usize)> {
    let place = shell::target_dir(root).join("airflow");
    let home = args.home.clone().or_else(|| std::env::var_os(HOME_VARIABLE).map(PathBuf::from));
    let kit = Kit::find(root, home.unwrap_or_else(|| place.join("home")))?;
    let scenarios = kit.choose(&args.scenarios)?;
    let program = build(root, &place)?;
    let began = Instant::now();
    let started = kit.start(&place);
    let ready = format!("kit ready in {:.0} s", began.elapsed().as_secs_f64());
    let proven = started.map(|()| {
        say(&ready);
        let bench = Bench { root: root.to_owned(), place, program, kit: &kit };
        let proven = scenarios.iter().filter(|scenario| bench.proves(scenario, say)).count();
        (proven, scenarios.len() - proven)
    });
    // Whatever came of it, nothing of ours goes on.
    if !args.keep {
        kit.stop()?;
    }
    say(&format!("all in {:.0} s", began.elapsed().as_secs_f64()));
    proven
}

/// The program, as a copy: a build that goes on meanwhile changes nothing under a run.
fn build(root: &Path, place: &Path) -> Result<PathBuf> {
    let words = ["cargo", "build", "--locked", "--workspace", "--bins"];
    let status = shell::command(root, &words).status().context("cannot start cargo")?;
    anyhow::ensure!(status.success(), "the program does not build");
    let copy = place.join("interlock");
    std::fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    std::fs::copy(shell::target_dir(root).join("debug/interlock"), &copy)
        .with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy)
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
    fn proves(&self, name: &str, say: &mut dyn FnMut(&str)) -> bool {
        match self.scenario(name) {
            Ok(verdict) => {
                say(&verdict.line(name));
                verdict.problems.is_empty()
            }
            Err(error) => {
                say(&format!("{name:<24} FAILED {error:#}"));
                false
            }
        }
    }

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
            std::fs::write(dir.join(file), text)?;
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
        let mut command = shell::command(dir, &[&self.program]);
        command.arg(word).arg("--json").arg("--config").arg(dir.join("interlock.yaml"));
        command.envs(self.kit.passwords());
        command
    }
}
