//! The configuration: named connections, each with its database, role and environment.
//!
//! ```yaml
//! roles:
//!   data_analyst:
//!     limits: [SELECT_ONLY, MAX_ROWS_10000, MAX_EXECUTION_TIME_30s]
//!     tables: [dw.*, stg.*]
//! connections:
//!   warehouse_ro:
//!     dsn_env: WAREHOUSE_RO_DSN
//!     sslmode: verify-full
//!     sslrootcert: warehouse-ca.pem
//!     role: data_analyst
//!     environment: production
//!     schemas: [dw, stg]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use tokio_postgres::config::SslMode;

use crate::error::{Result, SqlError};
use crate::guard::{Environment, Role, RoleSpec};
use crate::wall::tls::{Protection, Tls};

/// Largest configuration file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most connections of one server.
const CONNECTIONS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    roles: BTreeMap<String, RoleSpec>,
    connections: BTreeMap<String, ConnectionSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionSpec {
    /// Name of the environment variable with the address of a PostgreSQL database.
    #[serde(default)]
    dsn_env: Option<String>,
    /// How the connection is protected; `prefer` where neither this nor the address says more.
    #[serde(default)]
    sslmode: Option<Protection>,
    /// File with the authorities that `verify-ca` and `verify-full` trust, relative to the configuration.
    #[serde(default)]
    sslrootcert: Option<PathBuf>,
    /// File of a SQLite database, relative to the configuration.
    #[serde(default)]
    sqlite: Option<PathBuf>,
    role: String,
    environment: Environment,
    #[serde(default)]
    schemas: Vec<String>,
    #[serde(default)]
    quarantine: Option<String>,
    #[serde(default)]
    migrations: Option<String>,
    #[serde(default)]
    migrations_file: Option<PathBuf>,
}

/// Where the rows are.
#[derive(Debug, Clone)]
pub enum Database {
    /// A PostgreSQL server.
    Postgres(Box<Postgres>),
    /// A SQLite file.
    Sqlite(PathBuf),
}

/// A PostgreSQL server and how it is reached.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Address and account.
    pub config: tokio_postgres::Config,
    /// Protection on the way.
    pub tls: Tls,
}

/// A relation by schema and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Schema.
    pub schema: String,
    /// Name in it.
    pub name: String,
}

impl Relation {
    /// The relation as SQL writes it, quoted.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A name as SQL writes it, whatever is in it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its name in calls.
    pub name: String,
    /// Where it leads.
    pub database: Database,
    /// Name of its role.
    pub role_name: String,
    /// What its role may do.
    pub role: Role,
    /// What it is; a call cannot choose another one.
    pub environment: Environment,
    /// Schemas in which unqualified names are looked up, in order.
    pub schemas: Vec<String>,
    /// Table that extract tasks skip records by.
    pub quarantine: Option<Relation>,
    /// Table that remembers migrations.
    pub migrations: Option<Relation>,
    /// File that remembers them where nothing may be added to the database.
    pub migrations_file: Option<PathBuf>,
    /// What never appears in an answer.
    pub(crate) secrets: Vec<String>,
}

/// All connections.
#[derive(Debug, Clone)]
pub struct Config {
    /// By name.
    pub connections: BTreeMap<String, Connection>,
    roles: BTreeMap<String, Role>,
}

impl Config {
    /// Reads a configuration file; addresses come from the environment variables it names.
    ///
    /// # Errors
    /// A sentence that names the file and the entry.
    pub fn load(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, dir, &|name| std::env::var(name).ok())
            .map_err(|e| SqlError::invalid(format!("{}: {e}", path.display())))
    }

    /// Reads only the roles of a configuration file: for judging statements where no database can be reached.
    ///
    /// # Errors
    /// A sentence that names the file and the entry.
    pub fn roles_of(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let file: File =
            serde_saphyr::from_str(&text).map_err(|e| SqlError::invalid(format!("{}: {e}", path.display())))?;
        Ok(Self { connections: BTreeMap::new(), roles: roles(&file.roles)? })
    }

    /// Reads a configuration; `variable` answers for the environment.
    ///
    /// # Errors
    /// A sentence that names the entry.
    pub fn parse(text: &str, dir: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| SqlError::invalid(e.to_string()))?;
        if file.connections.len() > CONNECTIONS_MAX {
            return Err(SqlError::invalid(format!("more than {CONNECTIONS_MAX} connections")));
        }
        let roles = roles(&file.roles)?;
        let mut connections = BTreeMap::new();
        for (name, spec) in file.connections {
            let made = connection(&name, spec, &roles, dir, variable);
            let made = made.map_err(|e| SqlError::invalid(format!("connection {name}: {e}")))?;
            connections.insert(name, made);
        }
        Ok(Self { connections, roles })
    }

    /// A role by name.
    ///
    /// # Errors
    /// If there is none.
    pub fn role(&self, name: &str) -> Result<&Role> {
        let known = || self.roles.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.roles.get(name).ok_or_else(|| SqlError::not_found(format!("no role {name:?}; there are {}", known())))
    }

    /// The connection that a call names.
    pub(crate) fn connection(&self, name: &str) -> Result<&Connection> {
        let known = || self.connections.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let found = self.connections.get(name);
        found.ok_or_else(|| SqlError::not_found(format!("no connection {name:?}; there are {}", known())))
    }
}

