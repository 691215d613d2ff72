//! `interlock history`: the checkpoints of a thread, newest first.

use clap::Args;
use runtime::history::{self, Checkpoint};
use runtime_core::ids::CheckpointId;
use serde_json::Value;

use super::{App, pair};
use crate::failure::{Exit, Failure};
use crate::ids::{ago, pick, short};
use crate::snapshot;

/// List the checkpoints of a thread, newest first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock history incident-42 --filter source=loop --limit 5")]
pub(crate) struct History {
    /// The thread, or the end of its id
    thread: String,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only those before this checkpoint
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Only those whose metadata has this value: source, step or run_id
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = pair)]
    filters: Vec<(String, Value)>,
    /// Checkpoints of subgraphs too
    #[arg(long)]
    subgraphs: bool,
}

pub(crate) async fn run(args: History, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, state) = session.thread(&args.thread).await?;
    let all = history::checkpoints(&*session.store, &thread).await?;
    let before = match &args.before {
        Some(text) => Some(pick("checkpoint", text, &all.iter().map(|checkpoint| checkpoint.id).collect::<Vec<_>>())?),
        None => None,
    };
    let head = state.root().map(|root| root.checkpoint);
    let fits = |checkpoint: &&Checkpoint| {
        (args.subgraphs || checkpoint.ns.is_empty()) && before.is_none_or(|before: CheckpointId| checkpoint.id < before)
    };
    let rows: Vec<(&Checkpoint, Value)> = all
        .iter()
        .rev()
        .filter(fits)
        .map(|checkpoint| (checkpoint, snapshot::recorded(&thread, checkpoint)))
        .filter(|(_, shown)| args.filters.iter().all(|(key, value)| shown["metadata"][key] == *value))
        .take(args.limit)
        .collect();
    if app.out.json() {
        app.out.json_line(&rows.into_iter().map(|(_, shown)| shown).collect());
    } else {
        let now = session.engine.clock().now();
        let cells = rows.iter().map(|(checkpoint, shown)| {
            let here = if Some(checkpoint.id) == head { "* " } else { "  " };
            let next: Vec<&str> = shown["next"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            vec![
                format!("{here}{}", short(checkpoint.id)),
                checkpoint.parent.map_or_else(|| "-".to_owned(), short),
                checkpoint.frame.step.to_string(),
                shown["metadata"]["source"].as_str().unwrap_or("-").to_owned(),
                if next.is_empty() { "-".to_owned() } else { next.join(", ") },
                ago(checkpoint.at, now),
            ]
        });
        app.out.table(&["  checkpoint", "parent", "step", "source", "next", "age"], cells.collect());
    }
    session.close().await?;
    Ok(Exit::Done)
}
