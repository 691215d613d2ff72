//! The second wall: what the database itself is told to allow, whatever the guard thought of the text.
//!
//! One connection and one short transaction per call, read only unless a write was allowed; limits of time set on the server;
//! rows fetched through a portal that knows the limit; the connection is dropped afterwards, so that nothing a statement did
//! to its session can reach the next call.

pub mod postgres;
pub mod sqlite;
pub mod tls;
pub(crate) mod values;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::guard::Role;

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Column {
    /// Name; made unique by a number where a statement has it twice.
    pub name: String,
    /// Type in the database's words.
    pub data_type: String,
}

/// Rows of a statement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Rows {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// One object per row, by column name.
    pub rows: Vec<Map<String, Value>>,
    /// Rows in this answer.
    pub row_count: usize,
    /// Whether rows or parts of values were left out because of the role's limits.
    pub truncated: bool,
}

/// How much of an answer may be sent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most rows.
    pub rows: usize,
    /// Most bytes over names and values.
    pub bytes: usize,
}

impl Limits {
    /// The limits of a role; a call may ask for fewer rows.
    pub fn of(role: &Role, rows: Option<usize>) -> Self {
        Self { rows: rows.map_or(role.max_rows, |n| n.clamp(1, role.max_rows)), bytes: role.max_bytes }
    }
}

/// An answer while it is filled.
#[derive(Debug)]
pub(crate) struct Answer {
    rows: Rows,
    limits: Limits,
    bytes_left: usize,
}

impl Answer {
    pub(crate) fn new(names: impl Iterator<Item = (String, String)>, limits: Limits) -> Self {
        let mut columns: Vec<Column> = Vec::new();
        for (name, data_type) in names {
            let mut unique = name.clone();
            let mut number = 2;
            while columns.iter().any(|column| column.name == unique) {
                unique = format!("{name}_{number}");
                number += 1;
            }
            columns.push(Column { name: unique, data_type });
        }
        Self { rows: Rows { columns, ..Rows::default() }, limits, bytes_left: limits.bytes }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.truncated
    }

    /// Adds a row, unless it is the one too many; `cell` gives the value of a column within so many bytes, and says
    /// whether it was cut.
    pub(crate) fn add<E>(&mut self, mut cell: impl FnMut(usize, usize) -> Result<(Value, bool), E>) -> Result<(), E> {
        if self.rows.rows.len() >= self.limits.rows || self.bytes_left == 0 {
            self.rows.truncated = true;
            return Ok(());
        }
        let mut row = Map::new();
        for (at, column) in self.rows.columns.iter().enumerate() {
            self.bytes_left = self.bytes_left.saturating_sub(column.name.len());
            let (value, cut) = cell(at, self.bytes_left)?;
            self.bytes_left = self.bytes_left.saturating_sub(size(&value));
            self.rows.truncated |= cut;
            row.insert(column.name.clone(), value);
        }
        self.rows.rows.push(row);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Rows {
        self.rows.row_count = self.rows.rows.len();
        self.rows
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        _ => 8,
    }
}

/// The beginning of a text that fits.
pub(crate) fn cut(text: &str, bytes: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(bytes.min(text.len()));
    (text.get(..end).unwrap_or_default(), end < text.len())
}
