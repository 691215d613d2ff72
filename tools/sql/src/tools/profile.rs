//! `profile_table`: numbers about a table or one day of it. It reports and judges nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inspect::{ColumnShape, OfTable, describe_table};
use super::{App, Call, sqlite, table};
use crate::config::{Connection, Database, quoted};
use crate::error::{Result, SqlError};
use crate::guard::Effect;
use crate::wall::Limits;
use crate::wall::postgres::run;

/// Most columns that are profiled.
const COLUMNS_MAX: usize = 200;
/// Quantiles of numbers.
const QUANTILES: [f64; 5] = [0.01, 0.25, 0.5, 0.75, 0.99];

/// Arguments of `profile_table`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileTable {
    /// Name of a connection.
    pub connection: String,
    /// `schema.table`.
    pub table: String,
    /// Column with the day or time of a row, for freshness and for `day`.
    pub day_column: Option<String>,
    /// Only rows of this day, as 2026-03-31; needs `day_column`.
    pub day: Option<String>,
    /// Only these columns; all if absent.
    pub columns: Option<Vec<String>>,
}

/// Numbers about a column.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ColumnProfile {
    /// Column.
    pub column: String,
    /// Type in the database's words.
    pub data_type: String,
    /// Rows where it is null.
    pub nulls: u64,
    /// Their share of all rows.
    pub null_rate: f64,
    /// Different values, null aside.
    pub distinct: Option<u64>,
    /// Least value.
    pub min: Value,
    /// Greatest value.
    pub max: Value,
    /// Mean of numbers.
    pub mean: Option<f64>,
    /// Quantiles 1, 25, 50, 75 and 99 % of numbers.
    pub quantiles: Option<Vec<f64>>,
}

/// How fresh a table is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Freshness {
    /// Column it was read from.
    pub column: String,
    /// Latest value in the table.
    pub latest: Value,
    /// Age of the latest value in seconds by the database's clock.
    pub age_s: Option<f64>,
}

/// Profile of a table or one day of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Profile {
    /// Schema and name.
    pub table: String,
    /// Day, if one was asked for.
    pub day: Option<String>,
    /// Rows.
    pub row_count: u64,
    /// Columns.
    pub columns: Vec<ColumnProfile>,
    /// Freshness, if a column for it was named.
    pub freshness: Option<Freshness>,
}

/// What is measured on one column, and how.
struct Measured<'a> {
    shape: &'a ColumnShape,
    numeric: bool,
    ordered: bool,
}

/// Profiles a table.
///
/// # Errors
/// If there is no such table or column, or the database gives up.
pub async fn profile_table(app: &App, args: ProfileTable, call: &Call) -> Result<Profile> {
    let connection = app.connection(&args.connection)?;
    let named = table(connection, &args.table)?;
    let shape =
        describe_table(app, OfTable { connection: args.connection.clone(), table: args.table.clone() }, call).await?;
    let known = |name: &str| {
        let found = shape.columns.iter().find(|column| column.name == name);
        found.ok_or_else(|| SqlError::invalid(format!("{named} has no column {name:?}")))
    };
    let day_column = args.day_column.as_deref().map(known).transpose()?;
    if args.day.is_some() && day_column.is_none() {
        return Err(SqlError::invalid("day needs day_column"));
    }
    let chosen: Vec<&ColumnShape> = match &args.columns {
        Some(names) => names.iter().map(|name| known(name)).collect::<Result<_>>()?,
        None => shape.columns.iter().collect(),
    };
    if chosen.len() > COLUMNS_MAX {
        return Err(SqlError::invalid(format!("more than {COLUMNS_MAX} columns; name those that matter")));
    }
    let day = args.day.as_deref().map(|day| day.parse::<jiff::civil::Date>());
    let day = day.transpose().map_err(|_| SqlError::invalid("day: write it as 2026-03-31"))?;
    let engine = Engine::of(connection);
    let measured: Vec<Measured<'_>> = chosen.into_iter().map(|shape| engine.measured(shape)).collect();
    let filter = match (day_column, day) {
        (Some(column), Some(day)) => format!(" WHERE {} = {}", engine.day_of(column), engine.day(day)),
        _ => String::new(),
    };
    let from = match engine {
        Engine::Postgres => named.quoted(),
        Engine::Sqlite => quoted(&named.name),
    };
    let numbers = values(app, connection, call, &engine.profile_sql(&measured, &from, &filter)).await?;
    let freshness = match day_column {
        Some(column) => {
            let found = values(app, connection, call, &engine.freshness_sql(column, &from)).await?;
            let latest = found.first().cloned().unwrap_or_default();
            Some(Freshness { column: column.name.clone(), latest, age_s: found.get(1).and_then(Value::as_f64) })
        }
        None => None,
    };
    let row_count = numbers.first().and_then(Value::as_u64).unwrap_or(0);
    let columns = measured.iter().enumerate().map(|(at, m)| column_profile(m, row_count, &numbers, at)).collect();
    Ok(Profile { table: named.to_string(), day: day.map(|d| d.to_string()), row_count, columns, freshness })
}

