//! What an installation declares about its pipelines: where they land, what they publish, how a good day is recognised.
//!
//! Declared by people, never learnt from a tool, so a tool's answer cannot move a threshold.

use std::collections::BTreeMap;

use graphs::Template;
use runtime_core::error::TaskError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::yaml::{Broken, read};

/// The declared estate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estate {
    /// MCP server that has the warehouse's tools.
    pub server: String,
    /// Environment that people depend on.
    pub live: String,
    /// Environment where a repair is tried first.
    pub trial: String,
    /// The pipelines by name.
    pub pipelines: BTreeMap<String, Pipeline>,
}

/// One pipeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Table a delivery lands in.
    pub landing: String,
    /// Tables people read.
    pub facts: Vec<String>,
    /// Query that gives the columns of the landing table that must not be null, as `column` and `max_null_rate`.
    #[serde(default)]
    pub contract_sql: Option<String>,
    /// When a number counts as a symptom.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// Query that gives `ok` = 1 when a day is published in full; sees `day` and `expected_rows`.
    pub complete_sql: String,
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
        read("estate", text)
    }

    /// The estate of the demo.
    ///
    /// # Errors
    /// Never with the file that ships.
    pub fn shipped() -> Result<Self, Broken> {
        Self::from_yaml(include_str!("../knowledge/estate.yaml"))
    }

    /// Full name of a tool of the warehouse.
    pub fn tool(&self, name: &str) -> String {
        format!("{}.{name}", self.server)
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
        let (sql, vars) = match expected_rows {
            Some(rows) => (&self.complete_sql, json!({ "day": day, "expected_rows": rows })),
            None => (&self.consistent_sql, json!({ "day": day })),
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
        assert!(Estate::from_yaml("server: w\nlive: p\ntrial: s\npipelines: {}\nextra: 1\n").is_err());
    }
}
