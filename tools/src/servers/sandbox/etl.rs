//! The pipeline `flights_daily`: extract → stage → publish, in SQL, under the privileges of `etl_writer`.
//!
//! Each task runs in a savepoint: a failed task leaves no rows behind, its log stays. A run is recorded whatever happens.

use jiff::civil::Date;
use rusqlite::{Connection, params, params_from_iter, types::Value};
use serde_json::json;

use super::db::{ETL_PRINCIPAL, EnvDb};
use super::error::{Code, Result, SandboxError};
use super::world::{UPSTREAM_TIMEOUT_SECONDS, WorldStore};
use super::{Environment, Trigger, runs};

/// The only pipeline.
pub(crate) const PIPELINE: &str = "flights_daily";
/// Its tasks in order.
pub(crate) const TASKS: [&str; 3] = ["extract", "stage", "publish"];
/// Where the feed comes from, as the logs name it.
pub(crate) const UPSTREAM_URL: &str = "https://feeds.nyc-flights.example/v1/flights";
/// Exception of a request that the upstream did not answer.
pub(crate) const TIMEOUT_EXCEPTION: &str = "UpstreamTimeout";
/// Columns of the landing table that the loader adds.
const LOADER_COLUMNS: [&str; 2] = ["src_row", "business_date"];

/// What a task did.
struct Done {
    rows_in: usize,
    rows_out: usize,
}

/// Why a task failed, in the words of a log.
struct Failure {
    exception: &'static str,
    message: String,
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        let exception = match error.code {
            Code::Denied => "InsufficientPrivilege",
            Code::Sql => "OperationalError",
            _ => "PipelineError",
        };
        Self { exception, message: error.message }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        SandboxError::from(error).into()
    }
}

type TaskResult = std::result::Result<Done, Failure>;

/// One request to run the pipeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunRequest {
    pub(crate) date: Date,
    pub(crate) from_task: usize,
    pub(crate) trigger: Trigger,
}

/// Runs the pipeline inside the caller's transaction and returns the id of the recorded run.
pub(crate) fn run(db: &EnvDb, world: &mut WorldStore, request: RunRequest) -> Result<String> {
    let mut recorder = runs::Recorder::start(db, request)?;
    let mut failed = false;
    for (idx, task) in TASKS.iter().enumerate() {
        if idx < request.from_task {
            recorder.skip(task, "skipped");
            continue;
        }
        if failed {
            recorder.skip(task, "upstream_failed");
            continue;
        }
        let mut ctx = Task { db, world, date: request.date, recorder: &mut recorder };
        failed = !ctx.attempt(task)?;
    }
    recorder.finish(db)
}

/// What one task may use.
struct Task<'a> {
    db: &'a EnvDb,
    world: &'a mut WorldStore,
    date: Date,
    recorder: &'a mut runs::Recorder,
}

