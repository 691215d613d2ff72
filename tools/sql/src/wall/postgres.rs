//! PostgreSQL behind the wall.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::{Client, Portal, Transaction};
use tokio_util::sync::CancellationToken;

use super::values::Raw;
use super::{Answer, Limits, Rows};
use crate::config::{Connection, Postgres};
use crate::error::{Code, Result, SqlError};
use crate::guard::{Effect, Facts, RelationFacts, RelationName};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a lock, so that a waiting change does not stop those behind it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// The server ends a transaction that waits for us this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// What our own clock gives the server's before it cancels.
const GRACE: Duration = Duration::from_secs(3);
/// Cancel requests for one call.
const CANCELS_MAX: usize = 3;
/// Pause between them.
const CANCEL_PAUSE: Duration = Duration::from_secs(1);
/// Rows fetched at a time.
const BATCH_ROWS: usize = 500;

/// A transaction on a connection of its own.
pub struct Session {
    client: Client,
    effect: Effect,
}

/// What a session is opened for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// Read only unless it writes.
    pub effect: Effect,
    /// What the server gives one statement.
    pub statement_timeout: Duration,
}

/// Runs `work` in one transaction: committed if it wrote and succeeded, otherwise rolled back. If the call is cancelled, the
/// statement is cancelled on the server, and the transaction is not committed.
///
/// # Errors
/// Whatever `work` reports, and failures of the connection.
pub async fn with_session<T>(
    connection: &Connection,
    server: &Postgres,
    purpose: Purpose,
    cancelled: &CancellationToken,
    work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let mut session = connect(server, purpose.effect).await?;
    let token = session.client.cancel_token();
    let deadline = purpose.statement_timeout * 2 + GRACE;
    let outcome = {
        let running = session.run(connection, purpose, work);
        tokio::pin!(running);
        let why = tokio::select! {
            outcome = &mut running => return outcome,
            () = cancelled.cancelled() => SqlError::new(Code::Cancelled, "the call was cancelled; its statement was ended"),
            () = tokio::time::sleep(deadline) => SqlError::new(Code::Timeout, "the server did not end the statement in time"),
        };
        // The cancel request has a connection of its own; what it ends, ends `running`. One that comes between two statements
        // ends nothing, so it is repeated.
        let mut ended = None;
        for _ in 0..CANCELS_MAX {
            let _ = tokio::time::timeout(GRACE, token.cancel_query(server.tls.connector())).await;
            if let Ok(done) = tokio::time::timeout(CANCEL_PAUSE, &mut running).await {
                ended = Some(done);
                break;
            }
        }
        match ended {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) if error.code == Code::OutcomeUnknown => Err(error),
            Some(Err(_)) => Err(why),
            // It may be committing, and nobody will hear how that ended.
            None if purpose.effect == Effect::Writes => {
                Err(SqlError::unknown("the statement did not end when it was cancelled"))
            }
            None => Err(why),
        }
    };
    drop(session);
    outcome
}

async fn connect(server: &Postgres, effect: Effect) -> Result<Session> {
    let mut config = server.config.clone();
    config.connect_timeout(CONNECT_TIMEOUT).application_name("interlock-sql");
    let (client, connection) = config.connect(server.tls.connector()).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok(Session { client, effect })
}

impl Session {
    async fn run<T>(
        &mut self,
        connection: &Connection,
        purpose: Purpose,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let read_only = self.effect == Effect::Reads;
        let transaction = self.client.build_transaction().read_only(read_only).start().await?;
        settle(&transaction, connection, purpose.statement_timeout).await?;
        let done = work(&transaction).await;
        match done {
            Ok(value) if !read_only => {
                transaction.commit().await.map_err(|error| match SqlError::from(error) {
                    SqlError { code: Code::Connection, rule, message } => {
                        SqlError { rule, ..SqlError::unknown(message) }
                    }
                    other => other,
                })?;
                Ok(value)
            }
            done => {
                // The connection is dropped next; a failed ROLLBACK changes nothing.
                let _ = transaction.rollback().await;
                done
            }
        }
    }
}

