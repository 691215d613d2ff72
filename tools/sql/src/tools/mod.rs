//! The tools, one file for each group, and what they share.

pub mod changes;
pub mod inspect;
mod ledger;
pub mod migrate;
pub mod profile;
pub mod quarantine;
pub mod statements;

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_postgres::Transaction;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Connection, Database, Relation, relation};
use crate::error::{Code, Result, SqlError};
use crate::guard::{Decision, Effect, Environment, ProductionWrites, Verdict, role::Role};
use crate::wall::postgres::{Purpose, with_session};
use crate::wall::sqlite::{Lite, interrupted};

/// What a tool works with.
#[derive(Debug, Clone)]
pub struct App {
    /// Connections and roles.
    pub config: Arc<Config>,
}

/// One call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Set when the client cancels.
    pub cancelled: CancellationToken,
}

impl App {
    pub(crate) fn connection(&self, name: &str) -> Result<&Connection> {
        self.config.connection(name)
    }

    /// A transaction on the connection's PostgreSQL database.
    pub(crate) async fn postgres<T>(
        &self,
        connection: &Connection,
        call: &Call,
        effect: Effect,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let Database::Postgres(server) = &connection.database else {
            let message = format!("connection {} leads to SQLite, which has nothing like this", connection.name);
            return Err(SqlError::new(Code::NotFound, message));
        };
        let purpose = Purpose { effect, statement_timeout: connection.role.max_execution_time };
        let done = with_session(connection, server, purpose, &call.cancelled, work).await;
        done.map_err(|error| error.without(&connection.secrets))
    }
}

/// Works on a SQLite file, off the async threads.
pub(crate) async fn sqlite<T: Send + 'static>(
    connection: &Connection,
    call: &Call,
    effect: Effect,
    work: impl FnOnce(&Lite) -> Result<T> + Send + 'static,
) -> Result<T> {
    let Database::Sqlite(file) = &connection.database else {
        return Err(SqlError::new(Code::NotFound, format!("connection {} leads to PostgreSQL", connection.name)));
    };
    let (file, timeout, cancelled) = (file.clone(), connection.role.max_execution_time, call.cancelled.clone());
    let running = tokio::task::spawn_blocking(move || {
        let lite = Lite::open(&file, effect, timeout, &cancelled)?;
        work(&lite).map_err(|error| interrupted(error, &cancelled))
    });
    running.await.map_err(|e| SqlError::new(Code::Database, format!("SQLite stopped: {e}")))?
}

/// Whether a verdict lets the statement run: an approval is the caller's to have asked for, where the role says so.
pub(crate) fn may_run(decision: &Decision, role: &Role) -> Result<()> {
    match decision.verdict {
        Verdict::Allow => Ok(()),
        Verdict::NeedsApproval if role.approved_by_runtime => Ok(()),
        _ => Err(SqlError::from_decision(decision)),
    }
}

/// How much a tool of ours changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Adds something that another tool takes away again.
    Reversible,
    /// Needs an approval everywhere.
    Grave,
}

/// Whether the role of a connection may change anything with a tool of ours.
pub(crate) fn may_change(connection: &Connection, tool: &str, change: Change) -> Result<()> {
    let role = &connection.role;
    if role.select_only {
        return Err(SqlError::denied("select-only", format!("{tool}: the role is limited to SELECT (SELECT_ONLY)")));
    }
    let production = connection.environment == Environment::Production;
    if production && role.production_writes == ProductionWrites::Deny {
        let message = format!("{tool}: the connection leads to production, which this role only reads");
        return Err(SqlError::denied("production-write", message));
    }
    if (production || change == Change::Grave) && !role.approved_by_runtime {
        let (rule, what) =
            if production { ("production-write", "changes production") } else { ("destructive", "is grave") };
        let message = format!("a person must approve it by rule {rule}: {tool} {what}");
        return Err(SqlError { code: Code::NeedsApproval, rule: Some(rule.to_owned()), message });
    }
    Ok(())
}

/// The table that a call names, if the role may use it.
pub(crate) fn table(connection: &Connection, text: &str) -> Result<Relation> {
    let named = relation(text, &connection.schemas)?;
    if !connection.role.may_use(&named.schema, &named.name) {
        return Err(SqlError::denied("table-list", format!("{named} is not among the role's tables")));
    }
    Ok(named)
}

/// Digest of a text, for logs and as a key.
pub(crate) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes())).chars().take(16).collect()
}

pub(crate) fn parse<A: serde::de::DeserializeOwned>(tool: &str, arguments: Value) -> Result<A> {
    serde_json::from_value(arguments).map_err(|e| SqlError::invalid(format!("arguments of {tool}: {e}")))
}
