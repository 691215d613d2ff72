//! Declared remedies: what may be done about which cause, with its proof and its reversal.
//!
//! A remedy is filled in with parameters that came from logs and tools, so each has a kind and is checked before it becomes
//! part of an argument or a statement. Nothing that fails its kind is quoted or escaped into working: the remedy is not
//! applicable.

use std::collections::BTreeMap;

use graphs::EffectClass;
use runtime_core::error::TaskError;
use runtime_core::interlocks::track_record::Prior;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::estate::{Estate, Read, arguments, render_text};
use crate::yaml::{Broken, read};

/// File of the remedies in messages.
const FILE: &str = "remedies";
/// Longest identifier.
const IDENTIFIER_BYTES_MAX: usize = 63;
/// Schema and table.
const RELATION_PARTS_MAX: usize = 2;
/// Longest key of a record.
const KEY_BYTES_MAX: usize = 64;
/// Most keys of one parameter.
const KEYS_MAX: usize = 1_000;
/// Longest id of a run.
const RUN_BYTES_MAX: usize = 250;
/// Longest length of a type.
const TYPE_BYTES_MAX: usize = 8;
/// Digits of the whole name of a commit.
const COMMIT_DIGITS: usize = 40;
/// Most files of one parameter; a person has to read them.
const PATHS_MAX: usize = 20;
/// Longest path.
const PATH_BYTES_MAX: usize = 200;
/// Types that a remedy may give a column.
const TYPES: [&str; 16] = [
    "text",
    "character varying",
    "integer",
    "bigint",
    "smallint",
    "numeric",
    "boolean",
    "date",
    "real",
    "double precision",
    "timestamp with time zone",
    "timestamp without time zone",
    "jsonb",
    "json",
    "uuid",
    "interval",
];

/// What sort of thing a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    /// A name of a table, column, account or pipeline.
    Identifier,
    /// A table with its schema, or a table alone.
    Relation,
    /// A key of a record, a name or a number: letters, digits and `_ - . : +`.
    Key,
    /// Several keys.
    Keys,
    /// A type of a column, such as `numeric(12,2)`.
    ColumnType,
    /// The id of a run: a key that may also have `/` and `@`.
    Run,
    /// A date such as 2013-01-24.
    Date,
    /// `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    Privilege,
    /// A number.
    Number,
    /// The whole name of a commit: 40 hexadecimal digits.
    Commit,
    /// Several files of a repository.
    Paths,
}

impl ParamKind {
    /// Whether a value is of this kind.
    pub fn holds(self, value: &Value) -> bool {
        let text = value.as_str().unwrap_or_default();
        match self {
            Self::Identifier => is_identifier(text),
            Self::Relation => {
                text.split('.').count() <= RELATION_PARTS_MAX && !text.is_empty() && text.split('.').all(is_identifier)
            }
            Self::Key => is_key(text, "_-.:+", KEY_BYTES_MAX),
            Self::Keys => value.as_array().is_some_and(|keys| {
                !keys.is_empty() && keys.len() <= KEYS_MAX && keys.iter().all(|key| Self::Key.holds(key))
            }),
            Self::ColumnType => TYPES.iter().any(|known| {
                let parens = text.strip_prefix(known).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
                text == *known
                    || parens.is_some_and(|inner| {
                        is_key(inner, ",", TYPE_BYTES_MAX) && inner.bytes().all(|b| b.is_ascii_digit() || b == b',')
                    })
            }),
            Self::Run => is_key(text, "_-.:+/@", RUN_BYTES_MAX),
            Self::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Self::Privilege => matches!(text, "SELECT" | "INSERT" | "UPDATE" | "DELETE"),
            Self::Number => value.is_number(),
            Self::Commit => text.len() == COMMIT_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            Self::Paths => value.as_array().is_some_and(|paths| {
                !paths.is_empty()
                    && paths.len() <= PATHS_MAX
                    && paths.iter().all(|path| is_path(path.as_str().unwrap_or_default()))
            }),
        }
    }

    /// A text as a value of this kind; `None` if it is not of it.
    pub(crate) fn read(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Number => serde_json::from_str(text).ok()?,
            _ => Value::from(text),
        };
        self.holds(&value).then_some(value)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Identifier => "a plain identifier",
            Self::Relation => "a table name",
            Self::Key => "a plain key",
            Self::Keys => "a list of plain keys",
            Self::ColumnType => "a type of a column",
            Self::Run => "the id of a run",
            Self::Date => "a date",
            Self::Privilege => "a privilege",
            Self::Number => "a number",
            Self::Commit => "the whole name of a commit",
            Self::Paths => "a list of plain paths",
        }
    }
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    text.len() <= IDENTIFIER_BYTES_MAX
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_key(text: &str, also: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

/// A path that people can read and check: within its repository, of the signs that files of code have.
fn is_path(text: &str) -> bool {
    is_key(text, "_-./+@", PATH_BYTES_MAX)
        && text.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']))
}

/// What a remedy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Only run the pipeline again, with patience.
    Retry,
    /// Change something, then run the pipeline again.
    Change,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    remedies: BTreeMap<String, Remedy>,
}

