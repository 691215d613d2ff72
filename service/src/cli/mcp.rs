//! `interlock mcp`: MCP servers that ship with this program.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde_json::json;
use sql_server::config::Config;
use sql_server::guard::{self, Environment, Facts, Verdict};
use tokio_util::sync::CancellationToken;
use tools::servers::airflow;
use tools::servers::git;
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
    /// An Apache Airflow 3: runs, logs and sources; clear, trigger, pause and pools
    ///
    /// `--config FILE` is the server's own file here: address, accounts, environments. Passwords come from the environment
    /// variables that it names.
    #[command(
        after_help = "Example (an entry of mcpServers in any MCP client):\n  {\"airflow\": {\"command\": \"interlock\", \"args\": [\"mcp\", \"airflow\", \"--config\", \"airflow.yaml\"], \"env\": {\"AIRFLOW_READ_PASSWORD\": \"…\"}}}"
    )]
    Airflow {
        #[command(flatten)]
        http: Http,
    },
    /// Git repositories: which commit broke what is deployed, and taking exactly that one back
    ///
    /// `--config FILE` is the server's own file here: work trees, their deployed branch, what may be taken back in them.
    #[command(
        after_help = "Example (an entry of mcpServers in any MCP client):\n  {\"git\": {\"command\": \"interlock\", \"args\": [\"mcp\", \"git\", \"--config\", \"git.yaml\"]}}"
    )]
    Git {
        #[command(flatten)]
        http: Http,
    },
    Sql(Sql),
}

/// HTTP for a server that holds accounts: whoever may call it acts with them, so its callers need a token.
#[derive(Debug, Args)]
struct Http {
    /// Serve over HTTP at this address instead (port 0 takes a free one); prints where. Callers send the token that the
    /// variable INTERLOCK_MCP_TOKEN holds
    #[arg(long = "http", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// PostgreSQL and SQLite databases, every statement judged before it runs
#[derive(Debug, Args)]
#[command(
    after_help = "Example (an entry of mcpServers in any MCP client):\n  {\"sql\": {\"command\": \"interlock\", \"args\": [\"mcp\", \"sql\", \"--config\", \"sql.yaml\"], \"env\": {\"WAREHOUSE_DSN\": \"…\"}}}"
)]
struct Sql {
    #[command(flatten)]
    http: Http,
    #[command(subcommand)]
    command: Option<SqlCommand>,
}

#[derive(Debug, Subcommand)]
enum SqlCommand {
    /// Judge one PostgreSQL statement without a database; exit code 0 allowed, 1 denied, 3 needs an approval
    #[command(
        after_help = "Example:\n  interlock mcp sql --config sql.yaml check --sql 'DELETE FROM orders' --role data_engineer --env staging"
    )]
    Check {
        /// The statement; standard input if absent
        #[arg(long, value_name = "SQL")]
        sql: Option<String>,
        /// A role of the configuration
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// Where the statement would run
        #[arg(long = "env", value_name = "ENVIRONMENT", value_parser = environment)]
        environment: Environment,
        /// Schemas in which unqualified names are looked up
        #[arg(long, value_name = "SCHEMA", default_values_t = ["public".to_owned()], value_delimiter = ',')]
        schemas: Vec<String>,
    },
}

fn environment(text: &str) -> Result<Environment, String> {
    match text {
        "production" => Ok(Environment::Production),
        "staging" => Ok(Environment::Staging),
        _ => Err("production or staging".to_owned()),
    }
}

pub(crate) async fn run(args: Mcp, app: &App) -> Result<Exit, Failure> {
    match args.command {
        McpCommand::Sandbox { dir, operator, http } => sandbox(dir, operator, http).await,
        McpCommand::Airflow { http } => {
            let file =
                app.named_config().ok_or_else(|| Failure::usage("mcp airflow: name its file with --config FILE"))?;
            serve_airflow(file, http.listen).await
        }
        McpCommand::Git { http } => {
            let file = app.named_config().ok_or_else(|| Failure::usage("mcp git: name its file with --config FILE"))?;
            serve_git(file, http.listen).await
        }
        McpCommand::Sql(Sql { http, command }) => {
            let file = app
                .named_config()
                .ok_or_else(|| Failure::usage("mcp sql: name the file with the connections: --config FILE"))?;
            match command {
                Some(check) => check_sql(file, check, app),
                None => serve_sql(file, http.listen).await,
            }
        }
    }
}

