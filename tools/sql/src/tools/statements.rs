//! The tools that take a statement: `query`, `execute`, `explain`. Guard first, then wall.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Transaction;

use super::{App, Call, digest, may_run, sqlite};
use crate::config::{Connection, Database};
use crate::error::{Result, SqlError};
use crate::guard::{self, Decision, Effect, Facts, Verdict};
use crate::wall::postgres::{Ran, facts, run};
use crate::wall::sqlite::Lite;
use crate::wall::{Limits, Rows};

/// Arguments of `query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Name of a connection.
    pub connection: String,
    /// One reading statement.
    pub sql: String,
    /// At most this many rows; the role's own limit if absent.
    pub max_rows: Option<usize>,
}

/// Arguments of `execute`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execute {
    /// Name of a connection.
    pub connection: String,
    /// One statement.
    pub sql: String,
}

/// Arguments of `explain`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Name of a connection.
    pub connection: String,
    /// The statement whose plan is wanted; it is not executed.
    pub sql: String,
}

/// What `execute` did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Executed {
    /// What the statement does.
    pub effect: Effect,
    /// The guard's verdict.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: String,
    /// Rows it changed; absent where it returns rows.
    pub affected: Option<u64>,
    /// Rows it returned.
    #[serde(flatten)]
    pub rows: Rows,
}

/// A plan.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plan {
    /// The guard's verdict on the statement itself.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// The plan, one line after the other.
    pub plan: Vec<String>,
}

/// A statement on its way to a database.
struct Statement<'a> {
    app: &'a App,
    connection: &'a Connection,
    call: &'a Call,
    sql: &'a str,
    limits: Limits,
    /// What it may do at most, whatever the role says.
    most: Effect,
}

/// Runs one reading statement.
///
/// # Errors
/// What the guard denies, and what the database reports.
pub async fn query(app: &App, args: Query, call: &Call) -> Result<Rows> {
    let connection = app.connection(&args.connection)?;
    let limits = Limits::of(&connection.role, args.max_rows);
    let (_, ran) = Statement { app, connection, call, sql: &args.sql, limits, most: Effect::Reads }.guarded().await?;
    Ok(ran.rows)
}

/// Runs one statement that may write.
///
/// # Errors
/// What the guard denies or wants approved, and what the database reports.
pub async fn execute(app: &App, args: Execute, call: &Call) -> Result<Executed> {
    let connection = app.connection(&args.connection)?;
    let limits = Limits::of(&connection.role, None);
    let statement = Statement { app, connection, call, sql: &args.sql, limits, most: Effect::Writes };
    let (Decision { verdict, rule, effect, .. }, ran) = statement.guarded().await?;
    Ok(Executed { effect, verdict, rule: rule.to_owned(), affected: ran.affected, rows: ran.rows })
}

impl Statement<'_> {
    /// Judges, opens a transaction of the right kind, judges again with what the catalog knows, runs.
    async fn guarded(&self) -> Result<(Decision, Ran)> {
        let outcome = match self.connection.database {
            Database::Postgres(_) => self.on_postgres().await,
            Database::Sqlite(_) => self.on_sqlite().await,
        };
        let (verdict, rule) = match &outcome {
            Ok((decision, _)) => (decision.verdict.as_str(), decision.rule),
            Err(error) => (error.code.as_str(), error.rule.as_deref().unwrap_or("")),
        };
        tracing::info!(connection = self.connection.name, statement = digest(self.sql), verdict, rule, "statement");
        outcome
    }

    fn is_within(&self, effect: Effect) -> Result<()> {
        if effect > self.most {
            return Err(SqlError::denied("read-tool", "this tool only reads; a statement that writes goes to execute"));
        }
        Ok(())
    }

    async fn on_postgres(&self) -> Result<(Decision, Ran)> {
        let Connection { role, environment, schemas, .. } = self.connection;
        let first = guard::judge(self.sql, role, *environment, &without_catalog(self.connection));
        // Where an unqualified name leads is known only with the catalog.
        if first.verdict == Verdict::Deny && first.rule != "table-list" {
            return Err(SqlError::from_decision(&first));
        }
        self.is_within(first.effect)?;
        let named = guard::relations_of(self.sql);
        let work = async |transaction: &Transaction<'_>| {
            let facts = facts(transaction, schemas, &named).await?;
            let decision = guard::judge(self.sql, role, *environment, &facts);
            may_run(&decision, role)?;
            if decision.effect != first.effect {
                return Err(SqlError::denied(
                    "unknown-node",
                    "the guard could not make up its mind about the statement",
                ));
            }
            Ok((decision, run(transaction, self.sql, self.limits).await?))
        };
        self.app.postgres(self.connection, self.call, first.effect, work).await
    }

    /// The compiler's report, and the verdict on it.
    async fn reported(&self) -> Result<Decision> {
        let Connection { role, environment, .. } = self.connection;
        let (text, role, environment) = (self.sql.to_owned(), role.clone(), *environment);
        let work = move |lite: &Lite| Ok(guard::sqlite::judge(&lite.report(&text)?, &role, environment));
        sqlite(self.connection, self.call, Effect::Reads, work).await
    }

    async fn on_sqlite(&self) -> Result<(Decision, Ran)> {
        let decision = self.reported().await?;
        may_run(&decision, &self.connection.role)?;
        self.is_within(decision.effect)?;
        let (text, limits) = (self.sql.to_owned(), self.limits);
        let work = move |lite: &Lite| lite.run(&text, limits);
        let (rows, changed) = sqlite(self.connection, self.call, decision.effect, work).await?;
        let affected = (decision.effect == Effect::Writes).then_some(changed);
        Ok((decision, Ran { rows, affected }))
    }
}

fn without_catalog(connection: &Connection) -> Facts {
    Facts { search_path: connection.schemas.clone(), ..Facts::default() }
}

/// The plan of a statement, and what the guard says of the statement itself.
///
/// # Errors
/// What the guard denies of the EXPLAIN, and what the database reports.
pub async fn explain(app: &App, args: Explain, call: &Call) -> Result<Plan> {
    let connection = app.connection(&args.connection)?;
    let limits = Limits::of(&connection.role, None);
    let statement = |sql| Statement { app, connection, call, sql, limits, most: Effect::Reads };
    let (prefix, judged) = match connection.database {
        Database::Postgres(_) => {
            let role = &connection.role;
            ("EXPLAIN", guard::judge(&args.sql, role, connection.environment, &without_catalog(connection)))
        }
        Database::Sqlite(_) => ("EXPLAIN QUERY PLAN", statement(args.sql.as_str()).reported().await?),
    };
    let explained = format!("{prefix} {}", args.sql);
    let (_, planned) = statement(explained.as_str()).guarded().await?;
    let line = |row: &serde_json::Map<String, Value>| {
        row.get("QUERY PLAN").or_else(|| row.get("detail")).and_then(Value::as_str).map(str::to_owned)
    };
    let plan = planned.rows.rows.iter().filter_map(line).collect();
    Ok(Plan { verdict: judged.verdict, rule: judged.rule.to_owned(), reason: judged.reason, plan })
}
