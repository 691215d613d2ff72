//! `interlock demo`: the bot heals a real pipeline that is broken in six ways.

use std::path::PathBuf;

use checkpoints::open::Address;
use clap::Args;
use serde_json::json;
use tools::servers::sandbox::Fault;

use super::App;
use crate::answers::{Answers, Who};
use crate::config::address_text;
use crate::demo::{self, Demonstration};
use crate::failure::{Exit, Failure};

/// Choices of `--yes` here: changes are approved, and what nobody can explain is taken over by a person.
const YES: &[&str] = &["approve", "take_over"];

/// Break an embedded data warehouse in six ways and watch the agents heal it
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock demo\n  interlock demo --yes --dir demo && interlock threads --store sled:demo/store"
)]
pub(crate) struct Demo {
    /// Keep warehouse and threads in this folder [default: a temporary one, removed at the end]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Approve whatever is asked
    #[arg(long)]
    yes: bool,
    /// Answers to questions, in a YAML or JSON file: a list of {node or title or tool, choice, ...}
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Who answers
    #[arg(long, value_name = "USER")]
    by: Option<String>,
    /// Only these faults: upstream_timeout, row_count_drop, null_burst, column_renamed, permission_revoked, unknown_error
    #[arg(long, value_name = "FAULT", value_delimiter = ',', value_parser = fault)]
    faults: Vec<Fault>,
}

fn fault(text: &str) -> Result<Fault, String> {
    serde_json::from_value(json!(text)).map_err(|_| "no such fault".to_owned())
}

pub(crate) async fn run(args: Demo, app: &App) -> Result<Exit, Failure> {
    let answers = match &args.answers {
        Some(file) => Answers::from_file(file)?,
        None => Answers::default(),
    };
    let answers = if args.yes { answers.with_yes(YES) } else { answers };
    let can_ask = !app.out.json() && app.out.is_terminal() && dialoguer::console::user_attended();
    if !can_ask && !answers.is_scripted() {
        return Err(Failure::usage(
            "the demo asks a person where the policy says so, and nobody sits at this terminal",
        )
        .help("add --yes, or --answers FILE"));
    }
    let temporary = tempfile::tempdir().map_err(|error| Failure::failed(format!("a temporary folder: {error}")))?;
    let folder = args.dir.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::failed(format!("folder {}: {error}", folder.display())))?;
    let folder =
        folder.canonicalize().map_err(|error| Failure::failed(format!("folder {}: {error}", folder.display())))?;
    let address = app.common.store.clone().unwrap_or_else(|| Address::Sled(folder.join("store")));
    let faults = if args.faults.is_empty() { Fault::ALL.to_vec() } else { args.faults.clone() };
    let who = Who::new(args.by.as_deref(), &app.config()?);
    let shown = address_text(&address);
    let demonstration = Demonstration { folder, address, faults, answers, who };
    let exit = demo::run(app, demonstration).await?;
    if args.dir.is_some() {
        app.out.note(&format!("the threads are kept: interlock threads --store {shown}"));
    }
    Ok(exit)
}