impl Task<'_> {
    fn attempt(&mut self, task: &'static str) -> Result<bool> {
        self.recorder.begin(task);
        self.db.conn.execute_batch("SAVEPOINT task")?;
        let outcome = match task {
            "extract" => self.extract(),
            "stage" => self.stage(),
            _ => self.publish(),
        };
        match outcome {
            Ok(done) => {
                self.db.conn.execute_batch("RELEASE task")?;
                self.recorder.succeed(done.rows_in, done.rows_out);
                Ok(true)
            }
            Err(failure) => {
                self.db.conn.execute_batch("ROLLBACK TO task; RELEASE task")?;
                self.recorder.fail(failure.exception, &failure.message);
                Ok(false)
            }
        }
    }

    fn log(&mut self, text: impl AsRef<str>) {
        self.recorder.info(text.as_ref());
    }

    /// Fetches the day from the upstream and replaces the landing table with what was delivered, as delivered.
    fn extract(&mut self) -> TaskResult {
        let (date, environment) = (self.date, self.db.environment);
        self.log(format!("GET {UPSTREAM_URL}?date={date} (timeout {UPSTREAM_TIMEOUT_SECONDS} s)"));
        let at = self.recorder.now();
        let Some(feed) = self.world.update(|world| world.request(environment, date, &at))? else {
            self.recorder.wait(UPSTREAM_TIMEOUT_SECONDS);
            return Err(Failure {
                exception: TIMEOUT_EXCEPTION,
                message: format!(
                    "GET {UPSTREAM_URL}?date={date}: no response within {UPSTREAM_TIMEOUT_SECONDS} s (Read timed out)"
                ),
            });
        };
        self.log(format!("200 OK, {} rows, {} columns", feed.rows.len(), feed.columns.len()));
        let columns = feed.columns.iter().map(|c| format!("{c} TEXT")).collect::<Vec<_>>().join(", ");
        self.db.conn.execute_batch(&format!(
            "DROP TABLE IF EXISTS src_flights; CREATE TABLE src_flights (src_row INTEGER PRIMARY KEY, business_date TEXT NOT NULL, {columns})"
        ))?;
        let marks = vec!["?"; feed.columns.len() + LOADER_COLUMNS.len()].join(", ");
        self.db.as_principal(ETL_PRINCIPAL, |conn| {
            let mut insert = conn.prepare(&format!("INSERT INTO src_flights VALUES ({marks})"))?;
            let day = date.to_string();
            for (idx, row) in feed.rows.iter().enumerate() {
                insert.raw_bind_parameter(1, i64::try_from(idx).unwrap_or(i64::MAX) + 1)?;
                insert.raw_bind_parameter(2, &day)?;
                for (column, cell) in row.iter().enumerate() {
                    insert.raw_bind_parameter(column + 1 + LOADER_COLUMNS.len(), cell)?;
                }
                insert.raw_execute()?;
            }
            Ok(())
        })?;
        self.db.conn.execute(
            "INSERT INTO ops_deliveries VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                date.to_string(),
                self.recorder.run_id(),
                json!(feed.columns).to_string(),
                feed.rows.len(),
                self.recorder.now()
            ],
        )?;
        self.log(format!("loaded {} rows into src_flights", feed.rows.len()));
        Ok(Done { rows_in: feed.rows.len(), rows_out: feed.rows.len() })
    }

    /// Casts the landing rows to the staged shape, after checking that the keys are there.
    fn stage(&mut self) -> TaskResult {
        let day = self.date.to_string();
        let landed = landed_rows(self.db, self.date)?;
        let quarantined: usize = count(
            &self.db.conn,
            &format!("SELECT count(*) FROM ({ACTIVE_QUARANTINE}) WHERE business_date = ?1"),
            &day,
        )?;
        self.log(format!("src_flights holds {landed} rows for {day}, {quarantined} in quarantine"));
        let map = column_map(&self.db.conn)?;
        self.check_keys(&map, landed)?;
        let targets = map.iter().map(|m| m.column.as_str()).collect::<Vec<_>>().join(", ");
        let sources = map.iter().map(|m| format!("CAST({} AS {})", m.source, m.kind)).collect::<Vec<_>>().join(", ");
        let staged = self.db.as_principal(ETL_PRINCIPAL, |conn| {
            conn.execute("DELETE FROM stg_flights WHERE business_date = ?1", [&day])?;
            Ok(conn.execute(
                &format!(
                    "INSERT INTO stg_flights (business_date, src_row, {targets}) SELECT business_date, src_row, {sources} FROM src_flights \
                     WHERE business_date = ?1 AND src_row NOT IN (SELECT src_row FROM ({ACTIVE_QUARANTINE}) WHERE business_date = ?1)"
                ),
                [&day],
            )?)
        })?;
        self.log(format!("staged {staged} rows into stg_flights"));
        Ok(Done { rows_in: landed, rows_out: staged })
    }

    fn check_keys(&mut self, map: &[Mapping], landed: usize) -> std::result::Result<(), Failure> {
        let day = self.date.to_string();
        for mapping in map {
            let Some(limit) = mapping.max_null_rate else { continue };
            let sql = format!(
                "SELECT count(*) FROM src_flights WHERE business_date = ?1 AND {} IS NULL \
                 AND src_row NOT IN (SELECT src_row FROM ({ACTIVE_QUARANTINE}) WHERE business_date = ?1)",
                mapping.source
            );
            let nulls = self.db.as_principal(ETL_PRINCIPAL, |conn| count(conn, &sql, &day))?;
            if !within(nulls, landed, limit) {
                return Err(Failure {
                    exception: "DataQualityError",
                    message: format!(
                        "check not_null(src_flights.{}) failed for {day}: {nulls} of {landed} rows ({:.1} %) are NULL, the contract allows {:.1} %",
                        mapping.source,
                        percent(nulls, landed),
                        limit * 100.0
                    ),
                });
            }
        }
        self.log(format!("checks passed: {} not-null rules", map.iter().filter(|m| m.max_null_rate.is_some()).count()));
        Ok(())
    }

    /// Replaces the day's facts.
    fn publish(&mut self) -> TaskResult {
        let day = self.date.to_string();
        let staged = count(&self.db.conn, "SELECT count(*) FROM stg_flights WHERE business_date = ?1", &day)?;
        self.db.set_segment_fault(self.segment_fault()?);
        let published = self.db.as_principal(ETL_PRINCIPAL, |conn| {
            let mut rows = 0;
            for (table, keys) in [("fact_daily_carrier", "carrier"), ("fact_daily_route", "origin, dest")] {
                conn.execute(&format!("DELETE FROM {table} WHERE business_date = ?1"), [&day])?;
                rows += conn.execute(
                    &format!(
                        "INSERT INTO {table} SELECT business_date, {keys}, {MEASURES} FROM stg_flights \
                         WHERE business_date = ?1 GROUP BY business_date, {keys}"
                    ),
                    [&day],
                )?;
                conn.query_row("SELECT commit_segment(?1, ?2)", [table, &day], |_| Ok(()))?;
            }
            Ok(rows)
        })?;
        self.record_stats(&day, staged)?;
        self.log(format!("published {published} fact rows over {staged} flights"));
        Ok(Done { rows_in: staged, rows_out: published })
    }

    fn segment_fault(&self) -> Result<Option<String>> {
        let refused = self.world.read()?.segment_refused == Some(self.date);
        Ok(refused.then(|| {
            format!("E7731 segment 0x5f12:{} refused: epoch 41 behind 42 (wh-03), quorum witness mute", self.date)
        }))
    }

    fn record_stats(&mut self, day: &str, staged: usize) -> Result<()> {
        let rates: serde_json::Map<_, _> = null_rates(&self.db.conn, "src_flights", day)?
            .into_iter()
            .map(|(column, _, rate)| (column, json!(rate)))
            .collect();
        let landed = count(&self.db.conn, "SELECT count(*) FROM src_flights WHERE business_date = ?1", day)?;
        let flights = count(
            &self.db.conn,
            "SELECT coalesce(sum(flights), 0) FROM fact_daily_carrier WHERE business_date = ?1",
            day,
        )?;
        self.db.conn.execute(
            "INSERT OR REPLACE INTO ops_run_stats VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                day,
                self.recorder.run_id(),
                landed,
                staged,
                landed - staged.min(landed),
                flights,
                serde_json::Value::Object(rates).to_string(),
                self.recorder.now()
            ],
        )?;
        Ok(())
    }
}

