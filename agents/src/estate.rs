//! What an installation declares about its pipelines: where they land, what they publish, how a good day is recognised.
//!
//! Declared by people, never learnt from a tool, so a tool's answer cannot move a threshold.

use std::collections::BTreeMap;

use detectors::maintenance::WINDOWS_MAX;
use graphs::{Expr, Template};
use regex::Regex;
use runtime_core::error::TaskError;
use runtime_core::plan::nearest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::detect::Detect;
use crate::incident::{Kind, Severity};
use crate::maintenance::Maintenance;
use crate::remedies::ParamKind;
use crate::storm::Lineage;
use crate::yaml::{Broken, read};

/// Most sources, and most probes.
const LOOKS_MAX: usize = 100;

/// The declared estate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estate {
    /// MCP server of the tools that are written without one.
    pub server: String,
    /// Environment that people depend on.
    pub live: String,
    /// Environment where a repair is tried first.
    pub trial: String,
    /// Whether the server surveys its pipelines itself, with `list_pipelines`, `list_runs`, `compare_schema` and
    /// `profile_table`.
    #[serde(default)]
    pub survey: bool,
    /// What else is looked at in every round.
    #[serde(default)]
    pub watch: Vec<Probe>,
    /// What is made of what: a failure and what follows from it are one incident.
    #[serde(default)]
    pub lineage: Option<Lineage>,
    /// When nobody is paged.
    #[serde(default)]
    pub maintenance: Vec<Maintenance>,
    /// What is read about an incident, in this order.
    pub sources: Vec<Source>,
    /// How a pipeline is run again.
    pub rerun: Reruns,
    /// How a query that proves a day is made; sees `sql` and `env`.
    pub proof: Read,
    /// The pipelines by name.
    pub pipelines: BTreeMap<String, Pipeline>,
}

/// A call that reads or acts, with templates for arguments. Arguments that are rendered to nothing are left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Tool, with or without its server.
    pub tool: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Value,
}

/// How a pipeline is run again; sees what the remedy knows and its `rerun`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reruns {
    /// Where people depend on it.
    pub live: Read,
    /// There, where the day has no run to be run again; as `live` if absent.
    #[serde(default)]
    pub start: Option<Read>,
    /// Where a repair is tried.
    pub trial: Read,
}

/// An expression of the graph language.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule(pub(crate) Expr);

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Expr::parse(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// A regular expression.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub(crate) Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Regex::new(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// One thing that is read about an incident. Its arguments see `incident`, `error`, `env`, `day`, `pipeline`, `depth`,
/// `found`, and by name every source before it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name that evidence refers to.
    pub name: String,
    /// Only read when the error's text fits; its named groups are `found`.
    #[serde(default)]
    pub matches: Option<Pattern>,
    /// What `found` is: groups of `matches`, or expressions, each checked by its kind before it is used.
    #[serde(default)]
    pub params: BTreeMap<String, Param>,
    /// Only read when this holds.
    #[serde(default)]
    pub when: Option<Rule>,
    /// Tool, with or without its server.
    pub tool: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Value,
    /// Parameters for remedies that the answer gives.
    #[serde(default)]
    pub gives: BTreeMap<String, Rule>,
}

/// A parameter of a source.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Param {
    /// The group of this name.
    Group(ParamKind),
    /// What an expression gives.
    From {
        /// What it must be.
        is: ParamKind,
        /// Where it comes from.
        from: Rule,
    },
}

/// One look of the monitor: a read whose rows are symptoms. Arguments see `env` and the answers of the probes before it by
/// name; the rules also see `answer` and `row`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Name that later probes refer to.
    pub name: String,
    /// What a row is called.
    pub kind: Kind,
    /// How urgent it is.
    #[serde(default)]
    pub severity: Severity,
    /// Tool, with or without its server.
    pub tool: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Value,
    /// The rows of the answer.
    pub each: Rule,
    /// Which of them are symptoms; all if absent. With `detect`, which of them are judged.
    #[serde(default)]
    pub when: Option<Rule>,
    /// The statistic that says which series of rows is a symptom; its numbers are `verdict`.
    #[serde(default)]
    pub detect: Option<Detect>,
    /// The pipeline of a row.
    pub pipeline: Rule,
    /// The day of a row.
    pub day: Rule,
    /// One line about a row.
    pub headline: String,
    /// The failed run of a row.
    #[serde(default)]
    pub run: Option<Rule>,
    /// The error of a row.
    #[serde(default)]
    pub error: Option<Rule>,
}

/// One pipeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The team that owns its data; notices are routed by it.
    #[serde(default)]
    pub owner: Option<String>,
    /// Table a delivery lands in, where the server surveys it.
    #[serde(default)]
    pub landing: Option<String>,
    /// Tables people read.
    pub facts: Vec<String>,
    /// What else sources and remedies may use: names of tables, accounts, columns.
    #[serde(default)]
    pub vars: Map<String, Value>,
    /// Query that gives the columns of the landing table that must not be null, as `column` and `max_null_rate`.
    #[serde(default)]
    pub contract_sql: Option<String>,
    /// When a number counts as a symptom.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// Query that gives `ok` = 1 when a day is published in full; sees `day` and `expected_rows`.
    #[serde(default)]
    pub complete_sql: Option<String>,
    /// As `complete_sql`, when nobody knows how many rows there should be; sees `day`.
    pub consistent_sql: String,
}

/// When a number counts as a symptom.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Relative drop against the median of the same weekdays.
    pub volume_drop: f64,
    /// Weekdays that a baseline needs.
    pub baseline_days_min: usize,
    /// Rise of a null rate above its baseline, for columns without a contract.
    pub null_rise: f64,
    /// Days that published facts may be behind.
    pub lag_days: i64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { volume_drop: 0.10, baseline_days_min: 2, null_rise: 0.25, lag_days: 0 }
    }
}

