//! `interlock eval`: golden incidents, and how the agents did on them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoints::open::{OpenOptions, memory};
use clap::Args;
use evals::{Comparison, FILE_BYTES_MAX, Golden, Lab, Plan, Report, SHIPPED, Tape, Voices};
use indicatif::{ProgressBar, ProgressDrawTarget};
use parking_lot::Mutex;
use runtime::ports::store::Store;
use serde_json::Value;
use tools::policy::RulePolicy;

use super::App;
use crate::config::{Config, FILE, io_text, read_bounded};
use crate::failure::{Exit, Failure};
use crate::graph_files::{self, Known};
use crate::{demo, wiring};

/// Files of a folder that are read.
const FILES_MAX: usize = 1_000;
/// Largest tape, and largest report, in bytes.
const TAPE_BYTES_MAX: u64 = 256 << 20;
/// Incidents at the same time, where nothing is said.
const JOBS_MAX: usize = 8;

/// Play golden incidents through the real graph and report how the agents did
///
/// Each incident has a scripted world and a known truth. Reported are accuracy by class, wrongly automated actions, how much of
/// people it took, what was healed, calls, cost, time and calibration. Exit codes: 0 fine, 1 a wrong action or a regression, 2 wrong usage.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock eval etl\n  interlock eval etl --json > before.json && interlock eval etl --config new.yaml --compare before.json\n  interlock eval etl --config a.yaml --compare b.yaml"
)]
pub(crate) struct Eval {
    /// A file or folder of golden incidents, or `etl`: the set that ships
    set: PathBuf,
    /// Only incidents whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Play each incident so many times; it passes if it passes each time
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroUsize,
    /// Incidents at the same time [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// The graph of one incident, in place of the one that ships
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// What it is measured against: a report kept with --json, or another configuration
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Share by which models may cost more than in what it is measured against
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    cost_tolerance: f64,
    /// Ask no model, whatever is configured
    #[arg(long, conflicts_with_all = ["record", "recorded"])]
    rules: bool,
    /// Keep what the configured models say in this file
    #[arg(long, value_name = "FILE", conflicts_with = "recorded")]
    record: Option<PathBuf>,
    /// Take what models said from this file instead of asking them
    #[arg(long, value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
}

pub(crate) fn run(args: &Eval, app: &App) -> Result<Exit, Failure> {
    let set = read_set(args)?;
    let named = app.named_config().unwrap_or_else(|| Path::new(FILE));
    let report = report(args, app, (set.as_slice(), &app.config()?, named))?;
    let comparison = match &args.compare {
        None => None,
        Some(measure) => {
            let measure = measure.as_path();
            let before = match kept(measure)? {
                Some(kept) => kept,
                None => self::report(args, app, (set.as_slice(), &Config::load(Some(measure))?, measure))?,
            };
            Some(evals::compare(&before, &report, args.cost_tolerance))
        }
    };
    print(args, app, &report, comparison.as_ref());
    let is_fine = report.harmless() && comparison.is_none_or(|comparison| !comparison.regressed);
    Ok(if is_fine { Exit::Done } else { Exit::Failed })
}

fn read_set(args: &Eval) -> Result<Vec<Golden>, Failure> {
    let read = match args.set.as_os_str() == SHIPPED {
        true => evals::shipped(),
        false => evals::read(&files(&args.set)?),
    };
    let mut set = read.map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Failure::usage(format!("{} mistake(s) in {}\n{}", lines.len(), args.set.display(), lines.join("\n")))
    })?;
    set.retain(|golden| args.only.as_ref().is_none_or(|only| golden.id.contains(only.as_str())));
    match set.is_empty() {
        true => Err(Failure::usage(format!("no incident to play in {}", args.set.display()))
            .help("incidents stand under `incidents:`; docs/design/0012-evaluation.md has their form")),
        false => Ok(set),
    }
}

/// The YAML files of a folder in the order of their names, or the file.
fn files(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let failed = |path: &Path, why: String| Failure::usage(format!("golden incidents {}: {why}", path.display()));
    let mut paths = vec![path.to_path_buf()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| failed(path, io_text(&error)))?;
        paths = entries.take(FILES_MAX).flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
        paths.sort();
    }
    let read = |path: &PathBuf| -> Result<(String, String), Failure> {
        let text = read_bounded(path, FILE_BYTES_MAX).map_err(|why| failed(path, why))?;
        Ok((path.display().to_string(), text))
    };
    paths.iter().map(read).collect()
}