fn read(path: &Path) -> Result<String> {
    let fail = |e: std::io::Error| SqlError::invalid(format!("{}: {e}", path.display()));
    if std::fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
        return Err(SqlError::invalid(format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display())));
    }
    std::fs::read_to_string(path).map_err(fail)
}

fn roles(specs: &BTreeMap<String, RoleSpec>) -> Result<BTreeMap<String, Role>> {
    let checked = |(name, spec): (&String, &RoleSpec)| {
        let role = Role::new(spec).map_err(|e| SqlError::invalid(format!("role {name}: {e}")))?;
        Ok((name.clone(), role))
    };
    specs.iter().map(checked).collect()
}

fn connection(
    name: &str,
    spec: ConnectionSpec,
    roles: &BTreeMap<String, Role>,
    dir: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Connection> {
    let role = roles.get(&spec.role).cloned();
    let role = role.ok_or_else(|| SqlError::invalid(format!("no role {:?} in this file", spec.role)))?;
    let mut secrets = Vec::new();
    let (database, schemas) = match (&spec.dsn_env, &spec.sqlite) {
        (Some(env), None) => {
            let dsn = variable(env).ok_or_else(|| SqlError::invalid(format!("the environment has no {env}")))?;
            let server = postgres(env, &dsn, (spec.sslmode, spec.sslrootcert.map(|file| dir.join(file))))?;
            secrets.extend(server.config.get_password().map(|p| String::from_utf8_lossy(p).into_owned()));
            secrets.push(dsn);
            let schemas = if spec.schemas.is_empty() { vec!["public".to_owned()] } else { spec.schemas };
            (Database::Postgres(Box::new(server)), schemas)
        }
        (None, Some(_)) if spec.sslmode.is_some() || spec.sslrootcert.is_some() => {
            return Err(SqlError::invalid(
                "sslmode and sslrootcert are for PostgreSQL; a SQLite file is not reached by a network",
            ));
        }
        (None, Some(file)) => (Database::Sqlite(dir.join(file)), vec!["main".to_owned()]),
        _ => return Err(SqlError::invalid("give either dsn_env or sqlite")),
    };
    let own = |text: &Option<String>| text.as_deref().map(|t| relation(t, &schemas)).transpose();
    Ok(Connection {
        name: name.to_owned(),
        quarantine: own(&spec.quarantine)?,
        migrations: own(&spec.migrations)?,
        migrations_file: spec.migrations_file.map(|file| dir.join(file)),
        database,
        role_name: spec.role,
        role,
        environment: spec.environment,
        schemas,
        secrets,
    })
}

/// The server at an address. What the entry says of its protection replaces what the address says.
fn postgres(env: &str, dsn: &str, (mode, authorities): (Option<Protection>, Option<PathBuf>)) -> Result<Postgres> {
    // The parser's message may quote the address, password and all.
    let mut config = tokio_postgres::Config::from_str(dsn).map_err(|_| {
        let advice = if dsn.contains("sslmode=verify") || dsn.contains("sslrootcert") {
            "; write sslmode and sslrootcert beside dsn_env instead of into the address"
        } else {
            ""
        };
        SqlError::invalid(format!("{env} is no address of a PostgreSQL database{advice}"))
    })?;
    let protection = mode.unwrap_or(match config.get_ssl_mode() {
        SslMode::Disable => Protection::Disable,
        SslMode::Require => Protection::Require,
        _ => Protection::Prefer,
    });
    config.ssl_mode(protection.ssl_mode());
    Ok(Postgres { config, tls: Tls::new(protection, authorities.as_deref())? })
}

/// A relation as a person writes it: `schema.name`, or a name in the first schema.
pub(crate) fn relation(text: &str, schemas: &[String]) -> Result<Relation> {
    let bad = || SqlError::invalid(format!("{text:?} is no name of a table; write it as schema.table"));
    let (schema, name) = match text.split_once('.') {
        Some(parts) => parts,
        None => (schemas.first().map(String::as_str).ok_or_else(bad)?, text),
    };
    let fine = |part: &str| !part.is_empty() && part.len() <= 63 && !part.contains(['.', '"', '\0']);
    if !fine(schema) || !fine(name) {
        return Err(bad());
    }
    Ok(Relation { schema: schema.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: &str = "roles: {reader: {limits: [SELECT_ONLY], tables: [dw.*]}}\n";

    fn parse(connection: &str) -> Result<Config> {
        let text = format!("{ROLES}connections: {{warehouse: {connection}}}\n");
        let variable = |name: &str| match name {
            "DSN" => Some("postgresql://agent:s3cret-word@db/warehouse".to_owned()),
            "FULL" => Some("postgresql://agent:s3cret-word@db/warehouse?sslmode=verify-full".to_owned()),
            _ => None,
        };
        Config::parse(&text, Path::new("."), &variable)
    }

    #[test]
    fn a_connection_has_its_role_environment_and_schemas() {
        let config = parse("{dsn_env: DSN, role: reader, environment: production, schemas: [dw, stg]}").unwrap();
        let warehouse = config.connection("warehouse").unwrap();
        assert_eq!((warehouse.environment, warehouse.schemas.len()), (Environment::Production, 2));
        assert!(warehouse.role.select_only && warehouse.secrets.contains(&"s3cret-word".to_owned()));
        let error = SqlError::invalid("password s3cret-word is wrong").without(&warehouse.secrets);
        assert_eq!(error.message, "password [redacted] is wrong");
        assert!(config.connection("other").unwrap_err().message.contains("there are warehouse"));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (connection, expected) in [
            ("{dsn_env: NONE, role: reader, environment: staging}", "the environment has no NONE"),
            ("{role: reader, environment: staging}", "give either dsn_env or sqlite"),
            ("{dsn_env: DSN, sqlite: x.db, role: reader, environment: staging}", "give either dsn_env or sqlite"),
            ("{dsn_env: DSN, role: writer, environment: staging}", "no role \"writer\""),
            ("{dsn_env: DSN, role: reader, environment: test}", "test"),
            ("{dsn_env: DSN, role: reader, environment: staging, quarantine: a.b.c}", "a.b.c"),
            ("{dsn_env: DSN, role: reader, environment: staging, password: x}", "password"),
            ("{dsn_env: FULL, role: reader, environment: staging}", "sslmode and sslrootcert beside dsn_env"),
            ("{dsn_env: DSN, role: reader, environment: staging, sslrootcert: ca.pem}", "verify-full"),
            ("{dsn_env: DSN, role: reader, environment: staging, sslmode: allow}", "allow"),
            ("{dsn_env: DSN, role: reader, environment: staging, sslmode: verify-full, sslrootcert: no.pem}", "no.pem"),
            ("{sqlite: x.db, role: reader, environment: staging, sslmode: require}", "are for PostgreSQL"),
        ] {
            let error = parse(connection).unwrap_err().message;
            assert!(error.contains(expected) && !error.contains("s3cret"), "{connection}: {error}");
        }
    }

    #[test]
    fn the_example_is_a_configuration() {
        let dsn = |_: &str| Some("host=db user=agent".to_owned());
        let config = Config::parse(include_str!("../examples/warehouse.yaml"), Path::new("etc"), &dsn).unwrap();
        let repair = config.connection("warehouse_repair").unwrap();
        assert!(repair.role.approved_by_runtime && repair.quarantine.is_some());
        assert_eq!(repair.migrations_file.as_deref(), Some(Path::new("etc/migrations.db")));
        assert!(config.connection("warehouse").unwrap().role.select_only);
    }

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(relation("dw.x", &[]).unwrap().quoted(), "\"dw\".\"x\"");
        assert!(relation("dw.x\"; --", &[]).is_err());
    }
}
