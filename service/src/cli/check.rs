//! `interlock check`: everything that is wrong with graph files, at once.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tools::hub::Hub;
use tools::toolbox::ToolBox;

use super::App;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::graph_files::{self, Known};
use crate::ids::short_digest;

/// Check graph files: every error at once, with line, column and remedy
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock check flows/*.yaml")]
pub(crate) struct Check {
    /// Graph files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
    /// Start the configured tool servers and check the names of tools too
    #[arg(long)]
    tools: bool,
}

pub(crate) fn run(args: &Check, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let known = Known::for_checking(&config);
    let known = if args.tools { known.with_tools(offered(&config)?) } else { known };
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    for file in &args.files {
        match graph_files::load(file, &config, &known) {
            Ok(set) => {
                let bad = args.strict && !set.warnings.is_empty();
                exit = exit.and(if bad { Exit::Usage } else { Exit::Done });
                let graph = &set.root;
                rows.push(json!({
                    "file": file, "ok": !bad, "graph": graph.name(), "version": graph.digest(),
                    "nodes": graph.nodes().len(), "channels": graph.channels().len(), "diagnostics": set.warnings.to_json(),
                }));
                if !app.out.json() {
                    app.out.text(&app.out.paint(&set.warnings.to_string()));
                    let counts = format!(
                        "{} nodes, {} channels, {} tests",
                        graph.nodes().len(),
                        graph.channels().len(),
                        graph.tests().len()
                    );
                    let version = short_digest(graph.digest().as_str());
                    app.out.line(&format!("{}: ok  {}  ({counts}, version {version})", file.display(), graph.name()));
                }
            }
            Err(failure) => {
                exit = exit.and(failure.exit);
                if !app.out.json() {
                    app.out.text(&app.out.paint(&failure.text()));
                }
                let diagnostics = failure.diagnostics.clone().unwrap_or_else(|| json!([]));
                rows.push(json!({"file": file, "ok": false, "diagnostics": diagnostics, "message": failure.message.trim_end()}));
            }
        }
    }
    if app.out.json() {
        app.out.json_line(&json!(rows));
    }
    Ok(exit)
}

/// Names of all tools that the configured servers offer.
fn offered(config: &Config) -> Result<Vec<String>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("starting the runtime: {error}")))?;
    runtime.block_on(async {
        let hub = Hub::new(config.servers.clone());
        let listed = hub.list(&["*".to_owned()]).await;
        hub.close().await;
        let tools = listed.map_err(|error| Failure::failed(format!("listing tools: {error}")))?;
        Ok(tools.into_iter().map(|tool| tool.target).collect())
    })
}
