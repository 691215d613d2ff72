//! The tool `profile_table`: what a day looks like, beside the same weekdays before it. It reports numbers and judges nothing.

use std::collections::BTreeMap;

use jiff::civil::{Date, Weekday};
use rusqlite::OptionalExtension;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::db::EnvDb;
use super::error::{Result, SandboxError};
use super::etl;
use super::{Environment, Parts, inspect, parse_date};

/// Weeks that the baseline looks back.
const BASELINE_WEEKS: usize = 4;
/// Columns of fact tables that are summed up.
const MEASURES: [&str; 3] = ["flights", "cancelled", "delayed_15"];

/// Arguments of `profile_table`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileTable {
    /// A table with a column business_date.
    pub table: String,
    /// Environment; production if absent.
    #[serde(default)]
    pub environment: Environment,
    /// Day to profile; the last scheduled one if absent.
    pub business_date: Option<String>,
}

/// Nulls of one column.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ColumnNulls {
    /// Column.
    pub column: String,
    /// Rows where it is null.
    pub nulls: usize,
    /// Their share of all rows.
    pub null_rate: f64,
    /// Mean share on the same weekdays before, where it is known.
    pub baseline_null_rate: Option<f64>,
}

/// A number beside its baseline.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Measure {
    /// Name: `rows`, or a measure of a fact table summed over the day.
    pub name: String,
    /// Value on the day.
    pub value: f64,
    /// Values on the same weekdays before, latest first.
    pub baseline_values: Vec<f64>,
    /// Their mean; absent without history.
    pub baseline_mean: Option<f64>,
    /// Value divided by the mean; absent without history.
    pub ratio: Option<f64>,
}

/// How fresh a table is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Freshness {
    /// Latest business date in the table.
    pub last_business_date: Option<String>,
    /// Business date that should be there.
    pub expected_business_date: String,
    /// Days behind.
    pub lag_days: Option<i32>,
    /// When the latest facts were published, in sandbox time.
    pub last_published_at: Option<String>,
}

/// Profile of a table on one day.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Profile {
    /// Table.
    pub table: String,
    /// Environment.
    pub environment: Environment,
    /// Day.
    pub business_date: String,
    /// Weekday of the day.
    pub weekday: String,
    /// Rows of the day.
    pub row_count: usize,
    /// Days the baseline consists of, latest first.
    pub baseline_dates: Vec<String>,
    /// Rows and measures beside their baseline.
    pub measures: Vec<Measure>,
    /// Nulls per column.
    pub columns: Vec<ColumnNulls>,
    /// Freshness.
    pub freshness: Freshness,
}

pub(crate) fn profile_table(parts: &mut Parts, args: ProfileTable) -> Result<Profile> {
    let today = parts.world.read()?.today;
    let date = args.business_date.as_deref().map_or(Ok(today), parse_date)?;
    let db = parts.db(args.environment);
    let shape = inspect::definition(db, &args.table)?;
    let day = date.to_string();
    let dated = db.conn.prepare(&format!("SELECT business_date FROM {}", args.table)).is_ok();
    if !dated {
        return Err(SandboxError::invalid(format!(
            "{} has no column business_date ({shape}); profile src_flights, stg_flights or a fact table",
            args.table
        )));
    }
    let row_count =
        etl::count(&db.conn, &format!("SELECT count(*) FROM {} WHERE business_date = ?1", args.table), &day)?;
    let baseline = Baseline::before(db, date)?;
    let mut measures = vec![baseline.rows(db, &args.table, row_count)?];
    if args.table.starts_with("fact_") {
        for name in MEASURES {
            measures.push(baseline.sum(db, &args.table, name, &day)?);
        }
    }
    let columns = etl::null_rates(&db.conn, &args.table, &day)?
        .into_iter()
        .map(|(column, nulls, null_rate)| {
            let baseline_null_rate = baseline.null_rate(&args.table, &column);
            ColumnNulls { column, nulls, null_rate, baseline_null_rate }
        })
        .collect();
    Ok(Profile {
        freshness: freshness(db, &args.table, today)?,
        table: args.table,
        environment: args.environment,
        business_date: day,
        weekday: weekday(date).to_owned(),
        row_count,
        baseline_dates: baseline.days.iter().map(|d| d.business_date.clone()).collect(),
        measures,
        columns,
    })
}

