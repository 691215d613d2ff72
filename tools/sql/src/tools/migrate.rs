//! Migrations: a script up, a script down, and proof that down undoes up before anything is kept.
//!
//! Both scripts are split and judged statement by statement. Up, down and up again run in one transaction: if the shape and the
//! small tables after down are not what they were, nothing is kept. The migration is remembered under its name, so that a
//! repeat is a no-op; see [`super::ledger`] for where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_postgres::Transaction;

use super::ledger::{Entry, Ledger, Progress};
use super::{App, Call, Change, digest, may_change};
use crate::config::{Connection, quoted};
use crate::error::{Code, Result, SqlError};
use crate::guard::{self, Effect, Environment, Facts, RelationName, Verdict};
use crate::wall::postgres::facts;

/// Longest name.
const NAME_BYTES_MAX: usize = 120;
/// Most statements of a script.
const STATEMENTS_MAX: usize = 100;
/// Tables of more rows are compared by shape only.
const COMPARED_ROWS_MAX: u64 = 10_000;

/// Arguments of `apply_migration`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyMigration {
    /// Name of a connection.
    pub connection: String,
    /// Name, unique on the connection; also what makes a repeat a no-op.
    pub name: String,
    /// Script that makes the change.
    pub up: String,
    /// Script that undoes it exactly.
    pub down: String,
}

/// Arguments of `revert_migration`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertMigration {
    /// Name of a connection.
    pub connection: String,
    /// Name of an applied migration.
    pub name: String,
}

/// State of a migration.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MigrationState {
    /// Name.
    pub name: String,
    /// Where the connection leads.
    pub environment: Environment,
    /// `applied` or `reverted`.
    pub state: String,
    /// Whether this call changed it; false for a repeat.
    pub changed: bool,
    /// Digest of the scripts.
    pub digest: String,
}

/// A script that was judged.
struct Script {
    statements: Vec<String>,
}

