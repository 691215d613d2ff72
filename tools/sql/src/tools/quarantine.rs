//! Records that the extract tasks skip: `quarantine` and `release_quarantine`.
//!
//! The table has the columns `source_table, source_pk, business_date, reason, payload, quarantined_by, quarantined_at,
//! released_at` with the first two as its key; an entry without `released_at` is skipped by every extract. Nothing is
//! deleted: the source keeps the record, and a release keeps the entry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::inspect::{OfTable, Shape, describe_table};
use super::{App, Call, Change, may_change, table};
use crate::config::{Connection, Relation, quoted};
use crate::error::{Code, Result, SqlError};
use crate::guard::{Effect, Environment};

/// Most records of one call; more is a decision about a feed, not about bad records.
const RECORDS_MAX: usize = 10_000;
/// Longest reason.
const REASON_BYTES_MAX: usize = 500;
/// Keys that an answer shows.
const SHOWN_MAX: usize = 100;

/// Arguments of `quarantine`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Name of a connection.
    pub connection: String,
    /// Source table, `schema.table`; its primary key has one column.
    pub source_table: String,
    /// Primary keys of the bad records, as text.
    pub keys: Option<Vec<String>>,
    /// In place of keys: all records of the day in which this column is null.
    pub null_column: Option<String>,
    /// Column with the day or time of a record; records of another day are not found. Needed with `null_column` and
    /// `max_share`.
    pub day_column: Option<String>,
    /// Business date of the records, as 2026-03-31.
    pub business_date: String,
    /// Why, for those who look at it later.
    pub reason: String,
    /// Refuse if more than this share of the day's records would then be held back, by this call and earlier ones. From
    /// 0 to 1; needs `day_column`.
    pub max_share: Option<f64>,
}

/// Arguments of `release_quarantine`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseQuarantine {
    /// Name of a connection.
    pub connection: String,
    /// Source table, `schema.table`.
    pub source_table: String,
    /// Primary keys of the records, as text.
    pub keys: Vec<String>,
}

/// What is held back now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Quarantined {
    /// Source table.
    pub source_table: String,
    /// Where the connection leads.
    pub environment: Environment,
    /// Records that this call held back or released.
    pub changed: usize,
    /// Records that were so already.
    pub unchanged: usize,
    /// Share of the day's records that is held back now, if a day column was named.
    pub share: Option<f64>,
    /// The first hundred keys.
    pub keys: Vec<String>,
}

/// The source of the records and where the entries go.
struct Place<'a> {
    connection: &'a Connection,
    source: Relation,
    entries: &'a Relation,
    shape: Shape,
    key: String,
}

async fn place<'a>(app: &'a App, connection: &str, source: &str, call: &Call, tool: &str) -> Result<Place<'a>> {
    let at = app.connection(connection)?;
    may_change(at, tool, Change::Reversible)?;
    let entries = at.quarantine.as_ref().ok_or_else(|| {
        SqlError::not_found(format!("connection {} has no quarantine table; name one in its configuration", at.name))
    })?;
    let named = table(at, source)?;
    let of = OfTable { connection: connection.to_owned(), table: source.to_owned() };
    let shape = describe_table(app, of, call).await?;
    let [key] = shape.primary_key.as_slice() else {
        return Err(SqlError::invalid(format!("{named} has no primary key of one column")));
    };
    let key = quoted(key);
    Ok(Place { connection: at, source: named, entries, shape, key })
}

impl Place<'_> {
    fn column(&self, name: &str) -> Result<String> {
        let known = self.shape.columns.iter().any(|column| column.name == name);
        known.then(|| quoted(name)).ok_or_else(|| SqlError::invalid(format!("{} has no column {name:?}", self.source)))
    }

    /// The day of a record, in the time zone of business dates.
    fn day(&self, name: &str) -> Result<String> {
        let column = self.column(name)?;
        let zoned = self.shape.columns.iter().any(|c| c.name == name && c.data_type.contains("with time zone"));
        Ok(if zoned { format!("(s.{column} AT TIME ZONE 'UTC')::date") } else { format!("s.{column}::date") })
    }
}

