//! The tool `query`: one SELECT, on a connection that cannot write, with limits on rows, cells and work.

use rusqlite::types::ValueRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Code, Result, SandboxError};
use super::{Environment, Parts};

/// Longest statement.
const SQL_BYTES_MAX: usize = 16 * 1024;
/// Most rows in one answer.
const ROWS_MAX: usize = 1_000;
/// Rows in an answer that does not ask for a number.
const ROWS_DEFAULT: usize = 200;
/// Longest text in a cell.
const CELL_CHARS_MAX: usize = 2_000;
/// Largest answer in bytes, counted over names and values.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

/// Arguments of `query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// One SELECT statement (SQLite dialect).
    pub sql: String,
    /// Environment; production if absent.
    #[serde(default)]
    pub environment: Environment,
    /// At most this many rows; 200 if absent, 1000 at most.
    pub max_rows: Option<usize>,
}

/// Rows of a query.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QueryResult {
    /// Column names in order.
    pub columns: Vec<String>,
    /// One object per row, by column name.
    pub rows: Vec<serde_json::Map<String, Value>>,
    /// Rows in this answer.
    pub row_count: usize,
    /// Whether rows were left out because of the limits.
    pub truncated: bool,
}

pub(crate) fn query(parts: &mut Parts, args: Query) -> Result<QueryResult> {
    if args.sql.len() > SQL_BYTES_MAX {
        return Err(SandboxError::new(
            Code::LimitExceeded,
            format!("the statement is longer than {SQL_BYTES_MAX} bytes"),
        ));
    }
    let limit = args.max_rows.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX);
    parts.db(args.environment).read_only(|conn| {
        let mut stmt = conn.prepare(&args.sql).map_err(|error| match error {
            rusqlite::Error::MultipleStatement => SandboxError::denied("only one statement is possible with this tool"),
            other => other.into(),
        })?;
        if !stmt.readonly() || stmt.column_count() == 0 {
            return Err(SandboxError::denied("only SELECT is possible with this tool; the statement reads no rows"));
        }
        let columns: Vec<String> = stmt.column_names().iter().map(|c| (*c).to_owned()).collect();
        let mut answer = QueryResult { columns, rows: Vec::new(), row_count: 0, truncated: false };
        let mut bytes = 0;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            if answer.rows.len() == limit || bytes > ANSWER_BYTES_MAX {
                answer.truncated = true;
                break;
            }
            let mut object = serde_json::Map::new();
            for (idx, name) in answer.columns.iter().enumerate() {
                let cell = cell(row.get_ref(idx)?);
                bytes += name.len() + cell.as_str().map_or(8, str::len);
                object.insert(name.clone(), cell);
            }
            answer.rows.push(object);
        }
        answer.row_count = answer.rows.len();
        Ok(answer)
    })
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text).chars().take(CELL_CHARS_MAX).collect::<String>()),
        ValueRef::Blob(bytes) => json!(format!("<{} bytes>", bytes.len())),
    }
}
