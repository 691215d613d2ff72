//! Migrations: a script up, a script down, and proof that down undoes up before anything is kept.

use rusqlite::{OptionalExtension, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Environment;
use super::db::EnvDb;
use super::error::{Code, Result, SandboxError};
use super::registry::{Written, write_args};
use super::verify;
use super::world::WorldStore;

/// Longest script.
const SCRIPT_BYTES_MAX: usize = 16 * 1024;
/// Longest name.
const NAME_BYTES_MAX: usize = 120;

/// Arguments of `apply_migration`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyMigration {
    /// Name, unique within the environment, e.g. `0001_departure_delay`.
    pub name: String,
    /// SQL script that makes the change; may hold several statements, no transaction control.
    pub up: String,
    /// SQL script that undoes it exactly; checked before anything is kept.
    pub down: String,
    /// Environment that changes.
    pub environment: Environment,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(ApplyMigration);

/// Arguments of `revert_migration`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertMigration {
    /// Name of an applied migration.
    pub name: String,
    /// Environment that changes.
    pub environment: Environment,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(RevertMigration);

/// State of a migration.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MigrationState {
    /// Name.
    pub name: String,
    /// Environment.
    pub environment: Environment,
    /// `applied` or `reverted`.
    pub state: String,
    /// Digest of the shapes and maps that a migration can change.
    pub schema_digest: String,
}

pub(crate) fn apply_migration(
    args: &ApplyMigration,
    db: &EnvDb,
    _: &mut WorldStore,
) -> Result<Written<MigrationState>> {
    check_sizes(args)?;
    if find(db, &args.name)?.is_some_and(|(_, state)| state == "applied") {
        return Err(SandboxError::conflict(format!(
            "migration {:?} is applied already in {}",
            args.name, db.environment
        )));
    }
    let before = schema_digest(db)?;
    rehearse(args, db, &before)?;
    run_script(db, "up", &args.up)?;
    let at = db.tick(2)?;
    db.conn.execute(
        "INSERT OR REPLACE INTO ops_migrations VALUES (?1, ?2, ?3, 'applied', ?4)",
        params![args.name, args.up, args.down, at],
    )?;
    state(db, &args.name, "applied")
}

pub(crate) fn revert_migration(
    args: &RevertMigration,
    db: &EnvDb,
    _: &mut WorldStore,
) -> Result<Written<MigrationState>> {
    let found = find(db, &args.name)?;
    let Some((down, _)) = found.filter(|(_, state)| state == "applied") else {
        return Err(SandboxError::not_found(format!("no applied migration {:?} in {}", args.name, db.environment)));
    };
    run_script(db, "down", &down)?;
    let at = db.tick(2)?;
    db.conn.execute("UPDATE ops_migrations SET state = 'reverted', at = ?2 WHERE name = ?1", params![args.name, at])?;
    state(db, &args.name, "reverted")
}

fn check_sizes(args: &ApplyMigration) -> Result<()> {
    if args.name.is_empty() || args.name.len() > NAME_BYTES_MAX {
        return Err(SandboxError::invalid(format!("a migration's name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    for (which, script) in [("up", &args.up), ("down", &args.down)] {
        if script.trim().is_empty() {
            return Err(SandboxError::invalid(format!("the {which} script is empty; a migration must say both ways")));
        }
        if script.len() > SCRIPT_BYTES_MAX {
            return Err(SandboxError::new(
                Code::LimitExceeded,
                format!("the {which} script is longer than {SCRIPT_BYTES_MAX} bytes"),
            ));
        }
    }
    Ok(())
}

/// Runs up and down in a savepoint that is always rolled back.
fn rehearse(args: &ApplyMigration, db: &EnvDb, before: &str) -> Result<()> {
    db.conn.execute_batch("SAVEPOINT rehearsal")?;
    let outcome = run_script(db, "up", &args.up).and_then(|()| schema_digest(db)).and_then(|middle| {
        run_script(db, "down", &args.down)?;
        Ok((middle, schema_digest(db)?))
    });
    db.conn.execute_batch("ROLLBACK TO rehearsal; RELEASE rehearsal")?;
    let (middle, after) = outcome?;
    if middle == before {
        return Err(SandboxError::invalid("the up script changes nothing; check the names in its WHERE clause"));
    }
    if after != before {
        return Err(SandboxError::invalid("the down script does not undo the up script; nothing was applied"));
    }
    Ok(())
}

fn run_script(db: &EnvDb, which: &str, script: &str) -> Result<()> {
    db.as_migration(|conn| Ok(conn.execute_batch(script)?))
        .map_err(|e| SandboxError::new(e.code, format!("{which} script: {}", e.message)))
}

fn find(db: &EnvDb, name: &str) -> Result<Option<(String, String)>> {
    let sql = "SELECT down, state FROM ops_migrations WHERE name = ?1";
    Ok(db.conn.query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

fn state(db: &EnvDb, name: &str, state: &str) -> Result<Written<MigrationState>> {
    Ok(Written::Done(MigrationState {
        name: name.to_owned(),
        environment: db.environment,
        state: state.to_owned(),
        schema_digest: schema_digest(db)?,
    }))
}

/// Digest of everything that a migration can change.
fn schema_digest(db: &EnvDb) -> Result<String> {
    let mut hasher = Sha256::new();
    for sql in [
        "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2",
        "SELECT * FROM ops_column_map ORDER BY 1, 2",
        "SELECT * FROM ops_contract ORDER BY 1, 2",
    ] {
        hasher.update(verify::digest(&db.conn, sql, &[])?);
    }
    Ok(hex::encode(hasher.finalize()).chars().take(16).collect())
}
