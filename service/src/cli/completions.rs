//! `interlock completions`: completion scripts for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{App, Cli};
use crate::failure::{Exit, Failure};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock completions bash > ~/.local/share/bash-completion/completions/interlock")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Completions, app: &App) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "interlock", &mut script);
    app.out.text(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
