//! Reading tools about runs, tables, shapes and the upstream.

use rusqlite::OptionalExtension;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::db::EnvDb;
use super::error::{Result, SandboxError};
use super::etl::{self, PIPELINE, TASKS, UPSTREAM_URL};
use super::runs::{self, RunDetail, RunRecord};
use super::world::{Manifest, UpstreamRequest};
use super::{Environment, Parts, parse_date};

/// Most runs in one answer.
const RUNS_MAX: usize = 100;
/// Most log lines in one answer.
const LOG_LINES_MAX: usize = 500;
/// Log lines in an answer that does not ask for a number.
const LOG_LINES_DEFAULT: usize = 60;

/// No arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoArgs {}

/// One pipeline.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PipelineInfo {
    /// Name.
    pub pipeline: String,
    /// What it does.
    pub description: String,
    /// Tasks in order.
    pub tasks: Vec<String>,
    /// When it runs.
    pub schedule: String,
    /// The team that owns it.
    pub owner: String,
    /// Tables it writes.
    pub writes: Vec<String>,
    /// Last business date that was scheduled in production.
    pub last_business_date: String,
}

/// All pipelines.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pipelines {
    /// The pipelines.
    pub pipelines: Vec<PipelineInfo>,
    /// Sandbox time of production.
    pub now: String,
}

pub(crate) fn list_pipelines(parts: &mut Parts, _: NoArgs) -> Result<Pipelines> {
    Ok(Pipelines {
        pipelines: vec![PipelineInfo {
            pipeline: PIPELINE.to_owned(),
            description: "Flights of one business date: upstream feed → src_flights → stg_flights → daily facts"
                .to_owned(),
            tasks: TASKS.iter().map(|t| (*t).to_owned()).collect(),
            schedule: "daily 05:00 UTC for the day before".to_owned(),
            owner: "data-platform".to_owned(),
            writes: ["src_flights", "stg_flights", "fact_daily_carrier", "fact_daily_route"]
                .map(str::to_owned)
                .to_vec(),
            last_business_date: parts.world.read()?.today.to_string(),
        }],
        now: parts.production.now()?.to_string(),
    })
}

/// Arguments of `list_runs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRuns {
    /// Only runs in this state: `success` or `failed`.
    pub state: Option<String>,
    /// Only runs for this business date or a later one (YYYY-MM-DD).
    pub since: Option<String>,
    /// Environment; production if absent.
    #[serde(default)]
    pub environment: Environment,
    /// At most this many, newest first; 20 if absent, 100 at most.
    pub limit: Option<usize>,
}

/// Runs, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Runs {
    /// The runs.
    pub runs: Vec<RunRecord>,
}

pub(crate) fn list_runs(parts: &mut Parts, args: ListRuns) -> Result<Runs> {
    let since = args.since.as_deref().map(parse_date).transpose()?.map_or_else(String::new, |d| d.to_string());
    let state = args.state.unwrap_or_default();
    if !["", "success", "failed"].contains(&state.as_str()) {
        return Err(SandboxError::invalid(format!("state {state:?} does not exist; use success or failed")));
    }
    let limit = args.limit.unwrap_or(20).min(RUNS_MAX);
    let condition = "business_date >= ?1 AND (?2 = '' OR state = ?2)";
    Ok(Runs { runs: runs::select(parts.db(args.environment), condition, &[&since, &state], limit)? })
}

/// Arguments of `get_run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRun {
    /// Id from `list_runs`.
    pub run_id: String,
}

pub(crate) fn get_run(parts: &mut Parts, args: GetRun) -> Result<RunDetail> {
    runs::detail(db_of_run(parts, &args.run_id), &args.run_id)
}

fn db_of_run<'a>(parts: &'a Parts, run_id: &str) -> &'a EnvDb {
    let staging = run_id.rsplit('-').next().is_some_and(|last| last.starts_with('s'));
    parts.db(if staging { Environment::Staging } else { Environment::Production })
}

/// Arguments of `get_log`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetLog {
    /// Id from `list_runs`.
    pub run_id: String,
    /// Only this task; all tasks if absent.
    pub task: Option<String>,
    /// Only the last lines; 60 if absent, 500 at most.
    pub tail: Option<usize>,
}

/// Lines of a log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Log {
    /// The run.
    pub run_id: String,
    /// The lines, oldest first.
    pub lines: Vec<String>,
    /// Lines there are in all.
    pub total_lines: usize,
    /// Whether earlier lines were left out.
    pub truncated: bool,
}

