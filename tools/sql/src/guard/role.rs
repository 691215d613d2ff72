//! What a role may do: its limits, its tables, its writes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Rows of an answer where the role names no limit.
pub const ROWS_MAX_DEFAULT: usize = 10_000;
/// Most rows that a role may ask for.
pub const ROWS_MAX: usize = 1_000_000;
/// Time of a statement where the role names no limit.
pub const EXECUTION_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// Longest time that a role may ask for.
pub const EXECUTION_TIME_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of an answer where the role names no limit.
pub const BYTES_MAX_DEFAULT: usize = 1 << 20;
/// Most bytes that a role may ask for.
pub const BYTES_MAX: usize = 64 << 20;
/// Rows above which a table is read only with a WHERE, where the role names no limit.
pub const UNFILTERED_ROWS_MAX_DEFAULT: u64 = 1_000_000;
/// Rows above which columns must be named, where the role names no limit.
pub const STAR_ROWS_MAX_DEFAULT: u64 = 1_000_000;

/// Where a connection leads. A connection has one in the configuration; a call cannot choose another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// What the company reads.
    Production,
    /// A copy to try things on.
    Staging,
}

impl std::fmt::Display for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Staging => "staging",
        })
    }
}

/// Whether a role may change production at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductionWrites {
    /// Never.
    #[default]
    Deny,
    /// Whatever would be a write in staging needs an approval in production.
    Approval,
}

/// A role as it stands in the configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// `SELECT_ONLY`, `MAX_ROWS_n`, `MAX_EXECUTION_TIME_ns`, `MAX_BYTES_n`, `WHERE_ABOVE_n_ROWS`, `COLUMNS_ABOVE_n_ROWS`,
    /// `NO_CROSS_JOIN`.
    #[serde(default)]
    pub limits: Vec<String>,
    /// Relations that may be used: `schema.table`, `schema.*` or `*.*`.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Relations that may not be used although `tables` has them.
    #[serde(default)]
    pub deny_tables: Vec<String>,
    /// Functions beside the built-in safe ones, as `schema.function`.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Whether production may be changed.
    #[serde(default)]
    pub production_writes: ProductionWrites,
    /// The caller asks a person about the exact arguments before it calls, so that what needs an approval may run.
    #[serde(default)]
    pub approved_by_runtime: bool,
}

/// A checked role.
#[derive(Debug, Clone)]
pub struct Role {
    /// Only reading statements, and no EXPLAIN.
    pub select_only: bool,
    /// Most rows in an answer; the next one makes the answer truncated.
    pub max_rows: usize,
    /// Most bytes of an answer.
    pub max_bytes: usize,
    /// The server ends a statement after this time.
    pub max_execution_time: Duration,
    /// A table with more rows is read only with a WHERE.
    pub unfiltered_rows_max: u64,
    /// A table with more rows is read only by column.
    pub star_rows_max: u64,
    /// Not even an explicit CROSS JOIN.
    pub no_cross_join: bool,
    /// Whether production may be changed.
    pub production_writes: ProductionWrites,
    /// See [`RoleSpec::approved_by_runtime`].
    pub approved_by_runtime: bool,
    tables: Vec<Pattern>,
    deny_tables: Vec<Pattern>,
    functions: Vec<(String, String)>,
}

impl Role {
    /// Checks a role's declaration.
    ///
    /// # Errors
    /// A sentence that names the entry that cannot be understood.
    pub fn new(spec: &RoleSpec) -> Result<Self, String> {
        let mut role = Self {
            select_only: false,
            max_rows: ROWS_MAX_DEFAULT,
            max_bytes: BYTES_MAX_DEFAULT,
            max_execution_time: EXECUTION_TIME_DEFAULT,
            unfiltered_rows_max: UNFILTERED_ROWS_MAX_DEFAULT,
            star_rows_max: STAR_ROWS_MAX_DEFAULT,
            no_cross_join: false,
            production_writes: spec.production_writes,
            approved_by_runtime: spec.approved_by_runtime,
            tables: patterns(&spec.tables)?,
            deny_tables: patterns(&spec.deny_tables)?,
            functions: Vec::new(),
        };
        for limit in &spec.limits {
            role.limit(limit)?;
        }
        for function in &spec.functions {
            let parts = function.split_once('.').filter(|(schema, name)| !schema.is_empty() && !name.is_empty());
            let (schema, name) = parts.ok_or_else(|| format!("function {function:?}: write it as schema.function"))?;
            role.functions.push((schema.to_owned(), name.to_owned()));
        }
        Ok(role)
    }

    /// Whether a relation may be used.
    pub fn may_use(&self, schema: &str, table: &str) -> bool {
        self.tables.iter().any(|p| p.matches(schema, table))
            && !self.deny_tables.iter().any(|p| p.matches(schema, table))
    }

