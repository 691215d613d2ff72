//! One environment's database: its connection, its clock, and the three roles under which SQL runs.
//!
//! The roles are walls of the engine, not of the text: SQLite's authorizer judges every table and column that a statement
//! touches while it is prepared. `etl_writer` has what `ops_grants` gives it, a migration may change shapes and maps only,
//! and a reader runs on a second connection that is opened read-only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OpenFlags};

use super::error::{Code, Result, SandboxError};
use super::{Environment, data};

/// How long one process waits for another one's write.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Virtual machine steps between two looks at the budget of a query.
const QUERY_STEPS_PER_TICK: i32 = 10_000;
/// Ticks after which a query is stopped: 20 million steps, about a second.
const QUERY_TICKS_MAX: u32 = 2_000;
/// Memory that SQLite may use in this process; a query can ask for a blob of a gigabyte in twenty characters.
const HEAP_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// The account under which the pipelines run.
pub(crate) const ETL_PRINCIPAL: &str = "etl_writer";
/// Tables that other teams or the server own: no migration may write to them or drop them.
const PROTECTED_PREFIXES: [&str; 7] = ["src_", "stg_", "fact_", "dim_", "ops_", "_", "sqlite_"];
/// Tables whose rows a migration may change.
const MIGRATABLE_ROWS: [&str; 2] = ["ops_column_map", "ops_contract"];

type Shared<T> = Arc<Mutex<T>>;

/// The database of one environment.
pub(crate) struct EnvDb {
    pub(crate) environment: Environment,
    pub(crate) conn: Connection,
    path: PathBuf,
    denial: Shared<Option<String>>,
    segment_fault: Shared<Option<String>>,
}

impl std::fmt::Debug for EnvDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvDb").field("environment", &self.environment).field("path", &self.path).finish()
    }
}

impl EnvDb {
    /// Opens the database file at `path`, which must hold the schema.
    pub(crate) fn open(environment: Environment, path: &Path) -> Result<Self> {
        Self::over(environment, Connection::open(path)?, path)
    }

    /// A new database in memory with the whole history of the month up to the first open day still missing.
    pub(crate) fn in_memory(environment: Environment) -> Result<Self> {
        let db = Self::over(environment, Connection::open_in_memory()?, Path::new(""))?;
        db.conn.execute_batch(include_str!("schema.sql"))?;
        load_dimensions(&db.conn)?;
        Ok(db)
    }

    fn over(environment: Environment, conn: Connection, path: &Path) -> Result<Self> {
        conn.busy_timeout(BUSY_TIMEOUT)?;
        harden(&conn)?;
        let segment_fault: Shared<Option<String>> = Shared::default();
        let fault = Arc::clone(&segment_fault);
        conn.create_scalar_function("commit_segment", 2, FunctionFlags::SQLITE_UTF8, move |_| {
            match lock(&fault).clone() {
                Some(text) => Err(rusqlite::Error::UserFunctionError(text.into())),
                None => Ok(1),
            }
        })?;
        Ok(Self { environment, conn, path: path.to_owned(), denial: Shared::default(), segment_fault })
    }

    /// Makes the storage layer refuse segments with `text`, or accept them again.
    pub(crate) fn set_segment_fault(&self, text: Option<String>) {
        *lock(&self.segment_fault) = text;
    }

    /// Runs `f` with the privileges of `principal` and nothing more.
    pub(crate) fn as_principal<T>(&self, principal: &str, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let grants = self.grants_of(principal)?;
        let name = principal.to_owned();
        self.guarded(move |action| lacks_privilege(&grants, &name, action), f)
    }

