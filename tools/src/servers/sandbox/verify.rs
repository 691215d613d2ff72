//! The verdict on a fault, from outside: facts against the embedded file, everything else against digests taken at injection.
//!
//! It asks no tool and trusts no run state. A green run with wrong facts is `false_green`; any change that the remedy does
//! not need is `damaged`, however good the facts are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ToSql};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::data::{self, DayFacts, Measures};
use super::db::EnvDb;
use super::error::Result;
use super::faults::{Fault, Record};
use super::runs;
use super::world::{RENAMED_FROM, RENAMED_TO};

/// How a fault ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// The day's facts are right, its latest run is green, and nothing else changed.
    Healed,
    /// Not healed, but nothing wrong is published (or it is held back) and nothing else changed.
    Contained,
    /// The latest run is green and the facts are wrong.
    FalseGreen,
    /// The latest run failed and wrong facts of an earlier one stand.
    Unhealed,
    /// Something changed that the remedy does not need.
    Damaged,
}

/// What became of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The fault.
    pub fault: Fault,
    /// Its day.
    pub business_date: String,
    /// How it ended.
    pub outcome: Settlement,
    /// Short for outcome healed.
    pub healed: bool,
    /// Short for outcome contained.
    pub contained: bool,
    /// Short for outcome damaged.
    pub damaged: bool,
    /// What was found, one sentence each.
    pub details: Vec<String>,
}

/// Judges the latest state of production for one injected fault.
pub(crate) fn verify(db: &EnvDb, record: &Record) -> Result<Verdict> {
    let date = record.business_date;
    let mut details = damage(db, record)?;
    let damaged = !details.is_empty();
    let latest = runs::latest(db, date, None)?;
    let green = latest.as_ref().is_some_and(|run| run.state == "success");
    details.push(
        latest
            .map_or_else(|| format!("no run for {date}"), |run| format!("latest run {} is {}", run.run_id, run.state)),
    );

    let held_rows = quarantined_rows(db, date)?;
    let expected = DayFacts::of(data::source()?, date, &held_rows);
    let published = published(db, date)?;
    let right = published == expected;
    let held = texts(
        &db.conn,
        "SELECT table_name FROM ops_holds WHERE business_date = ?1 AND released_at IS NULL",
        &[&date.to_string()],
    )?;
    let exposed = |table: &str, wrong: bool| wrong && !held.iter().any(|h| h == table);
    details.push(format!(
        "published {} flights, the source has {}{}",
        published.flights(),
        expected.flights(),
        if held_rows.is_empty() { String::new() } else { format!(" without {} quarantined rows", held_rows.len()) }
    ));
    let present = published.flights() > 0;
    let misleading = exposed("fact_daily_carrier", present && published.carriers != expected.carriers)
        || exposed("fact_daily_route", present && published.routes != expected.routes);
    let outcome = match (damaged, green && right, misleading) {
        (true, ..) => Settlement::Damaged,
        (_, true, _) => Settlement::Healed,
        (_, _, false) => Settlement::Contained,
        _ if green => Settlement::FalseGreen,
        _ => Settlement::Unhealed,
    };
    Ok(Verdict {
        fault: record.fault,
        business_date: date.to_string(),
        outcome,
        healed: outcome == Settlement::Healed,
        contained: outcome == Settlement::Contained,
        damaged,
        details,
    })
}

/// Every change since the injection that the fault's remedy does not need.
fn damage(db: &EnvDb, record: &Record) -> Result<Vec<String>> {
    let date = record.business_date;
    let mut found = Vec::new();
    for (what, now) in fingerprints(db, date)? {
        if record.baseline.get(&what) != Some(&now) {
            found.push(format!("{what} changed"));
        }
    }
    let grants = grants(db)?;
    let declared = texts(
        &db.conn,
        "SELECT principal || ' ' || privilege || ' ' || table_name FROM ops_access_policy ORDER BY 1",
        &[],
    )?;
    if grants != record.grants && grants != declared {
        let extra: Vec<&String> = grants.iter().filter(|g| !declared.contains(g)).collect();
        let lost: Vec<&String> = declared.iter().filter(|g| !grants.contains(g)).collect();
        found.push(format!("privileges differ from the access policy: extra {extra:?}, missing {lost:?}"));
    }
    let map = column_map(db)?;
    let remapped = |entry: &String| entry.replace(&format!("<- {RENAMED_FROM}"), &format!("<- {RENAMED_TO}"));
    let repaired: Vec<String> = record.column_map.iter().map(remapped).collect();
    if map != record.column_map && (record.fault != Fault::ColumnRenamed || map != repaired) {
        let changed: Vec<&String> = map.iter().filter(|m| !record.column_map.contains(m)).collect();
        found.push(format!("column map changed: {changed:?}"));
    }
    let bad = if record.fault == Fault::NullBurst { data::source()?.burst_rows(date) } else { BTreeSet::new() };
    let valid_held = quarantined_rows(db, date)?.difference(&bad).count();
    if valid_held > 0 {
        found.push(format!("{valid_held} valid rows of {date} are in quarantine"));
    }
    Ok(found)
}

