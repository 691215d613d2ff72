//! `interlock threads`: the threads of a store.

use clap::{Args, ValueEnum};
use runtime::ports::store::{PAGE_MAX, Store, ThreadFilter, ThreadRow, ThreadStatus};
use runtime_core::ids::ThreadId;
use serde_json::{Value, json};

use super::{App, pair};
use crate::failure::{Exit, Failure};
use crate::ids::{ago, short_digest};
use crate::snapshot::status_word;

/// List threads
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock threads --status interrupted --label team=data")]
pub(crate) struct Threads {
    /// Only of this graph
    #[arg(long)]
    graph: Option<String>,
    /// Only with this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, Value)>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    /// Only ids after this one (lists are sorted by id)
    #[arg(long, value_name = "THREAD")]
    after: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Idle,
    Busy,
    Interrupted,
    Waiting,
    Error,
}

impl From<Status> for ThreadStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Idle => Self::Idle,
            Status::Busy => Self::Busy,
            Status::Interrupted => Self::Interrupted,
            Status::Waiting => Self::Waiting,
            Status::Error => Self::Error,
        }
    }
}

pub(crate) async fn run(args: Threads, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let after =
        args.after.as_deref().map(ThreadId::new).transpose().map_err(|error| Failure::usage(error.to_string()))?;
    let filter =
        ThreadFilter { graph: args.graph, status: args.status.map(Into::into), metadata: args.labels, after, limit: 0 };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let rows = all(&*session.store, filter, limit).await?;
    let now = session.engine.clock().now();
    if app.out.json() {
        app.out.json_line(&rows.iter().map(shown).collect());
    } else if rows.is_empty() {
        app.out.note("no threads");
    } else {
        let cells = rows.iter().map(|row| {
            vec![
                row.id.to_string(),
                row.graph.to_string(),
                short_digest(row.digest.as_str()),
                status_word(row.status).to_owned(),
                ago(row.updated_at, now),
                labels(&row.metadata),
            ]
        });
        app.out.statuses(&["thread", "graph", "version", "status", "age", "labels"], cells.collect());
    }
    session.close().await?;
    Ok(Exit::Done)
}

/// Threads that fit, page by page.
pub(crate) async fn all(store: &dyn Store, mut filter: ThreadFilter, limit: usize) -> Result<Vec<ThreadRow>, Failure> {
    let mut rows: Vec<ThreadRow> = Vec::new();
    loop {
        filter.limit = PAGE_MAX.min(limit - rows.len());
        let page = store.threads(&filter).await?;
        let is_last = page.len() < filter.limit;
        rows.extend(page);
        match rows.last() {
            Some(last) if !is_last && rows.len() < limit => filter.after = Some(last.id.clone()),
            _ => return Ok(rows),
        }
    }
}

fn shown(row: &ThreadRow) -> Value {
    json!({
        "thread_id": row.id,
        "graph": row.graph,
        "version": row.digest,
        "status": row.status,
        "run_id": row.run,
        "labels": row.metadata,
        "created_at": row.created_at.to_string(),
        "updated_at": row.updated_at.to_string(),
    })
}

fn labels(metadata: &Value) -> String {
    let Value::Object(map) = metadata else { return String::new() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(" ")
}
