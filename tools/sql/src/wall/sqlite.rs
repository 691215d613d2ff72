//! SQLite behind the wall: a connection per call, opened read only unless a write was allowed, with an authorizer that
//! reports what a statement compiles to and refuses what the guard refuses whatever the statement.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Answer, Limits, Rows, cut};
use crate::error::{Code, Result, SqlError};
use crate::guard::sqlite::{Action, Report};
use crate::guard::{Effect, SQL_BYTES_MAX};

/// Steps of the virtual machine between two looks at the clock.
const STEPS_PER_LOOK: i32 = 10_000;
/// Longest wait for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A loop of a compiled program through a whole table.
struct Loop {
    table: String,
    rows: u64,
    /// Rows that it visits in all, if it stands inside another one.
    visits: u64,
    steps: Range<i64>,
}

/// A connection for one call.
pub struct Lite {
    connection: Connection,
    actions: Arc<Mutex<Vec<Action>>>,
}

impl Lite {
    /// Opens a file that is there.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(file: &Path, effect: Effect, timeout: Duration, cancelled: &CancellationToken) -> Result<Self> {
        let access = match effect {
            Effect::Reads => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Effect::Writes => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.pragma_update(None, "query_only", effect == Effect::Reads)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, i32::try_from(SQL_BYTES_MAX).unwrap_or(i32::MAX))?;
        let (deadline, cancelled) = (Instant::now() + timeout, cancelled.clone());
        connection
            .progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > deadline || cancelled.is_cancelled()));
        let actions = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&actions);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let action = action(context.action);
            let refused = matches!(action, Action::Other(_));
            seen.lock().push(action);
            if refused { Authorization::Deny } else { Authorization::Allow }
        }));
        Ok(Self { connection, actions })
    }

    /// What a statement compiles to, and which tables it reads whole.
    ///
    /// # Errors
    /// If it does not compile, or is not one statement.
    pub fn report(&self, sql: &str) -> Result<Report> {
        self.actions.lock().clear();
        let compiled = self.connection.prepare(sql);
        let refused = self.actions.lock().iter().any(|a| matches!(a, Action::Other(_)));
        let explain = match compiled {
            Ok(statement) if statement.expanded_sql().is_none() => {
                return Err(SqlError::denied("no-statement", "there is no statement; send exactly one"));
            }
            Ok(statement) => statement.is_explain() != 0,
            Err(rusqlite::Error::MultipleStatement) => {
                return Err(SqlError::denied("one-statement", "there is more than one statement; send exactly one"));
            }
            // What the authorizer refused is in the report.
            Err(_) if refused => false,
            Err(error) => return Err(SqlError { rule: Some("syntax".to_owned()), ..error.into() }),
        };
        let mut actions = self.actions.lock().clone();
        if actions.is_empty() {
            actions.push(Action::Other("a statement that the compiler reports nothing of".to_owned()));
        }
        let denied = actions.iter().any(|action| matches!(action, Action::Other(_)));
        let loops = if explain || denied { Vec::new() } else { self.loops(sql)? };
        let scans = loops.iter().map(|l| (l.table.clone(), l.rows)).collect();
        let pairs = loops.into_iter().max_by_key(|l| l.visits).filter(|l| l.visits > 0).map(|l| (l.table, l.visits));
        Ok(Report { actions, explain, scans, pairs })
    }

    /// The loops of the compiled program that go through a whole table. Names in it are numbers of pages, so an alias hides
    /// nothing.
    fn loops(&self, sql: &str) -> Result<Vec<Loop>> {
        let mut tables = self.connection.prepare("SELECT rootpage, tbl_name FROM sqlite_schema WHERE rootpage > 0")?;
        let tables: BTreeMap<i64, String> =
            tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        let mut program = self.connection.prepare(&format!("EXPLAIN {sql}"))?;
        let step = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let steps: Vec<(i64, String, i64, i64)> = program.query_map([], step)?.collect::<rusqlite::Result<_>>()?;
        let mut cursors: BTreeMap<i64, &String> = BTreeMap::new();
        let mut once = Vec::new();
        let mut loops: Vec<Loop> = Vec::new();
        for (at, opcode, p1, p2) in &steps {
            match opcode.as_str() {
                "OpenRead" => _ = tables.get(p2).map(|table| cursors.insert(*p1, table)),
                "Once" => once.push(*at..*p2),
                "Rewind" => {
                    let Some(table) = cursors.get(p1) else { continue };
                    let count = format!("SELECT count(*) FROM {}", crate::config::quoted(table));
                    let rows: i64 = self.connection.query_row(&count, [], |row| row.get(0))?;
                    let rows = u64::try_from(rows).unwrap_or(0);
                    // What runs once multiplies nothing, wherever it stands.
                    let first = once.iter().filter(|part| part.contains(at)).map(|part| part.start).max().unwrap_or(-1);
                    let around = |l: &&Loop| l.steps.contains(at) && l.steps.start > first;
                    let visits =
                        loops.iter().filter(around).map(|l| l.rows.max(1)).fold(rows.max(1), u64::saturating_mul);
                    let inner = loops.iter().any(|l| around(&l));
                    loops.push(Loop {
                        table: (*table).clone(),
                        rows,
                        visits: if inner { visits } else { 0 },
                        steps: *at..*p2,
                    });
                }
                _ => {}
            }
        }
        Ok(loops)
    }

    /// Runs one statement, and commits it if the connection writes.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn run(&self, sql: &str, limits: Limits) -> Result<(Rows, u64)> {
        let before = self.connection.total_changes();
        let mut statement = self.connection.prepare(sql)?;
        if statement.parameter_count() > 0 {
            return Err(SqlError::invalid("the statement has parameters; write the values into it"));
        }
        // A value has a type in SQLite, a column of an answer has none.
        let names: Vec<(String, String)> =
            statement.column_names().into_iter().map(|name| (name.to_owned(), "any".to_owned())).collect();
        let mut answer = Answer::new(names.into_iter(), limits);
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            answer.add(|at, max| Ok::<_, SqlError>(cell(row.get_ref(at)?, max)))?;
            if answer.is_full() && self.connection.is_readonly("main")? {
                break;
            }
        }
        drop(rows);
        Ok((answer.finish(), self.connection.total_changes() - before))
    }

    /// A statement of our own, over the same connection.
    pub(crate) fn own(&self) -> &Connection {
        &self.connection
    }
}