    /// Whether a function of a user schema may be used.
    pub(crate) fn may_call(&self, schema: &str, function: &str) -> bool {
        self.functions.iter().any(|(s, f)| s == schema && f == function)
    }

    fn limit(&mut self, text: &str) -> Result<(), String> {
        let unknown = || {
            format!(
                "limit {text:?}: known are SELECT_ONLY, NO_CROSS_JOIN, MAX_ROWS_n (up to {ROWS_MAX}), MAX_BYTES_n (up to \
                 {BYTES_MAX}), MAX_EXECUTION_TIME_ns (up to {} s), WHERE_ABOVE_n_ROWS and COLUMNS_ABOVE_n_ROWS",
                EXECUTION_TIME_MAX.as_secs()
            )
        };
        let between = |before: &str, after: &str, max: u64| -> Option<u64> {
            let digits = text.strip_prefix(before)?.strip_suffix(after)?;
            digits.parse().ok().filter(|n| (1..=max).contains(n))
        };
        match text {
            "SELECT_ONLY" => self.select_only = true,
            "NO_CROSS_JOIN" => self.no_cross_join = true,
            _ => {
                if let Some(n) = between("MAX_ROWS_", "", ROWS_MAX as u64) {
                    self.max_rows = usize::try_from(n).map_err(|_| unknown())?;
                } else if let Some(n) = between("MAX_BYTES_", "", BYTES_MAX as u64) {
                    self.max_bytes = usize::try_from(n).map_err(|_| unknown())?;
                } else if let Some(n) = between("MAX_EXECUTION_TIME_", "s", EXECUTION_TIME_MAX.as_secs()) {
                    self.max_execution_time = Duration::from_secs(n);
                } else if let Some(n) = between("WHERE_ABOVE_", "_ROWS", u64::MAX) {
                    self.unfiltered_rows_max = n;
                } else if let Some(n) = between("COLUMNS_ABOVE_", "_ROWS", u64::MAX) {
                    self.star_rows_max = n;
                } else {
                    return Err(unknown());
                }
            }
        }
        Ok(())
    }
}

/// A relation or all relations of a schema.
#[derive(Debug, Clone)]
struct Pattern {
    /// Every schema if absent.
    schema: Option<String>,
    /// Every relation if absent.
    table: Option<String>,
}

impl Pattern {
    fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.as_deref().is_none_or(|s| s == schema) && self.table.as_deref().is_none_or(|t| t == table)
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, String> {
    let part = |text: &str| (text != "*").then(|| text.to_owned());
    let parse = |text: &String| {
        let parts = text.split_once('.').filter(|(s, t)| !s.is_empty() && !t.is_empty() && !t.contains('.'));
        let partly = |p: &str| p.contains('*') && p != "*";
        match parts {
            Some((schema, table)) if !partly(schema) && !partly(table) && (schema != "*" || table == "*") => {
                Ok(Pattern { schema: part(schema), table: part(table) })
            }
            _ => Err(format!("table {text:?}: write it as schema.table, schema.* or *.*")),
        }
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(limits: &[&str], tables: &[&str]) -> RoleSpec {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        RoleSpec { limits: texts(limits), tables: texts(tables), ..RoleSpec::default() }
    }

    #[test]
    fn limits_are_read_and_unknown_ones_refused() {
        let role =
            Role::new(&spec(&["SELECT_ONLY", "MAX_ROWS_10000", "MAX_EXECUTION_TIME_30s", "WHERE_ABOVE_5_ROWS"], &[]))
                .unwrap();
        assert!(role.select_only);
        assert_eq!(
            (role.max_rows, role.max_execution_time, role.unfiltered_rows_max),
            (10_000, Duration::from_secs(30), 5)
        );
        for bad in [
            "SELECT",
            "MAX_ROWS_0",
            "MAX_ROWS_-1",
            "MAX_ROWS_2000000",
            "MAX_EXECUTION_TIME_30",
            "MAX_EXECUTION_TIME_9999s",
            "max_rows_5",
        ] {
            let error = Role::new(&spec(&[bad], &[])).unwrap_err();
            assert!(error.contains(bad) && error.contains("MAX_ROWS_n"), "{error}");
        }
    }

    #[test]
    fn tables_are_named_or_all_of_a_schema() {
        let mut listed = spec(&[], &["dw.*", "ops.column_map"]);
        listed.deny_tables = vec!["dw.payroll".to_owned()];
        let role = Role::new(&listed).unwrap();
        assert!(role.may_use("dw", "fact_sales") && role.may_use("ops", "column_map"));
        assert!(
            !role.may_use("dw", "payroll")
                && !role.may_use("ops", "watermarks")
                && !role.may_use("pg_catalog", "pg_class")
        );
        for bad in ["dw", "dw.fact_*", "*.payroll", "a.b.c", ".x", "x."] {
            assert!(Role::new(&spec(&[], &[bad])).is_err(), "{bad}");
        }
    }
}
