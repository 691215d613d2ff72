//! `interlock schema`: the JSON Schema of graph files, for editors.

use clap::Args;

use super::App;
use crate::failure::{Exit, Failure};

/// Print the JSON Schema of graph files, for editors
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock schema > graph.schema.json")]
pub(crate) struct Schema {}

pub(crate) fn run(_: &Schema, app: &App) -> Result<Exit, Failure> {
    app.out.value(&graphs::editor_schema());
    Ok(Exit::Done)
}
