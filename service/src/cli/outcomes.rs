//! `interlock outcomes`: what remedies came to, and what people say about it.

use clap::{ArgGroup, Args, Subcommand};
use runtime::track_records::track_records;
use runtime_core::interlocks::track_record::{Counted, Marked, TrackRecord, rounded_down};
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};
use crate::ids::ago;

/// Show how often remedies healed, correct an outcome, let a stopped class go on
#[derive(Debug, Args)]
pub(crate) struct Outcomes {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Mark(Mark),
    Reset(Reset),
}

/// List the classes that acted, or the last outcomes of one
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock outcomes list\n  interlock outcomes list rerun-from-extract --json")]
struct List {
    /// A class: its last outcomes, the newest first
    class: Option<String>,
    /// Only classes that are stopped
    #[arg(long, conflicts_with = "class")]
    stopped: bool,
}

/// Correct an outcome: a check that held and was wrong, or the other way round
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("truth").required(true))]
#[command(after_help = "Example:\n  interlock outcomes mark incident-42 --wrong --by ana")]
struct Mark {
    /// The thread, for its last outcome, or the id of an outcome as `interlock outcomes list CLASS` shows it
    thread: String,
    /// The act did not heal, whatever its check said
    #[arg(long, group = "truth")]
    wrong: bool,
    /// The act healed, whatever its check said
    #[arg(long, group = "truth")]
    right: bool,
    /// The class, where the thread has outcomes of several
    #[arg(long)]
    class: Option<String>,
    /// Who says so, for the audit log [default: the user of this machine]
    #[arg(long, value_name = "USER")]
    by: Option<String>,
}

/// Let a stopped class go on
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock outcomes reset rerun-from-extract --by ana")]
struct Reset {
    /// The class, as `interlock outcomes list` shows it
    class: String,
    /// Who lets it, for the audit log [default: the user of this machine]
    #[arg(long, value_name = "USER")]
    by: Option<String>,
}

pub(crate) async fn run(args: Outcomes, app: &App) -> Result<Exit, Failure> {
    match args.what {
        What::List(args) => list(&args, app).await,
        What::Mark(args) => mark(&args, app).await,
        What::Reset(args) => reset(&args, app).await,
    }
}

async fn list(args: &List, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let mut all = track_records(&*session.store).await?;
    match &args.class {
        Some(class) => {
            let known = all.into_iter().find(|(known, _)| known == class);
            let (_, record) = known.ok_or_else(|| unknown(class))?;
            one(&record, app, session.engine.clock().now());
        }
        None => {
            all.retain(|(_, record)| !args.stopped || record.is_stopped());
            classes(&all, args, app);
        }
    }
    session.close().await?;
    Ok(Exit::Done)
}

fn classes(all: &[(String, TrackRecord)], args: &List, app: &App) {
    if app.out.json() {
        app.out.json_line(&all.iter().map(|(class, record)| shown(class, record)).collect());
    } else if all.is_empty() {
        app.out.note(if args.stopped { "no class is stopped" } else { "no outcome has been counted" });
    } else {
        let cells = all.iter().map(|(class, record)| {
            vec![
                class.clone(),
                status(record).to_owned(),
                record.healed.to_string(),
                record.failed.to_string(),
                declared(record),
                format!("{:.2}", rounded_down(record.bound(record.prior))),
            ]
        });
        app.out.statuses(&["class", "status", "healed", "failed", "declared", "lower bound"], cells.collect());
    }
}

