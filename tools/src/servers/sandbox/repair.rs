//! Writing tools on data: run again, hold rows or partitions back, ask the upstream for a full delivery.

use rusqlite::{OptionalExtension, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::db::EnvDb;
use super::error::{Code, Result, SandboxError};
use super::etl::{self, ACTIVE_QUARANTINE, PIPELINE, RunRequest};
use super::registry::{Written, write_args};
use super::runs::{self, RunDetail};
use super::world::{Manifest, WorldStore};
use super::{Environment, Parts, Trigger, parse_date};

/// Largest share of a day that one quarantine may hold back; above it something else is wrong.
const QUARANTINE_SHARE_MAX: f64 = 0.25;
/// Longest reason.
const REASON_BYTES_MAX: usize = 500;
/// Most runs of one day in one environment.
const RUNS_PER_DAY_MAX: i64 = 200;

/// Arguments of `rerun_pipeline`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RerunPipeline {
    /// Pipeline; there is `flights_daily`.
    pub pipeline: String,
    /// Day to process again (YYYY-MM-DD).
    pub business_date: String,
    /// Environment that changes.
    pub environment: Environment,
    /// First task to run; earlier ones are skipped and their rows reused. All tasks if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_task: Option<String>,
    /// Same key, same result, executed once. A failed run leaves the key free for another try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(RerunPipeline);

pub(crate) fn rerun_pipeline(args: &RerunPipeline, db: &EnvDb, world: &mut WorldStore) -> Result<Written<RunDetail>> {
    if args.pipeline != PIPELINE {
        return Err(SandboxError::not_found(format!("no pipeline {:?}; there is {PIPELINE}", args.pipeline)));
    }
    let date = parse_date(&args.business_date)?;
    let last = world.read()?.today;
    if date > last {
        return Err(SandboxError::conflict(format!("{date} is not scheduled yet; the last business date is {last}")));
    }
    let from_task = args.from_task.as_deref().map_or(Ok(0), etl::task_position)?;
    if from_task == 1 {
        etl::landed_rows(db, date)?;
    }
    let runs_so_far: i64 =
        db.conn
            .query_row("SELECT count(*) FROM ops_runs WHERE business_date = ?1", [date.to_string()], |r| r.get(0))?;
    if runs_so_far >= RUNS_PER_DAY_MAX {
        return Err(SandboxError::new(
            Code::LimitExceeded,
            format!("{date} has {RUNS_PER_DAY_MAX} runs already; ask a person"),
        ));
    }
    let run_id = etl::run(db, world, RunRequest { date, from_task, trigger: Trigger::Rerun })?;
    let detail = runs::detail(db, &run_id)?;
    let Some(error) = detail.run.error.clone() else { return Ok(Written::Done(detail)) };
    let timed_out = detail.tasks.iter().any(|t| t.exception.as_deref() == Some(etl::TIMEOUT_EXCEPTION));
    let code = if timed_out { Code::UpstreamTimeout } else { Code::RunFailed };
    let why = SandboxError::new(code, format!("run {run_id} failed in {}: {error}", db.environment));
    Ok(Written::RunFailed(detail, why))
}

/// By which rule rows are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineRule {
    /// Rows where `column` is null.
    NullInColumn,
    /// All but the first of the rows that share carrier, flight, origin and time_hour.
    DuplicateKey,
    /// Rows where `column`, as a number, is below `min` or above `max`.
    OutOfRange,
}

/// Arguments of `quarantine`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Landing table; there is `src_flights`.
    pub table: String,
    /// Rule that picks the rows.
    pub rule: QuarantineRule,
    /// Column for `null_in_column` and `out_of_range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Lower bound for `out_of_range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Upper bound for `out_of_range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Day whose rows are meant.
    pub business_date: String,
    /// Environment that changes.
    pub environment: Environment,
    /// Why, for the people who release it.
    pub reason: String,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(Quarantine);

/// A quarantine.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Quarantined {
    /// Id, for `release_quarantine`.
    pub quarantine_id: i64,
    /// Rows held back from the next stage task.
    pub rows: usize,
    /// Rows of the day in the landing table.
    pub total_rows: usize,
    /// Share of the day.
    pub share: f64,
    /// Rule in words.
    pub rule: String,
}