/// Values that the statement has for each column.
const PER_COLUMN: usize = 6;

fn column_profile(measured: &Measured<'_>, row_count: u64, numbers: &[Value], at: usize) -> ColumnProfile {
    let value = |offset: usize| numbers.get(1 + at * PER_COLUMN + offset).cloned().unwrap_or_default();
    let nulls = row_count.saturating_sub(value(0).as_u64().unwrap_or(0));
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let quantiles = value(5).as_array().map(|list| list.iter().filter_map(Value::as_f64).collect());
    ColumnProfile {
        column: measured.shape.name.clone(),
        data_type: measured.shape.data_type.clone(),
        nulls,
        null_rate: (share(nulls, row_count) * 1e6).round() / 1e6,
        distinct: value(1).as_u64(),
        min: value(2),
        max: value(3),
        mean: value(4).as_f64(),
        quantiles,
    }
}

/// The first row of a statement of ours, in order.
async fn values(app: &App, connection: &Connection, call: &Call, sql: &str) -> Result<Vec<Value>> {
    let limits = Limits { rows: 1, bytes: connection.role.max_bytes };
    let rows = match connection.database {
        Database::Postgres(_) => {
            app.postgres(connection, call, Effect::Reads, async |t| Ok(run(t, sql, limits).await?.rows)).await?
        }
        Database::Sqlite(_) => {
            let sql = sql.to_owned();
            sqlite(connection, call, Effect::Reads, move |lite| Ok(lite.run(&sql, limits)?.0)).await?
        }
    };
    let row = rows.rows.into_iter().next().unwrap_or_default();
    Ok(rows.columns.iter().map(|column| row.get(&column.name).cloned().unwrap_or_default()).collect())
}

/// How an engine says things.
#[derive(Clone, Copy)]
enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    fn of(connection: &Connection) -> Self {
        match connection.database {
            Database::Postgres(_) => Self::Postgres,
            Database::Sqlite(_) => Self::Sqlite,
        }
    }

    fn measured(self, shape: &ColumnShape) -> Measured<'_> {
        let data_type = shape.data_type.to_lowercase();
        let begins = |words: &[&str]| words.iter().any(|word| data_type.starts_with(word));
        let numeric =
            begins(&["int", "bigint", "smallint", "numeric", "real", "double"]) && !data_type.starts_with("interval");
        let ordered = !begins(&["json", "xml", "bytea", "boolean", "uuid", "point", "box", "path", "polygon"])
            && !data_type.ends_with(']');
        Measured { shape, numeric, ordered }
    }

    fn day_of(self, column: &ColumnShape) -> String {
        let name = quoted(&column.name);
        match self {
            Self::Postgres if column.data_type.contains("with time zone") => {
                format!("({name} AT TIME ZONE 'UTC')::date")
            }
            Self::Postgres => format!("{name}::date"),
            Self::Sqlite => format!("date({name})"),
        }
    }

    fn day(self, day: jiff::civil::Date) -> String {
        match self {
            Self::Postgres => format!("DATE '{day}'"),
            Self::Sqlite => format!("'{day}'"),
        }
    }

    fn profile_sql(self, measured: &[Measured<'_>], from: &str, filter: &str) -> String {
        let mut parts = vec!["count(*)".to_owned()];
        for column in measured {
            let name = quoted(&column.shape.name);
            let when = |holds: bool, sql: String| if holds { sql } else { "NULL".to_owned() };
            parts.push(format!("count({name})"));
            parts.push(when(column.ordered, format!("count(DISTINCT {name})")));
            parts.push(when(column.ordered, format!("min({name})")));
            parts.push(when(column.ordered, format!("max({name})")));
            parts.push(when(column.numeric, self.mean(&name)));
            parts.push(match self {
                Self::Postgres if column.numeric => {
                    let quantiles = QUANTILES.map(|q| q.to_string()).join(",");
                    format!("percentile_cont(ARRAY[{quantiles}]::float8[]) WITHIN GROUP (ORDER BY {name}::float8)")
                }
                _ => "NULL".to_owned(),
            });
        }
        format!("SELECT {} FROM {from}{filter}", parts.join(", "))
    }

    fn mean(self, name: &str) -> String {
        match self {
            Self::Postgres => format!("avg({name})::float8"),
            Self::Sqlite => format!("avg({name})"),
        }
    }

    fn freshness_sql(self, column: &ColumnShape, from: &str) -> String {
        let name = quoted(&column.name);
        match self {
            Self::Postgres => {
                format!("SELECT max({name}), extract(epoch FROM now() - max({name})::timestamptz)::float8 FROM {from}")
            }
            Self::Sqlite => {
                format!("SELECT max({name}), (julianday('now') - julianday(max({name}))) * 86400.0 FROM {from}")
            }
        }
    }
}