/// Rows of the landing table that a standing quarantine holds back.
pub(crate) const ACTIVE_QUARANTINE: &str = "SELECT r.business_date, r.src_row FROM ops_quarantined_rows r \
     JOIN ops_quarantine q ON q.quarantine_id = r.quarantine_id WHERE q.released_at IS NULL";

/// Measures of both fact tables over staged rows.
const MEASURES: &str = "count(*), sum(dep_time IS NULL), coalesce(sum(dep_delay > 15), 0), \
     coalesce(sum(max(dep_delay, 0)), 0), coalesce(sum(max(arr_delay, 0)), 0)";

/// One staged column and where it comes from.
pub(crate) struct Mapping {
    pub(crate) column: String,
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) max_null_rate: Option<f64>,
}

/// The column map of the staged table with the contract's limits.
pub(crate) fn column_map(conn: &Connection) -> Result<Vec<Mapping>> {
    let mut stmt = conn.prepare(
        "SELECT m.column_name, m.source_column, m.type, c.max_null_rate FROM ops_column_map m \
         LEFT JOIN ops_contract c USING (dataset, column_name) WHERE m.dataset = 'stg_flights' ORDER BY m.position",
    )?;
    let rows = stmt.query_map([], |row| {
        Ok(Mapping { column: row.get(0)?, source: row.get(1)?, kind: row.get(2)?, max_null_rate: row.get(3)? })
    })?;
    let map: Vec<Mapping> = rows.collect::<rusqlite::Result<_>>()?;
    // The names become part of a statement, so they must be plain identifiers.
    if let Some(bad) = map.iter().find(|m| !is_identifier(&m.column) || !is_identifier(&m.source)) {
        return Err(SandboxError::invalid(format!(
            "ops_column_map maps {:?} to {:?}, which is not a column name; use letters, digits and underscores",
            bad.column, bad.source
        )));
    }
    Ok(map)
}

