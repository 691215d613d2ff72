//! `interlock mcp`: MCP servers that ship with this program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;
use tools::servers::http::{ENDPOINT, HttpOptions, HttpServer, ServerHandler};
use tools::servers::sandbox::{SandboxServer, ServeOptions, Surface, serve_stdio};

use super::App;
use crate::failure::{Exit, Failure};

/// Serve a bundled MCP server over standard input and output, or over HTTP
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
        /// Serve over HTTP at this address instead (port 0 takes a free one); prints where
        #[arg(long, value_name = "ADDRESS")]
        http: Option<SocketAddr>,
    },
}

pub(crate) async fn run(args: Mcp, _: &App) -> Result<Exit, Failure> {
    let McpCommand::Sandbox { dir, operator, http } = args.command;
    let surface = if operator { Surface::Operator } else { Surface::Agent };
    let failed = |error: String| Failure::failed(format!("mcp sandbox: {error}"));
    let options = ServeOptions { dir, surface };
    match http {
        None => serve_stdio(options).await.map_err(|error| failed(error.message))?,
        Some(listen) => {
            let server = SandboxServer::open(options).await.map_err(|error| failed(error.message))?;
            serve_http(listen, move || server.clone()).await.map_err(|error| failed(error.to_string()))?;
        }
    }
    Ok(Exit::Done)
}

/// Environment variable with the token that callers of an HTTP server have to send.
const TOKEN_VARIABLE: &str = "INTERLOCK_MCP_TOKEN";

/// Serves any of the bundled servers over HTTP until it is interrupted.
async fn serve_http<S: ServerHandler>(
    listen: SocketAddr,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> std::io::Result<()> {
    let token = std::env::var(TOKEN_VARIABLE).ok().map(Into::into);
    let server = HttpServer::bind(HttpOptions { token, ..HttpOptions::local(listen) }, make).await?;
    println!("http://{}{ENDPOINT}", server.address()?);
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        interrupted.cancel();
    });
    server.serve(stop).await
}
