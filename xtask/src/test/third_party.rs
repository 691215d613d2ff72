//! Servers of other people, from npm and PyPI at pinned versions, attached through the hub. One that cannot be installed
//! has failed: nothing is skipped.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::conformance::{node, npm_install};
use super::counts::Counts;
use super::{Context, StageEnd};
use crate::shell;

/// Set for the program and declared to no server; the program checks that none of them sees it.
const CANARY: (&str, &str) = ("INTERLOCK_CANARY", "canary-3f9c1a77");
/// Servers that have to be attached.
const SERVERS_MIN: usize = 12;

pub(super) fn stage(context: &Context) -> Result<StageEnd> {
    let target = shell::target_dir(&context.root);
    let build = ["cargo", "build", "--locked", "--package", "tools", "--example", "third_party"];
    let built = shell::run_logged(shell::command(&context.root, &build), &context.logs.join("third-party-build.log"))?;
    ensure!(built.success, "the program does not build\n{}", built.output);
    let program = target.join("debug/examples/third_party");
    let (catalog, installed) = (context.root.join("tools/catalog"), target.join("third-party"));
    let (program, catalog) = (program.display().to_string(), catalog.display().to_string());
    let wanted = shell::capture(shell::command(&context.root, &[&program, &catalog]))?;
    ensure!(wanted.lines().count() >= SERVERS_MIN, "the catalog names fewer than {SERVERS_MIN} servers:\n{wanted}");
    for line in wanted.lines() {
        install(context, &installed, line)?;
    }
    let words = [program, catalog, installed.display().to_string(), node(context)?.display().to_string()];
    let mut command = shell::command(&context.root, &words);
    command.env(CANARY.0, CANARY.1);
    let finished = shell::run_logged(command, &context.logs.join("third-party.log"))?;
    let lines = |word: &str| finished.output.lines().filter(|line| line.starts_with(word)).count();
    let counts = Counts { passed: lines("ok "), failed: lines("FAILED "), skipped: 0 };
    let counts = if finished.success || counts.failed > 0 { counts } else { counts.plus(Counts::one(false)) };
    Ok(StageEnd { counts, output: finished.output })
}

/// Installs what one line of the list names, once.
fn install(context: &Context, installed: &Path, line: &str) -> Result<()> {
    let mut words = line.split(' ');
    let (Some(source), Some(name)) = (words.next(), words.next()) else { anyhow::bail!("not an entry: {line}") };
    let packages: Vec<&str> = words.collect();
    let folder = installed.join(source).join(name);
    match (source, packages.as_slice()) {
        ("npm", [package]) => npm_install(context, &folder, package),
        ("pypi", packages) => pip_install(context, &folder, packages),
        _ => anyhow::bail!("not an entry: {line}"),
    }
}

fn pip_install(context: &Context, folder: &Path, packages: &[&str]) -> Result<()> {
    let done = folder.join("installed");
    if done.exists() {
        return Ok(());
    }
    let (folder_shown, pip) = (folder.display().to_string(), folder.join("bin/pip").display().to_string());
    let venv = ["python3", "-m", "venv", &folder_shown];
    let pip =
        [&[pip.as_str(), "install", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:"], packages]
            .concat();
    for words in [&venv[..], &pip] {
        let finished = shell::run_logged(shell::command(&context.root, words), &context.logs.join("pip-install.log"))?;
        ensure!(finished.success, "{} failed\n{}", words.join(" "), finished.output);
    }
    std::fs::write(done, packages.join(" ")).with_context(|| format!("cannot write to {}", folder.display()))
}