async fn sandbox(dir: PathBuf, operator: bool, http: Option<SocketAddr>) -> Result<Exit, Failure> {
    let surface = if operator { Surface::Operator } else { Surface::Agent };
    let failed = |error: String| Failure::failed(format!("mcp sandbox: {error}"));
    let options = ServeOptions { dir, surface };
    match http {
        None => serve_stdio(options).await.map_err(|error| failed(error.message))?,
        Some(listen) => {
            let server = SandboxServer::open(options).await.map_err(|error| failed(error.message))?;
            let served = serve_http(listen, configured_token(), move || server.clone()).await;
            served.map_err(|error| failed(error.to_string()))?;
        }
    }
    Ok(Exit::Done)
}

async fn serve_airflow(file: &Path, listen: Option<SocketAddr>) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("mcp airflow: {error}"));
    let config = airflow::Config::load(file).map_err(|error| Failure::usage(format!("mcp airflow: {error}")))?;
    let Some(listen) = listen else {
        airflow::serve_stdio(config).await.map_err(|error| failed(&error))?;
        return Ok(Exit::Done);
    };
    let server = airflow::AirflowServer::new(airflow::Airflow::new(config).map_err(|error| failed(&error))?);
    serve_http(listen, Some(token("airflow")?), move || server.clone()).await.map_err(|error| failed(&error))?;
    Ok(Exit::Done)
}

async fn serve_git(file: &Path, listen: Option<SocketAddr>) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("mcp git: {error}"));
    let config = git::Config::load(file).map_err(|error| Failure::usage(format!("mcp git: {error}")))?;
    let Some(listen) = listen else {
        git::serve_stdio(config).await.map_err(|error| failed(&error))?;
        return Ok(Exit::Done);
    };
    let server = git::GitServer::new(git::Repositories::new(config));
    serve_http(listen, Some(token("git")?), move || server.clone()).await.map_err(|error| failed(&error))?;
    Ok(Exit::Done)
}

async fn serve_sql(file: &Path, listen: Option<SocketAddr>) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("mcp sql: {error}"));
    let Some(listen) = listen else {
        sql_server::server::serve_stdio(file).await.map_err(|error| failed(&error))?;
        return Ok(Exit::Done);
    };
    let server = sql_server::server::SqlServer::new(Config::load(file).map_err(|error| failed(&error))?);
    serve_http(listen, Some(token("sql")?), move || server.clone()).await.map_err(|error| failed(&error))?;
    Ok(Exit::Done)
}

fn check_sql(file: &Path, command: SqlCommand, app: &App) -> Result<Exit, Failure> {
    let SqlCommand::Check { sql, role, environment, schemas } = command;
    let config = Config::roles_of(file).map_err(|error| Failure::usage(error.message))?;
    let role = config.role(&role).map_err(|error| Failure::usage(error.message))?;
    let facts = Facts { search_path: schemas, ..Facts::default() };
    let decision = guard::judge(&statement(sql)?, role, environment, &facts);
    if app.out.json() {
        app.out.json_line(&json!(decision));
    } else {
        app.out.line(&format!("{}  {}: {}", decision.verdict.as_str(), decision.rule, decision.reason));
    }
    Ok(match decision.verdict {
        Verdict::Allow => Exit::Done,
        Verdict::NeedsApproval => Exit::Waiting,
        Verdict::Deny => Exit::Failed,
    })
}

/// The statement, or what standard input holds, as far as the guard reads it.
fn statement(sql: Option<String>) -> Result<String, Failure> {
    if let Some(sql) = sql {
        return Ok(sql);
    }
    let mut text = String::new();
    let most = guard::SQL_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().take(most).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    Ok(text)
}

/// Environment variable with the token that callers of an HTTP server have to send.
const TOKEN_VARIABLE: &str = "INTERLOCK_MCP_TOKEN";

fn configured_token() -> Option<SecretString> {
    std::env::var(TOKEN_VARIABLE).ok().map(Into::into)
}

fn token(server: &str) -> Result<SecretString, Failure> {
    let missing = || {
        Failure::usage(format!(
            "mcp {server}: whoever reaches it over HTTP acts with its accounts; set {TOKEN_VARIABLE} to the token that callers send"
        ))
    };
    configured_token().ok_or_else(missing)
}

/// Serves any of the bundled servers over HTTP until it is interrupted.
async fn serve_http<S: ServerHandler>(
    listen: SocketAddr,
    token: Option<SecretString>,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> std::io::Result<()> {
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