fn one(record: &TrackRecord, app: &App, now: runtime_core::ids::Timestamp) {
    if app.out.json() {
        return app.out.json_line(&record.last.iter().rev().map(outcome).collect());
    }
    let cells = record.last.iter().rev().map(|counted| {
        vec![
            counted.id.to_string(),
            counted.graph.to_string(),
            format!("{} ago", ago(counted.at, now)),
            counted.confidence.map_or_else(|| "-".to_owned(), |sure| format!("{sure:.2}")),
            word(counted).to_owned(),
            counted.marked_by.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    app.out.table(&["outcome", "graph", "when", "confidence", "came to", "corrected by"], cells.collect());
}

fn status(record: &TrackRecord) -> &'static str {
    if record.is_stopped() { "stopped" } else { "counting" }
}

fn declared(record: &TrackRecord) -> String {
    match (record.prior.healed, record.prior.failed) {
        (0, 0) => "-".to_owned(),
        (healed, failed) => format!("{healed} of {}", healed.saturating_add(failed)),
    }
}

fn word(counted: &Counted) -> &'static str {
    if counted.healed { "healed" } else { "failed" }
}

fn shown(class: &str, record: &TrackRecord) -> Value {
    json!({
        "class": class, "stopped": record.is_stopped(), "healed": record.healed, "failed": record.failed,
        "failed_in_a_row": record.failed_in_a_row(), "prior": record.prior,
        "lower_bound": record.bound(record.prior),
    })
}

fn outcome(counted: &Counted) -> Value {
    json!({
        "id": &*counted.id, "thread": counted.thread, "graph": &*counted.graph, "at": counted.at.to_string(),
        "confidence": counted.confidence, "healed": counted.healed, "marked_by": counted.marked_by,
    })
}

fn unknown(class: &str) -> Failure {
    Failure::failed(format!("class `{class}` has no outcome"))
        .help("`interlock outcomes list` shows the classes that have one")
}

async fn mark(args: &Mark, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let who = session.who(args.by.as_deref());
    let all = track_records(&*session.store).await?;
    let class = class_of(args, &all)?;
    let marked = session.engine.mark_outcome(&args.thread, (&class, args.right), who.user()).await?;
    let word = if args.right { "healed" } else { "failed" };
    match marked {
        Marked::Unknown => return Err(no_outcome(&args.thread)),
        _ if app.out.json() => {
            let changed = marked == Marked::Changed;
            app.out.json_line(&json!({ "class": class, "thread": args.thread, "came_to": word, "changed": changed }));
        }
        Marked::Changed => app.out.line(&format!("{class}: the outcome of {} is {word} now", args.thread)),
        Marked::Already => app.out.line(&format!("{class}: the outcome of {} was {word} already", args.thread)),
    }
    session.close().await?;
    Ok(Exit::Done)
}

/// The class whose outcome is meant: the one that was named, else the only one that the thread has an outcome of.
fn class_of(args: &Mark, all: &[(String, TrackRecord)]) -> Result<String, Failure> {
    if let Some(class) = &args.class {
        return Ok(class.clone());
    }
    let of = all.iter().filter(|(_, record)| record.find(&args.thread).is_some()).map(|(class, _)| class.as_str());
    match of.collect::<Vec<_>>().as_slice() {
        [] => Err(no_outcome(&args.thread)),
        [class] => Ok((*class).to_owned()),
        several => {
            let text = format!("`{}` has outcomes of {} classes", args.thread, several.len());
            Err(Failure::usage(text).help(format!("name one: --class {}", several.join(", or --class "))))
        }
    }
}

fn no_outcome(which: &str) -> Failure {
    Failure::failed(format!("`{which}` has no outcome among the last ones of any class"))
        .help("`interlock outcomes list CLASS` shows those that are kept one by one")
}

async fn reset(args: &Reset, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let who = session.who(args.by.as_deref());
    let before = session.engine.reset_class(&args.class, who.user()).await?;
    let before = before.ok_or_else(|| unknown(&args.class))?;
    let (was_stopped, row) = (before.is_stopped(), before.failed_in_a_row());
    if app.out.json() {
        app.out.json_line(&json!({ "class": args.class, "was_stopped": was_stopped, "failed_in_a_row": row }));
    } else {
        let was = if was_stopped { "was stopped" } else { "was not stopped" };
        app.out.line(&format!("{} goes on: it {was}, after {row} failed heals in a row", args.class));
    }
    session.close().await?;
    Ok(Exit::Done)
}