/// One declared remedy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remedy {
    action: Action,
    params: BTreeMap<String, ParamKind>,
    /// Parameters that may not be larger.
    #[serde(default)]
    limits: BTreeMap<String, f64>,
    rationale: String,
    #[serde(default)]
    act: Option<Act>,
    #[serde(default)]
    verify: Option<Read>,
    #[serde(default)]
    undo: Option<Read>,
    /// Why the act cannot be tried in staging first. A person decides about each such act, whatever its record says.
    #[serde(default)]
    unrehearsed: Option<String>,
    /// What the estate's way to run again is told, such as where to begin.
    rerun: Map<String, Value>,
    /// The record it starts with where nothing was counted yet; without one, people are asked first.
    #[serde(default)]
    prior: Option<Prior>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    tool: String,
    args: Value,
    effect: EffectClass,
}

/// The declared remedies.
#[derive(Debug, Clone)]
pub struct Remedies(BTreeMap<String, Remedy>);

impl Remedies {
    /// Reads remedies from YAML.
    ///
    /// # Errors
    /// If the text is no YAML, has unknown keys, or a remedy cannot mean what it says.
    pub fn from_yaml(text: &str) -> Result<Self, Broken> {
        let file: File = read(FILE, text)?;
        for (name, remedy) in &file.remedies {
            let broken = |why: &str| Broken::new(FILE, format!("remedy `{name}`: {why}"));
            if let Some(why) = remedy.unrehearsed.as_deref().and_then(|why| remedy.unfit_for_no_rehearsal(why)) {
                return Err(broken(why));
            }
            match (remedy.action, &remedy.act, &remedy.verify) {
                (Action::Change, None, _) => return Err(broken("a change needs an `act`")),
                (Action::Change, Some(_), None) => return Err(broken("an act needs a `verify`")),
                (Action::Retry, Some(_), _) => {
                    return Err(broken("a retry only runs again; an `act` makes it a change"));
                }
                _ => {}
            }
            if let Some(limit) =
                remedy.limits.keys().find(|limit| remedy.params.get(*limit) != Some(&ParamKind::Number))
            {
                return Err(broken(&format!("limit `{limit}` is no number among its params")));
            }
        }
        Ok(Self(file.remedies))
    }

    /// The remedies that ship.
    ///
    /// # Errors
    /// Never with the file that ships.
    pub fn shipped() -> Result<Self, Broken> {
        Self::from_yaml(include_str!("../knowledge/remedies.yaml"))
    }