pub(crate) fn get_log(parts: &mut Parts, args: GetLog) -> Result<Log> {
    let db = db_of_run(parts, &args.run_id);
    runs::detail(db, &args.run_id)?;
    let task = args.task.unwrap_or_default();
    if !task.is_empty() {
        etl::task_position(&task)?;
    }
    let mut stmt =
        db.conn.prepare("SELECT text FROM ops_log WHERE run_id = ?1 AND (?2 = '' OR task = ?2) ORDER BY line")?;
    let mut lines: Vec<String> =
        stmt.query_map([&args.run_id, &task], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let total_lines = lines.len();
    let keep = args.tail.unwrap_or(LOG_LINES_DEFAULT).min(LOG_LINES_MAX);
    lines.drain(..total_lines.saturating_sub(keep));
    Ok(Log { run_id: args.run_id, truncated: lines.len() < total_lines, lines, total_lines })
}

/// Arguments of tools about one environment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InEnvironment {
    /// Environment; production if absent.
    #[serde(default)]
    pub environment: Environment,
}

/// One table.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TableInfo {
    /// Name.
    pub table: String,
    /// `table` or `view`.
    pub kind: String,
    /// `source`, `staging`, `fact`, `dimension`, `operations` or `other`.
    pub layer: String,
    /// Rows now.
    pub rows: usize,
}

/// All tables.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tables {
    /// The tables.
    pub tables: Vec<TableInfo>,
}

pub(crate) fn list_tables(parts: &mut Parts, args: InEnvironment) -> Result<Tables> {
    let db = parts.db(args.environment);
    let mut stmt = db.conn.prepare(
        "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE '\\_%' ESCAPE '\\' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names: Vec<(String, String)> =
        stmt.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut tables = Vec::new();
    for (table, kind) in names {
        let rows = db
            .conn
            .query_row(&format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\"")), [], |row| row.get(0));
        tables.push(TableInfo { layer: layer(&table).to_owned(), rows: rows.unwrap_or(0), table, kind });
    }
    Ok(Tables { tables })
}

fn layer(table: &str) -> &'static str {
    match table.split('_').next() {
        Some("src") => "source",
        Some("stg") => "staging",
        Some("fact") => "fact",
        Some("dim") => "dimension",
        Some("ops") => "operations",
        _ => "other",
    }
}

/// Arguments of tools about one table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneTable {
    /// Name of the table.
    pub table: String,
    /// Environment; production if absent.
    #[serde(default)]
    pub environment: Environment,
}

/// One column.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ColumnInfo {
    /// Name.
    pub name: String,
    /// Declared type.
    pub data_type: String,
    /// Whether null is refused.
    pub not_null: bool,
    /// Whether it is part of the primary key.
    pub primary_key: bool,
}

/// A table's shape.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TableShape {
    /// Name.
    pub table: String,
    /// Columns in order.
    pub columns: Vec<ColumnInfo>,
    /// Earliest business date, if it is dated.
    pub first_business_date: Option<String>,
    /// Latest business date, if it is dated.
    pub last_business_date: Option<String>,
    /// The statement that made it.
    pub definition: String,
}

