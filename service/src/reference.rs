//! The page about the command line, made from the commands themselves.

#![cfg(test)]

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};

use crate::cli::Cli;

/// Where the page is.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");

#[test]
fn the_page_is_what_the_commands_say() {
    let mut command = Cli::command();
    command.build();
    let mut text = String::from(
        "# The command line\n\nMade from the program itself; `UPDATE_EXPECT=1 cargo test -p interlock` writes it anew.\n\n\
         Exit codes: 0 done, 1 failed, 2 wrong usage or an invalid graph, 3 waiting for a person, a timer or a signal.\n\n\
         Options of every command:\n\n",
    );
    command.get_arguments().filter(|arg| arg.is_global_set()).for_each(|arg| option(&mut text, arg));
    for part in command.get_subcommands() {
        section(&mut text, part, "interlock");
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(PAGE, &text).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == text, "docs/cli.md is not what the commands say; UPDATE_EXPECT=1 writes it anew");
}

fn section(text: &mut String, command: &Command, parent: &str) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    if !command.is_subcommand_required_set() {
        own_section(text, command, &name);
    }
    let subcommands = command.get_subcommands().filter(|part| part.get_name() != "help");
    subcommands.for_each(|part| section(text, part, &name));
}

fn own_section(text: &mut String, command: &Command, name: &str) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _infallible = write!(text, "\n## {name}\n\n{about}\n\n");
    command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && arg.get_id() != "help")
        .for_each(|arg| option(text, arg));
    if let Some(example) = command.get_after_help() {
        let example = example.to_string();
        let lines = example.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line));
        let _infallible = write!(text, "\n```text\n{}\n```\n", lines.collect::<Vec<_>>().join("\n"));
    }
}

fn option(text: &mut String, arg: &Arg) {
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let value: Vec<String> = value.iter().map(|name| format!("<{name}>")).collect();
    let name = match (arg.get_long(), value.is_empty()) {
        (Some(long), true) => format!("--{long}"),
        (Some(long), false) => format!("--{long} {}", value.join(" ")),
        (None, _) => value.join(" "),
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let _infallible = writeln!(text, "* `{name}` — {help}");
}
