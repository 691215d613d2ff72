//! `interlock update`: edits the state of a thread.

use clap::Args;
use runtime_core::event::Edit;
use serde_json::json;

use super::{App, run, value_argument};
use crate::failure::{Exit, Failure};
use crate::ids::short;
use crate::snapshot;

/// Edit a thread's state, as if a node had written it
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock update incident-42 --values '{\"severity\": \"high\"}' --as-node triage\n  interlock resume incident-42"
)]
pub(crate) struct Update {
    /// The thread, or the end of its id
    thread: String,
    /// Channel values: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    values: String,
    /// The node that counts as the writer: its routing decides what runs next; `end` clears it
    #[arg(long, value_name = "NODE")]
    as_node: Option<String>,
    /// Edit the state of this checkpoint: a new branch begins there
    #[arg(long, value_name = "ID")]
    checkpoint: Option<String>,
}

pub(crate) async fn run(args: Update, app: &App) -> Result<Exit, Failure> {
    let values = value_argument("--values", &args.values)?;
    edit(
        app,
        &args.thread,
        args.checkpoint.as_deref(),
        Edit { values, as_node: args.as_node.as_deref().map(Into::into) },
    )
    .await
}

/// Writes one edit and tells where the thread stands.
pub(crate) async fn edit(app: &App, thread: &str, checkpoint: Option<&str>, edit: Edit) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, _) = session.thread(thread).await?;
    let at = match checkpoint {
        Some(text) => Some(run::checkpoint_of(&session, &thread, text).await?),
        None => None,
    };
    let made = session.engine.update(&thread, vec![edit], at).await?;
    let state = session.engine.state(&thread).await?.unwrap_or_default();
    let next = snapshot::next(&state);
    if app.out.json() {
        let values = snapshot::values(&state);
        app.out.json_line(&json!({"thread_id": thread, "checkpoint_id": made, "next": next, "values": values}));
    } else {
        let next = if next.is_empty() { "nothing".to_owned() } else { next.join(", ") };
        app.out.line(&format!("checkpoint {}  next {next}", short(made)));
        app.out.note(&format!("go on: interlock resume {thread}"));
    }
    session.close().await?;
    Ok(Exit::Done)
}
