//! Running other programs: always from the repository's root, always with the output where the caller wants it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The repository's root: the parent of this crate's folder, as cargo told when it started us.
pub(crate) fn repo_root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask …`, not by its path")?;
    let root = Path::new(&manifest).parent().context("the xtask crate has no parent folder")?;
    Ok(root.to_owned())
}

/// The folder cargo builds into.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// A command in `root`, split from one line of words.
pub(crate) fn command<S: AsRef<OsStr>>(root: &Path, words: &[S]) -> Command {
    let (program, args) = words.split_first().expect("a command has at least its program");
    let mut command = Command::new(program);
    command.args(args).current_dir(root).stdin(Stdio::null());
    command
}

/// What a program printed (standard output and error, in the order they came) and whether it succeeded.
pub(crate) struct Finished {
    pub(crate) success: bool,
    pub(crate) output: String,
}

/// Runs `command` with both streams in the file at `log`, and reads the file back.
///
/// # Errors
/// The log cannot be written, or the program is not there.
pub(crate) fn run_logged(mut command: Command, log: &Path) -> Result<Finished> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    let status = command
        .status()
        .with_context(|| format!("cannot start {}: is it installed?", command.get_program().display()))?;
    let mut bytes = Vec::new();
    File::open(log)?.read_to_end(&mut bytes)?;
    Ok(Finished { success: status.success(), output: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Standard output of a short command that has to succeed.
///
/// # Errors
/// The program is not there or fails; its own words are in the message.
pub(crate) fn capture(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    anyhow::ensure!(output.status.success(), "{shown} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `program` is on the search path and answers `args` with success.
pub(crate) fn answers(program: &str, args: &[&str]) -> bool {
    let probe =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}
