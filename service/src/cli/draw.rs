//! `interlock draw`: a graph as a picture in text.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::App;
use crate::failure::{Exit, Failure};
use crate::graph_files::{self, Known};

/// Draw a graph
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock draw flow.yaml --format mermaid > flow.mmd")]
pub(crate) struct Draw {
    /// Graph file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Form of the picture
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// An outline for the terminal
    Text,
    /// A flowchart for documents
    Mermaid,
}

pub(crate) fn run(args: &Draw, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let (graph, _) = graph_files::read(&args.file, &Known::for_checking(&config))?;
    let picture = match args.format {
        Format::Text => graph.text_drawing(),
        Format::Mermaid => graph.mermaid(),
    };
    if app.out.json() {
        app.out.json_line(&json!({"graph": graph.name(), "picture": picture}));
    } else {
        app.out.text(&picture);
    }
    Ok(Exit::Done)
}
