//! The commands: one file each. Here is what all of them share.

mod answer;
mod audit;
mod breakers;
mod budgets;
mod calibration;
mod cancel;
mod check;
mod completions;
mod delete;
mod demo;
mod draw;
mod eval;
mod facts;
mod follow;
mod fork;
mod fsck;
mod history;
mod interrupts;
mod knowledge;
mod mcp;
mod migrate;
mod models;
mod notify;
mod outcomes;
mod postmortem;
mod prompts;
mod prune;
mod recover;
mod replay;
mod resume;
mod run;
mod schema;
mod signal;
mod state;
mod store;
mod test;
mod threads;
mod tools;
mod update;

pub(crate) use follow::Follow;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use checkpoints::open::Address;
use clap::{Args, Parser, Subcommand};
use runtime::ports::store::Store as StorePort;
use serde_json::Value;

use crate::config::{Config, address, address_text, read_bounded};
use crate::failure::{Exit, Failure};
use crate::out::Out;
use crate::wiring::{Session, store_at};

/// Largest JSON value given on the command line, in a file or on standard input, in bytes.
const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Threads of the runtime; more do not help a command line.
const WORKERS_MAX: usize = 8;

/// Runs multi-agent graphs that are allowed to touch production.
///
/// A graph is a YAML file; a thread is one durable execution of it. Exit codes: 0 done, 1 failed, 2 wrong usage or an invalid
/// graph, 3 waiting for a person, a timer or a signal.
#[derive(Debug, Parser)]
#[command(name = "interlock", version, arg_required_else_help = true, max_term_width = 110)]
#[command(
    after_help = "Example:\n  interlock check flow.yaml && interlock run flow.yaml --input '{\"city\": \"Oslo\"}'"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where threads are kept: sled:PATH, fjall:PATH or memory [default: sled:.interlock/store]
    #[arg(long, global = true, value_name = "STORE", env = "INTERLOCK_STORE", hide_env_values = true, value_parser = address)]
    store: Option<Address>,
    /// The installation's configuration [default: interlock.yaml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "INTERLOCK_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Print JSON for machines
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Check(check::Check),
    Draw(draw::Draw),
    Run(run::Run),
    Threads(threads::Threads),
    State(state::State),
    History(history::History),
    Update(update::Update),
    Fork(fork::Fork),
    Interrupts(interrupts::Interrupts),
    Answer(answer::Answer),
    Resume(resume::Resume),
    Breakers(breakers::Breakers),
    Budgets(budgets::Budgets),
    Outcomes(outcomes::Outcomes),
    Calibration(calibration::Show),
    Signal(signal::Signal),
    Cancel(cancel::Cancel),
    Delete(delete::Delete),
    Prune(prune::Prune),
    Migrate(migrate::Migrate),
    Recover(recover::Recover),
    Test(test::Test),
    Eval(eval::Eval),
    Replay(replay::Replay),
    Schema(schema::Schema),
    Fsck(fsck::Fsck),
    Store(store::Store),
    Audit(audit::Audit),
    Tools(tools::Tools),
    Models(models::Models),
    Notify(notify::Notify),
    Prompts(prompts::Prompts),
    Knowledge(knowledge::Knowledge),
    Facts(facts::Facts),
    Postmortem(postmortem::Postmortem),
    Mcp(mcp::Mcp),
    Completions(completions::Completions),
    /// Run a workload of the benchmarks and print its JSON line
    #[command(hide = true)]
    Bench(crate::bench::BenchArgs),
}

/// What a command works with.
pub(crate) struct App {
    /// Where it prints.
    pub(crate) out: Out,
    common: Common,
    /// Warnings of the configuration were shown.
    warned: Cell<bool>,
}

