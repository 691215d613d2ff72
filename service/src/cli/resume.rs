//! `interlock resume`: goes on from the last checkpoint.

use clap::Args;
use runtime_core::record::Multitask;

use super::App;
use super::follow::{Follow, FollowArgs, RunArgs};
use crate::failure::{Exit, Failure};

/// Go on from the last checkpoint; failed tasks run again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock resume incident-42 --stream updates")]
pub(crate) struct Resume {
    /// The thread, or the end of its id
    thread: String,
    #[command(flatten)]
    how: RunArgs,
    #[command(flatten)]
    follow: FollowArgs,
}

pub(crate) async fn run(args: Resume, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, _) = session.thread(&args.thread).await?;
    let follow = Follow::new(app, &session, thread.clone(), &args.follow)?;
    let streamed = session.engine.resume_stream(&thread, args.how.options(Multitask::Reject), follow.modes()).await?;
    let exit = follow.finish(streamed).await?;
    session.close().await?;
    Ok(exit)
}