    /// Runs `f` with what a migration may do.
    pub(crate) fn as_migration<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.guarded(migration_forbids, f)
    }

    fn guarded<T>(
        &self,
        refuse: impl Fn(&AuthAction<'_>) -> Option<String> + Send + 'static,
        f: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        *lock(&self.denial) = None;
        let denial = Arc::clone(&self.denial);
        self.conn.authorizer(Some(move |context: AuthContext<'_>| match refuse(&context.action) {
            Some(text) => {
                lock(&denial).get_or_insert(text);
                Authorization::Deny
            }
            None => Authorization::Allow,
        }));
        let answer = f(&self.conn);
        self.conn.authorizer(None::<fn(AuthContext<'_>) -> Authorization>);
        match lock(&self.denial).take() {
            Some(text) if answer.is_err() => Err(SandboxError::denied(text)),
            _ => answer,
        }
    }

    fn grants_of(&self, principal: &str) -> Result<BTreeSet<(String, String)>> {
        let mut stmt = self.conn.prepare("SELECT table_name, privilege FROM ops_grants WHERE principal = ?1")?;
        let rows = stmt.query_map([principal], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Runs `f` on a fresh read-only connection that cannot see the server's books and stops after a budget of steps.
    pub(crate) fn read_only<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let conn = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        harden(&conn)?;
        conn.execute_batch(&format!("PRAGMA query_only = ON; PRAGMA hard_heap_limit = {HEAP_BYTES_MAX}"))?;
        let denial: Shared<Option<String>> = Shared::default();
        let noted = Arc::clone(&denial);
        conn.authorizer(Some(move |context: AuthContext<'_>| match reader_forbids(&context.action) {
            Some(text) => {
                lock(&noted).get_or_insert(text);
                Authorization::Deny
            }
            None => Authorization::Allow,
        }));
        let mut ticks = 0;
        conn.progress_handler(
            QUERY_STEPS_PER_TICK,
            Some(move || {
                ticks += 1;
                ticks > QUERY_TICKS_MAX
            }),
        );
        f(&conn).map_err(|error| match lock(&denial).take() {
            Some(text) => SandboxError::denied(text),
            None if error.message == "interrupted" => SandboxError::new(
                Code::LimitExceeded,
                "the query was stopped after 20 million steps; narrow it by business_date or aggregate less",
            ),
            None if error.message == "out of memory" => SandboxError::new(
                Code::LimitExceeded,
                "the query needs more than 256 MiB of memory; select fewer or shorter values",
            ),
            None => error,
        })
    }

    /// Sandbox time of this environment, moved on by `seconds`.
    pub(crate) fn tick(&self, seconds: i64) -> Result<String> {
        let now = self.now()?.saturating_add(SignedDuration::from_secs(seconds)).map_err(clock_error)?;
        self.set_clock(now)?;
        Ok(now.to_string())
    }

    /// Moves the clock to the hour at which `date` is scheduled, unless it is later already.
    pub(crate) fn wake_for(&self, date: Date) -> Result<()> {
        let morning =
            date.tomorrow().map_err(clock_error)?.at(5, 0, 0, 0).in_tz("UTC").map_err(clock_error)?.timestamp();
        if self.now()? < morning { self.set_clock(morning) } else { Ok(()) }
    }

    /// Sandbox time of this environment.
    pub(crate) fn now(&self) -> Result<Timestamp> {
        let text: String = self.conn.query_row(
            "SELECT coalesce(max(value), '2013-01-01T00:00:00Z') FROM _meta WHERE key = 'clock'",
            [],
            |row| row.get(0),
        )?;
        text.parse().map_err(clock_error)
    }

    fn set_clock(&self, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO _meta VALUES ('clock', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1";
        self.conn.prepare_cached(sql)?.execute([now.to_string()])?;
        Ok(())
    }
}

fn clock_error(cause: impl std::fmt::Display) -> SandboxError {
    SandboxError::storage("clock of the sandbox", cause)
}

pub(crate) fn lock<T>(cell: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without these a misspelt column would be taken for a string, and a query could rewrite the schema table.
fn harden(conn: &Connection) -> Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(())
}

fn load_dimensions(conn: &Connection) -> Result<()> {
    let mut airline = conn.prepare("INSERT INTO dim_airline VALUES (?1, ?2)")?;
    for row in data::airlines() {
        airline.execute([row.first(), row.get(1)])?;
    }
    let mut airport = conn.prepare("INSERT INTO dim_airport VALUES (?1, ?2, ?3)")?;
    for row in data::airports() {
        airport.execute([row.first(), row.get(1), row.get(7)])?;
    }
    Ok(())
}

fn lacks_privilege(grants: &BTreeSet<(String, String)>, principal: &str, action: &AuthAction<'_>) -> Option<String> {
    let (table, privilege) = match action {
        AuthAction::Read { table_name, .. } => (*table_name, "SELECT"),
        AuthAction::Insert { table_name } => (*table_name, "INSERT"),
        AuthAction::Update { table_name, .. } => (*table_name, "UPDATE"),
        AuthAction::Delete { table_name } => (*table_name, "DELETE"),
        AuthAction::Select | AuthAction::Function { .. } | AuthAction::Recursive | AuthAction::Transaction { .. } => {
            return None;
        }
        other => return Some(format!("permission denied: {principal} may not run {other:?}")),
    };
    let managed = PROTECTED_PREFIXES.iter().any(|p| table.starts_with(p));
    let catalogue = privilege == "SELECT" && (table.starts_with("ops_") || table.starts_with("sqlite_"));
    if !managed || catalogue || grants.contains(&(table.to_owned(), privilege.to_owned())) {
        return None;
    }
    Some(format!("permission denied for table {table}: role {principal} lacks {privilege}"))
}

fn is_protected(table: &str) -> bool {
    let table = table.to_ascii_lowercase();
    PROTECTED_PREFIXES.iter().any(|p| table.starts_with(p))
}

fn migration_forbids(action: &AuthAction<'_>) -> Option<String> {
    let refused = match action {
        AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name } => {
            // What ALTER TABLE keeps itself; no statement can write there.
            let schema_table = ["sqlite_master", "sqlite_temp_master"].contains(table_name);
            is_protected(table_name) && !schema_table && !MIGRATABLE_ROWS.contains(table_name)
        }
        AuthAction::DropTable { table_name } | AuthAction::DropView { view_name: table_name } => {
            is_protected(table_name)
        }
        AuthAction::CreateTable { table_name } | AuthAction::CreateView { view_name: table_name } => {
            is_protected(table_name)
        }
        AuthAction::AlterTable { table_name, .. } => {
            table_name.starts_with("src_") || table_name.starts_with("ops_") || table_name.starts_with('_')
        }
        AuthAction::Read { table_name, .. } => table_name.starts_with('_'),
        AuthAction::CreateIndex { .. } | AuthAction::DropIndex { .. } | AuthAction::Reindex { .. } => false,
        // SQLite's own look over a strict table to which a column was added; it reads.
        AuthAction::Pragma { pragma_name: "quick_check", .. } => false,
        AuthAction::Select | AuthAction::Function { .. } | AuthAction::Recursive => false,
        _ => true,
    };
    refused.then(|| {
        format!(
            "a migration may not do this: {action:?}; allowed are rows of ops_column_map and ops_contract, \
             ALTER TABLE on stg_, fact_ and dim_ tables, and new tables, views and indexes without a reserved prefix"
        )
    })
}

fn reader_forbids(action: &AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Read { table_name, .. } if table_name.starts_with('_') => {
            Some(format!("table {table_name} belongs to the server and cannot be read"))
        }
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => None,
        AuthAction::Function { function_name } if *function_name != "load_extension" => None,
        other => Some(format!("only SELECT is possible with this tool; refused: {other:?}")),
    }
}
