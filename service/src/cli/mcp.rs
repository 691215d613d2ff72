//! `interlock mcp`: MCP servers that ship with this program.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tools::servers::airflow;
use tools::servers::sandbox::{ServeOptions, Surface, serve_stdio};

use super::App;
use crate::failure::{Exit, Failure};

/// Serve a bundled MCP server over standard input and output
#[derive(Debug, Args)]
pub(crate) struct Mcp {
    #[command(subcommand)]
    command: McpCommand,
}

#[derive(Debug, Subcommand)]
enum McpCommand {
    /// An embedded data warehouse with a small ETL that can be broken on command
    #[command(
        after_help = "Example (an entry of mcpServers in any MCP client):\n  {\"warehouse\": {\"command\": \"interlock\", \"args\": [\"mcp\", \"sandbox\", \"--dir\", \"warehouse\"]}}"
    )]
    Sandbox {
        /// Folder of the warehouse; made if it does not exist
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
        /// Serve the operator's tools (faults, truth, verdicts) instead of the agents'
        #[arg(long)]
        operator: bool,
    },
    /// An Apache Airflow 3: runs, logs and sources; clear, trigger, pause and pools
    ///
    /// `--config FILE` is the server's own file here: address, accounts, environments. Passwords come from the environment
    /// variables that it names.
    #[command(
        after_help = "Example (an entry of mcpServers in any MCP client):\n  {\"airflow\": {\"command\": \"interlock\", \"args\": [\"mcp\", \"airflow\", \"--config\", \"airflow.yaml\"], \"env\": {\"AIRFLOW_READ_PASSWORD\": \"…\"}}}"
    )]
    Airflow,
}

pub(crate) async fn run(args: Mcp, app: &App) -> Result<Exit, Failure> {
    match args.command {
        McpCommand::Sandbox { dir, operator } => {
            let surface = if operator { Surface::Operator } else { Surface::Agent };
            let served = serve_stdio(ServeOptions { dir, surface }).await;
            served.map_err(|error| Failure::failed(format!("mcp sandbox: {}", error.message)))?;
        }
        McpCommand::Airflow => {
            let file =
                app.named_config().ok_or_else(|| Failure::usage("mcp airflow: name its file with --config FILE"))?;
            let config =
                airflow::Config::load(file).map_err(|error| Failure::usage(format!("mcp airflow: {error}")))?;
            let served = airflow::serve_stdio(config).await;
            served.map_err(|error| Failure::failed(format!("mcp airflow: {error}")))?;
        }
    }
    Ok(Exit::Done)
}