/// Holds records back from the next extract.
///
/// # Errors
/// What the role may not, records that do not exist, more than the share that was named, what the database refuses.
pub async fn quarantine(app: &App, args: Quarantine, call: &Call) -> Result<Quarantined> {
    if args.reason.trim().is_empty() || args.reason.len() > REASON_BYTES_MAX {
        return Err(SqlError::invalid(format!("a reason has 1 to {REASON_BYTES_MAX} bytes")));
    }
    let date: jiff::civil::Date =
        args.business_date.parse().map_err(|_| SqlError::invalid("business_date: write it as 2026-03-31"))?;
    check_share(&args)?;
    let place = place(app, &args.connection, &args.source_table, call, "quarantine").await?;
    let of_day = match args.day_column.as_deref() {
        Some(name) => Some(format!("{} = DATE '{date}'", place.day(name)?)),
        None => None,
    };
    let chosen = match (&args.keys, &args.null_column, &of_day) {
        (Some(keys), None, of_day) if !keys.is_empty() && keys.len() <= RECORDS_MAX => {
            let of_day = of_day.as_ref().map(|of_day| format!(" AND {of_day}")).unwrap_or_default();
            format!("s.{}::text = ANY($1){of_day}", place.key)
        }
        (None, Some(column), Some(of_day)) => {
            format!("s.{} IS NULL AND {of_day} AND $1::text[] IS NULL", place.column(column)?)
        }
        _ => return Err(SqlError::invalid(format!("give 1 to {RECORDS_MAX} keys, or null_column with day_column"))),
    };
    let (from, entries) = (place.source.quoted(), place.entries.quoted());
    let find =
        format!("SELECT s.{}::text FROM {from} s WHERE {chosen} ORDER BY 1 LIMIT {}", place.key, RECORDS_MAX + 1);
    // An entry that is there and was released is held back again; one that is held back stays as it is.
    let insert = format!(
        "INSERT INTO {entries} AS q (source_table, source_pk, business_date, reason, payload) \
         SELECT $2, s.{0}::text, DATE '{date}', $3, to_jsonb(s) FROM {from} s WHERE s.{0}::text = ANY($1) \
         ON CONFLICT (source_table, source_pk) DO UPDATE SET released_at = NULL, reason = EXCLUDED.reason, \
           payload = EXCLUDED.payload, quarantined_at = now() WHERE q.released_at IS NOT NULL",
        place.key
    );
    let source = place.source.to_string();
    app.postgres(place.connection, call, Effect::Writes, async |t| {
        one_after_another(t, &place).await?;
        let found = keys_of(t, &find, &[&args.keys]).await?;
        check_found(&args, &found, &source)?;
        let share = match &of_day {
            Some(of_day) => Some(share(t, &place, of_day, &found).await?),
            None => None,
        };
        if let (Some(share), Some(max)) = (share, args.max_share)
            && share > max
        {
            let message =
                format!("{share:.4} of the day's records would be held back, more than {max}; nothing was changed");
            return Err(SqlError::new(Code::Conflict, message));
        }
        let changed = t.execute(&insert, &[&found, &source, &args.reason]).await?;
        Ok(report(&place, &found, changed, share))
    })
    .await
}

fn check_found(args: &Quarantine, found: &[String], source: &str) -> Result<()> {
    if found.len() > RECORDS_MAX {
        return Err(SqlError::new(
            Code::Conflict,
            format!("more than {RECORDS_MAX} records; that is for a person to decide"),
        ));
    }
    let asked: Vec<&String> = args.keys.iter().flatten().collect();
    let absent: Vec<&str> = asked.iter().filter(|key| !found.contains(key)).map(|key| key.as_str()).take(5).collect();
    if found.is_empty() || !absent.is_empty() {
        let which = if absent.is_empty() { "such".to_owned() } else { absent.join(", ") };
        let day = if args.day_column.is_some() { format!(" of {}", args.business_date) } else { String::new() };
        return Err(SqlError::not_found(format!("{source} has no record {which}{day}; nothing was held back")));
    }
    Ok(())
}

