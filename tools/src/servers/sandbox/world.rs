//! What lies outside the warehouse: the upstream feed, its faults, and the calendar. Agents only meet it through its effects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::civil::Date;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Environment;
use super::data::{self, RawRow};
use super::error::{Result, SandboxError};
use super::faults::Record;

/// Last business date that is history when a sandbox is new.
pub(crate) const HISTORY_LAST_DAY: i8 = 22;
/// Requests the upstream remembers.
const REQUESTS_MAX: usize = 20;
/// Seconds after which the pipelines give up on the upstream.
pub(crate) const UPSTREAM_TIMEOUT_SECONDS: i64 = 30;
/// Parts in which the upstream delivers a day.
const FEED_PARTS: usize = 3;
/// New name of the column in the fault `column_renamed`.
pub(crate) const RENAMED_TO: &str = "departure_delay";
/// Old name of the column in the fault `column_renamed`.
pub(crate) const RENAMED_FROM: &str = "dep_delay";

/// One request to the upstream feed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamRequest {
    /// When, in sandbox time.
    pub at: String,
    /// Which environment asked.
    pub environment: Environment,
    /// For which business date.
    pub business_date: String,
    /// `200` or `timeout`.
    pub outcome: String,
    /// Rows delivered.
    pub rows: usize,
}

/// State of the world outside the warehouse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct World {
    /// Last business date that was scheduled.
    pub(crate) today: Date,
    /// Requests that will still time out, per environment.
    pub(crate) timeouts: BTreeMap<Environment, u32>,
    /// Date whose last part was never delivered.
    pub(crate) truncated: Option<Date>,
    /// Deliveries that were asked for again.
    pub(crate) redelivered: BTreeSet<(Environment, Date)>,
    /// Date with a burst of null keys.
    pub(crate) null_burst: Option<Date>,
    /// First date on which the renamed column is delivered.
    pub(crate) renamed_since: Option<Date>,
    /// Date whose segments the storage layer refuses.
    pub(crate) segment_refused: Option<Date>,
    /// Recent requests, oldest first.
    pub(crate) requests: Vec<UpstreamRequest>,
    /// Faults injected so far, oldest first.
    pub(crate) injections: Vec<Record>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            today: Date::constant(2013, 1, HISTORY_LAST_DAY),
            timeouts: BTreeMap::new(),
            truncated: None,
            redelivered: BTreeSet::new(),
            null_burst: None,
            renamed_since: None,
            segment_refused: None,
            requests: Vec::new(),
            injections: Vec::new(),
        }
    }
}

/// What the upstream says it has for a day, and what it delivered.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Manifest {
    /// The day.
    pub business_date: String,
    /// Rows the upstream counted at its source.
    pub expected_rows: usize,
    /// Rows a request gets now.
    pub delivered_rows: usize,
    /// Parts of the day's file.
    pub parts_expected: usize,
    /// Parts a request gets now.
    pub parts_delivered: usize,
    /// Whether a request gets everything.
    pub complete: bool,
    /// Column names a request gets.
    pub columns: Vec<String>,
}

/// One delivery of the feed.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<RawRow>,
    pub(crate) expected_rows: usize,
}

impl World {
    /// The feed as it is delivered to one environment now, without counting a request.
    pub(crate) fn feed(&self, environment: Environment, date: Date) -> Result<Feed> {
        let source = data::source()?;
        let mut rows = source.day(date);
        let mut columns = source.columns.clone();
        let expected_rows = rows.len();
        if self.is_truncated(environment, date) {
            rows.truncate(rows.len() * 7 / 10);
        }
        if self.null_burst == Some(date) {
            let burst = source.burst_rows(date);
            let carrier = source.position("carrier");
            for (_, row) in rows.iter_mut().enumerate().filter(|(idx, _)| burst.contains(&(idx + 1))) {
                if let Some(cell) = carrier.and_then(|p| row.get_mut(p)) {
                    *cell = None;
                }
            }
        }
        if self.renamed_since.is_some_and(|since| date >= since) {
            for column in columns.iter_mut().filter(|c| **c == RENAMED_FROM) {
                *column = RENAMED_TO;
            }
        }
        Ok(Feed { columns, rows, expected_rows })
    }

    /// Answers one request, or lets it time out (`None`).
    pub(crate) fn request(&mut self, environment: Environment, date: Date, at: &str) -> Result<Option<Feed>> {
        let left = self.timeouts.get(&environment).copied().unwrap_or(0);
        let feed = if left > 0 {
            self.timeouts.insert(environment, left - 1);
            None
        } else {
            Some(self.feed(environment, date)?)
        };
        if self.requests.len() >= REQUESTS_MAX {
            self.requests.remove(0);
        }
        self.requests.push(UpstreamRequest {
            at: at.to_owned(),
            environment,
            business_date: date.to_string(),
            outcome: if feed.is_some() { "200" } else { "timeout" }.to_owned(),
            rows: feed.as_ref().map_or(0, |f| f.rows.len()),
        });
        Ok(feed)
    }

    /// What the upstream publishes about a day.
    pub(crate) fn manifest(&self, environment: Environment, date: Date) -> Result<Manifest> {
        let feed = self.feed(environment, date)?;
        let complete = !self.is_truncated(environment, date);
        Ok(Manifest {
            business_date: date.to_string(),
            expected_rows: feed.expected_rows,
            delivered_rows: feed.rows.len(),
            parts_expected: FEED_PARTS,
            parts_delivered: if complete { FEED_PARTS } else { FEED_PARTS - 1 },
            complete,
            columns: feed.columns.iter().map(|c| (*c).to_owned()).collect(),
        })
    }

    fn is_truncated(&self, environment: Environment, date: Date) -> bool {
        self.truncated == Some(date) && !self.redelivered.contains(&(environment, date))
    }
}

/// The world on disk; one row that is replaced as a whole, so two processes on one folder agree.
#[derive(Debug)]
pub(crate) struct WorldStore {
    conn: Connection,
}

impl WorldStore {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let conn = Connection::open(path)?;
        conn.busy_timeout(super::db::BUSY_TIMEOUT)?;
        conn.execute_batch(
            "CREATE TABLE IF NOT EXISTS world (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL)",
        )?;
        Ok(Self { conn })
    }

    pub(crate) fn read(&self) -> Result<World> {
        load(&self.conn)
    }

    /// Changes the world in one transaction; nothing changes if `f` fails.
    pub(crate) fn update<T>(&mut self, f: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut world = load(&tx)?;
        let answer = f(&mut world)?;
        let state = serde_json::to_string(&world).map_err(|e| SandboxError::storage("state of the sandbox", e))?;
        tx.execute("INSERT INTO world VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET state = ?1", [state])?;
        tx.commit()?;
        Ok(answer)
    }
}

fn load(conn: &Connection) -> Result<World> {
    let state: Option<String> = conn.query_row("SELECT state FROM world", [], |row| row.get(0)).optional()?;
    state.map_or_else(
        || Ok(World::default()),
        |text| serde_json::from_str(&text).map_err(|e| SandboxError::storage("state of the sandbox (world.db)", e)),
    )
}