/// Limits and names for this transaction only. `pg_catalog` first: a look-alike of a built-in function stays behind.
async fn settle(transaction: &Transaction<'_>, connection: &Connection, timeout: Duration) -> Result<()> {
    let path: Vec<String> = connection.schemas.iter().map(|s| crate::config::quoted(s)).collect();
    // Text of ours; `set_config` would do the same, and is better revoked from everyone.
    let sql = format!(
        "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; \
         SET LOCAL search_path = pg_catalog, {}",
        timeout.as_millis(),
        LOCK_TIMEOUT.as_millis(),
        IDLE_TIMEOUT.as_millis(),
        path.join(", ")
    );
    transaction.batch_execute(&sql).await?;
    Ok(())
}

/// What the catalog says about the relations of a statement.
///
/// # Errors
/// If the catalog cannot be read.
pub async fn facts(transaction: &Transaction<'_>, schemas: &[String], named: &[RelationName]) -> Result<Facts> {
    let tables: Vec<&str> = named.iter().map(|(_, table)| table.as_str()).collect();
    let mut places: Vec<&str> = schemas.iter().map(String::as_str).collect();
    places.extend(named.iter().map(|(schema, _)| schema.as_str()).filter(|s| !s.is_empty()));
    let sql = "SELECT n.nspname::text, c.relname::text, \
                 CASE WHEN c.relkind NOT IN ('r', 'p', 'm') THEN NULL WHEN c.reltuples >= 0 THEN c.reltuples::bigint \
                      ELSE pg_catalog.pg_relation_size(c.oid) / 64 END, \
                 array_agg(a.attname::text) FILTER (WHERE a.attnum > 0 AND NOT a.attisdropped) \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
               WHERE c.relname::text = ANY($1) AND n.nspname::text = ANY($2) \
               GROUP BY n.nspname, c.relname, c.relkind, c.reltuples, c.oid";
    let mut relations = BTreeMap::new();
    for row in transaction.query(sql, &[&tables, &places]).await? {
        let rows: Option<i64> = row.get(2);
        let facts = RelationFacts { rows: rows.and_then(|n| u64::try_from(n).ok()), columns: row.get(3) };
        relations.insert((row.get(0), row.get(1)), facts);
    }
    Ok(Facts { search_path: schemas.to_vec(), relations })
}

/// What a statement did.
#[derive(Debug)]
pub struct Ran {
    /// Rows it returned.
    pub rows: Rows,
    /// Rows it changed, where it returned none.
    pub affected: Option<u64>,
}

/// Runs one statement over the extended protocol, which takes no second one, and fetches its rows through a portal.
///
/// # Errors
/// Whatever the database reports.
pub async fn run(transaction: &Transaction<'_>, sql: &str, limits: Limits) -> Result<Ran> {
    if sql.contains('\0') {
        return Err(SqlError::denied("nul", "the statement holds a NUL byte; remove it"));
    }
    let statement = transaction.prepare(sql).await?;
    if !statement.params().is_empty() {
        return Err(SqlError::invalid("the statement has parameters ($1); write the values into it"));
    }
    let columns = statement.columns().iter().map(|c| (c.name().to_owned(), c.type_().name().to_owned()));
    let mut answer = Answer::new(columns, limits);
    if statement.columns().is_empty() {
        let affected = transaction.execute(&statement, &[]).await?;
        return Ok(Ran { rows: answer.finish(), affected: Some(affected) });
    }
    let portal = transaction.bind(&statement, &[]).await?;
    fetch(transaction, &portal, &mut answer, limits).await?;
    Ok(Ran { rows: answer.finish(), affected: None })
}

async fn fetch(transaction: &Transaction<'_>, portal: &Portal, answer: &mut Answer, limits: Limits) -> Result<()> {
    let mut asked = 0;
    while asked <= limits.rows && !answer.is_full() {
        let batch = BATCH_ROWS.min(limits.rows + 1 - asked);
        let rows = transaction.query_portal(portal, i32::try_from(batch).unwrap_or(i32::MAX)).await?;
        for row in &rows {
            let cell = |at: usize, max: usize| {
                let raw: Raw<'_> = row.try_get(at).map_err(SqlError::from)?;
                raw.json(max).map_err(|e| SqlError::new(Code::Database, format!("column {at}: {e}")))
            };
            answer.add(cell)?;
        }
        if rows.len() < batch {
            break;
        }
        asked += batch;
    }
    Ok(())
}
