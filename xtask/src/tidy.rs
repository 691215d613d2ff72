//! `cargo xtask tidy`: the house rules that no compiler checks, as plain functions over the text of the tree.
//!
//! A check takes the [`Tree`] and returns problems; it never touches the disk, so each has a teeth test that feeds it a
//! bad sample. Adding a check is one file and one line in [`CHECKS`].

mod architecture;
mod changes;
mod dependencies;
mod diagnostics;
mod documented;
mod file_size;
mod function_size;
mod links;
mod machine_paths;
mod module_docs;
mod module_names;
mod pure_code;
mod readme;
mod syntax;
mod tree;
mod unfinished;

use std::fmt;
use std::process::ExitCode;

use anyhow::Result;

use self::tree::Tree;
use crate::shell;

/// One rule of the house.
pub(crate) struct Check {
    /// Short name, shown with each problem.
    name: &'static str,
    /// What the rule asks for.
    about: &'static str,
    run: fn(&Tree) -> Vec<Problem>,
}

/// Every check, in the order they report.
pub(crate) const CHECKS: &[Check] = &[
    Check { name: "module-docs", about: "every Rust file opens with `//!`", run: module_docs::check },
    Check {
        name: "function-size",
        about: "functions ≤ 70 lines, p95 ≤ 40 a crate, ≤ 5 parameters",
        run: function_size::check,
    },
    Check {
        name: "file-size", about: "files ≤ 500 lines in the pure crates, ≤ 700 elsewhere", run: file_size::check
    },
    Check {
        name: "pure-code",
        about: "no async, unsafe, unwrap, expect or panic in the pure crates",
        run: pure_code::check,
    },
    Check { name: "documented", about: "public items of the API crates carry a doc comment", run: documented::check },
    Check { name: "module-names", about: "no module or type named after nothing", run: module_names::check },
    Check { name: "unfinished", about: "no to-do marks", run: unfinished::check },
    Check { name: "machine-paths", about: "no path of somebody's machine", run: machine_paths::check },
    Check { name: "dependencies", about: "no crate that was thrown out comes back", run: dependencies::check },
    Check { name: "diagnostics", about: "each code has its check, its page and its test", run: diagnostics::check },
    Check { name: "architecture", about: "each invariant names what holds it", run: architecture::check },
    Check { name: "changes", about: "changes/unreleased has notes", run: changes::check },
    Check { name: "readme", about: "console blocks of the README are exercised by a test", run: readme::check },
    Check { name: "links", about: "relative links in documents lead somewhere", run: links::check },
];

/// A place in the tree that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    path: String,
    line: usize,
    text: String,
}

impl Problem {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.into(), line, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// Options of `cargo xtask tidy`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this check (see --list).
    #[arg(long)]
    only: Option<String>,
    /// Name the checks and stop.
    #[arg(long)]
    list: bool,
}

/// Runs the checks and prints what they found.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        for check in CHECKS {
            println!("{:<15} {}", check.name, check.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let report = check_tree(args.only.as_deref())?;
    print!("{}", report.text);
    println!("tidy: {} checks, {} problems", report.checks, report.problems);
    Ok(if report.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a run over the tree found.
pub(crate) struct Report {
    pub(crate) checks: usize,
    pub(crate) failed_checks: usize,
    pub(crate) problems: usize,
    pub(crate) text: String,
}

/// Reads the tree and runs the checks called `only`, or all.
///
/// # Errors
/// The tree cannot be read, or no check has that name.
pub(crate) fn check_tree(only: Option<&str>) -> Result<Report> {
    let tree = Tree::read(&shell::repo_root()?)?;
    let mut report = Report { checks: 0, failed_checks: 0, problems: 0, text: String::new() };
    for check in CHECKS.iter().filter(|check| only.is_none_or(|name| name == check.name)) {
        let problems = (check.run)(&tree);
        report.checks += 1;
        report.failed_checks += usize::from(!problems.is_empty());
        report.problems += problems.len();
        for problem in &problems {
            report.text.push_str(&format!("{problem} [{}]\n", check.name));
        }
    }
    anyhow::ensure!(
        report.checks > 0,
        "no check is called {:?}; see `cargo xtask tidy --list`",
        only.unwrap_or_default()
    );
    Ok(report)
}
