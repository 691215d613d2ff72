//! `interlock signal`: sends a named signal to a thread.

use std::time::Instant;

use clap::Args;
use serde_json::Value;

use super::{App, follow, value_argument};
use crate::failure::{Exit, Failure};

/// Send a named signal to a thread; a node that waits for it goes on
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock signal order-7 paid --payload '{\"amount\": 12}'")]
pub(crate) struct Signal {
    /// The thread, or the end of its id
    thread: String,
    /// Name of the signal
    name: String,
    /// What comes with it: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
}

pub(crate) async fn run(args: Signal, app: &App) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let session = app.session()?;
    let (thread, _) = session.thread(&args.thread).await?;
    let payload =
        args.payload.as_deref().map(|text| value_argument("--payload", text)).transpose()?.unwrap_or(Value::Null);
    session.engine.signal(&thread, args.name.as_str().into(), payload).await?;
    session.engine.join(&thread).await?;
    let exit = follow::tell(app, &session, &thread, begun).await?;
    session.close().await?;
    Ok(exit)
}