/// A report that was kept; `None` if the file is something else.
fn kept(path: &Path) -> Result<Option<Report>, Failure> {
    let text = read_bounded(path, TAPE_BYTES_MAX)
        .map_err(|why| Failure::usage(format!("--compare {}: {why}", path.display())))?;
    Ok(serde_json::from_str(&text).ok())
}

fn report(args: &Eval, app: &App, (set, config, named): (&[Golden], &Config, &Path)) -> Result<Report, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(JOBS_MAX);
    let jobs = args.jobs.or(NonZeroUsize::new(cores)).unwrap_or(NonZeroUsize::MIN);
    let tape = args.record.as_ref().map(|_| Arc::new(Mutex::new(Tape::default())));
    let lab = lab(args, config, tape.clone())?;
    let bar = ProgressBar::new((set.len() * args.repeat.get()) as u64);
    if app.out.json() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let rows = evals::run(&lab, set, Plan { jobs, repeat: args.repeat }, &|_| bar.inc(1));
    bar.finish_and_clear();
    if let (Some(file), Some(tape)) = (&args.record, tape) {
        let text = serde_json::to_string(&*tape.lock()).map_err(|error| Failure::failed(error.to_string()))?;
        std::fs::write(file, text)
            .map_err(|error| Failure::failed(format!("--record {}: {}", file.display(), io_text(&error))))?;
        app.out.note(&format!("{} answer(s) of models are kept in {}", tape.lock().len(), file.display()));
    }
    let rows = rows.map_err(|failed| Failure::failed(failed.join("\n")))?;
    let label = if named.exists() { named.display().to_string() } else { "the configuration that ships".to_owned() };
    Ok(Report::of(&args.set.display().to_string(), &label, args.repeat.get(), rows))
}

fn lab(args: &Eval, config: &Config, tape: Option<Arc<Mutex<Tape>>>) -> Result<Lab, Failure> {
    let library = demo::library()?;
    let incident = match &args.graph {
        Some(file) => graph_files::load(file, config, &Known::for_testing())?.root,
        None => library.others.values().next().map(Arc::clone).ok_or_else(|| Failure::failed("no graph ships"))?,
    };
    let mut policy = match config.policy.is_empty() {
        true => RulePolicy::etl_demo().map_err(|error| Failure::failed(error.to_string()))?,
        false => config.policy.clone(),
    };
    // Who is in a group belongs to an installation; the people of a golden incident are in all of them.
    policy.groups = None;
    Ok(Lab {
        kit: Arc::new(wiring::Minds::of(config).kit().map_err(Failure::failed)?),
        policy: Arc::new(policy),
        incident,
        round: library.root,
        store: empty_store,
        voices: voices(args, config, tape)?,
    })
}

fn empty_store() -> Arc<dyn Store> {
    Arc::new(memory(&OpenOptions::default()))
}

fn voices(args: &Eval, config: &Config, tape: Option<Arc<Mutex<Tape>>>) -> Result<Voices, Failure> {
    let Some(models) = config.models.as_ref().filter(|_| !args.rules) else {
        return match args.record.as_ref().or(args.recorded.as_ref()) {
            Some(_) => Err(Failure::usage("no model is configured: whose answers are meant?")
                .help("name a configuration with `models:`, or leave --record and --recorded out")),
            None => Ok(Voices::rules()),
        };
    };
    let prompts = config.prompts.as_deref().map(wiring::own_prompts).transpose().map_err(Failure::failed)?;
    let told: (BTreeMap<String, String>, _) = (prompts.unwrap_or_default(), config.masking.clone());
    let Some(file) = &args.recorded else {
        let providers = wiring::providers(models).map_err(Failure::failed)?;
        return Ok(Voices::live(models.clone(), told, providers, tape));
    };
    let failed = |why: String| Failure::usage(format!("--recorded {}: {why}", file.display()));
    let text = read_bounded(file, TAPE_BYTES_MAX).map_err(failed)?;
    let tape: Tape = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    Ok(Voices::recorded(models.clone(), told, tape))
}

fn print(args: &Eval, app: &App, report: &Report, comparison: Option<&Comparison>) {
    if app.out.json() {
        let mut shown = serde_json::to_value(report).unwrap_or_default();
        if let (Value::Object(fields), Some(comparison)) = (&mut shown, comparison) {
            fields.insert("comparison".to_owned(), serde_json::to_value(comparison).unwrap_or_default());
        }
        app.out.json_line(&shown);
        return;
    }
    let mut tables = report.tables();
    tables.extend(comparison.map(Comparison::tables).into_iter().flatten());
    app.out.text(&if args.markdown { evals::markdown(&tables) } else { evals::text(&tables) });
}
