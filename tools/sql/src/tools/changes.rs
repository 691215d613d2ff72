//! Exactly one privilege: `grant_privilege` and `revoke_privilege`. Statements that name privileges are never run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{App, Call, Change, may_change, table};
use crate::config::quoted;
use crate::error::{Result, SqlError};
use crate::guard::{Effect, Environment};

/// A privilege on a table that an agent may pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Privilege {
    /// Read.
    Select,
    /// Add rows.
    Insert,
    /// Change rows.
    Update,
    /// Delete rows.
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

/// Arguments of `grant_privilege` and `revoke_privilege`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivilegeArgs {
    /// Name of a connection.
    pub connection: String,
    /// `schema.table`.
    pub table: String,
    /// The one privilege.
    pub privilege: Privilege,
    /// Account that gets or loses it; never everyone.
    pub grantee: String,
}

/// State of a privilege.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PrivilegeState {
    /// Schema and name.
    pub table: String,
    /// The privilege.
    pub privilege: Privilege,
    /// The account.
    pub grantee: String,
    /// Where the connection leads.
    pub environment: Environment,
    /// Whether the account had it directly before.
    pub before: bool,
    /// Whether it has it now.
    pub now: bool,
}

/// Grants one privilege.
///
/// # Errors
/// What the role may not, and what the database refuses.
pub async fn grant_privilege(app: &App, args: PrivilegeArgs, call: &Call) -> Result<PrivilegeState> {
    change(app, args, call, "grant_privilege").await
}

/// Revokes one privilege.
///
/// # Errors
/// What the role may not, and what the database refuses.
pub async fn revoke_privilege(app: &App, args: PrivilegeArgs, call: &Call) -> Result<PrivilegeState> {
    change(app, args, call, "revoke_privilege").await
}

async fn change(app: &App, args: PrivilegeArgs, call: &Call, tool: &'static str) -> Result<PrivilegeState> {
    let connection = app.connection(&args.connection)?;
    may_change(connection, tool, Change::Grave)?;
    let named = table(connection, &args.table)?;
    if args.grantee.is_empty() || args.grantee.len() > 63 || args.grantee.contains('\0') {
        return Err(SqlError::invalid("the grantee is the name of one account"));
    }
    let (verb, to) = if tool == "grant_privilege" { ("GRANT", "TO") } else { ("REVOKE", "FROM") };
    let grantee = quoted(&args.grantee);
    let statement = format!("{verb} {} ON TABLE {} {to} {grantee}", args.privilege.as_str(), named.quoted());
    let has = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, \
               LATERAL pg_catalog.aclexplode(c.relacl) x JOIN pg_catalog.pg_roles r ON r.oid = x.grantee \
               WHERE n.nspname = $1 AND c.relname = $2 AND x.privilege_type = $3 AND r.rolname = $4)";
    app.postgres(connection, call, Effect::Writes, async |t| {
        let asked: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&named.schema, &named.name, &args.privilege.as_str(), &args.grantee];
        let before = t.query_one(has, &asked).await?.get(0);
        t.execute(&statement, &[]).await?;
        let now = t.query_one(has, &asked).await?.get(0);
        if now != (verb == "GRANT") {
            let message = format!("{statement} changed nothing: the account of this connection cannot grant it");
            return Err(SqlError::new(crate::error::Code::Permission, message));
        }
        Ok(PrivilegeState {
            table: named.to_string(),
            privilege: args.privilege,
            grantee: args.grantee.clone(),
            environment: connection.environment,
            before,
            now,
        })
    })
    .await
}
