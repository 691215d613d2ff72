//! `interlock mcp`: MCP servers that ship with this program.

use std::path::PathBuf;

use clap::{Args, Subcommand};
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
}

pub(crate) async fn run(args: Mcp, _: &App) -> Result<Exit, Failure> {
    let McpCommand::Sandbox { dir, operator } = args.command;
    let surface = if operator { Surface::Operator } else { Surface::Agent };
    let served = serve_stdio(ServeOptions { dir, surface }).await;
    served.map_err(|error| Failure::failed(format!("mcp sandbox: {}", error.message)))?;
    Ok(Exit::Done)
}
