//! `interlock knowledge`: runbooks and past incidents: searched, listed, and learnt from threads.

mod learn;

use agents::Meaning;
use clap::{Args, Subcommand, ValueEnum};
use memory::{Document, Episode, Hit, Kind, Library, Query};
use runtime_core::interlocks::plain;
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};
use crate::remembered::{MemoryFiles, Remembered, today};
use crate::wiring;

/// Longest title in a table.
const TITLE_CHARS_MAX: usize = 70;

/// Search and list what is remembered, and learn from resolved incidents
#[derive(Debug, Args)]
pub(crate) struct Knowledge {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Search(Search),
    List(List),
    Learn(learn::Learn),
}

/// Search runbooks, schemas and reviewed incidents; each hit is cited by version and lines
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock knowledge search 'permission denied for table fact_sales'\n  interlock knowledge search deadlock --kind runbook --json"
)]
struct Search {
    /// What to look for; error texts are good questions
    query: String,
    /// Only documents of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<Sort>,
    /// Most hits
    #[arg(long, short = 'n', value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
}

/// List what is remembered, and what cannot be used and why
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock knowledge list\n  interlock knowledge list --json")]
struct List {}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Runbook,
    Schema,
    Incident,
}

impl Sort {
    fn kind(self) -> Kind {
        match self {
            Self::Runbook => Kind::Runbook,
            Self::Schema => Kind::Schema,
            Self::Incident => Kind::Incident,
        }
    }
}

pub(crate) async fn run(args: Knowledge, app: &App) -> Result<Exit, Failure> {
    match args.what {
        What::Search(args) => search(&args, app).await,
        What::List(_) => list(app),
        What::Learn(args) => learn::run(&args, app).await,
    }
}

/// The part `memory:` of the configuration.
fn files(app: &App) -> Result<MemoryFiles, Failure> {
    app.config()?.memory.ok_or_else(|| {
        Failure::failed("nothing is remembered here: the configuration has no `memory`")
            .help("add `memory: { runbooks: FOLDER, episodes: FILE }` to interlock.yaml")
    })
}

fn read(app: &App) -> Result<Remembered, Failure> {
    files(app)?.read().map_err(Failure::failed)
}

async fn search(args: &Search, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let read = read(app)?;
    let meaning = wiring::meaning(&files(app)?, config.models.as_ref(), &config.masking).map_err(Failure::failed)?;
    let search = meaning.as_ref().map(Meaning::search);
    let documents = read.documents.into_iter().chain(read.episodes.documents()).collect();
    let kinds: Vec<Kind> = args.kind.map(Sort::kind).into_iter().collect();
    let query = Query { text: &args.query, kinds: &kinds, today: today(), limit: usize::from(args.limit) };
    let (hits, failed) =
        Library::new(documents).search_with(query, search.as_ref().map(|search| &search.vectors)).await;
    if let Some(spent) = search.map(|search| search.spent()).filter(|spent| spent.tokens > 0) {
        app.out.note(&format!("vectors: {} tokens, ${:.6}", spent.tokens, spent.usd_micros as f64 / 1e6));
    }
    if let Some(failed) = &failed {
        app.out.note(&format!("warning: {failed}; words alone were compared"));
    }
    if app.out.json() {
        let hits: Vec<Value> = hits.iter().map(hit).collect();
        app.out.json_line(&json!({"hits": hits, "warning": failed.map(|failed| failed.to_string())}));
        return Ok(Exit::Done);
    }
    if hits.is_empty() {
        app.out.note("nothing that is remembered is about this");
    }
    for hit in &hits {
        let age = hit.age_days.map_or_else(|| "undated".to_owned(), |days| format!("{days} days old"));
        app.out.line(&plain::escaped(&format!("{}  ({age})", hit.citation)));
        app.out.line(&plain::escaped(&format!("  {}", hit.title)));
        hit.text.lines().for_each(|line| app.out.line(&plain::escaped(&format!("  │ {line}"))));
    }
    Ok(Exit::Done)
}

fn hit(hit: &Hit) -> Value {
    json!({
        "cites": hit.citation.to_string(), "citation": hit.citation, "title": hit.title, "text": hit.text,
        "age_days": hit.age_days, "score": hit.score,
    })
}

fn list(app: &App) -> Result<Exit, Failure> {
    let read = read(app)?;
    if app.out.json() {
        let documents: Vec<Value> = read.documents.iter().map(document).collect();
        let episodes: Vec<&Episode> = read.episodes.iter().collect();
        app.out.json_line(&json!({"documents": documents, "episodes": episodes, "broken": read.broken}));
        return Ok(Exit::Done);
    }
    let short = |text: &str| plain::escaped(&text.chars().take(TITLE_CHARS_MAX).collect::<String>());
    let mut rows: Vec<Vec<String>> = Vec::new();
    for document in &read.documents {
        let updated = document.updated.map_or_else(|| "-".to_owned(), |day| day.to_string());
        let status = if document.deprecated { "out of use" } else { "in use" };
        let kind = document.kind.word().to_owned();
        rows.push(vec![
            document.id.clone(),
            kind,
            document.version.clone(),
            updated,
            status.to_owned(),
            short(&document.title),
        ]);
    }
    for episode in read.episodes.iter() {
        let status =
            episode.reviewed.as_ref().map_or("not reviewed".to_owned(), |review| format!("reviewed by {}", review.by));
        let title = short(&format!("{}: {}", episode.pipeline, episode.cause));
        rows.push(vec![
            episode.id.clone(),
            "incident".to_owned(),
            "-".to_owned(),
            episode.at.to_string(),
            short(&status),
            title,
        ]);
    }
    app.out.table(&["id", "kind", "version", "of", "status", "title"], rows);
    read.broken.iter().for_each(|broken| app.out.note(&format!("warning: {broken}")));
    Ok(Exit::Done)
}

fn document(document: &Document) -> Value {
    json!({
        "id": document.id, "kind": document.kind, "version": document.version, "updated": document.updated,
        "deprecated": document.deprecated, "title": document.title, "tags": document.tags,
    })
}