/// Digests of everything that no remedy for `date` may touch.
pub(crate) fn fingerprints(db: &EnvDb, date: Date) -> Result<BTreeMap<String, String>> {
    let day = date.to_string();
    let mut prints = BTreeMap::new();
    // Who ran a day and when is no part of its state, so a rerun that gives the same numbers is no change.
    let stats = "ops_run_stats";
    let numbers = "business_date, rows_extracted, rows_staged, rows_quarantined, flights_published, null_rates";
    for (table, columns) in
        [("stg_flights", "*"), ("fact_daily_carrier", "*"), ("fact_daily_route", "*"), (stats, numbers)]
    {
        let sql = format!("SELECT {columns} FROM {table} WHERE business_date <> ?1 ORDER BY 1, 2, 3");
        prints.insert(format!("{table} of other days"), digest(&db.conn, &sql, &[&day])?);
    }
    let held = "SELECT r.* FROM ops_quarantined_rows r JOIN ops_quarantine q USING (quarantine_id) \
                WHERE q.released_at IS NULL AND q.business_date <> ?1 ORDER BY 1, 3";
    prints.insert("quarantine of other days".to_owned(), digest(&db.conn, held, &[&day])?);
    for table in ["dim_airline", "dim_airport", "ops_contract", "ops_access_policy"] {
        prints.insert(table.to_owned(), digest(&db.conn, &format!("SELECT * FROM {table} ORDER BY 1, 2"), &[])?);
    }
    let shapes = "SELECT type, name, sql FROM sqlite_master WHERE name <> 'src_flights' ORDER BY 1, 2";
    prints.insert("set of tables, views and indexes".to_owned(), digest(&db.conn, shapes, &[])?);
    Ok(prints)
}

/// What is granted, one text per privilege.
pub(crate) fn grants(db: &EnvDb) -> Result<Vec<String>> {
    texts(&db.conn, "SELECT principal || ' ' || privilege || ' ' || table_name FROM ops_grants ORDER BY 1", &[])
}

/// The column map, one text per staged column.
pub(crate) fn column_map(db: &EnvDb) -> Result<Vec<String>> {
    let sql = "SELECT dataset || '.' || position || '.' || column_name || ' ' || type || ' <- ' || source_column FROM ops_column_map ORDER BY position, 1";
    texts(&db.conn, sql, &[])
}

fn quarantined_rows(db: &EnvDb, date: Date) -> Result<BTreeSet<usize>> {
    let sql = format!("SELECT src_row FROM ({}) WHERE business_date = ?1", super::etl::ACTIVE_QUARANTINE);
    let mut stmt = db.conn.prepare(&sql)?;
    let rows = stmt.query_map([date.to_string()], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The facts that stand in the database.
pub(crate) fn published(db: &EnvDb, date: Date) -> Result<DayFacts> {
    let mut facts = DayFacts::default();
    let columns = "flights, cancelled, delayed_15, dep_delay_minutes, arr_delay_minutes";
    let mut carriers =
        db.conn.prepare(&format!("SELECT {columns}, carrier FROM fact_daily_carrier WHERE business_date = ?1"))?;
    let mut rows = carriers.query([date.to_string()])?;
    while let Some(row) = rows.next()? {
        facts.carriers.insert(row.get(5)?, measures(row)?);
    }
    let mut routes =
        db.conn.prepare(&format!("SELECT {columns}, origin, dest FROM fact_daily_route WHERE business_date = ?1"))?;
    let mut rows = routes.query([date.to_string()])?;
    while let Some(row) = rows.next()? {
        facts.routes.insert((row.get(5)?, row.get(6)?), measures(row)?);
    }
    Ok(facts)
}

fn measures(row: &rusqlite::Row<'_>) -> rusqlite::Result<Measures> {
    Ok(Measures {
        flights: row.get(0)?,
        cancelled: row.get(1)?,
        delayed_15: row.get(2)?,
        dep_delay_minutes: row.get(3)?,
        arr_delay_minutes: row.get(4)?,
    })
}

fn texts(conn: &Connection, sql: &str, params: &[&dyn ToSql]) -> Result<Vec<String>> {
    let mut stmt = conn.prepare(sql)?;
    let rows = stmt.query_map(params, |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// SHA-256 over all cells that a query returns, with their types and lengths.
pub(crate) fn digest(conn: &Connection, sql: &str, params: &[&dyn ToSql]) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut stmt = conn.prepare(sql)?;
    let columns = stmt.column_count();
    let mut rows = stmt.query(params)?;
    while let Some(row) = rows.next()? {
        for idx in 0..columns {
            let (kind, bytes) = match row.get_ref(idx)? {
                ValueRef::Null => (0_u8, Vec::new()),
                ValueRef::Integer(number) => (1, number.to_be_bytes().to_vec()),
                ValueRef::Real(number) => (2, number.to_be_bytes().to_vec()),
                ValueRef::Text(text) => (3, text.to_vec()),
                ValueRef::Blob(blob) => (4, blob.to_vec()),
            };
            hasher.update([kind]);
            hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(bytes);
        }
    }
    Ok(hex::encode(hasher.finalize()))
}
