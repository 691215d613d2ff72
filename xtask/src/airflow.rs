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
mod provider;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use self::judge::{Expected, Verdict};
use self::kit::Kit;
use self::provider::{Character, Provider};
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
const INSTALLATION: [&str; 7] =
    ["interlock.yaml", "airflow.yaml", "sql.yaml", "git.yaml", "estate.yaml", "causes.yaml", "remedies.yaml"];

/// The graphs of the bot: the one that is run, and the one that it runs for each incident.
const GRAPHS: [&str; 2] = ["etl-reliability.yaml", "etl-incident.yaml"];
/// Where the graph of an incident says when models are asked, and how it says that they always are.
const CLIMBS: &str = "climb_below: 0.70";
const CLIMBS_ALWAYS: &str = "climb_below: 1.0";

/// Options of `cargo xtask airflow`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these scenarios of the kit; all of them when none is named.
    scenarios: Vec<String>,
    /// Where the kit keeps its state; it is set up there when it is not [default: target/airflow/home]
    #[arg(long, env = HOME_VARIABLE)]
    home: Option<PathBuf>,
    /// Leave the servers running afterwards.
    #[arg(long)]
    keep: bool,
    /// How often each scenario is run.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// With a scripted model behind a real HTTP provider: one that agrees, one that reads first, one that insists on another
    /// cause, one that obeys injected instructions, one that breaks; one in each round.
    #[arg(long)]
    models: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self { scenarios: Vec::new(), home: None, keep: false, rounds: 1, models: false }
    }
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
        (0..args.rounds).fold((0, 0), |(passed, failed), round| {
            let character = args.models.then(|| Character::of_round(round));
            let round = Round { number: round + 1, character };
            say(&format!("{} of {}", round.label(), args.rounds));
            let proven = scenarios.iter().filter(|scenario| bench.proves(scenario, round, say)).count();
            (passed + proven, failed + scenarios.len() - proven)
        })
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

/// One time through the scenarios.
#[derive(Clone, Copy)]
struct Round {
    number: usize,
    /// Of the model; the rules alone where there is none.
    character: Option<Character>,
}

impl Round {
    /// A name for people and folders.
    fn label(self) -> String {
        match self.character {
            None => format!("rules-{}", self.number),
            Some(character) => format!("model-{}-{}", self.number, character.word()),
        }
    }
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
    fn proves(&self, name: &str, round: Round, say: &mut dyn FnMut(&str)) -> bool {
        match self.scenario(name, round) {
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

    fn scenario(&self, name: &str, round: Round) -> Result<Verdict> {
        let dir = self.place.join("runs").join(round.label()).join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot clear {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let provider = round.character.map(Provider::start).transpose()?;
        self.install(&dir, round.character, provider.as_ref())?;
        let mut took = Took::default();
        let mut timed = |slot: fn(&mut Took) -> &mut Duration, work: &dyn Fn() -> Result<Value>| {
            let began = Instant::now();
            let done = work();
            *slot(&mut took) = began.elapsed();
            done
        };
        timed(|took| &mut took.inject, &|| self.kit.inject(name, &dir))?;
        let result = timed(|took| &mut took.bot, &|| self.bot(&dir))?;
        let ledger = dir.join("ledger.jsonl");
        let audit = self.export(&dir)?;
        std::fs::write(dir.join("audit.jsonl"), &audit)?;
        std::fs::write(&ledger, judge::ledger(&audit))?;
        let mut judged = timed(|took| &mut took.verify, &|| self.kit.verify(name, &ledger, &dir))?;
        judged["mutations"]["git"] = self.kit.commits()?;
        let truth = self.kit.truth(name)?;
        let mut verdict = Verdict::of(&Expected::of(name, &truth), (&result, &judged, &truth), took);
        verdict.problems.extend(judge::unequal(&audit, &judged["mutations"]));
        let n_asked = provider.as_ref().map(Provider::answered);
        verdict.asked_of_models(n_asked, round.character.is_some_and(Character::is_honest));
        Ok(verdict)
    }

    /// An installation from the example's files, with the kit's ports and this program, and perhaps with a model.
    fn install(&self, dir: &Path, character: Option<Character>, provider: Option<&Provider>) -> Result<()> {
        let example = self.root.join("examples/airflow");
        for file in INSTALLATION {
            let text =
                std::fs::read_to_string(example.join(file)).with_context(|| format!("examples/airflow/{file}"))?;
            let text = self.kit.at_its_places(&text)?;
            let text = text.replace("command: interlock", &format!("command: {}", self.program.display()));
            let models = provider.filter(|_| file == "interlock.yaml").map(Provider::configuration);
            std::fs::write(dir.join(file), text + models.as_deref().unwrap_or_default())?;
        }
        for graph in GRAPHS {
            let text = std::fs::read_to_string(self.root.join("graphs/library").join(graph)).context(graph)?;
            // An honest model is asked about every incident, not only where the rules are not sure.
            let asks_always = character.is_some_and(Character::is_honest);
            let text = if asks_always { text.replace(CLIMBS, CLIMBS_ALWAYS) } else { text };
            std::fs::write(dir.join(graph), text)?;
        }
        let answer = format!("- {{ node: ask_on_call, choice: {ANSWERS} }}\n");
        Ok(std::fs::write(dir.join("answers.yaml"), answer.repeat(ANSWERS_MAX))?)
    }

    /// One round of the bot; its result.
    fn bot(&self, dir: &Path) -> Result<Value> {
        let [watch, _] = GRAPHS;
        let mut command = self.command(dir, "run");
        command
            .arg(dir.join(watch))
            .args(["--input", "{}", "--yes", "--by", PERSON, "--answers"])
            .arg(dir.join("answers.yaml"));
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