    /// Whether a remedy is declared.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A remedy by name.
    pub fn get(&self, name: &str) -> Option<&Remedy> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> String {
        self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Remedy {
    /// Why the remedy cannot be used with these parameters; `None` if it can.
    pub fn obstacle(&self, params: &Map<String, Value>) -> Option<String> {
        for (name, kind) in &self.params {
            match params.get(name) {
                None => return Some(format!("`{name}` is not known")),
                Some(value) if !kind.holds(value) => return Some(format!("`{name}` is not {}: {value}", kind.word())),
                Some(_) => {}
            }
        }
        for (name, limit) in &self.limits {
            let value = params.get(name).and_then(Value::as_f64).unwrap_or(f64::INFINITY);
            if value > *limit {
                return Some(format!("`{name}` is {value}, and this remedy is declared for {limit} at most"));
            }
        }
        None
    }

    /// What an act that nobody tried first must be, and this one is not.
    fn unfit_for_no_rehearsal(&self, why: &str) -> Option<&'static str> {
        match (self.action, &self.undo, self.prior) {
            (Action::Retry, ..) => Some("a retry is never rehearsed; remove `unrehearsed`"),
            _ if why.trim().is_empty() => Some("`unrehearsed` says why the act cannot be tried in staging first"),
            (Action::Change, None, _) => Some("an act that is not tried first needs an `undo`"),
            (Action::Change, _, Some(_)) => {
                Some("a person decides about each act that is not tried first, so a `prior` has no effect; remove it")
            }
            (Action::Change, Some(_), None) => None,
        }
    }

    /// Why its act cannot be tried in staging first; `None` for what is tried there, and for what only runs again.
    pub fn unrehearsed(&self) -> Option<&str> {
        self.unrehearsed.as_deref()
    }

    /// What it is.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The record it is declared to start with.
    pub fn prior(&self) -> Option<Prior> {
        self.prior
    }

    /// Whether its act can be taken back.
    pub fn reversible(&self) -> bool {
        self.act.is_none() || self.undo.is_some()
    }

    /// Why this remedy, in words.
    ///
    /// # Errors
    /// If the declared text uses a name it does not have.
    pub fn rationale(&self, params: &Map<String, Value>) -> Result<String, TaskError> {
        render_text("remedies: rationale", &self.rationale, &Value::Object(self.known(params, "")))
    }

    /// The calls in one environment: `{env, act, rerun}`.
    ///
    /// # Errors
    /// If a declared template uses a name it does not have.
    pub fn calls(&self, estate: &Estate, params: &Map<String, Value>, env: &str) -> Result<Value, TaskError> {
        let mut names = self.known(params, env);
        // What people declared of the pipeline needs no check: it is no stranger's text.
        let declared = names.get("pipeline").and_then(Value::as_str).and_then(|name| estate.pipeline(name).ok());
        names.insert("declared".to_owned(), Value::Object(declared.map(|p| p.vars.clone()).unwrap_or_default()));
        let names = Value::Object(names);
        let call = |call: &Option<Read>| match call {
            Some(call) => estate.call("remedies", call, &names),
            None => Ok(json!({ "tool": null, "args": null })),
        };
        let act = match &self.act {
            Some(act) => json!({
                "tool": estate.tool(&act.tool),
                "args": arguments("remedies", &act.args, &names)?,
                "env": env,
                "effect": act.effect,
                "verify": call(&self.verify)?,
                "undo": call(&self.undo)?,
            }),
            None => Value::Null,
        };
        Ok(json!({ "env": env, "act": act, "rerun": self.rerun(estate, params, env)? }))
    }

    fn rerun(&self, estate: &Estate, params: &Map<String, Value>, env: &str) -> Result<Value, TaskError> {
        rerun(estate, &self.known(params, env), &self.rerun)
    }

    /// Only checked parameters can be used.
    fn known(&self, params: &Map<String, Value>, env: &str) -> Map<String, Value> {
        let mut known: Map<String, Value> =
            self.params.keys().filter_map(|name| Some((name.clone(), params.get(name)?.clone()))).collect();
        // What every run again may need is checked here, so that no remedy has to declare it.
        for (name, kind) in [("expected_rows", ParamKind::Number), ("run_id", ParamKind::Run)] {
            if let Some(value) = params.get(name).filter(|value| kind.holds(value)) {
                known.insert(name.to_owned(), value.clone());
            }
        }
        known.insert("env".to_owned(), env.into());
        known
    }
}

/// The call that runs a pipeline again, with the query that proves its day. `known` has `pipeline`, `day` and `env`.
///
/// # Errors
/// If the pipeline is not declared, or a template uses a name it does not have.
pub(crate) fn rerun(estate: &Estate, known: &Map<String, Value>, how: &Map<String, Value>) -> Result<Value, TaskError> {
    let text = |name: &str| known.get(name).and_then(Value::as_str).unwrap_or_default();
    let (pipeline, day, env) = (text("pipeline"), text("day"), text("env"));
    let mut names = known.clone();
    names.insert("rerun".to_owned(), Value::Object(how.clone()));
    let ways = &estate.rerun;
    let way = match (env == estate.live, known.contains_key("run_id")) {
        (true, true) => &ways.live,
        (true, false) => ways.start.as_ref().unwrap_or(&ways.live),
        (false, _) => &ways.trial,
    };
    let call = estate.call("estate: rerun", way, &Value::Object(names))?;
    let sql = estate.pipeline(pipeline)?.proof(day, known.get("expected_rows").and_then(Value::as_i64))?;
    let proof = estate.call("estate: proof", &estate.proof, &json!({ "sql": sql, "env": env }))?;
    Ok(json!({
        "tool": call["tool"], "args": call["args"], "env": env, "effect": EffectClass::Idempotent, "verify": proof,
    }))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn a_parameter_that_is_not_of_its_kind_goes_nowhere() {
        for (kind, good, bad) in [
            (
                ParamKind::Identifier,
                json!("dep_delay"),
                vec![json!("a b"), json!("x'; DROP TABLE t; --"), json!(""), json!(1), json!("é")],
            ),
            (
                ParamKind::Relation,
                json!("dw.fact_sales"),
                vec![json!("dw."), json!("a.b.c"), json!("dw.fact sales"), json!("\"dw\".x"), json!("")],
            ),
            (ParamKind::Key, json!("PR-26.03:1+2"), vec![json!("a'b"), json!("a b"), json!(""), json!(7)]),
            (ParamKind::Keys, json!(["1", "2"]), vec![json!([]), json!(["1", "2) OR (1=1"]), json!("1"), json!([1])]),
            (
                ParamKind::ColumnType,
                json!("numeric(12,2)"),
                vec![json!("numeric(12,2); DROP"), json!("text DEFAULT 1"), json!("numeric()"), json!("money")],
            ),
            (ParamKind::Run, json!("prod__2026-03-31__17"), vec![json!("a b"), json!("x'"), json!("")]),
            (
                ParamKind::Date,
                json!("2013-01-24"),
                vec![json!("2013-01-24' OR 1"), json!("2013-13-01"), json!("20130124"), json!(null)],
            ),
            (ParamKind::Privilege, json!("INSERT"), vec![json!("ALL"), json!("insert"), json!("INSERT, DELETE")]),
            (ParamKind::Number, json!(0.04), vec![json!("0.04"), json!(null)]),
        ] {
            assert!(kind.holds(&good), "{kind:?} {good}");
            for bad in bad {
                assert!(!kind.holds(&bad), "{kind:?} {bad}");
            }
        }
        assert!(!ParamKind::Identifier.holds(&json!("a".repeat(IDENTIFIER_BYTES_MAX + 1))));
    }

    fn check_obstacle(remedy: &str, params: Value, expected: Expect) {
        let remedies = Remedies::shipped().unwrap();
        let params = params.as_object().unwrap().clone();
        expected.assert_eq(&remedies.get(remedy).unwrap().obstacle(&params).unwrap_or_else(|| "applicable".to_owned()));
    }

    #[test]
    fn a_remedy_says_why_it_is_not_applicable() {
        let quarantine = |share: f64, column: &str| json!({ "pipeline": "flights_daily", "day": "2013-01-23", "table": "src_flights", "column": column, "rows": 39, "share": share });
        check_obstacle("quarantine-nulls", quarantine(0.0435, "carrier"), expect!["applicable"]);
        check_obstacle(
            "quarantine-nulls",
            quarantine(0.3, "carrier"),
            expect!["`share` is 0.3, and this remedy is declared for 0.1 at most"],
        );
        check_obstacle(
            "quarantine-nulls",
            quarantine(0.01, "carrier IS NULL OR 1"),
            expect![[r#"`column` is not a plain identifier: "carrier IS NULL OR 1""#]],
        );
        check_obstacle(
            "request-redelivery",
            json!({ "pipeline": "p", "day": "2013-01-23" }),
            expect!["`expected_rows` is not known"],
        );
    }

    fn check_refused(yaml: &str, expected: Expect) {
        expected.assert_eq(&Remedies::from_yaml(yaml).unwrap_err().to_string());
    }

    #[test]
    fn a_remedy_that_cannot_be_proven_is_refused() {
        check_refused(
            "remedies: { x: { action: change, params: {}, rationale: r, rerun: {} } }",
            expect!["remedies: remedy `x`: a change needs an `act`"],
        );
        check_refused(
            "remedies: { x: { action: change, params: {}, rationale: r, act: { tool: t, args: {}, effect: idempotent }, rerun: {} } }",
            expect!["remedies: remedy `x`: an act needs a `verify`"],
        );
        check_refused(
            "remedies: { x: { action: retry, params: {}, limits: { n: 1 }, rationale: r, rerun: {} } }",
            expect!["remedies: remedy `x`: limit `n` is no number among its params"],
        );
    }

    #[test]
    fn a_remedy_that_is_not_tried_first_can_be_taken_back_and_trusts_no_record() {
        let remedy = |action: &str, why: &str, more: &str| {
            format!(
                "remedies: {{ x: {{ action: {action}, unrehearsed: '{why}', params: {{}}, rationale: r, rerun: {{}}, {more} }} }}"
            )
        };
        let act = "act: { tool: t, args: {}, effect: idempotent }, verify: { tool: v }";
        let undone = format!("{act}, undo: {{ tool: u }}");
        let read = |text: &str| Remedies::from_yaml(text);
        let whole = read(&remedy("change", "one for both", &undone)).unwrap();
        assert_eq!(whole.get("x").unwrap().unrehearsed(), Some("one for both"));
        check_refused(
            &remedy("change", "one for both", &format!("{undone}, prior: {{ healed: 20, failed: 0 }}")),
            expect![
                "remedies: remedy `x`: a person decides about each act that is not tried first, so a `prior` has no effect; remove it"
            ],
        );
        check_refused(
            &remedy("change", "one for both", act),
            expect!["remedies: remedy `x`: an act that is not tried first needs an `undo`"],
        );
        check_refused(
            &remedy("change", " ", &undone),
            expect!["remedies: remedy `x`: `unrehearsed` says why the act cannot be tried in staging first"],
        );
        check_refused(
            &remedy("retry", "one for both", ""),
            expect!["remedies: remedy `x`: a retry is never rehearsed; remove `unrehearsed`"],
        );
    }
}