pub(crate) fn quarantine(args: &Quarantine, db: &EnvDb, _: &mut WorldStore) -> Result<Written<Quarantined>> {
    if args.table != "src_flights" {
        return Err(SandboxError::invalid(format!(
            "rows of {:?} cannot be held back; the landing table is src_flights",
            args.table
        )));
    }
    check_reason(&args.reason)?;
    let date = parse_date(&args.business_date)?;
    let day = date.to_string();
    let total_rows = etl::landed_rows(db, date)?;
    let (condition, rule) = condition(args, db)?;
    let open = format!(
        "business_date = ?1 AND ({condition}) AND src_row NOT IN (SELECT src_row FROM ({ACTIVE_QUARANTINE}) WHERE business_date = ?1)"
    );
    let rows = etl::count(&db.conn, &format!("SELECT count(*) FROM src_flights WHERE {open}"), &day)?;
    let share = etl::rounded_share(rows, total_rows);
    if rows == 0 {
        return Err(SandboxError::conflict(format!("no row of {day} matches: {rule}")));
    }
    if share > QUARANTINE_SHARE_MAX {
        return Err(SandboxError::new(
            Code::LimitExceeded,
            format!(
                "{rows} of {total_rows} rows match ({rule}); more than a quarter of a day is not a few bad records"
            ),
        ));
    }
    let at = db.tick(2)?;
    db.conn.execute(
        "INSERT INTO ops_quarantine (table_name, business_date, rule, reason, rows, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![args.table, day, rule, args.reason, rows, at],
    )?;
    let quarantine_id = db.conn.last_insert_rowid();
    let payload = payload_expression(db)?;
    db.conn.execute(
        &format!("INSERT INTO ops_quarantined_rows SELECT ?2, business_date, src_row, {payload} FROM src_flights WHERE {open}"),
        params![day, quarantine_id],
    )?;
    Ok(Written::Done(Quarantined { quarantine_id, rows, total_rows, share, rule }))
}

fn condition(args: &Quarantine, db: &EnvDb) -> Result<(String, String)> {
    let column = || {
        let name =
            args.column.as_deref().ok_or_else(|| SandboxError::invalid("this rule needs the argument column"))?;
        let known =
            db.conn.prepare("SELECT 1 FROM pragma_table_info('src_flights') WHERE name = ?1")?.exists([name])?;
        if known && etl::is_identifier(name) {
            return Ok(name.to_owned());
        }
        Err(SandboxError::not_found(format!("src_flights has no column {name:?}; see describe_table")))
    };
    Ok(match args.rule {
        QuarantineRule::NullInColumn => {
            let name = column()?;
            (format!("{name} IS NULL"), format!("{name} is null"))
        }
        QuarantineRule::DuplicateKey => (
            "src_row NOT IN (SELECT min(src_row) FROM src_flights WHERE business_date = ?1 GROUP BY carrier, flight, origin, time_hour)".to_owned(),
            "repeats carrier, flight, origin and time_hour of an earlier row".to_owned(),
        ),
        QuarantineRule::OutOfRange => {
            let name = column()?;
            let (low, high) = (args.min.unwrap_or(f64::MIN), args.max.unwrap_or(f64::MAX));
            if !low.is_finite() || !high.is_finite() || (args.min.is_none() && args.max.is_none()) {
                return Err(SandboxError::invalid("this rule needs the argument min or max, as a finite number"));
            }
            (
                format!("CAST({name} AS REAL) < {low:e} OR CAST({name} AS REAL) > {high:e}"),
                format!("{name} is outside {} to {}", bound(args.min), bound(args.max)),
            )
        }
    })
}

fn bound(value: Option<f64>) -> String {
    value.map_or_else(|| "unbounded".to_owned(), |v| v.to_string())
}

/// Builds `json_object('a', a, …)` over the landing columns, so the held rows can be read later.
fn payload_expression(db: &EnvDb) -> Result<String> {
    let mut stmt = db.conn.prepare("SELECT name FROM pragma_table_info('src_flights')")?;
    let names = stmt.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let pairs: Vec<String> = names.iter().filter(|n| etl::is_identifier(n)).map(|n| format!("'{n}', {n}")).collect();
    Ok(format!("json_object({})", pairs.join(", ")))
}

