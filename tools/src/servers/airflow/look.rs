//! Reading about DAGs: which there are, their source, and files that cannot be imported.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::client::{As, Request};
use super::error::Result;
use super::{Airflow, cut, tail};

/// DAGs of one answer when nobody says how many.
const LIMIT_DEFAULT: u32 = 50;
/// Lines of source in one answer.
const SOURCE_LINES_MAX: usize = 400;
/// Longest line of source.
const LINE_CHARS_MAX: usize = 400;
/// Most of a stack trace: its end says what is wrong.
const TRACE_CHARS_MAX: usize = 2_000;
/// Import errors of one answer.
const IMPORT_ERRORS_MAX: u32 = 50;
/// Pages of DAGs that are looked through for those of a broken file.
const PAGES_MAX: u32 = 20;

/// Which DAGs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DagQuery {
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only those whose id starts so.
    pub prefix: Option<String>,
    /// Only paused ones, or only the others.
    pub paused: Option<bool>,
    /// Most entries.
    pub limit: Option<u32>,
    /// Entries to skip.
    pub offset: Option<u32>,
}

/// A tag.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tag {
    /// Its name.
    pub name: String,
}

/// A DAG.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Dag {
    /// Its id.
    pub dag_id: String,
    /// Whether it is paused: its runs stay queued.
    pub is_paused: bool,
    /// Whether its file cannot be imported; the last version that could is still listed.
    #[serde(default)]
    pub has_import_errors: bool,
    /// Whether its file was not seen for a while.
    #[serde(default)]
    pub is_stale: bool,
    /// File, seen from the bundle.
    pub relative_fileloc: Option<String>,
    /// When it runs, in words.
    pub timetable_description: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Owners.
    #[serde(default)]
    pub owners: Vec<String>,
}

/// DAGs.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Dags {
    /// The DAGs of this page.
    pub dags: Vec<Dag>,
    /// How many there are.
    pub total_entries: u64,
}

pub(super) async fn list_dags(airflow: Airflow, query: DagQuery) -> Result<Dags> {
    let path = ["dags"];
    let request = Request::get(&path)
        .with("order_by", "dag_id")
        .with_some("tags", query.tag)
        .with_some("dag_id_prefix_pattern", query.prefix)
        .with_some("paused", query.paused);
    let request = airflow.paged(request, query.limit.unwrap_or(LIMIT_DEFAULT), query.offset);
    airflow.client.send(As::Reader, request).await
}

/// Which part of a source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceQuery {
    /// DAG.
    pub dag_id: String,
    /// Version; the latest if absent.
    pub version: Option<u32>,
    /// First line, counted from 1.
    pub from_line: Option<usize>,
}

/// A part of a source.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Source {
    /// DAG.
    pub dag_id: String,
    /// Its version.
    pub version: Option<u32>,
    /// SHA-256 of the whole source: of the last one that could be imported.
    pub sha256: String,
    /// The lines.
    pub text: String,
    /// First line of the text.
    pub from_line: usize,
    /// Lines of the whole source.
    pub total_lines: usize,
    /// Where to go on; nothing at the end.
    pub next_line: Option<usize>,
}

#[derive(Deserialize)]
struct SourceSaid {
    content: Option<String>,
    version_number: Option<u32>,
}

pub(super) async fn get_source(airflow: Airflow, query: SourceQuery) -> Result<Source> {
    let path = ["dagSources", &query.dag_id];
    let request = Request::get(&path).with_some("version_number", query.version);
    let said: SourceSaid = airflow.client.send(As::Reader, request).await?;
    let content = said.content.unwrap_or_default();
    let from_line = query.from_line.unwrap_or(1).max(1);
    let lines: Vec<String> =
        content.lines().skip(from_line - 1).take(SOURCE_LINES_MAX).map(|line| cut(line, LINE_CHARS_MAX)).collect();
    let (end, total_lines) = (from_line + lines.len(), content.lines().count());
    Ok(Source {
        dag_id: query.dag_id,
        version: said.version_number,
        sha256: hex::encode(Sha256::digest(content.as_bytes())),
        text: lines.join("\n"),
        from_line,
        total_lines,
        next_line: (end <= total_lines).then_some(end),
    })
}