/// Where migrations go, if the role may.
fn ledger<'a>(connection: &'a Connection, name: &str, tool: &str) -> Result<Ledger<'a>> {
    may_change(connection, tool, Change::Grave)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(SqlError::invalid(format!("a migration's name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ledger::of(connection)
}

/// Splits a script and judges each statement. An approval of the migration covers all of it; what is denied stays denied.
fn judged(connection: &Connection, which: &str, script: &str, facts: &Facts) -> Result<Script> {
    let about = |error: SqlError| SqlError { message: format!("{which} script: {}", error.message), ..error };
    let statements = guard::split_script(script).map_err(|d| about(SqlError::from_decision(&d)))?;
    if statements.is_empty() || statements.len() > STATEMENTS_MAX {
        return Err(SqlError::invalid(format!("the {which} script has no statement, or more than {STATEMENTS_MAX}")));
    }
    for statement in &statements {
        let decision = guard::judge(statement, &connection.role, connection.environment, facts);
        if decision.verdict == Verdict::Deny {
            return Err(about(SqlError::from_decision(&decision)));
        }
    }
    Ok(Script { statements })
}

fn relations(scripts: [&str; 2]) -> Vec<RelationName> {
    let statements = scripts.into_iter().filter_map(|s| guard::split_script(s).ok()).flatten();
    let mut named: Vec<RelationName> = statements.flat_map(|s| guard::relations_of(&s)).collect();
    named.sort();
    named.dedup();
    named
}

/// Applies a migration after proving that its down script undoes it.
///
/// # Errors
/// What the guard denies, scripts that do not undo each other, another migration of the same name.
pub async fn apply_migration(app: &App, args: ApplyMigration, call: &Call) -> Result<MigrationState> {
    let connection = app.connection(&args.connection)?;
    let ledger = ledger(connection, &args.name, "apply_migration")?;
    let named = relations([&args.up, &args.down]);
    let scripts = digest(&format!("{}\0{}", args.up, args.down));
    let entry = |progress| Entry { digest: scripts.clone(), up: args.up.clone(), down: args.down.clone(), progress };
    let state = |changed| state(connection, &args.name, "applied", changed, &scripts);
    let done = app.postgres(connection, call, Effect::Writes, async |t| {
        let facts = facts(t, &connection.schemas, &named).await?;
        let up = judged(connection, "up", &args.up, &facts)?;
        let down = judged(connection, "down", &args.down, &facts)?;
        let known = ledger.find(t, &args.name).await?;
        if let Some(Entry { digest, progress: Progress::Applied, .. }) = &known {
            if *digest == scripts {
                return Ok(state(false));
            }
            let message =
                format!("migration {:?} is applied already with other scripts; choose another name", args.name);
            return Err(SqlError::new(Code::Conflict, message));
        }
        // An attempt whose end nobody saw: what up would change tells whether it was made.
        let in_doubt = known.is_some_and(|entry| entry.progress == Progress::Started);
        if rehearse(t, connection, &facts, [&up, &down], in_doubt).await? == Rehearsal::AlreadyThere {
            return Ok(state(false));
        }
        ledger.begin(t, &args.name, &entry(Progress::Applied)).await?;
        run_script(t, "up", &up).await?;
        Ok(state(true))
    });
    let done = done.await?;
    ledger.end(&args.name, &entry(Progress::Applied))?;
    Ok(done)
}

fn state(connection: &Connection, name: &str, state: &str, changed: bool, digest: &str) -> MigrationState {
    MigrationState {
        name: name.to_owned(),
        environment: connection.environment,
        state: state.to_owned(),
        changed,
        digest: digest.to_owned(),
    }
}

/// Runs the stored down script of an applied migration.
///
/// # Errors
/// If it is not applied, or the script does not run any more.
pub async fn revert_migration(app: &App, args: RevertMigration, call: &Call) -> Result<MigrationState> {
    let connection = app.connection(&args.connection)?;
    let ledger = ledger(connection, &args.name, "revert_migration")?;
    let done = app.postgres(connection, call, Effect::Writes, async |t| {
        let found = ledger.find(t, &args.name).await?;
        let entry = found.ok_or_else(|| {
            SqlError::not_found(format!("no migration {:?} on connection {}", args.name, connection.name))
        })?;
        let applied = entry.progress != Progress::Reverted;
        if applied {
            let facts = facts(t, &connection.schemas, &relations([&entry.down, ""])).await?;
            let down = judged(connection, "down", &entry.down, &facts)?;
            ledger.begin(t, &args.name, &Entry { progress: Progress::Reverted, ..entry.clone() }).await?;
            run_script(t, "down", &down).await?;
        }
        Ok((state(connection, &args.name, "reverted", applied, &entry.digest), entry))
    });
    let (done, entry) = done.await?;
    ledger.end(&args.name, &Entry { progress: Progress::Reverted, ..entry })?;
    Ok(done)
}

/// What a rehearsal showed.
#[derive(Debug, PartialEq, Eq)]
enum Rehearsal {
    /// Down undoes up.
    Fits,
    /// Up changes nothing, because an earlier attempt made the change.
    AlreadyThere,
}

async fn rehearse(
    transaction: &Transaction<'_>,
    connection: &Connection,
    facts: &Facts,
    [up, down]: [&Script; 2],
    in_doubt: bool,
) -> Result<Rehearsal> {
    transaction.execute("SAVEPOINT interlock_rehearsal", &[]).await?;
    let before = state_of(transaction, connection, facts).await?;
    run_script(transaction, "up", up).await?;
    let middle = state_of(transaction, connection, facts).await?;
    run_script(transaction, "down", down).await?;
    let after = state_of(transaction, connection, facts).await?;
    transaction.execute("ROLLBACK TO SAVEPOINT interlock_rehearsal", &[]).await?;
    if middle == before && in_doubt {
        return Ok(Rehearsal::AlreadyThere);
    }
    if middle == before {
        return Err(SqlError::invalid(
            "the up script changes nothing that can be seen; check the names in its WHERE clauses",
        ));
    }
    if after != before {
        return Err(SqlError::invalid("the down script does not undo the up script; nothing was applied"));
    }
    Ok(Rehearsal::Fits)
}

async fn run_script(transaction: &Transaction<'_>, which: &str, script: &Script) -> Result<()> {
    for (at, statement) in script.statements.iter().enumerate() {
        transaction.execute(statement.as_str(), &[]).await.map_err(|error| {
            let error = SqlError::from(error);
            SqlError { message: format!("{which} script, statement {}: {}", at + 1, error.message), ..error }
        })?;
    }
    Ok(())
}

/// Digest of the shapes in the connection's schemas, and of the rows of the small tables that the scripts name.
async fn state_of(transaction: &Transaction<'_>, connection: &Connection, facts: &Facts) -> Result<String> {
    let shapes = "SELECT coalesce(string_agg(line, E'\\n' ORDER BY line), '') FROM ( \
                    SELECT concat_ws(' ', 'c', n.nspname, c.relname, c.relkind, c.relacl::text, a.attname, \
                      pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                      pg_catalog.pg_get_expr(d.adbin, d.adrelid)) AS line \
                    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
                    WHERE n.nspname::text = ANY($1) \
                    UNION ALL SELECT concat_ws(' ', 'k', x.conrelid::regclass, x.conname, pg_catalog.pg_get_constraintdef(x.oid)) \
                    FROM pg_catalog.pg_constraint x JOIN pg_catalog.pg_namespace n ON n.oid = x.connamespace \
                    WHERE n.nspname::text = ANY($1) \
                    UNION ALL SELECT concat_ws(' ', 'v', v.schemaname, v.viewname, v.definition) \
                    FROM pg_catalog.pg_views v WHERE v.schemaname::text = ANY($1)) lines";
    let text: String = transaction.query_one(shapes, &[&connection.schemas]).await?.get(0);
    let mut hasher = Sha256::new_with_prefix(text);
    for ((schema, table), known) in &facts.relations {
        let small = known.rows.is_some_and(|rows| rows <= COMPARED_ROWS_MAX);
        let exists = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = $2";
        if small && transaction.query_opt(exists, &[schema, table]).await?.is_some() {
            let named = format!("{}.{}", quoted(schema), quoted(table));
            let rows = format!("SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') FROM {named} r");
            hasher.update(transaction.query_one(&rows, &[]).await?.get::<_, String>(0));
        }
    }
    Ok(hex::encode(hasher.finalize()))
}
