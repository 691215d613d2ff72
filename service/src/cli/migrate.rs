//! `interlock migrate`: moves a thread to another version of its graph.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use graphs::{CompiledGraph, GraphDigest};
use serde_json::json;

use super::App;
use crate::failure::{Exit, Failure};
use crate::graph_files;
use crate::ids::short_digest;
use crate::wiring::Session;

/// Hexadecimal digits of a graph's version.
const DIGEST_CHARS: usize = 64;

/// Move a thread to another version of its graph
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock migrate incident-42 --to flow.yaml --rename triage=assess")]
pub(crate) struct Migrate {
    /// The thread, or the end of its id
    thread: String,
    /// The new version: a graph file, or the hash of one that is in the store
    #[arg(long, value_name = "HASH|FILE")]
    to: String,
    /// A node that has another name there; may be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = names)]
    rename: Vec<(String, String)>,
}

fn names(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("write OLD=NEW".to_owned()),
    }
}

pub(crate) async fn run(args: Migrate, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, _) = session.thread(&args.thread).await?;
    let graph = target(&args.to, &session).await?;
    let renames = args.rename.iter().map(|(old, new)| (old.as_str().into(), new.as_str().into())).collect();
    session.engine.migrate(&thread, Arc::clone(&graph), renames).await?;
    if app.out.json() {
        app.out.json_line(&json!({"thread_id": thread, "graph": graph.name(), "version": graph.digest()}));
    } else {
        app.out.line(&format!("{thread} is at version {} of {}", short_digest(graph.digest().as_str()), graph.name()));
        app.out.note(&format!("go on: interlock resume {thread}"));
    }
    session.close().await?;
    Ok(Exit::Done)
}

async fn target(to: &str, session: &Session) -> Result<Arc<CompiledGraph>, Failure> {
    let is_digest = to.len() == DIGEST_CHARS && to.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest && !Path::new(to).exists() {
        let digest: GraphDigest = serde_json::from_value(json!(to.to_lowercase()))
            .map_err(|error| Failure::usage(format!("--to: {error}")))?;
        let graph = session.stored_graph(&digest).await?;
        session.fetch_graphs(&digest).await?;
        return Ok(graph);
    }
    let set = graph_files::load(&PathBuf::from(to), &session.config, &session.known())?;
    session.add_graphs(&set).await?;
    Ok(set.root)
}