/// Statistics of one earlier run.
struct PastDay {
    business_date: String,
    extracted: f64,
    staged: f64,
    null_rates: BTreeMap<String, f64>,
}

/// The same weekdays before a day, latest first.
struct Baseline {
    days: Vec<PastDay>,
}

impl Baseline {
    fn before(db: &EnvDb, date: Date) -> Result<Self> {
        let mut stmt = db
            .conn
            .prepare("SELECT rows_extracted, rows_staged, null_rates FROM ops_run_stats WHERE business_date = ?1")?;
        let mut days = Vec::new();
        for week in 1..=BASELINE_WEEKS {
            let back = jiff::Span::new().weeks(i64::try_from(week).unwrap_or(0));
            let Ok(earlier) = date.checked_sub(back) else { break };
            let row = stmt
                .query_row([earlier.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))
                .optional()?;
            if let Some((extracted, staged, rates)) = row {
                let null_rates = serde_json::from_str(&rates).unwrap_or_default();
                days.push(PastDay { business_date: earlier.to_string(), extracted, staged, null_rates });
            }
        }
        Ok(Self { days })
    }

    /// Row counts come from the run statistics for layers that keep no history.
    fn rows(&self, db: &EnvDb, table: &str, value: usize) -> Result<Measure> {
        let values = match table {
            "src_flights" => self.days.iter().map(|d| d.extracted).collect(),
            "stg_flights" => self.days.iter().map(|d| d.staged).collect(),
            _ => self.per_day(db, &format!("SELECT count(*) FROM {table} WHERE business_date = ?1"))?,
        };
        Ok(measure("rows", f64::from(u32::try_from(value).unwrap_or(u32::MAX)), values))
    }

    fn sum(&self, db: &EnvDb, table: &str, column: &str, day: &str) -> Result<Measure> {
        let sql = format!("SELECT coalesce(sum({column}), 0) FROM {table} WHERE business_date = ?1");
        let value = db.conn.query_row(&sql, [day], |row| row.get(0))?;
        Ok(measure(column, value, self.per_day(db, &sql)?))
    }

    fn per_day(&self, db: &EnvDb, sql: &str) -> Result<Vec<f64>> {
        let mut stmt = db.conn.prepare(sql)?;
        self.days.iter().map(|d| Ok(stmt.query_row([&d.business_date], |row| row.get(0))?)).collect()
    }

    fn null_rate(&self, table: &str, column: &str) -> Option<f64> {
        let known: Vec<f64> = match table {
            "src_flights" => self.days.iter().filter_map(|d| d.null_rates.get(column).copied()).collect(),
            _ => Vec::new(),
        };
        mean(&known).map(|m| (m * 10_000.0).round() / 10_000.0)
    }
}

fn measure(name: &str, value: f64, baseline_values: Vec<f64>) -> Measure {
    let baseline_mean = mean(&baseline_values).map(|m| (m * 100.0).round() / 100.0);
    let ratio = baseline_mean.filter(|m| *m > 0.0).map(|m| (value / m * 1_000.0).round() / 1_000.0);
    Measure { name: name.to_owned(), value, baseline_values, baseline_mean, ratio }
}

fn mean(values: &[f64]) -> Option<f64> {
    let n = f64::from(u32::try_from(values.len()).ok()?);
    (n > 0.0).then(|| values.iter().sum::<f64>() / n)
}

fn freshness(db: &EnvDb, table: &str, today: Date) -> Result<Freshness> {
    let last: Option<String> =
        db.conn.query_row(&format!("SELECT max(business_date) FROM {table}"), [], |row| row.get(0))?;
    let lag_days =
        last.as_deref().and_then(|d| d.parse::<Date>().ok()).and_then(|d| today.since(d).ok()).map(|s| s.get_days());
    let last_published_at = db.conn.query_row("SELECT max(published_at) FROM ops_run_stats", [], |row| row.get(0))?;
    Ok(Freshness { last_business_date: last, expected_business_date: today.to_string(), lag_days, last_published_at })
}

fn weekday(date: Date) -> &'static str {
    match date.weekday() {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}