async fn keys_of(transaction: &Transaction<'_>, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Vec<String>> {
    Ok(transaction.query(sql, args).await?.iter().map(|row| row.get(0)).collect())
}

/// First of the two halves of the name of a table's lock.
const LOCK_NAME: &str = "interlock quarantine";

/// Waits until no other call holds records of this table back: two that count at the same time would pass a share together
/// that neither of them passes. The lock ends with the transaction; each statement after it sees what the call before wrote.
async fn one_after_another(transaction: &Transaction<'_>, place: &Place<'_>) -> Result<()> {
    transaction.batch_execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtext($1), hashtext($2))";
    transaction.execute(lock, &[&LOCK_NAME, &place.source.to_string()]).await?;
    Ok(())
}

/// A share that nothing could be held to is no limit.
fn check_share(args: &Quarantine) -> Result<()> {
    match args.max_share {
        Some(max) if !(0.0..=1.0).contains(&max) => {
            Err(SqlError::invalid(format!("max_share: {max} is no share; write one from 0 to 1")))
        }
        Some(_) if args.day_column.is_none() => Err(SqlError::invalid(
            "max_share needs day_column: without it the records of the day cannot be counted; nothing was held back",
        )),
        _ => Ok(()),
    }
}

/// What part of the day's records is held back once these are too.
async fn share(transaction: &Transaction<'_>, place: &Place<'_>, of_day: &str, more: &[String]) -> Result<f64> {
    let (from, entries) = (place.source.quoted(), place.entries.quoted());
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE s.{0}::text = ANY($1) OR q.source_pk IS NOT NULL) FROM {from} s \
         LEFT JOIN {entries} q ON q.source_table = $2 AND q.source_pk = s.{0}::text AND q.released_at IS NULL WHERE {of_day}",
        place.key
    );
    let counted = transaction.query_one(&sql, &[&more, &place.source.to_string()]).await?;
    let (whole, held): (i64, i64) = (counted.get(0), counted.get(1));
    Ok(if whole == 0 { 0.0 } else { held as f64 / whole as f64 })
}

fn report(place: &Place<'_>, keys: &[String], changed: u64, share: Option<f64>) -> Quarantined {
    let changed = usize::try_from(changed).unwrap_or(keys.len());
    Quarantined {
        source_table: place.source.to_string(),
        environment: place.connection.environment,
        changed,
        unchanged: keys.len().saturating_sub(changed),
        share,
        keys: keys.iter().take(SHOWN_MAX).cloned().collect(),
    }
}

/// Lets records through again.
///
/// # Errors
/// What the role may not, and what the database refuses.
pub async fn release_quarantine(app: &App, args: ReleaseQuarantine, call: &Call) -> Result<Quarantined> {
    if args.keys.is_empty() || args.keys.len() > RECORDS_MAX {
        return Err(SqlError::invalid(format!("give 1 to {RECORDS_MAX} keys")));
    }
    let place = place(app, &args.connection, &args.source_table, call, "release_quarantine").await?;
    let entries = place.entries.quoted();
    let sql = format!(
        "UPDATE {entries} SET released_at = now() WHERE source_table = $1 AND source_pk = ANY($2) AND released_at IS NULL"
    );
    let source = place.source.to_string();
    app.postgres(place.connection, call, Effect::Writes, async |t| {
        let changed = t.execute(&sql, &[&source, &args.keys]).await?;
        Ok(report(&place, &args.keys, changed, None))
    })
    .await
}