/// Which files that cannot be imported.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportQuery {
    /// Only the file of this DAG.
    pub dag_id: Option<String>,
}

/// A file that cannot be imported.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImportFailure {
    /// File.
    pub filename: String,
    /// When it was noticed.
    pub timestamp: Option<String>,
    /// DAGs that the last readable version of the file had.
    pub dag_ids: Vec<String>,
    /// The last line of the trace: exception and message.
    pub error: String,
    /// Where in the code it happened: the last place of the trace that is a file.
    pub at_file: Option<String>,
    /// The line there.
    pub at_line: Option<u32>,
    /// The end of the trace.
    pub stack_trace: String,
}

/// Files that cannot be imported.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImportFailures {
    /// The files.
    pub import_errors: Vec<ImportFailure>,
    /// How many there are.
    pub total_entries: u64,
}

#[derive(Deserialize)]
struct ImportSaid {
    import_errors: Vec<ImportEntry>,
    total_entries: u64,
}

#[derive(Deserialize)]
struct ImportEntry {
    filename: String,
    timestamp: Option<String>,
    stack_trace: Option<String>,
}

pub(super) async fn list_import_errors(airflow: Airflow, query: ImportQuery) -> Result<ImportFailures> {
    let path = ["importErrors"];
    let request = airflow.paged(Request::get(&path), IMPORT_ERRORS_MAX, None);
    let said: ImportSaid = airflow.client.send(As::Reader, request).await?;
    let broken = if said.import_errors.is_empty() { Vec::new() } else { broken_dags(&airflow).await? };
    let import_errors = said.import_errors.into_iter().map(|entry| {
        let trace = entry.stack_trace.unwrap_or_default();
        let error = trace.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no trace").trim();
        let of_file = broken.iter().filter(|dag| {
            dag.relative_fileloc.as_deref().is_some_and(|file| !file.is_empty() && entry.filename.ends_with(file))
        });
        let place = place(&trace);
        ImportFailure {
            at_file: place.as_ref().map(|(file, _)| file.clone()),
            at_line: place.map(|(_, line)| line),
            dag_ids: of_file.map(|dag| dag.dag_id.clone()).collect(),
            error: cut(error, LINE_CHARS_MAX),
            stack_trace: tail(&trace, TRACE_CHARS_MAX),
            filename: entry.filename,
            timestamp: entry.timestamp,
        }
    });
    let is_asked = |failure: &ImportFailure| query.dag_id.as_ref().is_none_or(|dag| failure.dag_ids.contains(dag));
    let import_errors = import_errors.filter(is_asked).collect();
    Ok(ImportFailures { import_errors, total_entries: said.total_entries })
}

/// The last file and line that a trace names; parts of the interpreter are none.
fn place(trace: &str) -> Option<(String, u32)> {
    let named = trace.lines().rev().filter_map(|line| {
        let (file, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((cut(file, LINE_CHARS_MAX), digits.parse().ok()?))
    });
    named.into_iter().find(|(file, _): &(String, u32)| !file.starts_with('<'))
}

async fn broken_dags(airflow: &Airflow) -> Result<Vec<Dag>> {
    let mut found = Vec::new();
    let path = ["dags"];
    for page in 0..PAGES_MAX {
        let size = airflow.config.page_limit;
        // A DAG whose file is broken may be called stale.
        let request = Request::get(&path).with("exclude_stale", false).with("order_by", "dag_id");
        let said: Dags = airflow.client.send(As::Reader, airflow.paged(request, size, Some(page * size))).await?;
        let is_last = u64::from((page + 1) * size) >= said.total_entries || said.dags.is_empty();
        found.extend(said.dags.into_iter().filter(|dag| dag.has_import_errors));
        if is_last {
            break;
        }
    }
    Ok(found)
}
