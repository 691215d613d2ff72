//! `interlock tools`: what the configured tool servers offer, what the guard would say, one call by hand, logins, and pins.

mod call;
mod decisions;
mod list;
mod login;
mod pin;

use clap::{Args, Subcommand};

use super::App;
use crate::failure::{Exit, Failure};

/// List, call and pin the tools of the configured servers, log in to them
#[derive(Debug, Args)]
pub(crate) struct Tools {
    #[command(subcommand)]
    command: ToolsCommand,
}

#[derive(Debug, Subcommand)]
enum ToolsCommand {
    List(list::List),
    Call(call::Call),
    Login(login::Login),
    Pin(pin::Pin),
}

pub(crate) async fn run(args: Tools, app: &App) -> Result<Exit, Failure> {
    match args.command {
        ToolsCommand::List(args) => list::run(args, app).await,
        ToolsCommand::Call(args) => call::run(args, app).await,
        ToolsCommand::Login(args) => login::run(args, app).await,
        ToolsCommand::Pin(args) => pin::run(args, app).await,
    }
}
