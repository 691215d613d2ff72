//! `interlock run`: starts a graph and follows it; or replays a thread from an older checkpoint.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use runtime::Start;
use runtime::history;
use runtime_core::ids::{CheckpointId, ThreadId};
use runtime_core::record::Multitask;
use serde_json::{Map, Value, json};

use super::follow::{Follow, FollowArgs, RunArgs};
use super::{App, pair, value_argument};
use crate::failure::{Exit, Failure};
use crate::graph_files;
use crate::ids::{new_thread, pick};
use crate::wiring::Session;

/// Attempts to find a thread id that is free.
const NEW_IDS_MAX: u128 = 16;

/// Run a graph on a new or an existing thread
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock run flow.yaml --input '{\"city\": \"Oslo\"}'\n  interlock run flow.yaml --input @input.json --stream updates\n  interlock run --thread flow-42 --checkpoint 9f3a01bc    (again from there)"
)]
pub(crate) struct Run {
    /// Graph file; not needed to replay a thread
    #[arg(required_unless_present = "checkpoint")]
    graph: Option<PathBuf>,
    /// Input: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// The thread; it is made when it does not exist [default: a new one]
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    /// Run again from this checkpoint of the thread, or the end of its id
    #[arg(long, value_name = "ID", requires = "thread", conflicts_with_all = ["graph", "input"])]
    checkpoint: Option<String>,
    /// A label of the thread; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, Value)>,
    /// What to do when the thread is busy
    #[arg(long, value_enum, value_name = "HOW", default_value_t = MultitaskWord::Reject)]
    multitask: MultitaskWord,
    #[command(flatten)]
    how: RunArgs,
    #[command(flatten)]
    follow: FollowArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MultitaskWord {
    Reject,
    Queue,
    Supersede,
}

pub(crate) async fn run(args: Run, app: &App) -> Result<Exit, Failure> {
    let session = if args.checkpoint.is_some() { app.session()? } else { app.new_session()? };
    let exit = match (&args.checkpoint, &args.graph) {
        (Some(checkpoint), _) => replay(&args, checkpoint, app, &session).await?,
        (None, Some(graph)) => start(&args, graph, app, &session).await?,
        (None, None) => return Err(Failure::usage("name a graph file")),
    };
    session.close().await?;
    Ok(exit)
}

async fn start(args: &Run, graph: &std::path::Path, app: &App, session: &Session) -> Result<Exit, Failure> {
    let set = graph_files::load(graph, &session.config, &session.known())?;
    let input = args.input.as_deref().map(|text| value_argument("--input", text)).transpose()?.unwrap_or(Value::Null);
    let thread = match &args.thread {
        Some(text) => ThreadId::new(text).map_err(|error| Failure::usage(error.to_string()))?,
        None => free_thread(session, set.root.name()).await?,
    };
    session.add_graphs(&set).await?;
    let follow = Follow::new(app, session, thread.clone(), &args.follow)?;
    let mut labels: Map<String, Value> = args.labels.iter().cloned().collect();
    let who = session.who(args.follow.by.as_deref());
    labels.entry("requested_by").or_insert_with(|| json!(who.user()));
    let options = args.how.options(match args.multitask {
        MultitaskWord::Reject => Multitask::Reject,
        MultitaskWord::Queue => Multitask::Queue,
        MultitaskWord::Supersede => Multitask::Supersede,
    });
    let start = Start { graph: set.root, thread, input, options, metadata: Value::Object(labels) };
    let streamed = session.engine.stream(start, follow.modes()).await?;
    follow.finish(streamed).await
}

pub(super) async fn free_thread(session: &Session, graph: &str) -> Result<ThreadId, Failure> {
    let chance = u128::from_str_radix(&session.engine.new_thread_id().as_str().replace('-', ""), 16).unwrap_or(0);
    for attempt in 0..NEW_IDS_MAX {
        let id = new_thread(graph, chance.wrapping_add(attempt))?;
        if session.store.load(&id).await?.is_none() {
            return Ok(id);
        }
    }
    Err(Failure::failed("found no free thread id").help("name one with --thread"))
}

async fn replay(args: &Run, checkpoint: &str, app: &App, session: &Session) -> Result<Exit, Failure> {
    let text = args.thread.as_deref().unwrap_or_default();
    let (thread, _) = session.thread(text).await?;
    let at = checkpoint_of(session, &thread, checkpoint).await?;
    let follow = Follow::new(app, session, thread.clone(), &args.follow)?;
    let options = args.how.options(Multitask::Reject);
    match session.engine.replay_stream(&thread, at, options, follow.modes()).await? {
        Some(streamed) => follow.finish(streamed).await,
        None => {
            app.out.note("nothing is left to run at this checkpoint");
            super::follow::tell(app, session, &thread, std::time::Instant::now()).await
        }
    }
}

/// The root checkpoint of an id or of its end.
pub(crate) async fn checkpoint_of(session: &Session, thread: &ThreadId, text: &str) -> Result<CheckpointId, Failure> {
    let all = history::checkpoints(&*session.store, thread).await?;
    let ids: Vec<CheckpointId> =
        all.iter().filter(|checkpoint| checkpoint.ns.is_empty()).map(|checkpoint| checkpoint.id).collect();
    pick("checkpoint", text, &ids)
}