impl Estate {
    /// Reads an estate from YAML.
    ///
    /// # Errors
    /// If the text is no YAML or a key is unknown.
    pub fn from_yaml(text: &str) -> Result<Self, Broken> {
        let mut estate: Self = read("estate", text)?;
        if estate.sources.len().max(estate.watch.len()) > LOOKS_MAX {
            return Err(Broken::new(
                "estate",
                format!("at most {LOOKS_MAX} sources and {LOOKS_MAX} probes are allowed"),
            ));
        }
        estate.check_maintenance()?;
        if let Some(lineage) = estate.lineage.take() {
            let whole = lineage.with_tables(&estate.pipelines).map_err(|why| Broken::new("estate", why))?;
            estate.lineage = Some(whole);
        }
        let mut names = std::collections::BTreeSet::new();
        let twice = estate.sources.iter().map(|source| &source.name).find(|name| !names.insert(name.as_str()));
        match twice {
            Some(name) => Err(Broken::new("estate", format!("two sources are named `{name}`"))),
            None => Ok(estate),
        }
    }

    /// A window about a pipeline that does not exist would hold nothing.
    fn check_maintenance(&self) -> Result<(), Broken> {
        if self.maintenance.len() > WINDOWS_MAX {
            return Err(Broken::new("estate", format!("at most {WINDOWS_MAX} windows of `maintenance` are allowed")));
        }
        let known: Vec<&str> = self.pipelines.keys().map(String::as_str).collect();
        let mut named = self.maintenance.iter().flat_map(|window| &window.pipelines);
        match named.find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let why = format!("`maintenance`: there is no pipeline `{name}`{}", nearest(name, &known));
                Err(Broken::new("estate", why))
            }
            None => Ok(()),
        }
    }

    /// The estate of the demo.
    ///
    /// # Errors
    /// Never with the file that ships.
    pub fn shipped() -> Result<Self, Broken> {
        Self::from_yaml(include_str!("../knowledge/estate.yaml"))
    }

    /// Full name of a tool.
    pub fn tool(&self, name: &str) -> String {
        if name.contains('.') { name.to_owned() } else { format!("{}.{name}", self.server) }
    }

    /// A declared call as data, `{tool, args}`.
    ///
    /// # Errors
    /// If a template uses a name it does not have.
    pub(crate) fn call(&self, place: &str, call: &Read, names: &Value) -> Result<Value, TaskError> {
        Ok(json!({ "tool": self.tool(&call.tool), "args": arguments(place, &call.args, names)? }))
    }

    /// A declared pipeline.
    ///
    /// # Errors
    /// If it is not declared: nobody said how a good day of it is recognised.
    pub fn pipeline(&self, name: &str) -> Result<&Pipeline, TaskError> {
        self.pipelines.get(name).ok_or_else(|| {
            TaskError::invalid(format!(
                "pipeline `{name}` is not declared in the estate: add it, with its tables and checks"
            ))
        })
    }
}

impl Pipeline {
    /// The query that proves a day.
    ///
    /// # Errors
    /// If the declared query uses a name it does not have.
    pub fn proof(&self, day: &str, expected_rows: Option<i64>) -> Result<String, TaskError> {
        let (sql, vars) = match (expected_rows, &self.complete_sql) {
            (Some(rows), Some(complete)) => (complete, json!({ "day": day, "expected_rows": rows })),
            _ => (&self.consistent_sql, json!({ "day": day })),
        };
        render_text("estate: proof of a day", sql, &vars)
    }
}

/// Renders declared text over an object of names.
pub(crate) fn render_text(place: &str, text: &str, vars: &Value) -> Result<String, TaskError> {
    match render(place, &Value::String(text.to_owned()), vars)? {
        Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

/// Renders declared arguments; those that are rendered to nothing are left out.
pub(crate) fn arguments(place: &str, args: &Value, names: &Value) -> Result<Value, TaskError> {
    let mut rendered = render(place, args, names)?;
    match &mut rendered {
        Value::Object(fields) => fields.retain(|_, value| !value.is_null()),
        Value::Null => rendered = json!({}),
        _ => {}
    }
    Ok(rendered)
}

/// Renders a declared tree of templates over an object of names.
pub(crate) fn render(place: &str, tree: &Value, vars: &Value) -> Result<Value, TaskError> {
    let empty = serde_json::Map::new();
    let scope = vars.as_object().unwrap_or(&empty);
    let rendered = Template::from_json(tree).and_then(|template| template.render(scope));
    rendered.map_err(|error| TaskError::invalid(format!("{place}: `{}`: {}", error.expression, error.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_estate_proves_a_day_with_and_without_a_count() {
        let estate = Estate::shipped().unwrap();
        let pipeline = estate.pipeline("flights_daily").unwrap();
        let with = pipeline.proof("2013-01-23", Some(897)).unwrap();
        assert!(with.contains("= 897") && with.contains("'2013-01-23'") && !with.contains("{{"), "{with}");
        let without = pipeline.proof("2013-01-23", None).unwrap();
        assert!(!without.contains("897") && !without.contains("{{"), "{without}");
        assert!(estate.pipeline("orders").unwrap_err().message.contains("not declared"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = include_str!("../knowledge/estate.yaml");
        assert!(Estate::from_yaml(text).is_ok());
        assert!(Estate::from_yaml(&format!("{text}\nextra: 1\n")).unwrap_err().to_string().contains("extra"));
    }
}