fn check_reason(reason: &str) -> Result<()> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(SandboxError::invalid(format!("reason must have 1 to {REASON_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Arguments of `release_quarantine`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseQuarantine {
    /// Id from `quarantine`.
    pub quarantine_id: i64,
    /// Environment that changes.
    pub environment: Environment,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(ReleaseQuarantine);

/// Something that was held back and is not any more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Released {
    /// Its id.
    pub id: i64,
    /// Its table.
    pub table: String,
    /// Its day.
    pub business_date: String,
}

pub(crate) fn release_quarantine(
    args: &ReleaseQuarantine,
    db: &EnvDb,
    _: &mut WorldStore,
) -> Result<Written<Released>> {
    release(db, ("ops_quarantine", "quarantine_id"), args.quarantine_id)
}

fn release(db: &EnvDb, (table, id_column): (&str, &str), id: i64) -> Result<Written<Released>> {
    let at = db.tick(2)?;
    let sql = format!(
        "UPDATE {table} SET released_at = ?2 WHERE {id_column} = ?1 AND released_at IS NULL RETURNING table_name, business_date"
    );
    let row = db.conn.query_row(&sql, params![id, at], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (table, business_date) = row.ok_or_else(|| {
        SandboxError::not_found(format!("nothing with {id_column} {id} is held in {}", db.environment))
    })?;
    Ok(Written::Done(Released { id, table, business_date }))
}

/// Arguments of `hold_partition`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldPartition {
    /// Fact table whose day is suspect.
    pub table: String,
    /// The day.
    pub business_date: String,
    /// Environment that changes.
    pub environment: Environment,
    /// Why, for the readers of the table.
    pub reason: String,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(HoldPartition);

/// A hold.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Held {
    /// Id, for `release_hold`.
    pub hold_id: i64,
    /// Table.
    pub table: String,
    /// Day.
    pub business_date: String,
}

pub(crate) fn hold_partition(args: &HoldPartition, db: &EnvDb, _: &mut WorldStore) -> Result<Written<Held>> {
    check_reason(&args.reason)?;
    let business_date = parse_date(&args.business_date)?.to_string();
    if !args.table.starts_with("fact_") {
        return Err(SandboxError::invalid(format!(
            "{:?} is not a fact table; hold fact_daily_carrier or fact_daily_route",
            args.table
        )));
    }
    super::inspect::definition(db, &args.table)?;
    let at = db.tick(2)?;
    db.conn.execute(
        "INSERT INTO ops_holds (table_name, business_date, reason, at) VALUES (?1, ?2, ?3, ?4)",
        params![args.table, business_date, args.reason, at],
    )?;
    Ok(Written::Done(Held { hold_id: db.conn.last_insert_rowid(), table: args.table.clone(), business_date }))
}

/// Arguments of `release_hold`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseHold {
    /// Id from `hold_partition`.
    pub hold_id: i64,
    /// Environment that changes.
    pub environment: Environment,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(ReleaseHold);

pub(crate) fn release_hold(args: &ReleaseHold, db: &EnvDb, _: &mut WorldStore) -> Result<Written<Released>> {
    release(db, ("ops_holds", "hold_id"), args.hold_id)
}

/// Arguments of `request_redelivery`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestRedelivery {
    /// Day that the upstream shall deliver in full.
    pub business_date: String,
    /// Environment whose next extract gets it.
    pub environment: Environment,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(RequestRedelivery);

/// Answer of the upstream to a request for a full delivery.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Redelivery {
    /// Always true; the next extract gets what `manifest` says.
    pub accepted: bool,
    /// What the next extract gets.
    pub manifest: Manifest,
}

pub(crate) fn request_redelivery(
    args: &RequestRedelivery,
    db: &EnvDb,
    world: &mut WorldStore,
) -> Result<Written<Redelivery>> {
    let date = parse_date(&args.business_date)?;
    let manifest = world.update(|w| {
        if date > w.today {
            return Err(SandboxError::conflict(format!(
                "{date} is not scheduled yet; the last business date is {}",
                w.today
            )));
        }
        w.redelivered.insert((db.environment, date));
        w.manifest(db.environment, date)
    })?;
    db.tick(2)?;
    Ok(Written::Done(Redelivery { accepted: true, manifest }))
}

/// Arguments of `effect_status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectStatus {
    /// Key of an earlier call.
    pub idempotency_key: String,
    /// Environment that the call named.
    pub environment: Environment,
}

/// Whether a call with a key was executed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EffectState {
    /// Whether a result is stored under the key.
    pub executed: bool,
    /// Tool of the call.
    pub tool: Option<String>,
    /// The stored result.
    pub result: Option<serde_json::Value>,
    /// Effects that carry the key, including failed runs.
    pub effects: usize,
}

pub(crate) fn effect_status(parts: &mut Parts, args: EffectStatus) -> Result<EffectState> {
    let db = parts.db(args.environment);
    let row: Option<(String, String)> = db
        .conn
        .query_row("SELECT tool, result FROM _idempotency WHERE key = ?1", [&args.idempotency_key], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let effects =
        etl::count(&db.conn, "SELECT count(*) FROM _effects WHERE idempotency_key = ?1", &args.idempotency_key)?;
    let (tool, result) = row.unzip();
    Ok(EffectState {
        executed: tool.is_some(),
        tool,
        result: result.and_then(|r| serde_json::from_str(&r).ok()),
        effects,
    })
}
