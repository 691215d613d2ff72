//! `cargo xtask fuzz`: the fuzz targets under cargo-fuzz on the nightly toolchain, each for a given time.
//!
//! The bodies live in the libraries, so the tests of this crate run them on the stable toolchain too. Seeds are committed in
//! `fuzz/seeds`; an input that broke something goes to `fuzz/findings` with its fix and is replayed by the tests for ever.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::shell;
use crate::test::tools;

/// The targets, as in `fuzz/fuzz_targets`.
const TARGETS: &[&str] = &["graph_yaml", "expression", "stored_record"];
/// An input over this time is a finding. By the clock, with the sanitizer, on a machine that does other things too: the bound of
/// one second of processor time is held by the stage `fuzz-bodies`.
const MAX_SECONDS_PER_INPUT: u32 = 10;
/// Memory of the whole process, sanitizer included.
const MAX_MEMORY_MB: u32 = 2048;
/// Longer inputs reach no new code; the tests cover the large ones by name.
const MAX_INPUT_BYTES: u32 = 64 << 10;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this target; all of them without it.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

/// Runs the targets one after the other; stops at the first that finds something.
///
/// # Errors
/// No such target, or cargo-fuzz is missing and cannot be installed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let chosen: Vec<_> =
        TARGETS.iter().filter(|target| args.target.as_deref().is_none_or(|name| name == **target)).collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        "no target is called {:?}; there are {}",
        args.target.as_deref().unwrap_or_default(),
        TARGETS.join(", ")
    );
    tools::ensure_one(&tools::FUZZ)?;
    let root = shell::repo_root()?;
    for target in chosen {
        println!("fuzzing {target} for {} s", args.seconds);
        std::fs::create_dir_all(root.join("fuzz/corpus").join(target)).context("cannot create the corpus folder")?;
        let status = fuzz_command(&root, target, args.seconds).status().context("cannot start cargo-fuzz")?;
        if !status.success() {
            println!(
                "{target} found an input: it is in fuzz/artifacts/{target}; keep it in fuzz/findings/{target} with its fix"
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fuzz_command(root: &Path, target: &str, seconds: u32) -> Command {
    let corpus = format!("fuzz/corpus/{target}");
    let seeds = format!("fuzz/seeds/{target}");
    let mut command = shell::command(root, &["cargo", "fuzz", "run", target, &corpus, &seeds, "--"]);
    command
        .env("RUSTUP_TOOLCHAIN", "nightly")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={MAX_SECONDS_PER_INPUT}"))
        .arg(format!("-rss_limit_mb={MAX_MEMORY_MB}"))
        .arg(format!("-max_len={MAX_INPUT_BYTES}"))
        .arg("-print_final_stats=1");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every target in the table has its file, its entry in the manifest and at least one seed, and the other way round.
    #[test]
    fn targets_are_complete() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz");
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for target in TARGETS {
            assert!(fuzz.join(format!("fuzz_targets/{target}.rs")).is_file(), "{target}");
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
            assert!(
                std::fs::read_dir(fuzz.join("seeds").join(target)).is_ok_and(|mut dir| dir.next().is_some()),
                "{target}"
            );
        }
        assert_eq!(std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap().count(), TARGETS.len());
    }
}
