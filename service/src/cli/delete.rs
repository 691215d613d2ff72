//! `interlock delete`: removes threads and everything of them.

use clap::Args;
use serde_json::json;

use super::App;
use crate::failure::{Exit, Failure};

/// Remove threads and everything of them; the audit chain stays
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock delete incident-41 incident-42")]
pub(crate) struct Delete {
    /// The threads, or the ends of their ids
    #[arg(required = true, value_name = "THREAD")]
    threads: Vec<String>,
}

pub(crate) async fn run(args: Delete, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let mut deleted = Vec::new();
    for text in &args.threads {
        let thread = crate::ids::thread(&*session.store, text).await?;
        // Whoever works for it outside hears that nobody waits any more; a thread that has ended refuses, and is deleted too.
        if let Err(why) = session.engine.cancel(&thread, "deleted").await {
            tracing::debug!(%thread, %why, "nothing to cancel before the thread is deleted");
        }
        session.store.delete_thread(&thread).await?;
        if !app.out.json() {
            app.out.line(&format!("deleted {thread}"));
        }
        deleted.push(thread);
    }
    if app.out.json() {
        app.out.json_line(&json!({ "deleted": deleted }));
    }
    session.close().await?;
    Ok(Exit::Done)
}
