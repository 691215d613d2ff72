//! `interlock replay`: a past thread against a changed graph.

use std::path::PathBuf;

use clap::Args;
use evals::Table;
use runtime::history;
use serde_json::json;

use super::App;
use crate::failure::{Exit, Failure};
use crate::graph_files::{self, Known};
use crate::replay::{self, Departure, Trace, nodes, shortened};

/// Steps before the departure that are shown.
const STEPS_BEFORE: usize = 12;

/// Run a past thread against a changed graph, from its journal, and show where it departs
///
/// The thread's input, every call's answer, people's answers and times come from its log. Nothing is called, nothing is written.
/// Exit codes: 0 the same to the end, 1 it departs, 2 wrong usage.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock replay incident-42 --graph graphs/library/etl-incident.yaml\n  interlock replay incident-42 --graph new.yaml --json"
)]
pub(crate) struct Replay {
    /// The thread, or the end of its id
    thread: String,
    /// The changed graph; graphs it refers to are looked for beside it
    #[arg(long, value_name = "FILE")]
    graph: PathBuf,
}

pub(crate) async fn run(args: Replay, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let set = graph_files::load(&args.graph, &config, &Known::for_checking(&config))?;
    let (store, _) = app.existing_store()?;
    let thread = crate::ids::thread(&*store, &args.thread).await?;
    let records = history::records(&*store, &thread).await?;
    let old = replay::trace(&*store, &thread).await?;
    let records: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
    let new = replay::play((&thread, &records), &set, &config).await?;
    let departure = replay::departure(&old, &new);
    if app.out.json() {
        app.out.json_line(&json!({
            "thread": thread, "graph": args.graph, "same": departure.is_none(), "departure": departure, "old": old, "new": new,
        }));
    } else {
        show(app, (&old, &new), departure.as_ref());
    }
    Ok(if departure.is_none() { Exit::Done } else { Exit::Failed })
}

fn show(app: &App, (old, new): (&Trace, &Trace), departure: Option<&Departure>) {
    let n_same = departure.map_or(old.steps.len(), |departure| departure.at);
    let shown = old.steps.iter().take(n_same).skip(n_same.saturating_sub(STEPS_BEFORE));
    let mut rows: Vec<Vec<String>> = shown
        .filter(|step| !step.tasks.is_empty())
        .map(|step| vec![format!("{} {}", step.path, step.step).trim().to_owned(), nodes(step), nodes(step)])
        .collect();
    if let Some(departure) = departure {
        rows.push(vec![format!("→ {}", departure.what), departure.old.clone(), departure.new.clone()]);
    }
    let header = ["step", "old", "new"].map(str::to_owned).to_vec();
    app.out.text(&evals::text(&[Table { title: "Side by side".to_owned(), header, rows }]));
    app.out.line("");
    match departure {
        None => app.out.line(&format!("the same to the end: {n_same} steps, {}", shortened(&new.end))),
        Some(departure) => {
            app.out.line(&format!("it departs at {}: {}", departure.place, departure.what));
            app.out.line(&format!("  old  {}\n  new  {}", departure.old, departure.new));
            app.out.line(&format!("  the new run ends with: {}", shortened(&new.end)));
        }
    }
}