impl App {
    /// The installation.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let config = Config::load(self.common.config.as_deref())?;
        if !self.warned.replace(true) {
            config.warnings.iter().for_each(|warning| self.out.note(&format!("warning: {warning}")));
        }
        Ok(config)
    }

    /// The file that `--config` names.
    pub(crate) fn named_config(&self) -> Option<&std::path::Path> {
        self.common.config.as_deref()
    }

    /// The store that was asked for.
    pub(crate) fn address(&self, config: &Config) -> Address {
        self.common.store.clone().unwrap_or_else(|| config.store.clone())
    }

    /// Opens the store with an engine over it; it must be there.
    pub(crate) fn session(&self) -> Result<Session, Failure> {
        let config = self.config()?;
        let address = self.address(&config);
        is_there(&address)?;
        Session::open(config, address)
    }

    /// As [`App::session`]; the store is made when it is not there.
    pub(crate) fn new_session(&self) -> Result<Session, Failure> {
        let config = self.config()?;
        let address = self.address(&config);
        Session::open(config, address)
    }

    /// Opens the store alone; it must be there.
    pub(crate) fn existing_store(&self) -> Result<(Arc<dyn StorePort>, Address), Failure> {
        let config = self.config()?;
        let address = self.address(&config);
        is_there(&address)?;
        Ok((store_at(&address, &config)?, address))
    }
}

/// Looking at a store never makes one.
pub(crate) fn is_there(address: &Address) -> Result<(), Failure> {
    match address {
        Address::Sled(path) | Address::Fjall(path) if !path.exists() => {
            let failure = Failure::failed(format!("there is no store at {}", address_text(address)));
            Err(failure.help("`interlock run` makes it; --store names another one"))
        }
        _ => Ok(()),
    }
}

/// The process.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and usage go where clap sends them; a reader that went away is quiet.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 });
        }
    };
    let app = App { out: Out::new(cli.common.json), common: cli.common, warned: Cell::new(false) };
    trace();
    let exit = match dispatch(cli.command, &app) {
        Ok(exit) => exit,
        Err(failure) => report(&app, &failure),
    };
    let exit = match app.out.take_error() {
        Some(error) => report(&app, &Failure::failed(format!("standard output: {error}"))),
        None => exit,
    };
    ExitCode::from(exit as u8)
}

fn report(app: &App, failure: &Failure) -> Exit {
    if app.out.json() {
        app.out.json_line(&failure.json());
    } else {
        app.out.flush();
        app.out.error(&failure.text());
    }
    failure.exit
}

/// Logs go to standard error: errors, or what `INTERLOCK_LOG` asks for.
fn trace() {
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time();
    match std::env::var("INTERLOCK_LOG") {
        // What tool servers say is logged by the hub, which knows their secrets, and not by the library below it.
        Ok(filter) => {
            let filter = tracing_subscriber::EnvFilter::new(format!("{filter},rmcp=error"));
            builder.with_env_filter(filter).init();
        }
        Err(_) => builder.with_max_level(tracing::Level::ERROR).init(),
    }
}

fn dispatch(command: Command, app: &App) -> Result<Exit, Failure> {
    match command {
        Command::Check(args) => check::run(&args, app),
        Command::Draw(args) => draw::run(&args, app),
        Command::Schema(args) => schema::run(&args, app),
        Command::Completions(args) => completions::run(&args, app),
        Command::Prompts(args) => prompts::run(args, app),
        Command::Test(args) => test::run(&args, app),
        Command::Eval(args) => eval::run(&args, app),
        Command::Bench(args) => match crate::bench::run(&args) {
            Ok(()) => Ok(Exit::Done),
            Err(error) => Err(Failure::failed(format!("bench: {error:#}"))),
        },
        Command::Demo(args) => on_runtime(demo::run(args, app)),
        Command::Run(args) => on_runtime(run::run(args, app)),
        Command::Threads(args) => on_runtime(threads::run(args, app)),
        Command::State(args) => on_runtime(state::run(args, app)),
        Command::History(args) => on_runtime(history::run(args, app)),
        Command::Update(args) => on_runtime(update::run(args, app)),
        Command::Fork(args) => on_runtime(fork::run(args, app)),
        Command::Interrupts(args) => on_runtime(interrupts::run(args, app)),
        Command::Answer(args) => on_runtime(answer::run(args, app)),
        Command::Resume(args) => on_runtime(resume::run(args, app)),
        Command::Breakers(args) => on_runtime(breakers::run(args, app)),
        Command::Budgets(args) => on_runtime(budgets::run(args, app)),
        Command::Outcomes(args) => on_runtime(outcomes::run(args, app)),
        Command::Calibration(args) => on_runtime(calibration::run(args, app)),
        Command::Signal(args) => on_runtime(signal::run(args, app)),
        Command::Cancel(args) => on_runtime(cancel::run(args, app)),
        Command::Delete(args) => on_runtime(delete::run(args, app)),
        Command::Prune(args) => on_runtime(prune::run(args, app)),
        Command::Migrate(args) => on_runtime(migrate::run(args, app)),
        Command::Recover(args) => on_runtime(recover::run(args, app)),
        Command::Replay(args) => on_runtime(replay::run(args, app)),
        Command::Fsck(args) => on_runtime(fsck::run(args, app)),
        Command::Store(args) => on_runtime(store::run(args, app)),
        Command::Audit(args) => on_runtime(audit::run(args, app)),
        Command::Tools(args) => on_runtime(tools::run(args, app)),
        Command::Models(args) => on_runtime(models::run(args, app)),
        Command::Notify(args) => on_runtime(notify::run(args, app)),
        Command::Postmortem(args) => on_runtime(postmortem::run(args, app)),
        Command::Facts(args) => on_runtime(facts::run(args, app)),
        Command::Knowledge(args) => on_runtime(knowledge::run(args, app)),
        Command::Mcp(args) => on_runtime(mcp::run(args, app)),
    }
}

