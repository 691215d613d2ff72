//! `interlock prune`: forgets history.

use clap::Args;
use runtime::ports::store::{Prune as How, ThreadFilter};
use serde_json::json;

use super::{App, threads};
use crate::failure::{Exit, Failure};

/// Forget the history of threads, keeping what they are now
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock prune incident-42 --keep-latest\n  interlock prune --all --keep-latest")]
pub(crate) struct Prune {
    /// The thread, or the end of its id
    #[arg(required_unless_present = "all")]
    thread: Option<String>,
    /// Every thread of the store
    #[arg(long, conflicts_with = "thread")]
    all: bool,
    /// Keep the last checkpoint; to remove threads whole, use `delete`
    #[arg(long, required = true)]
    keep_latest: bool,
}

pub(crate) async fn run(args: Prune, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let pruned = match &args.thread {
        Some(text) => vec![crate::ids::thread(&*session.store, text).await?],
        None => {
            let rows = threads::all(&*session.store, ThreadFilter::default(), usize::MAX).await?;
            rows.into_iter().map(|row| row.id).collect()
        }
    };
    for thread in &pruned {
        session.store.prune(thread, How::KeepLatest).await?;
    }
    if app.out.json() {
        app.out.json_line(&json!({ "pruned": pruned }));
    } else {
        app.out.line(&format!("pruned {} threads", pruned.len()));
    }
    session.close().await?;
    Ok(Exit::Done)
}
