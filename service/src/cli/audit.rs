//! `interlock audit`: the chain of decisions, whole or in part, and the proof that it is whole.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use checkpoints::store::ChainCheck;
use clap::{Args, Subcommand};
use runtime::ports::store::{AuditRecord, PAGE_MAX, Store, StoreError};
use runtime_core::interlocks::plain;
use serde_json::{Value, json};

use super::App;
use crate::config::read_bounded;
use crate::failure::{Exit, Failure};

/// Largest file of anchors in bytes.
const ANCHORS_BYTES_MAX: u64 = 256 << 20;
/// Pause between two looks of `tail --follow`; between them the store is let go of.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);
/// Calls without an outcome that are named.
const OPEN_SHOWN_MAX: usize = 100;

/// Read and verify the chain of decisions
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Print the last decisions
    #[command(
        after_help = "Example:\n  interlock audit tail --lines 20 --tool 'warehouse.*'\n  interlock audit tail --follow --json"
    )]
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: usize,
        #[command(flatten)]
        filter: Filter,
        /// Go on with what is decided from now on
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Check that no decision was changed, added or removed
    #[command(
        after_help = "Example:\n  interlock audit verify\n  interlock audit verify --anchor audit-yesterday.jsonl    (also finds a chain that was cut off or written anew)"
    )]
    Verify {
        /// What was known before: lines of JSON with seq and hash, such as an export or what `verify --json` printed
        #[arg(long, value_name = "FILE")]
        anchor: Vec<PathBuf>,
    },
    /// Print decisions as one JSON line each; every line is an anchor for `verify`
    #[command(after_help = "Example:\n  interlock audit export > audit.jsonl")]
    Export {
        #[command(flatten)]
        filter: Filter,
    },
}

/// Which decisions are shown.
#[derive(Debug, Args)]
struct Filter {
    /// Only of this thread
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    /// Only about tools that fit this pattern
    #[arg(long, value_name = "PATTERN")]
    tool: Option<String>,
    /// Only from this record on
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
}

impl Filter {
    fn fits(&self, record: &AuditRecord) -> bool {
        let target = record.entry.detail.get("target").and_then(Value::as_str).unwrap_or("");
        record.seq >= self.from
            && self.thread.as_ref().is_none_or(|thread| record.thread.as_str() == thread)
            && self.tool.as_ref().is_none_or(|tool| tools::policy::pattern_fits(tool, target))
    }
}

pub(crate) async fn run(args: Audit, app: &App) -> Result<Exit, Failure> {
    if let AuditCommand::Tail { lines, filter, follow: true } = &args.command {
        return follow(app, *lines, filter).await;
    }
    let (store, _) = app.existing_store()?;
    let exit = match args.command {
        AuditCommand::Tail { lines, filter, .. } => tail(&*store, app, lines, &filter).await.map(|_| Exit::Done),
        AuditCommand::Verify { anchor } => verify(&*store, app, &anchor).await,
        AuditCommand::Export { filter } => {
            each(&*store, filter.from, |record| {
                if filter.fits(record) {
                    app.out.json_line(&json!(record));
                }
            })
            .await?;
            Ok(Exit::Done)
        }
    };
    store.close().await?;
    exit
}

/// Visits the chain from a record on, page by page; the place after the last one.
pub(super) async fn each(store: &dyn Store, from: u64, mut visit: impl FnMut(&AuditRecord)) -> Result<u64, Failure> {
    let (mut from, mut limit) = (from.max(1), PAGE_MAX);
    loop {
        let page = match store.audit(from, limit).await {
            // One record of the page is damaged: what comes before it is still read, one by one.
            Err(StoreError::Corrupt { .. }) if limit > 1 => {
                limit = 1;
                continue;
            }
            page => page?,
        };
        page.iter().for_each(&mut visit);
        from = page.last().map_or(from, |last| last.seq + 1);
        if page.len() < limit {
            return Ok(from);
        }
    }
}

