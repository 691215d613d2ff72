//! Where migrations are remembered: a table of the database, or a file beside the configuration where nothing may be added to
//! the database.
//!
//! In a table the entry and the change are one transaction. A file cannot be part of it: the attempt is written before the
//! change and its end after the commit, and an attempt without an end is looked into by the next call.

use std::path::PathBuf;

use rusqlite::OptionalExtension;
use tokio_postgres::Transaction;

use crate::config::{Connection, Relation};
use crate::error::{Result, SqlError};

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// An attempt began; its end is not known.
    Started,
    /// Applied.
    Applied,
    /// Reverted.
    Reverted,
}

impl Progress {
    fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Applied => "applied",
            Self::Reverted => "reverted",
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "applied" => Self::Applied,
            "reverted" => Self::Reverted,
            _ => Self::Started,
        }
    }
}

/// One migration.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Of both scripts.
    pub(crate) digest: String,
    pub(crate) up: String,
    pub(crate) down: String,
    pub(crate) progress: Progress,
}

/// Where a connection's migrations are remembered.
pub(crate) enum Ledger<'a> {
    Table(&'a Relation),
    File(&'a Connection, PathBuf),
}

/// Columns of a ledger, in a table and in a file alike.
const COLUMNS: &str =
    "name text NOT NULL, digest text NOT NULL, up text NOT NULL, down text NOT NULL, progress text NOT NULL";

impl<'a> Ledger<'a> {
    pub(crate) fn of(connection: &'a Connection) -> Result<Self> {
        match (&connection.migrations, &connection.migrations_file) {
            (Some(table), _) => Ok(Self::Table(table)),
            (None, Some(file)) => Ok(Self::File(connection, file.clone())),
            (None, None) => {
                let name = &connection.name;
                let message = format!(
                    "connection {name} remembers no migrations; name migrations or migrations_file in its configuration"
                );
                Err(SqlError::not_found(message))
            }
        }
    }

    pub(crate) async fn find(&self, transaction: &Transaction<'_>, name: &str) -> Result<Option<Entry>> {
        match self {
            Self::Table(table) => {
                let there = "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                             WHERE n.nspname = $1 AND c.relname = $2";
                if transaction.query_opt(there, &[&table.schema, &table.name]).await?.is_none() {
                    return Ok(None);
                }
                let sql =
                    format!("SELECT digest, up, down, progress FROM {} WHERE name = $1 FOR UPDATE", table.quoted());
                let row = transaction.query_opt(&sql, &[&name]).await?;
                let entry = |row: tokio_postgres::Row| Entry {
                    digest: row.get(0),
                    up: row.get(1),
                    down: row.get(2),
                    progress: Progress::read(row.get(3)),
                };
                Ok(row.map(entry))
            }
            Self::File(connection, file) => {
                let sql = "SELECT digest, up, down, progress FROM migrations WHERE connection = ?1 AND name = ?2";
                let entry = |row: &rusqlite::Row<'_>| {
                    let progress: String = row.get(3)?;
                    Ok(Entry {
                        digest: row.get(0)?,
                        up: row.get(1)?,
                        down: row.get(2)?,
                        progress: Progress::read(&progress),
                    })
                };
                Ok(open(file)?.query_row(sql, [&connection.name, name], entry).optional()?)
            }
        }
    }

    /// Writes how a change will have ended, as a part of its transaction; in a file that it began.
    pub(crate) async fn begin(&self, transaction: &Transaction<'_>, name: &str, entry: &Entry) -> Result<()> {
        match self {
            Self::Table(table) => {
                let quoted = table.quoted();
                let make = format!("CREATE TABLE IF NOT EXISTS {quoted} ({COLUMNS}, PRIMARY KEY (name))");
                transaction.execute(&make, &[]).await?;
                let sql = format!(
                    "INSERT INTO {quoted} (name, digest, up, down, progress) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) \
                     DO UPDATE SET digest = EXCLUDED.digest, up = EXCLUDED.up, down = EXCLUDED.down, progress = EXCLUDED.progress"
                );
                transaction
                    .execute(&sql, &[&name, &entry.digest, &entry.up, &entry.down, &entry.progress.as_str()])
                    .await?;
            }
            Self::File(connection, file) => {
                put(file, &connection.name, name, &Entry { progress: Progress::Started, ..entry.clone() })?;
            }
        }
        Ok(())
    }

    /// Writes how a change ended that is committed.
    pub(crate) fn end(&self, name: &str, entry: &Entry) -> Result<()> {
        match self {
            Self::Table(_) => Ok(()),
            Self::File(connection, file) => put(file, &connection.name, name, entry),
        }
    }
}

fn open(file: &PathBuf) -> Result<rusqlite::Connection> {
    let opened = rusqlite::Connection::open(file)?;
    opened.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS migrations (connection text NOT NULL, {COLUMNS}, PRIMARY KEY (connection, name))"
    ))?;
    Ok(opened)
}

fn put(file: &PathBuf, connection: &str, name: &str, entry: &Entry) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO migrations (connection, name, digest, up, down, progress) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = [connection, name, &entry.digest, &entry.up, &entry.down, entry.progress.as_str()];
    open(file)?.execute(sql, values)?;
    Ok(())
}