pub(crate) fn describe_table(parts: &mut Parts, args: OneTable) -> Result<TableShape> {
    let db = parts.db(args.environment);
    let definition = definition(db, &args.table)?;
    let mut stmt = db.conn.prepare("SELECT name, type, \"notnull\", pk > 0 FROM pragma_table_info(?1)")?;
    let columns: Vec<ColumnInfo> = stmt
        .query_map([&args.table], |row| {
            Ok(ColumnInfo {
                name: row.get(0)?,
                data_type: row.get(1)?,
                not_null: row.get(2)?,
                primary_key: row.get(3)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let dated = columns.iter().any(|c| c.name == "business_date");
    let (first_business_date, last_business_date) = if dated {
        let sql = format!("SELECT min(business_date), max(business_date) FROM {}", args.table);
        db.conn.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?
    } else {
        (None, None)
    };
    Ok(TableShape { table: args.table, columns, first_business_date, last_business_date, definition })
}

/// The statement that made a visible table; an error names the ones that look alike.
pub(crate) fn definition(db: &EnvDb, table: &str) -> Result<String> {
    let visible = etl::is_identifier(table);
    let found: Option<String> = db
        .conn
        .query_row("SELECT sql FROM sqlite_master WHERE name = ?1 AND type IN ('table', 'view')", [table], |row| {
            row.get(0)
        })
        .optional()?;
    found
        .filter(|_| visible)
        .ok_or_else(|| SandboxError::not_found(format!("no table {table:?} in {}; see list_tables", db.environment)))
}

/// A column that probably is another one under a new name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RenameCandidate {
    /// Name the pipeline expects.
    pub expected: String,
    /// Name that was delivered.
    pub delivered: String,
    /// Staged column that is fed from it.
    pub staged_column: Option<String>,
    /// Why it is a candidate.
    pub evidence: String,
}

/// What was delivered, beside what the pipeline expects.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SchemaComparison {
    /// The landing table.
    pub table: String,
    /// Environment.
    pub environment: Environment,
    /// Business date of the latest delivery.
    pub business_date: Option<String>,
    /// Whether nothing that the pipeline needs is missing.
    pub compatible: bool,
    /// Columns the pipeline maps and the delivery lacks.
    pub missing: Vec<String>,
    /// Columns the last good delivery did not have.
    pub unexpected: Vec<String>,
    /// Columns that match.
    pub matching: usize,
    /// Missing columns with an unexpected one at the same position.
    pub rename_candidates: Vec<RenameCandidate>,
    /// Business date of the last delivery that had everything.
    pub last_good_delivery: Option<String>,
}

pub(crate) fn compare_schema(parts: &mut Parts, args: InEnvironment) -> Result<SchemaComparison> {
    let db = parts.db(args.environment);
    let map = etl::column_map(&db.conn)?;
    let deliveries = deliveries(db)?;
    let (business_date, delivered) = deliveries.first().cloned().map_or((None, Vec::new()), |(d, c)| (Some(d), c));
    let missing: Vec<String> = map.iter().map(|m| m.source.clone()).filter(|s| !delivered.contains(s)).collect();
    let good = deliveries.iter().find(|(_, columns)| map.iter().all(|m| columns.contains(&m.source)));
    let reference = good.map(|(_, columns)| columns.clone()).unwrap_or_default();
    let unexpected: Vec<String> = delivered.iter().filter(|c| !reference.contains(c)).cloned().collect();
    let rename_candidates = missing
        .iter()
        .filter_map(|expected| {
            let position = reference.iter().position(|c| c == expected)?;
            let found = delivered.get(position).filter(|c| unexpected.contains(c))?;
            Some(RenameCandidate {
                expected: expected.clone(),
                delivered: found.clone(),
                staged_column: map.iter().find(|m| &m.source == expected).map(|m| m.column.clone()),
                evidence: format!("both stand at position {} of {} columns", position + 1, delivered.len()),
            })
        })
        .collect();
    Ok(SchemaComparison {
        table: "src_flights".to_owned(),
        environment: args.environment,
        business_date,
        compatible: missing.is_empty(),
        matching: delivered.iter().filter(|c| reference.contains(c)).count(),
        missing,
        unexpected,
        rename_candidates,
        last_good_delivery: good.map(|(d, _)| d.clone()),
    })
}

/// Recent deliveries with their columns, newest first.
fn deliveries(db: &EnvDb) -> Result<Vec<(String, Vec<String>)>> {
    let mut stmt = db.conn.prepare("SELECT business_date, columns FROM ops_deliveries ORDER BY at DESC LIMIT 50")?;
    let rows = stmt.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(rows.into_iter().map(|(day, columns)| (day, serde_json::from_str(&columns).unwrap_or_default())).collect())
}

/// Arguments of `check_upstream`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckUpstream {
    /// Day whose manifest is wanted; the last scheduled one if absent.
    pub business_date: Option<String>,
    /// Environment that asks; production if absent.
    #[serde(default)]
    pub environment: Environment,
}

/// State of the upstream feed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UpstreamState {
    /// Address of the feed.
    pub endpoint: String,
    /// `ok`, or `degraded` if the last request for the day timed out.
    pub status: String,
    /// Time-outs in a row, up to now.
    pub consecutive_timeouts: usize,
    /// What the upstream says about the day.
    pub manifest: Manifest,
    /// Recent feed requests, oldest first.
    pub recent_requests: Vec<UpstreamRequest>,
}

pub(crate) fn check_upstream(parts: &mut Parts, args: CheckUpstream) -> Result<UpstreamState> {
    let world = parts.world.read()?;
    let date = args.business_date.as_deref().map_or(Ok(world.today), parse_date)?;
    let recent = world.requests.iter().rev().take_while(|r| r.outcome == "timeout").count();
    Ok(UpstreamState {
        endpoint: UPSTREAM_URL.to_owned(),
        status: if recent > 0 { "degraded" } else { "ok" }.to_owned(),
        consecutive_timeouts: recent,
        manifest: world.manifest(args.environment, date)?,
        recent_requests: world.requests,
    })
}
