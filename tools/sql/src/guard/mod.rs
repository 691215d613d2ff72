//! Judges a statement before it runs: its text, the role and the environment in, a verdict with its rule out.
//!
//! Nothing here reads a database, a file or a clock. What only a catalog knows (sizes, columns, where an unqualified name
//! leads) comes in as [`Facts`]. For PostgreSQL the text is parsed with PostgreSQL's own grammar and the whole tree is walked
//! against a list of known node types: what the list does not know is denied, so a construct that nobody thought of is no
//! hole. SQLite's own compiler is the judge's witness there; see [`sqlite`].
//!
//! This is one of two walls. Two things cannot be read off a text (a view over a function with side effects; a field that is
//! really a function) and are left to the other one, `wall`.

mod conditions;
mod joins;
mod kinds;
mod names;
pub mod role;
pub mod sqlite;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use role::{Environment, ProductionWrites, Role, RoleSpec};
use tree::Tree;

/// Longest statement in bytes.
pub const SQL_BYTES_MAX: usize = 64 * 1024;

/// What may happen with a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may run, within the role's limits.
    Allow,
    /// It may run after a person approved exactly this text.
    NeedsApproval,
    /// It never runs.
    Deny,
}

impl Verdict {
    /// The verdict as it appears on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::NeedsApproval => "needs-approval",
            Self::Deny => "deny",
        }
    }
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Reads rows, or only plans.
    Reads,
    /// Changes something, or takes a value from a sequence.
    Writes,
}

/// Verdict on one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Decision {
    /// What may happen.
    pub verdict: Verdict,
    /// Name of the rule that decided.
    pub rule: &'static str,
    /// What was found and what to do; never the data.
    pub reason: String,
    /// What it does; decides the transaction it runs in.
    pub effect: Effect,
}

impl Decision {
    pub(crate) fn deny(rule: &'static str, reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Deny, rule, reason: reason.into(), effect: Effect::Writes }
    }
}

/// A relation, by schema and name.
pub type RelationName = (String, String);

/// What the catalog says about a relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelationFacts {
    /// About how many rows it has; absent for a view.
    pub rows: Option<u64>,
    /// Its columns; absent if not known.
    pub columns: Option<Vec<String>>,
}

/// What the text of a statement does not say.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Schemas in which an unqualified name is looked up, in order. Fixed by the connection, after `pg_catalog`.
    pub search_path: Vec<String>,
    /// Relations that are known.
    pub relations: BTreeMap<RelationName, RelationFacts>,
}

impl Facts {
    /// Where an unqualified or qualified name may lead: to the first known place, or else to all there are.
    fn places<'a>(&'a self, schema: &'a str, table: &str) -> Vec<&'a str> {
        if !schema.is_empty() {
            return vec![schema];
        }
        let known = |s: &&'a String| self.relations.keys().any(|(schema, name)| schema == s.as_str() && name == table);
        match self.search_path.iter().find(known) {
            Some(schema) => vec![schema],
            None => self.search_path.iter().map(String::as_str).collect(),
        }
    }

    fn of(&self, schema: &str, table: &str) -> Option<&RelationFacts> {
        let places = self.places(schema, table);
        self.relations.iter().find(|((s, t), _)| t == table && places.contains(&s.as_str())).map(|(_, facts)| facts)
    }
}

/// Judges one statement for PostgreSQL.
pub fn judge(sql: &str, role: &Role, environment: Environment, facts: &Facts) -> Decision {
    match parse(sql) {
        Ok(statement) => walk::judge(&statement, role, environment, facts),
        Err(decision) => decision,
    }
}

/// The relations that a statement names, as written: for looking up their facts. Empty if it cannot be parsed.
pub fn relations_of(sql: &str) -> Vec<RelationName> {
    let Ok(statement) = parse(sql) else { return Vec::new() };
    let vars = statement.all().into_iter().filter(|tree| tree.kind == "RangeVar");
    let mut names: Vec<RelationName> =
        vars.map(|var| (var.text("schemaname").to_owned(), var.text("relname").to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

/// Splits a script into its statements, each to be judged on its own.
///
/// # Errors
/// A decision that names what is wrong with the script.
pub fn split_script(script: &str) -> Result<Vec<String>, Decision> {
    check_text(script)?;
    let parts = pg_query::split_with_parser(script).map_err(|e| syntax(&e))?;
    Ok(parts.into_iter().map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect())
}

fn check_text(sql: &str) -> Result<(), Decision> {
    if sql.contains('\0') {
        return Err(Decision::deny("nul", "the statement holds a NUL byte; remove it"));
    }
    if sql.len() > SQL_BYTES_MAX {
        return Err(Decision::deny("statement-size", format!("the statement is longer than {SQL_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// The one statement of a text.
fn parse(sql: &str) -> Result<Tree, Decision> {
    check_text(sql)?;
    let parsed = pg_query::parse(sql, pg_query::ParserOptions::DEFAULT).map_err(|e| syntax(&e))?;
    let [statement] = parsed.protobuf.stmts.as_slice() else {
        return Err(match parsed.protobuf.stmts.len() {
            0 => Decision::deny("no-statement", "there is no statement; send exactly one"),
            n => Decision::deny("one-statement", format!("there are {n} statements; send exactly one")),
        });
    };
    let tree = Tree::of(statement).map_err(|e| Decision::deny("unknown-node", e.to_string()))?;
    let found = tree.message("stmt").cloned();
    found.ok_or_else(|| Decision::deny("no-statement", "there is no statement; send exactly one"))
}

fn syntax(error: &pg_query::Error) -> Decision {
    let reason = match error {
        pg_query::Error::Decode(_) => "the statement is nested too deeply; write it flatter".to_owned(),
        other => format!("PostgreSQL cannot read the statement: {other}"),
    };
    Decision::deny("syntax", reason)
}