/// Runs a command that waits for things.
pub(crate) fn on_runtime(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(WORKERS_MAX));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("starting the runtime: {error}")))?;
    runtime.block_on(command)
}

/// A JSON value from the command line: the value itself, `@FILE`, or `-` for standard input. A file may be YAML.
pub(crate) fn value_argument(option: &str, text: &str) -> Result<Value, Failure> {
    let bad = |why: String| Failure::usage(format!("{option}: {why}"));
    let file = match text {
        "-" => Some("/dev/stdin"),
        _ => text.strip_prefix('@'),
    };
    let Some(file) = file else {
        return serde_json::from_str(text).map_err(|error| {
            bad(format!("not JSON: {error}"))
                .help("quote it for the shell, or give a file: @FILE, or - for standard input")
        });
    };
    let content = read_bounded(file.as_ref(), VALUE_BYTES_MAX).map_err(|why| bad(format!("{file}: {why}")))?;
    value_of_text(file, &content).map_err(bad)
}

/// A value as a file holds it: JSON, else YAML.
pub(crate) fn value_of_text(file: &str, content: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(content) {
        return Ok(value);
    }
    serde_saphyr::from_str(content)
        .map_err(|error| format!("{file} is neither JSON nor YAML: {}", error.without_snippet()))
}

/// `key=value` with the value as JSON when it is JSON, else as text.
pub(crate) fn pair(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    if key.is_empty() {
        return Err("write KEY=VALUE".to_owned());
    }
    Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command, missing: &mut Vec<String>) {
            let has_example = command.get_after_help().is_some_and(|text| text.to_string().contains("Example"));
            if !command.is_hide_set() && !command.has_subcommands() && !has_example {
                missing.push(command.get_name().to_owned());
            }
            command.get_subcommands().for_each(|command| walk(command, missing));
        }
        let mut missing = Vec::new();
        walk(&Cli::command(), &mut missing);
        assert!(missing.is_empty(), "no example in {missing:?}");
    }

    #[test]
    fn values_are_json_or_come_from_a_file() {
        assert_eq!(value_argument("--input", "{\"a\": 1}").unwrap(), json!({"a": 1}));
        let failure = value_argument("--input", "{a: 1}").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.starts_with("--input: not JSON"));
        assert!(value_argument("--input", "@no/such/file").unwrap_err().message.contains("no/such/file"));
    }

    #[test]
    fn pairs_are_typed_when_they_can_be() {
        assert_eq!(pair("n=3"), Ok(("n".to_owned(), json!(3))));
        assert_eq!(pair("team=data"), Ok(("team".to_owned(), json!("data"))));
        assert!(pair("team").is_err() && pair("=x").is_err());
    }
}