/// What ended a statement that was interrupted.
pub(crate) fn interrupted(error: SqlError, cancelled: &CancellationToken) -> SqlError {
    if error.code == Code::Timeout && cancelled.is_cancelled() {
        return SqlError::new(Code::Cancelled, "the call was cancelled; its statement was ended");
    }
    error
}

fn cell(value: ValueRef<'_>, max: usize) -> (Value, bool) {
    match value {
        ValueRef::Null => (Value::Null, false),
        ValueRef::Integer(number) => (json!(number), false),
        ValueRef::Real(number) => (json!(number), false),
        ValueRef::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let (part, was_cut) = cut(&text, max);
            (json!(part), was_cut)
        }
        ValueRef::Blob(bytes) => (json!(format!("<{} bytes>", bytes.len())), false),
    }
}

fn action(action: AuthAction<'_>) -> Action {
    match action {
        AuthAction::Select => Action::Select,
        AuthAction::Recursive => Action::Recursive,
        AuthAction::Read { table_name, .. } => Action::Read(table_name.to_owned()),
        AuthAction::Function { function_name } => Action::Function(function_name.to_owned()),
        AuthAction::Insert { table_name } => Action::Insert(table_name.to_owned()),
        AuthAction::Update { table_name, .. } => Action::Update(table_name.to_owned()),
        AuthAction::Delete { table_name } => Action::Delete(table_name.to_owned()),
        AuthAction::CreateTable { table_name } => Action::Create(table_name.to_owned()),
        AuthAction::CreateIndex { index_name, .. } => Action::Create(index_name.to_owned()),
        AuthAction::CreateView { view_name } => Action::Create(view_name.to_owned()),
        AuthAction::DropTable { table_name } => Action::Drop(table_name.to_owned()),
        AuthAction::DropIndex { table_name, .. } => Action::Drop(table_name.to_owned()),
        AuthAction::DropView { view_name } => Action::Drop(view_name.to_owned()),
        AuthAction::AlterTable { table_name, .. } => Action::Alter(table_name.to_owned()),
        AuthAction::Reindex { index_name } => Action::Create(index_name.to_owned()),
        other => Action::Other(format!("{other:?}").split(['{', ' ']).next().unwrap_or_default().to_owned()),
    }
}
