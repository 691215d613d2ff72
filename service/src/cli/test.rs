//! `interlock test`: runs the tests that graph files carry.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::App;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::graph_files::{self, GraphSet, Known};
use crate::graph_tests;
use crate::ids::span;

/// Run the tests that graph files carry, with scripted tools, agents and answers
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock test flows/*.yaml\n  interlock test flow.yaml --only 'asks when unsure'")]
pub(crate) struct Test {
    /// Graph files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Results of one file.
struct Report {
    exit: Exit,
    n_run: usize,
    n_failed: usize,
    rows: Vec<Value>,
}

pub(crate) fn run(args: &Test, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let mut total = Report { exit: Exit::Done, n_run: 0, n_failed: 0, rows: Vec::new() };
    for file in &args.files {
        match graph_files::load(file, &config, &Known::for_testing()) {
            Ok(set) => {
                let report = one_file(file, &set, (args.only.as_deref(), &config), app)?;
                total.exit = total.exit.and(report.exit);
                total.n_run += report.n_run;
                total.n_failed += report.n_failed;
                total.rows.extend(report.rows);
            }
            Err(failure) => {
                total.exit = total.exit.and(failure.exit);
                if !app.out.json() {
                    app.out.text(&failure.text());
                }
                total.rows.push(
                    json!({"file": file, "ok": false, "message": failure.message, "diagnostics": failure.diagnostics}),
                );
            }
        }
    }
    if app.out.json() {
        app.out.json_line(&json!(total.rows));
    } else {
        let n_passed = total.n_run - total.n_failed;
        app.out.line(&app.out.paint(&format!("{n_passed} passed, {} failed", total.n_failed)));
    }
    if total.n_run == 0 && total.exit == Exit::Done {
        app.out.note("no test was run: graph files carry them under `tests:`");
    }
    Ok(total.exit)
}

fn one_file(
    file: &Path,
    set: &GraphSet,
    (only, config): (Option<&str>, &Config),
    app: &App,
) -> Result<Report, Failure> {
    let mut report = Report { exit: Exit::Done, n_run: 0, n_failed: 0, rows: Vec::new() };
    let mut unreached: Vec<String> = set.root.nodes().iter().map(|node| node.name.clone()).collect();
    for test in set.root.tests().iter().filter(|test| only.is_none_or(|only| test.name.contains(only))) {
        // One thread, so that the jumping clock never overtakes work that is under way.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("starting the runtime: {error}")))?;
        let result = runtime.block_on(graph_tests::run(set, test, config));
        let ok = result.problems.is_empty();
        unreached.retain(|node| !result.path.contains(node));
        report.n_run += 1;
        report.n_failed += usize::from(!ok);
        report.exit = report.exit.and(if ok { Exit::Done } else { Exit::Failed });
        if !app.out.json() {
            let word = if ok { "passed" } else { "failed" };
            app.out.line(&app.out.paint(&format!(
                "{word}  {}: {}  {}",
                file.display(),
                result.name,
                span(result.took)
            )));
            for problem in &result.problems {
                app.out.line(&format!("        {problem}"));
            }
        }
        report.rows.push(json!({
            "file": file, "graph": set.root.name(), "test": result.name, "ok": ok, "problems": result.problems,
            "path": result.path,
            "ms": u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    if !unreached.is_empty() && report.n_run > 0 && only.is_none() && !app.out.json() {
        app.out.note(&format!("{}: no test reaches {}", file.display(), unreached.join(", ")));
    }
    Ok(report)
}
