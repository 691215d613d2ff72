//! The functions, operators, types and catalogs of PostgreSQL that a statement may name.

use std::collections::HashSet;
use std::sync::OnceLock;

/// What a function of `pg_catalog` does to the estate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionEffect {
    /// Computes.
    Computes,
    /// Takes the next value of a sequence.
    Advances,
    /// Sets a sequence back or forth.
    Rewinds,
    /// Not on the list: it may do anything.
    Unknown,
}

/// Built-in functions that only compute: immutable and stable ones, without those that run SQL given as text, name tables by
/// text, read files, settings or sessions; and the volatile ones that only draw a number or read the clock.
pub(crate) fn function(name: &str) -> FunctionEffect {
    static SAFE: OnceLock<HashSet<&'static str>> = OnceLock::new();
    let safe = SAFE.get_or_init(|| include_str!("functions.txt").split_whitespace().collect());
    match name {
        "nextval" => FunctionEffect::Advances,
        "setval" => FunctionEffect::Rewinds,
        _ if safe.contains(name) => FunctionEffect::Computes,
        _ => FunctionEffect::Unknown,
    }
}

/// Symbols of built-in operators, and the words that the grammar puts in their place.
const OPERATORS: &str = "!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- / < <-> << <<= \
    <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ \
    ~>~ ~~ ~~* BETWEEN NOT SYMMETRIC";

/// Whether an operator of this symbol is built in.
pub(crate) fn is_operator(symbol: &str) -> bool {
    symbol.split(' ').all(|word| OPERATORS.split_whitespace().any(|known| known == word))
}

/// Catalogs that say how relations look, and nothing of their contents, of sessions, of files or of secrets.
const CATALOGS: &[&str] = &[
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_description",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_namespace",
    "pg_partitioned_table",
    "pg_tables",
    "pg_type",
];

/// Views of the standard that say how relations look.
const INFORMATION: &[&str] = &[
    "character_sets",
    "check_constraints",
    "columns",
    "constraint_column_usage",
    "constraint_table_usage",
    "domains",
    "key_column_usage",
    "referential_constraints",
    "schemata",
    "sequences",
    "table_constraints",
    "table_privileges",
    "tables",
    "views",
];

/// Whether a relation of a system schema may be read.
pub(crate) fn is_open_catalog(schema: &str, name: &str) -> bool {
    match schema {
        "pg_catalog" => CATALOGS.contains(&name),
        "information_schema" => INFORMATION.contains(&name),
        _ => false,
    }
}

/// Whether a schema belongs to the system.
pub(crate) fn is_system_schema(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

/// Ways of sampling a table that are built in.
pub(crate) const SAMPLING: &[&str] = &["bernoulli", "system"];

/// Options of EXPLAIN.
pub(crate) const EXPLAIN_OPTIONS: &[&str] = &[
    "analyze",
    "buffers",
    "costs",
    "format",
    "generic_plan",
    "memory",
    "serialize",
    "settings",
    "summary",
    "timing",
    "verbose",
    "wal",
];
