//! `interlock state`: what a thread is now, or was at a checkpoint.

use clap::Args;
use runtime::history;
use runtime_core::ids::CheckpointId;
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};
use crate::ids::{ago, pick, short, short_digest};
use crate::out::Out;
use crate::snapshot;

/// Show a thread's state
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock state incident-42\n  interlock state incident-42 --checkpoint 9f3a01bc --json"
)]
pub(crate) struct State {
    /// The thread, or the end of its id
    thread: String,
    /// As it was at this checkpoint, or the end of its id
    #[arg(long, value_name = "ID")]
    checkpoint: Option<String>,
}

pub(crate) async fn run(args: State, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, state) = session.thread(&args.thread).await?;
    let shown = match &args.checkpoint {
        None => snapshot::live(&thread, &state),
        Some(text) => {
            let all = history::checkpoints(&*session.store, &thread).await?;
            let ids: Vec<CheckpointId> = all.iter().map(|checkpoint| checkpoint.id).collect();
            let id = pick("checkpoint", text, &ids)?;
            let found = all.iter().find(|checkpoint| checkpoint.id == id);
            found.map_or(Value::Null, |checkpoint| snapshot::recorded(&thread, checkpoint))
        }
    };
    if app.out.json() {
        app.out.json_line(&shown);
    } else {
        if args.checkpoint.is_none() {
            app.out.text(&app.out.paint(&heading(&shown, &session.engine.clock().now())));
        }
        people(&app.out, &shown);
    }
    session.close().await?;
    Ok(Exit::Done)
}

fn heading(shown: &Value, now: &runtime_core::ids::Timestamp) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let run = &shown["run"];
    let outcome = run["outcome"].as_str().unwrap_or("going on");
    let age =
        runtime_core::ids::Timestamp::parse(&text(&run["accepted_at"])).map_or_else(String::new, |at| ago(at, *now));
    let mut lines = format!(
        "thread   {}\ngraph    {}  version {}\nstatus   {}\nrun      {}  {outcome}, {} supersteps, {age} ago\n",
        text(&shown["thread_id"]),
        text(&shown["graph"]),
        short_digest(&text(&shown["version"])),
        text(&shown["status"]),
        short(text(&run["run_id"])),
        run["supersteps"],
    );
    if let Some(message) = run["error"]["message"].as_str() {
        lines.push_str(&format!("failure  {}: {message}\n", text(&run["error"]["class"])));
    }
    for timer in shown["timers"].as_array().into_iter().flatten() {
        lines.push_str(&format!("timer    {} at {}\n", text(&timer["kind"]), text(&timer["at"])));
    }
    lines
}

fn people(out: &Out, shown: &Value) {
    let id = shown["config"]["configurable"]["checkpoint_id"].as_str().unwrap_or("-");
    let step = &shown["metadata"]["step"];
    let source = shown["metadata"]["source"].as_str().unwrap_or("-");
    let next: Vec<&str> = shown["next"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let next = if next.is_empty() { "nothing".to_owned() } else { next.join(", ") };
    out.line(&format!("at       checkpoint {}  step {step}, {source}\nnext     {next}", short(id)));
    for task in shown["tasks"].as_array().into_iter().flatten() {
        if let Some(message) = task["error"].as_str() {
            out.line(&format!("error    {}: {message}", task["name"].as_str().unwrap_or("-")));
        }
    }
    for interrupt in shown["interrupts"].as_array().into_iter().flatten() {
        let title = interrupt["title"].as_str().unwrap_or("-");
        out.line(&format!("asks     {}  {title}", short(interrupt["id"].as_str().unwrap_or("-"))));
    }
    out.line("values");
    out.value(&json!(shown["values"]));
}
