//! `interlock cancel`: stops a run, or takes back what a paused thread waits for.

use clap::Args;
use serde_json::json;

use super::App;
use crate::failure::{Exit, Failure};

/// Stop a run, or take back what a paused thread waits for
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock cancel incident-42 --why 'handled by hand'")]
pub(crate) struct Cancel {
    /// The thread, or the end of its id
    thread: String,
    /// Why, for the audit log
    #[arg(long, default_value = "cancelled on the command line")]
    why: String,
}

pub(crate) async fn run(args: Cancel, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, _) = session.thread(&args.thread).await?;
    session.engine.cancel(&thread, &args.why).await?;
    if app.out.json() {
        app.out.json_line(&json!({"thread_id": thread, "outcome": "cancelled"}));
    } else {
        app.out.line(&format!("cancelled {thread}"));
    }
    session.close().await?;
    Ok(Exit::Done)
}
