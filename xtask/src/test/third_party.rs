//! Servers of other people, from npm and PyPI at pinned versions, attached through the hub. One that cannot be installed
//! has failed: nothing is skipped but what the catalog calls heavy, and `INTERLOCK_THIRD_PARTY=all` attaches that too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Result, bail, ensure};

use super::conformance::{node, npm_install, once};
use super::counts::Counts;
use super::{Context, StageEnd};
use crate::shell;

/// Set for the program and declared to no server; the program checks that none of them sees it.
const CANARY: (&str, &str) = ("INTERLOCK_CANARY", "canary-3f9c1a77");
/// Servers that have to be attached.
const SERVERS_MIN: usize = 12;
/// Eras and transports that have to be among them.
const KINDS: [&str; 4] =
    ["2026-07-28 over stdio", "2026-07-28 over http", "2025-11-25 over stdio", "2025-11-25 over http"];
/// Packages installed at a time.
const INSTALLS_AT_ONCE: usize = 4;

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
    install_all(context, &installed, &wanted)?;
    let words = [program, catalog, installed.display().to_string(), node(context)?.display().to_string()];
    let mut command = shell::command(&context.root, &words);
    command.env(CANARY.0, CANARY.1);
    let finished = shell::run_logged(command, &context.logs.join("third-party.log"))?;
    let lines = |word: &str| finished.output.lines().filter(|line| line.starts_with(word)).count();
    let counts = Counts { passed: lines("ok "), failed: lines("FAILED "), skipped: 0 };
    let counts = if finished.success || counts.failed > 0 { counts } else { counts.plus(Counts::one(false)) };
    if counts.failed == 0 {
        judge_width(&finished.output)?;
    }
    Ok(StageEnd { counts, output: finished.output })
}

/// Many servers, and not all of one kind.
fn judge_width(output: &str) -> Result<()> {
    let names: BTreeSet<&str> = output.lines().filter_map(attached).collect();
    ensure!(names.len() >= SERVERS_MIN, "only {} servers were attached: {names:?}", names.len());
    for kind in KINDS {
        ensure!(output.contains(kind), "no server was attached that speaks {kind}");
    }
    Ok(())
}

/// The server of a line `ok      NAME/CHECK: …`.
fn attached(line: &str) -> Option<&str> {
    line.strip_prefix("ok ")?.trim().split('/').next()
}

/// Installs everything on the list, a few at a time: most of it is waiting for a registry.
fn install_all(context: &Context, installed: &Path, wanted: &str) -> Result<()> {
    if wanted.lines().any(|line| line.starts_with("pypi ")) {
        installer(context, installed)?;
    }
    let lines = Mutex::new(wanted.lines());
    let next = || lines.lock().ok()?.next();
    let worker = || -> Result<()> {
        while let Some(line) = next() {
            install(context, installed, line)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..INSTALLS_AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("an installer panicked"))?)
    })
}

/// The environment whose pip fills all others.
pub(super) fn installer(context: &Context, installed: &Path) -> Result<PathBuf> {
    let installer = installed.join("pip");
    once(&installer, "pip", || run(context, "pip-venv", &["python3", "-m", "venv", &shown(&installer)]))?;
    Ok(installer)
}

/// Installs what one line of the list names, once.
fn install(context: &Context, installed: &Path, line: &str) -> Result<()> {
    let mut words = line.split(' ');
    let (Some(source), Some(name)) = (words.next(), words.next()) else { bail!("not an entry: {line}") };
    let packages: Vec<&str> = words.collect();
    let folder = installed.join(source).join(name);
    match (source, packages.as_slice()) {
        ("npm", [package]) => npm_install(context, &folder, package),
        ("pypi", packages) => {
            once(&folder, &packages.join(" "), || pip_install(context, &installed.join("pip"), &folder, packages))
        }
        _ => bail!("not an entry: {line}"),
    }
}

/// One installer for every environment: making one in each takes longer than most of what goes into it.
pub(super) fn pip_install(context: &Context, installer: &Path, folder: &Path, packages: &[&str]) -> Result<()> {
    let (pip, folder_shown) = (shown(&installer.join("bin/pip")), shown(folder));
    let log = format!("pip-{}", folder.file_name().unwrap_or_default().display());
    run(context, &log, &["python3", "-m", "venv", "--without-pip", "--clear", &folder_shown])?;
    let flags = ["install", "--no-input", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:"];
    run(context, &log, &[&[&pip, "--python", &folder_shown], &flags[..], packages].concat())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Runs one step of an installation.
fn run(context: &Context, log: &str, words: &[&str]) -> Result<()> {
    let finished = shell::run_logged(shell::command(&context.root, words), &context.logs.join(format!("{log}.log")))?;
    ensure!(finished.success, "{} failed\n{}", words.join(" "), finished.output);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_counts_once_and_only_when_it_was_attached() {
        assert_eq!(attached("ok      git/1: 2026-07-28 over stdio, 7 read (1.3 s)"), Some("git"));
        assert_eq!(attached("FAILED  git/1: no (1.3 s)"), None);
        let many = |n: usize| (0..n).map(|i| format!("ok      s{}/1: {}\n", i / 2, KINDS[i % 4])).collect::<String>();
        assert!(judge_width(&many(2 * SERVERS_MIN)).is_ok());
        assert!(judge_width(&many(2 * SERVERS_MIN - 2)).is_err());
        assert!(judge_width(&many(2 * SERVERS_MIN).replace(" over http", " over stdio")).is_err());
    }
}
