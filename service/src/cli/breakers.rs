//! `interlock breakers`: what was switched off after failures, and switching it on again.

use clap::{Args, Subcommand};
use runtime::interlocks;
use runtime_core::ids::Timestamp;
use runtime_core::interlocks::breaker::Breaker;
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};
use crate::ids::ago;

/// Show breakers and close them
#[derive(Debug, Args)]
pub(crate) struct Breakers {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Reset(Reset),
}

/// List the breakers that ever failed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock breakers list\n  interlock breakers list --open --json")]
struct List {
    /// Only those that are open
    #[arg(long)]
    open: bool,
}

/// Close a breaker
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock breakers reset tool:airflow --by ana")]
struct Reset {
    /// The breaker, as `interlock breakers list` shows it
    name: String,
    /// Who closes it, for the audit log [default: the user of this machine]
    #[arg(long, value_name = "USER")]
    by: Option<String>,
}

pub(crate) async fn run(args: Breakers, app: &App) -> Result<Exit, Failure> {
    match args.what {
        What::List(args) => list(&args, app).await,
        What::Reset(args) => reset(&args, app).await,
    }
}

async fn list(args: &List, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let now = session.engine.clock().now();
    let mut all = interlocks::breakers(&*session.store).await?;
    all.retain(|(_, breaker)| !args.open || breaker.opened_at.is_some());
    if app.out.json() {
        app.out.json_line(&all.iter().map(|(name, breaker)| shown(name, breaker, now)).collect());
    } else if all.is_empty() {
        app.out.note(if args.open { "no breaker is open" } else { "no breaker has failed" });
    } else {
        let cells = all.iter().map(|(name, breaker)| {
            vec![
                name.clone(),
                status(breaker, now).to_owned(),
                breaker.failures.to_string(),
                breaker.opened_at.map_or_else(|| "-".to_owned(), |at| ago(at, now)),
                breaker.last.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        });
        app.out.table(&["breaker", "status", "failures", "open for", "last failure"], cells.collect());
    }
    session.close().await?;
    Ok(Exit::Done)
}

/// `closed`, `open`, or `half_open` when a probe is under way or would be let through.
fn status(breaker: &Breaker, now: Timestamp) -> &'static str {
    match breaker.opened_at {
        None => "closed",
        Some(at) if breaker.probe.is_some() || now >= at.plus(breaker.cooldown) => "half_open",
        Some(_) => "open",
    }
}

fn shown(name: &str, breaker: &Breaker, now: Timestamp) -> Value {
    let time = |at: Timestamp| json!(at.to_string());
    json!({
        "name": name,
        "status": status(breaker, now),
        "failures": breaker.failures,
        "opened_at": breaker.opened_at.map(time),
        "until": breaker.opened_at.map(|at| time(at.plus(breaker.cooldown))),
        "last": breaker.last,
        "opened_by": breaker.opened_by,
    })
}

async fn reset(args: &Reset, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let who = session.who(args.by.as_deref());
    let before = session.engine.reset_breaker(&args.name, who.user()).await?;
    let Some(before) = before else {
        let failure = Failure::failed(format!("there is no breaker `{}`", args.name));
        return Err(failure.help("`interlock breakers list` shows those that have failed"));
    };
    let was_open = before.opened_at.is_some();
    if app.out.json() {
        app.out.json_line(&json!({"name": args.name, "was_open": was_open, "failures": before.failures}));
    } else {
        let was = if was_open { "was open" } else { "was not open" };
        app.out.line(&format!("closed {}: it {was}, after {} failures in a row", args.name, before.failures));
    }
    session.close().await?;
    Ok(Exit::Done)
}
