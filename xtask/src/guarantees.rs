//! `cargo xtask guarantees`: the figures of the last run, as the tests stated them, put into docs/guarantees.md.
//!
//! Each stage that states guarantees leaves its lines in a file; the page shows those of every stage that ran, the newest of
//! each, between two marks. Nobody types a figure.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::shell;
use crate::test::STAGES;

const PAGE: &str = "docs/guarantees.md";
const BEGIN: &str = "<!-- figures: written by `cargo xtask guarantees` -->";
const END: &str = "<!-- end of figures -->";

/// Options of `cargo xtask guarantees`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the figures and leave the page as it is.
    #[arg(long)]
    print: bool,
}

/// Where a stage's lines are kept.
fn file_of(logs: &Path, stage: &str) -> PathBuf {
    logs.join("guarantees").join(format!("{stage}.txt"))
}

/// Keeps what a stage stated. A stage that stated nothing leaves what it stated before.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn keep<'a>(logs: &Path, stage: &str, lines: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut lines: Vec<&str> = lines.collect();
    if lines.is_empty() {
        return Ok(());
    }
    lines.sort_by_key(|line| (number_of(line), *line));
    lines.dedup();
    let path = file_of(logs, stage);
    std::fs::create_dir_all(logs.join("guarantees")).context("cannot create the folder of figures")?;
    std::fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// The guarantee a line is about: `G12 …` is 12.
fn number_of(line: &str) -> u32 {
    let digits = line.strip_prefix('G').and_then(|rest| rest.split(' ').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX)
}

/// Renders the figures into the page.
///
/// # Errors
/// No stage has stated anything, or the page has lost its marks.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = shell::repo_root()?;
    let logs = shell::target_dir(&root).join("xtask");
    let parts = STAGES.iter().filter_map(|stage| {
        let text = std::fs::read_to_string(file_of(&logs, stage.name)).ok()?;
        Some((stage.name, text))
    });
    let figures = render(parts);
    anyhow::ensure!(!figures.is_empty(), "no stage has stated a figure yet: run `cargo xtask test` first");
    if args.print {
        print!("{figures}");
        return Ok(ExitCode::SUCCESS);
    }
    let page = root.join(PAGE);
    let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {PAGE}"))?;
    std::fs::write(&page, replaced(&text, &figures)?).with_context(|| format!("cannot write {PAGE}"))?;
    println!("{PAGE} shows the figures of the last run");
    Ok(ExitCode::SUCCESS)
}

fn render<'a>(parts: impl Iterator<Item = (&'a str, String)>) -> String {
    parts.map(|(stage, lines)| format!("# stage {stage}\n{lines}")).collect()
}

fn replaced(page: &str, figures: &str) -> Result<String> {
    let begin = page.find(BEGIN).with_context(|| format!("{PAGE} has lost the mark {BEGIN}"))? + BEGIN.len();
    let end = page.find(END).with_context(|| format!("{PAGE} has lost the mark {END}"))?;
    anyhow::ensure!(begin <= end, "the marks of {PAGE} are in the wrong order");
    Ok(format!("{}\n\n```text\n{figures}```\n\n{}", &page[..begin], &page[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_its_marks() {
        let page = include_str!("../../docs/guarantees.md");
        assert!(replaced(page, "G1 cuts=1\n").unwrap().contains("```text\nG1 cuts=1\n```"));
        assert!(replaced("no marks", "").is_err());
    }

    #[test]
    fn lines_are_kept_by_number_and_once() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), "sim", ["G13 a=1", "G2 b=1", "G13 a=1"].into_iter()).unwrap();
        keep(dir.path(), "sim", std::iter::empty()).unwrap();
        assert_eq!(std::fs::read_to_string(file_of(dir.path(), "sim")).unwrap(), "G2 b=1\nG13 a=1\n");
    }
}
