//! `interlock fork`: begins a new branch at an older checkpoint.

use clap::Args;
use runtime_core::event::Edit;
use serde_json::Value;

use super::{App, update, value_argument};
use crate::failure::{Exit, Failure};

/// Begin a new branch of a thread at an older checkpoint; the old branch stays in its history
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock fork incident-42 --checkpoint 9f3a01bc --values '{\"severity\": \"low\"}'\n  interlock resume incident-42"
)]
pub(crate) struct Fork {
    /// The thread, or the end of its id
    thread: String,
    /// The checkpoint, or the end of its id
    #[arg(long, value_name = "ID")]
    checkpoint: String,
    /// Channel values to change there: JSON, @FILE, or -
    #[arg(long, value_name = "JSON")]
    values: Option<String>,
    /// The node that counts as the writer
    #[arg(long, value_name = "NODE")]
    as_node: Option<String>,
}

pub(crate) async fn run(args: Fork, app: &App) -> Result<Exit, Failure> {
    let values =
        args.values.as_deref().map(|text| value_argument("--values", text)).transpose()?.unwrap_or(Value::Null);
    let edit = Edit { values, as_node: args.as_node.as_deref().map(Into::into) };
    update::edit(app, &args.thread, Some(&args.checkpoint), edit).await
}
