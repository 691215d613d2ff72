//! Tools about privileges: what is granted, what the access policy declares, and the exact GRANT and REVOKE.

use rusqlite::params;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::db::EnvDb;
use super::error::{Result, SandboxError};
use super::inspect::OneTable;
use super::registry::{Written, write_args};
use super::world::WorldStore;
use super::{Environment, Parts, etl};

/// What can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Privilege {
    /// Read rows.
    Select,
    /// Add rows.
    Insert,
    /// Change rows.
    Update,
    /// Remove rows.
    Delete,
}

impl Privilege {
    fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// One privilege of one principal.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GrantInfo {
    /// Account.
    pub principal: String,
    /// `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub privilege: String,
}

/// One line of the grant log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GrantChange {
    /// When, in sandbox time.
    pub at: String,
    /// The statement.
    pub statement: String,
    /// Who executed it.
    pub executed_by: String,
}

/// Privileges on one table.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TablePrivileges {
    /// Table.
    pub table: String,
    /// Environment.
    pub environment: Environment,
    /// What is granted now.
    pub granted: Vec<GrantInfo>,
    /// What the access policy declares and is not granted.
    pub missing: Vec<GrantInfo>,
    /// What is granted and not declared.
    pub undeclared: Vec<GrantInfo>,
    /// Recent changes of privileges on the table, latest first.
    pub recent_changes: Vec<GrantChange>,
}

pub(crate) fn table_privileges(parts: &mut Parts, args: OneTable) -> Result<TablePrivileges> {
    let db = parts.db(args.environment);
    super::inspect::definition(db, &args.table)?;
    let pairs = |sql: &str| -> Result<Vec<GrantInfo>> {
        let mut stmt = db.conn.prepare(sql)?;
        let rows =
            stmt.query_map([&args.table], |row| Ok(GrantInfo { principal: row.get(0)?, privilege: row.get(1)? }))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    let of = |first: &str, second: Option<&str>| {
        let base = format!("SELECT principal, privilege FROM {first} WHERE table_name = ?1");
        let except = second.map_or_else(String::new, |s| {
            format!(" EXCEPT SELECT principal, privilege FROM {s} WHERE table_name = ?1")
        });
        pairs(&format!("{base}{except} ORDER BY 1, 2"))
    };
    let (granted, missing) = (of("ops_grants", None)?, of("ops_access_policy", Some("ops_grants"))?);
    let undeclared = of("ops_grants", Some("ops_access_policy"))?;
    let mut stmt = db.conn.prepare(
        "SELECT at, statement, executed_by FROM ops_grant_log WHERE instr(statement, ' ' || ?1 || ' ') > 0 ORDER BY at DESC, rowid DESC LIMIT 10",
    )?;
    let changes = stmt.query_map([&args.table], |row| {
        Ok(GrantChange { at: row.get(0)?, statement: row.get(1)?, executed_by: row.get(2)? })
    })?;
    let recent_changes = changes.collect::<rusqlite::Result<_>>()?;
    Ok(TablePrivileges {
        table: args.table,
        environment: args.environment,
        granted,
        missing,
        undeclared,
        recent_changes,
    })
}

/// Arguments of `grant_privilege` and `revoke_privilege`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePrivilege {
    /// Account, e.g. `etl_writer`.
    pub principal: String,
    /// Table.
    pub table: String,
    /// Exactly one privilege.
    pub privilege: Privilege,
    /// Environment that changes.
    pub environment: Environment,
    /// Same key, same result, executed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
write_args!(ChangePrivilege);

/// What a GRANT or REVOKE did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PrivilegeChanged {
    /// The statement that was executed.
    pub statement: String,
    /// False if it was so before.
    pub changed: bool,
}

pub(crate) fn grant_privilege(
    args: &ChangePrivilege,
    db: &EnvDb,
    _: &mut WorldStore,
) -> Result<Written<PrivilegeChanged>> {
    check_known(args, db)?;
    let privilege = args.privilege.as_str();
    let sql = "INSERT OR IGNORE INTO ops_grants VALUES (?1, ?2, ?3)";
    let changed = db.conn.execute(sql, params![args.principal, args.table, privilege])? > 0;
    let statement = format!("GRANT {privilege} ON {} TO {}", args.table, args.principal);
    log_change(db, &statement, "interlock")?;
    Ok(Written::Done(PrivilegeChanged { statement, changed }))
}

pub(crate) fn revoke_privilege(
    args: &ChangePrivilege,
    db: &EnvDb,
    _: &mut WorldStore,
) -> Result<Written<PrivilegeChanged>> {
    check_known(args, db)?;
    let privilege = args.privilege.as_str();
    let sql = "DELETE FROM ops_grants WHERE principal = ?1 AND table_name = ?2 AND privilege = ?3";
    let changed = db.conn.execute(sql, params![args.principal, args.table, privilege])? > 0;
    let statement = format!("REVOKE {privilege} ON {} FROM {}", args.table, args.principal);
    log_change(db, &statement, "interlock")?;
    Ok(Written::Done(PrivilegeChanged { statement, changed }))
}

/// Notes a change of privileges in the platform's own log.
pub(crate) fn log_change(db: &EnvDb, statement: &str, executed_by: &str) -> Result<()> {
    let at = db.tick(1)?;
    db.conn.execute("INSERT INTO ops_grant_log VALUES (?1, ?2, ?3)", params![at, statement, executed_by])?;
    Ok(())
}

fn check_known(args: &ChangePrivilege, db: &EnvDb) -> Result<()> {
    super::inspect::definition(db, &args.table)?;
    let known = etl::count(&db.conn, "SELECT count(*) FROM ops_access_policy WHERE principal = ?1", &args.principal)?;
    if known == 0 {
        return Err(SandboxError::not_found(format!(
            "no account {:?}; known are etl_writer and reporting",
            args.principal
        )));
    }
    Ok(())
}