/// Whether `name` can stand unquoted in a statement.
pub(crate) fn is_identifier(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Rows that the landing table holds for `date`; an error if it holds another day.
pub(crate) fn landed_rows(db: &EnvDb, date: Date) -> Result<usize> {
    let landed = match db.conn.prepare("SELECT count(*), max(business_date) FROM src_flights WHERE business_date = ?1")
    {
        Ok(mut stmt) => stmt.query_row([date.to_string()], |row| row.get::<_, usize>(0))?,
        Err(_) => 0,
    };
    if landed == 0 {
        return Err(SandboxError::conflict(format!(
            "src_flights holds no rows for {date} in {}; rerun {PIPELINE} from task extract first",
            db.environment
        )));
    }
    Ok(landed)
}

/// Per column of `table` on one day: name, number of nulls, share of nulls.
pub(crate) fn null_rates(conn: &Connection, table: &str, day: &str) -> Result<Vec<(String, usize, f64)>> {
    let columns: Vec<String> = conn
        .prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let columns: Vec<String> =
        columns.into_iter().filter(|c| !LOADER_COLUMNS.contains(&c.as_str()) && is_identifier(c)).collect();
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let sums = columns.iter().map(|c| format!("coalesce(sum({c} IS NULL), 0)")).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT count(*), {sums} FROM {table} WHERE business_date = ?1");
    let counts: Vec<usize> = conn.query_row(&sql, params_from_iter([Value::from(day.to_owned())]), |row| {
        (0..=columns.len()).map(|idx| row.get(idx)).collect()
    })?;
    let total = counts.first().copied().unwrap_or(0);
    let nulls = counts.into_iter().skip(1);
    Ok(columns.into_iter().zip(nulls).map(|(c, n)| (c, n, rounded_share(n, total))).collect())
}

pub(crate) fn count(conn: &Connection, sql: &str, day: &str) -> Result<usize> {
    Ok(conn.prepare(sql)?.query_row([day], |row| row.get(0))?)
}

/// Share of `part` in `whole` with four digits, as all tools report it.
pub(crate) fn rounded_share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { (ratio(part, whole) * 10_000.0).round() / 10_000.0 }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { ratio(part, whole) * 100.0 }
}

/// Row counts here stay far below 2^32, so the conversion is exact.
fn ratio(part: usize, whole: usize) -> f64 {
    f64::from(u32::try_from(part).unwrap_or(u32::MAX)) / f64::from(u32::try_from(whole).unwrap_or(u32::MAX))
}

fn within(nulls: usize, landed: usize, limit: f64) -> bool {
    percent(nulls, landed) <= limit * 100.0
}

/// Position of a task by name.
pub(crate) fn task_position(name: &str) -> Result<usize> {
    TASKS.iter().position(|t| *t == name).ok_or_else(|| {
        SandboxError::invalid(format!("{PIPELINE} has no task {name:?}; its tasks are {}", TASKS.join(", ")))
    })
}

/// Run id: unique over both environments, so a run can be found by its id alone.
pub(crate) fn run_id(environment: Environment, date: Date, attempt: i64) -> String {
    let mark = if environment == Environment::Staging { "s" } else { "" };
    format!("{PIPELINE}-{date}-{mark}{attempt}")
}
