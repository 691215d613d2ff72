//! `interlock audit`: the chain of decisions.

use checkpoints::store::audit_hash;
use clap::{Args, Subcommand};
use runtime::ports::store::{AuditRecord, PAGE_MAX, Store};
use serde_json::json;

use super::App;
use crate::failure::{Exit, Failure};

/// Read and verify the chain of decisions
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Print the last decisions
    #[command(after_help = "Example:\n  interlock audit tail --lines 20")]
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: usize,
        /// Only of this thread
        #[arg(long)]
        thread: Option<String>,
    },
    /// Check that no decision was changed, added or removed
    #[command(after_help = "Example:\n  interlock audit verify")]
    Verify,
    /// Print every decision as one JSON line each
    #[command(after_help = "Example:\n  interlock audit export > audit.jsonl")]
    Export,
}

pub(crate) async fn run(args: Audit, app: &App) -> Result<Exit, Failure> {
    let (store, _) = app.existing_store()?;
    let exit = match args.command {
        AuditCommand::Tail { lines, thread } => tail(&*store, app, lines, thread.as_deref()).await,
        AuditCommand::Verify => verify(&*store, app).await,
        AuditCommand::Export => {
            each(&*store, |record| app.out.json_line(&json!(record))).await?;
            Ok(Exit::Done)
        }
    };
    store.close().await?;
    exit
}

/// Visits the whole chain, page by page.
async fn each(store: &dyn Store, mut visit: impl FnMut(&AuditRecord)) -> Result<(), Failure> {
    let mut from = 1;
    loop {
        let page = store.audit(from, PAGE_MAX).await?;
        page.iter().for_each(&mut visit);
        match page.last() {
            Some(last) if page.len() == PAGE_MAX => from = last.seq + 1,
            _ => return Ok(()),
        }
    }
}

async fn tail(store: &dyn Store, app: &App, lines: usize, thread: Option<&str>) -> Result<Exit, Failure> {
    let mut last: std::collections::VecDeque<AuditRecord> = std::collections::VecDeque::new();
    each(store, |record| {
        if thread.is_none_or(|thread| record.thread.as_str() == thread) {
            if last.len() >= lines.max(1) {
                last.pop_front();
            }
            last.push_back(record.clone());
        }
    })
    .await?;
    if app.out.json() {
        app.out.json_line(&json!(last));
    } else {
        let cells = last.iter().map(|record| {
            let detail = ["target", "title", "choice", "rule", "why"]
                .iter()
                .filter_map(|key| record.entry.detail.get(key)?.as_str());
            vec![
                record.seq.to_string(),
                record.at.to_string().chars().take(19).collect(),
                record.thread.to_string(),
                record.entry.actor.clone(),
                record.entry.action.clone(),
                record.entry.node.to_string(),
                detail.collect::<Vec<_>>().join("  "),
            ]
        });
        app.out.table(&["seq", "at", "thread", "who", "what", "node", "detail"], cells.collect());
    }
    Ok(Exit::Done)
}

async fn verify(store: &dyn Store, app: &App) -> Result<Exit, Failure> {
    let mut expected = (1, "0".repeat(64));
    let mut broken: Option<String> = None;
    each(store, |record| {
        if broken.is_none() && (record.seq, &record.previous) != (expected.0, &expected.1) {
            broken = Some(format!("record {} does not follow record {}", record.seq, expected.0 - 1));
        }
        if broken.is_none() && audit_hash(record) != record.hash {
            broken = Some(format!("record {} was changed after it was written", record.seq));
        }
        expected = (record.seq + 1, record.hash.clone());
    })
    .await?;
    let n_records = expected.0 - 1;
    if app.out.json() {
        app.out
            .json_line(&json!({"ok": broken.is_none(), "records": n_records, "head": expected.1, "problem": broken}));
    } else {
        let head: String = expected.1.chars().take(16).collect();
        app.out.line(
            &broken.clone().unwrap_or_else(|| format!("the chain of {n_records} decisions is whole, head {head}")),
        );
    }
    Ok(if broken.is_some() { Exit::Failed } else { Exit::Done })
}
