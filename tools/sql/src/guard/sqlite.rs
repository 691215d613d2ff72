//! Judges a statement for SQLite, whose own compiler is the witness.
//!
//! SQLite reports every table, column, function and kind of action that a statement compiles to, at any position, to an
//! authorizer; there is no second grammar that could read it differently. The report is the input here; what the statement
//! does with rows is then read from its query plan.

use super::role::{Environment, ProductionWrites, Role};
use super::{Decision, Effect, Verdict};

/// One thing that a statement compiles to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A SELECT, at any depth.
    Select,
    /// A recursive WITH.
    Recursive,
    /// Reads a column of a table.
    Read(String),
    /// Calls a function.
    Function(String),
    /// Adds rows.
    Insert(String),
    /// Changes rows.
    Update(String),
    /// Deletes rows.
    Delete(String),
    /// Adds a relation or an index.
    Create(String),
    /// Takes a relation or an index away.
    Drop(String),
    /// Changes the shape of a table.
    Alter(String),
    /// Anything else, by its name.
    Other(String),
}

/// What a statement compiles to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of compilation.
    pub actions: Vec<Action>,
    /// The statement is an EXPLAIN.
    pub explain: bool,
    /// Tables that are read from the first row to the last, with their rows.
    pub scans: Vec<(String, u64)>,
    /// The table that is read whole most often because it is for each row of another one, with the rows visited in all.
    pub pairs: Option<(String, u64)>,
}

/// Functions of SQLite that only compute.
const FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "ceil",
    "ceiling",
    "changes",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "ifnull",
    "iif",
    "instr",
    "julianday",
    "json",
    "json_array",
    "json_array_length",
    "json_each",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_object",
    "json_patch",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_tree",
    "json_type",
    "json_valid",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unicode",
    "unixepoch",
    "upper",
    "->",
    "->>",
];

/// Tables that SQLite keeps for itself and that say how relations look.
const CATALOG: &[&str] = &["sqlite_master", "sqlite_schema"];

/// Rows that loops within each other may visit; more is a join of tables that nothing connects.
const PAIRS_MAX: u64 = 1_000_000;

/// Judges what a statement compiles to. The schema of every relation is `main`.
pub fn judge(report: &Report, role: &Role, environment: Environment) -> Decision {
    let mut asks = None;
    let mut effect = Effect::Reads;
    // SQLite keeps its books in its own tables when a relation comes or goes.
    let shapes = report.actions.iter().any(|a| matches!(a, Action::Create(_) | Action::Drop(_) | Action::Alter(_)));
    for action in &report.actions {
        match action {
            Action::Select | Action::Recursive => {}
            Action::Function(name) if FUNCTIONS.contains(&name.to_lowercase().as_str()) => {}
            // Of ALTER TABLE; nobody else can call them.
            Action::Function(name) if shapes && name.starts_with("sqlite_") => {}
            Action::Function(name) => {
                return Decision::deny("function-list", format!("the function {name} is not on the list of safe ones"));
            }
            Action::Read(table) | Action::Insert(table) | Action::Update(table) | Action::Delete(table)
                if shapes && table.starts_with("sqlite_") => {}
            Action::Read(table) if CATALOG.contains(&table.as_str()) => {}
            Action::Create(table) if table.starts_with("sqlite_") => {}
            Action::Create(_) => effect = Effect::Writes,
            Action::Other(what) => {
                return Decision::deny("unknown-statement", format!("{what}: the guard knows no rule that allows it"));
            }
            Action::Read(table)
            | Action::Insert(table)
            | Action::Update(table)
            | Action::Delete(table)
            | Action::Drop(table)
            | Action::Alter(table) => {
                if !role.may_use("main", table) {
                    return Decision::deny("table-list", format!("{table} is not among the role's tables"));
                }
                if !matches!(action, Action::Read(_)) {
                    effect = Effect::Writes;
                }
                asks = asks.or(destructive(action));
            }
        }
    }
    if report.explain {
        effect = Effect::Reads;
        asks = None;
    }
    limits(report, role).or_else(|| writes(role, environment, effect, report.explain)).unwrap_or_else(|| match asks {
        Some((rule, reason)) => Decision { verdict: Verdict::NeedsApproval, rule, reason, effect },
        None if effect == Effect::Writes && environment == Environment::Production => Decision {
            verdict: Verdict::NeedsApproval,
            rule: "production-write",
            reason: "it changes production".to_owned(),
            effect,
        },
        None => {
            Decision { verdict: Verdict::Allow, rule: "role", reason: "within the role's limits".to_owned(), effect }
        }
    })
}

/// The compiler does not report a WHERE, so every change of rows that are there is put to a person.
fn destructive(action: &Action) -> Option<(&'static str, String)> {
    match action {
        Action::Update(table) | Action::Delete(table) => {
            Some(("whole-table", format!("it changes or deletes rows of {table}; SQLite does not report which ones")))
        }
        Action::Drop(what) => Some(("destructive", format!("it takes {what} away for good"))),
        Action::Alter(table) => Some(("destructive", format!("it changes the shape of {table}"))),
        _ => None,
    }
}

fn writes(role: &Role, environment: Environment, effect: Effect, explain: bool) -> Option<Decision> {
    if role.select_only && (effect == Effect::Writes || explain) {
        return Some(Decision::deny("select-only", "the role is limited to SELECT (SELECT_ONLY)"));
    }
    let production = effect == Effect::Writes && environment == Environment::Production;
    (production && role.production_writes == ProductionWrites::Deny)
        .then(|| Decision::deny("production-write", "the connection leads to production, which this role only reads"))
}

fn limits(report: &Report, role: &Role) -> Option<Decision> {
    if report.explain {
        return None;
    }
    let max = role.unfiltered_rows_max;
    if let Some((table, rows)) = report.scans.iter().find(|(_, rows)| *rows > max) {
        let advice = format!("above {max} a WHERE on an indexed column is needed");
        return Some(Decision::deny(
            "where-required",
            format!("{table} has about {rows} rows and is read whole; {advice}"),
        ));
    }
    let (table, visits) = report.pairs.as_ref().filter(|(_, visits)| *visits > PAIRS_MAX)?;
    let advice = "add the condition that joins it, or an index on its column";
    let reason = format!("{table} is read whole for each row of another relation, {visits} rows in all; {advice}");
    Some(Decision::deny("cartesian-join", reason))
}