async fn tail(store: &dyn Store, app: &App, lines: usize, filter: &Filter) -> Result<u64, Failure> {
    let mut last: VecDeque<AuditRecord> = VecDeque::new();
    let next = each(store, filter.from, |record| {
        if filter.fits(record) {
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
        app.out.table(&["seq", "at", "thread", "who", "what", "node", "detail"], last.iter().map(cells).collect());
    }
    Ok(next)
}

fn cells(record: &AuditRecord) -> Vec<String> {
    let detail = ["target", "env", "title", "choice", "rule", "approver", "why"]
        .iter()
        .filter_map(|key| record.entry.detail.get(key)?.as_str());
    vec![
        record.seq.to_string(),
        record.at.to_string().chars().take(19).collect(),
        record.thread.to_string(),
        record.entry.actor.clone(),
        record.entry.action.clone(),
        record.entry.node.to_string(),
        plain::escaped(&detail.collect::<Vec<_>>().join("  ")),
    ]
}

/// Prints decisions as they come. The store belongs to one process at a time, so it is opened for each look only.
async fn follow(app: &App, lines: usize, filter: &Filter) -> Result<Exit, Failure> {
    let mut seen = None;
    loop {
        match app.existing_store() {
            Ok((store, _)) => {
                let from = match seen {
                    None => tail(&*store, app, lines, filter).await?,
                    Some(from) => {
                        each(&*store, from, |record| {
                            if filter.fits(record) {
                                print_one(app, record);
                            }
                        })
                        .await?
                    }
                };
                store.close().await?;
                seen = Some(from);
                app.out.flush();
            }
            // Somebody works with the store: the next look may find it free.
            Err(failure) if failure.is_held => {}
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_PAUSE) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}

fn print_one(app: &App, record: &AuditRecord) {
    if app.out.json() {
        app.out.json_line(&json!(record));
    } else {
        app.out.line(&cells(record).join("  "));
    }
}

/// What one walk over the chain finds.
struct Walk {
    chain: ChainCheck,
    /// Calls that were let go and of which nothing was heard: their key to place and target.
    open: BTreeMap<String, (u64, String)>,
}

impl Walk {
    fn step(&mut self, record: &AuditRecord) {
        self.chain.step(record);
        let detail = &record.entry.detail;
        let text = |key: &str| detail.get(key).and_then(Value::as_str).map(str::to_owned);
        match (record.entry.action.as_str(), text("call")) {
            ("call.permitted", Some(call)) => {
                self.open.insert(call, (record.seq, text("target").unwrap_or_default()));
            }
            ("call.ended" | "call.in_doubt", Some(call)) => drop(self.open.remove(&call)),
            _ => {}
        }
    }
}

async fn verify(store: &dyn Store, app: &App, anchors: &[PathBuf]) -> Result<Exit, Failure> {
    let anchors = anchors.iter().map(|file| read_anchors(file)).collect::<Result<Vec<_>, _>>()?;
    let anchors: BTreeMap<u64, String> = anchors.into_iter().flatten().collect();
    let n_anchors = anchors.len();
    let mut walk = Walk { chain: ChainCheck::new(anchors), open: BTreeMap::new() };
    let walked = each(store, 1, |record| walk.step(record)).await;
    if let Err(failure) = walked {
        let next = walk.chain.head().0 + 1;
        walk.chain.found(format!("record {next} cannot be read: {}", failure.message));
    }
    let problem = match walk.chain.problem() {
        Some(problem) => Some(problem),
        None => head_problem(store, walk.chain.head().0).await?,
    };
    tell(app, &walk, problem.as_deref(), n_anchors);
    Ok(if problem.is_some() { Exit::Failed } else { Exit::Done })
}

/// The store's own note of the chain's end, against the end that was found.
async fn head_problem(store: &dyn Store, n_records: u64) -> Result<Option<String>, Failure> {
    let findings = match store.check().await {
        Ok(findings) => findings,
        Err(StoreError::Corrupt { why, .. }) => return Ok(Some(why)),
        Err(error) => return Err(error.into()),
    };
    let finding = findings.into_iter().find(|finding| finding.kind == "audit");
    Ok(finding.map(|finding| format!("after record {n_records}: {}", finding.what)))
}

fn tell(app: &App, walk: &Walk, problem: Option<&str>, n_anchors: usize) {
    let (n_records, hash) = walk.chain.head();
    let open: Vec<Value> = walk
        .open
        .iter()
        .take(OPEN_SHOWN_MAX)
        .map(|(call, (seq, target))| json!({"seq": seq, "target": target, "call": call}))
        .collect();
    if app.out.json() {
        app.out.json_line(&json!({
            "ok": problem.is_none(), "records": n_records, "seq": n_records, "hash": hash, "head": hash,
            "anchors": n_anchors, "problem": problem, "without_outcome": open,
        }));
        return;
    }
    match problem {
        Some(problem) => app.out.line(problem),
        None => {
            let checked = if n_anchors > 0 { format!(", {n_anchors} anchors hold") } else { String::new() };
            app.out.line(&format!("the chain of {n_records} decisions is whole{checked}, head {hash}"));
        }
    }
    for (call, (seq, target)) in walk.open.iter().take(OPEN_SHOWN_MAX) {
        app.out.line(&format!("record {seq}: `{target}` was let go and nothing was heard of it (call {call})"));
    }
}

/// Lines of JSON with `seq` and `hash`.
fn read_anchors(file: &Path) -> Result<Vec<(u64, String)>, Failure> {
    let bad = |why: String| Failure::usage(format!("--anchor {}: {why}", file.display()));
    let text = read_bounded(file, ANCHORS_BYTES_MAX).map_err(bad)?;
    let mut anchors = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed: Option<Value> = serde_json::from_str(line).ok();
        let seq = parsed.as_ref().and_then(|line| line.get("seq")?.as_u64());
        let hash = parsed.as_ref().and_then(|line| line.get("hash")?.as_str().map(str::to_owned));
        match (seq, hash) {
            (Some(0), Some(_)) => {}
            (Some(seq), Some(hash)) => anchors.push((seq, hash)),
            _ => return Err(bad(format!("line {} has no `seq` and `hash`", index + 1))),
        }
    }
    Ok(anchors)
}
