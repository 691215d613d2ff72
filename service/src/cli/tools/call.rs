//! `interlock tools call`: one call by hand, through guard, journal and audit.

use std::sync::Arc;

use clap::Args;
use runtime::Start;
use runtime_core::record::RunOptions;
use serde_json::json;

use super::super::follow::{Follow, FollowArgs};
use super::super::{App, value_argument};
use crate::call_as;
use crate::failure::{Exit, Failure};

/// Make one call, as a graph would: guarded, journaled, audited
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock tools call warehouse.query --args '{\"sql\": \"select 1 as n\"}'\n  interlock tools call warehouse.hold_partition --args @hold.json --as remediation --env production    (asks; `interlock answer` lets it go on)"
)]
pub(super) struct Call {
    /// SERVER.TOOL
    target: String,
    /// Arguments: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", default_value = "{}")]
    args: String,
    /// On behalf of this agent
    #[arg(long = "as", value_name = "AGENT")]
    agent: Option<String>,
    /// In this environment; a server's own label stands above it
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
    #[command(flatten)]
    follow: FollowArgs,
}

pub(super) async fn run(args: Call, app: &App) -> Result<Exit, Failure> {
    let arguments = value_argument("--args", &args.args)?;
    if !arguments.is_object() {
        return Err(Failure::usage("--args: the arguments of a tool are an object, as in '{\"sql\": \"select 1\"}'"));
    }
    if args.target.split_once('.').is_none_or(|(server, tool)| server.is_empty() || tool.is_empty()) {
        return Err(Failure::usage(format!("`{}` names no tool: write SERVER.TOOL", args.target)));
    }
    let session = app.new_session()?;
    let graph = Arc::new(call_as::graph()?);
    let thread = super::super::run::free_thread(&session, "call").await?;
    let follow = Follow::new(app, &session, thread.clone(), &args.follow)?;
    let who = session.who(args.follow.by.as_deref());
    let start = Start {
        graph,
        thread,
        input: json!({"tool": args.target, "args": arguments, "agent": args.agent, "env": args.env}),
        options: RunOptions::default(),
        metadata: json!({"requested_by": who.user()}),
    };
    let streamed = session.engine.stream(start, follow.modes()).await?;
    let exit = follow.finish(streamed).await?;
    session.close().await?;
    Ok(exit)
}
