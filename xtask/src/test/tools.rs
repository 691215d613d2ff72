//! System parts a stage needs, and how each comes onto a machine that has Rust and Debian packages.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::shell;

/// A program that must be there before a stage starts.
pub(crate) struct Tool {
    name: &'static str,
    /// Succeeds when the tool is there.
    probe: &'static [&'static str],
    source: Source,
}

/// Where a tool comes from.
enum Source {
    /// A Debian package.
    Apt(&'static str),
    /// A crate with programs, at the version that was tried.
    Crate(&'static str, &'static str),
    /// A component of the toolchain.
    Component(&'static str),
}

pub(crate) const RUSTFMT: Tool =
    Tool { name: "rustfmt", probe: &["cargo", "fmt", "--version"], source: Source::Component("rustfmt") };
pub(crate) const CLIPPY: Tool =
    Tool { name: "clippy", probe: &["cargo", "clippy", "--version"], source: Source::Component("clippy") };
pub(crate) const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    probe: &["cargo", "nextest", "--version"],
    source: Source::Crate("cargo-nextest", "0.9.143"),
};
pub(crate) const CC: Tool = Tool { name: "gcc", probe: &["gcc", "--version"], source: Source::Apt("gcc") };
pub(crate) const STRACE: Tool = Tool { name: "strace", probe: &["strace", "-V"], source: Source::Apt("strace") };
pub(crate) const NPM: Tool = Tool { name: "npm", probe: &["npm", "--version"], source: Source::Apt("npm") };
pub(crate) const PYTHON: Tool = Tool {
    name: "python3-venv",
    probe: &["python3", "-c", "import venv, ensurepip"],
    source: Source::Apt("python3-venv"),
};
/// The server programs; a test starts its own cluster with them. Debian keeps them off the search path.
pub(crate) const POSTGRES: Tool = Tool {
    name: "postgresql",
    probe: &["sh", "-c", "ls /usr/lib/postgresql/*/bin/initdb || command -v initdb"],
    source: Source::Apt("postgresql"),
};
pub(crate) const FUZZ: Tool =
    Tool { name: "cargo-fuzz", probe: &["cargo", "fuzz", "--version"], source: Source::Crate("cargo-fuzz", "0.13.2") };

/// Installs what is missing of `tools`, saying so.
///
/// # Errors
/// A tool is missing and cannot be installed; the message says what to do by hand.
pub(super) fn ensure(context: &Context, tools: &[Tool]) -> Result<()> {
    tools.iter().filter(|tool| !is_there(tool)).try_for_each(|tool| install(context, tool))
}

/// Installs one tool if it is missing, outside of a stage.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_one(tool: &Tool) -> Result<()> {
    let root = shell::repo_root()?;
    let context = Context { logs: shell::target_dir(&root).join("xtask"), root, deep: false };
    if is_there(tool) { Ok(()) } else { install(&context, tool) }
}

fn is_there(tool: &Tool) -> bool {
    tool.probe.split_first().is_some_and(|(program, args)| shell::answers(program, args))
}

fn install(context: &Context, tool: &Tool) -> Result<()> {
    println!("installing {}, which is missing here", tool.name);
    for words in install_commands(&tool.source) {
        let mut command = shell::command(&context.root, &words);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        let log = context.logs.join(format!("install-{}.log", tool.name));
        let finished = shell::run_logged(command, &log)?;
        if !finished.success {
            bail!("{} is missing and `{}` failed; install it by hand\n{}", tool.name, words.join(" "), finished.output);
        }
    }
    if !is_there(tool) {
        bail!("{} was installed but does not answer; is its folder on the search path?", tool.name);
    }
    Ok(())
}

fn install_commands(source: &Source) -> Vec<Vec<&'static str>> {
    match source {
        Source::Apt(package) => {
            let with_root =
                |words: &[&'static str]| if is_root() { words.to_vec() } else { [&["sudo", "-n"], words].concat() };
            vec![
                with_root(&["apt-get", "update"]),
                with_root(&["apt-get", "install", "-y", "--no-install-recommends", package]),
            ]
        }
        Source::Crate(name, version) => vec![vec!["cargo", "install", "--locked", name, "--version", version]],
        Source::Component(name) => vec![vec!["rustup", "component", "add", name]],
    }
}

/// Whether packages can be installed without asking for more rights.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().context("id is part of every system");
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_cannot_be_installed_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context { root: dir.path().to_owned(), logs: dir.path().to_owned(), deep: false };
        // Refused by the toolchain at once, with no look at any registry.
        let tool = Tool { name: "no-such-tool", probe: &["no-such-tool"], source: Source::Crate("no such tool", "0") };
        let error = ensure(&context, &[tool]).unwrap_err().to_string();
        assert!(error.contains("no-such-tool is missing") && error.contains("install it by hand"), "{error}");
    }

    #[test]
    fn a_tool_that_is_there_is_left_alone() {
        let context = Context { root: "nowhere".into(), logs: "nowhere".into(), deep: false };
        let tool = Tool { name: "cargo", probe: &["cargo", "--version"], source: Source::Apt("none") };
        assert!(ensure(&context, &[tool]).is_ok());
    }
}
