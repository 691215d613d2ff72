//! What a warehouse that surveys its own pipelines says about them: runs, shapes, profiles.
//!
//! Numbers are compared with the same weekdays before; failed runs count only while they are the latest of their day. The
//! tools report numbers and judge nothing, so every threshold is the estate's.

use std::collections::BTreeMap;

use detectors::median;
use runtime_core::error::TaskError;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::estate::{Pipeline, Thresholds};
use crate::incident::{Evidence, Kind, Severity, Symptom, fields, list_at, text_at};
use crate::monitor::{Seen, shortened};
use crate::reach::Answer;

/// Days before the last one whose failed runs are still looked at.
const LOOK_BACK_DAYS: i64 = 2;
/// Most runs that are read.
const RUNS_MAX: u32 = 100;
/// Share of missing rows from which a drop is grave.
const GRAVE_DROP: f64 = 0.25;

/// Looks at every pipeline that the server lists.
pub(crate) async fn survey(desk: &Desk<'_>, env: &str, seen: &mut Seen<'_>) -> Result<(), TaskError> {
    let round = Round { desk, env };
    let listed = round.read("list_pipelines", json!({})).await?;
    text_at(&listed.value, "/now").unwrap_or_default().clone_into(&mut seen.now);
    for info in list_at(&listed.value, "/pipelines") {
        let (Some(name), Some(last)) = (text_at(info, "/pipeline"), text_at(info, "/last_business_date")) else {
            continue;
        };
        if !seen.is_wanted(name) {
            continue;
        }
        let writes = list_at(info, "/writes").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        seen.tables.insert(name.to_owned(), writes);
        seen.checked.push(json!({ "pipeline": name, "business_date": last }));
        seen.symptoms.extend(round.failed_runs(name, last).await?);
        // A pipeline that nobody declared is watched for failed runs only.
        if let Ok(pipeline) = desk.kit.estate.pipeline(name) {
            seen.symptoms.extend(round.day(name, pipeline, last).await?);
        }
    }
    Ok(())
}

struct Round<'a> {
    desk: &'a Desk<'a>,
    env: &'a str,
}

impl Round<'_> {
    async fn read(&self, tool: &str, args: Value) -> Result<Answer, TaskError> {
        self.desk.reach.read(&self.desk.kit.estate.tool(tool), args, Some(self.env)).await
    }

    /// Days whose latest run failed.
    async fn failed_runs(&self, pipeline: &str, last: &str) -> Result<Vec<Symptom>, TaskError> {
        let since = days_before(last, LOOK_BACK_DAYS);
        let answer =
            self.read("list_runs", json!({ "since": since, "environment": self.env, "limit": RUNS_MAX })).await?;
        let mut latest: BTreeMap<&str, &Value> = BTreeMap::new();
        for run in list_at(&answer.value, "/runs") {
            let (Some(of), Some(day)) = (text_at(run, "/pipeline"), text_at(run, "/business_date")) else { continue };
            if of == pipeline {
                let attempt = |run: &Value| run.get("attempt").and_then(Value::as_i64).unwrap_or(0);
                let known = latest.entry(day).or_insert(run);
                if attempt(run) > attempt(known) {
                    *known = run;
                }
            }
        }
        let failed = latest.into_iter().filter(|(_, run)| text_at(run, "/state") == Some("failed"));
        Ok(failed
            .map(|(day, run)| {
                let id = text_at(run, "/run_id").unwrap_or_default().to_owned();
                let error = text_at(run, "/error").unwrap_or("no error text").to_owned();
                Symptom {
                    pipeline: pipeline.to_owned(),
                    day: day.to_owned(),
                    kind: Kind::RunFailed,
                    severity: Severity::High,
                    headline: format!("run failed: {}", shortened(&error)),
                    run: Some(id.clone()),
                    error: Some(error),
                    subject: None,
                    evidence: Evidence::new(
                        format!("run {id} is the latest of {day} and failed"),
                        &answer,
                        fields(run, &["run_id", "state", "attempt", "error"]),
                    ),
                }
            })
            .collect())
    }

    /// What the tables of the last day say.
    async fn day(&self, name: &str, pipeline: &Pipeline, day: &str) -> Result<Vec<Symptom>, TaskError> {
        let limits = &pipeline.thresholds;
        let symptom = |kind, severity, headline, evidence| Symptom {
            pipeline: name.to_owned(),
            day: day.to_owned(),
            kind,
            severity,
            headline,
            run: None,
            error: None,
            subject: None,
            evidence,
        };
        let mut found = Vec::new();
        let schema = self.read("compare_schema", json!({ "environment": self.env })).await?;
        if let Some((headline, evidence)) = schema_change(&schema) {
            found.push(symptom(Kind::SchemaChange, Severity::High, headline, evidence));
        }
        let contract = self.contract(pipeline).await?;
        for table in pipeline.landing.iter().chain(pipeline.facts.first()) {
            let args = json!({ "table": table, "environment": self.env, "business_date": day });
            let profile = self.read("profile_table", args).await?;
            if let Some((severity, headline, evidence)) = volume_drop(&profile, table, limits) {
                found.push(symptom(Kind::VolumeDrop, severity, headline, evidence));
            }
            if Some(table) == pipeline.landing.as_ref() {
                for (headline, evidence) in null_bursts(&profile, table, (&contract, limits)) {
                    found.push(symptom(Kind::NullBurst, Severity::High, headline, evidence));
                }
            } else if let Some((headline, evidence)) = stale(&profile, table, limits) {
                found.push(symptom(Kind::Stale, Severity::Medium, headline, evidence));
            }
        }
        Ok(found)
    }

    /// Largest null rate by column, where the contract names one.
    async fn contract(&self, pipeline: &Pipeline) -> Result<BTreeMap<String, f64>, TaskError> {
        let Some(sql) = &pipeline.contract_sql else { return Ok(BTreeMap::new()) };
        let answer = self.read("query", json!({ "sql": sql, "environment": self.env })).await?;
        let rows = list_at(&answer.value, "/rows").iter();
        Ok(rows
            .filter_map(|row| Some((text_at(row, "/column")?.to_owned(), row.get("max_null_rate")?.as_f64()?)))
            .collect())
    }
}

fn schema_change(answer: &Answer) -> Option<(String, Evidence)> {
    if answer.value.get("compatible").and_then(Value::as_bool) != Some(false) {
        return None;
    }
    let missing: Vec<&str> = list_at(&answer.value, "/missing").iter().filter_map(Value::as_str).collect();
    let headline = format!("the delivery lacks {}", missing.join(", "));
    let shown = fields(&answer.value, &["missing", "unexpected", "rename_candidates", "last_good_delivery"]);
    Some((headline.clone(), Evidence::new(headline, answer, shown)))
}

/// The measures that count rows: `rows` of a landing table, `flights` and the like of a fact table.
fn volume_drop(answer: &Answer, table: &str, limits: &Thresholds) -> Option<(Severity, String, Evidence)> {
    // Rows of a fact table are groups; what it counts is its first measure after them.
    let at = if table.starts_with("fact_") { "/measures/1" } else { "/measures/0" };
    let measure = answer.value.pointer(at)?;
    let value = measure.get("value")?.as_f64()?;
    let baseline: Vec<f64> = list_at(measure, "/baseline_values").iter().filter_map(Value::as_f64).collect();
    if baseline.len() < limits.baseline_days_min {
        return None;
    }
    // The middle value: one odd day in the baseline does not move it.
    let usual = median(&baseline)?;
    let drop = 1.0 - value / usual;
    if usual <= 0.0 || drop <= limits.volume_drop {
        return None;
    }
    let severity = if drop >= GRAVE_DROP { Severity::High } else { Severity::Medium };
    let weekday = text_at(&answer.value, "/weekday").unwrap_or("weekday");
    let headline =
        format!("{table} has {value:.0} instead of about {usual:.0} on a {weekday} ({:.0} % fewer)", drop * 100.0);
    Some((severity, headline.clone(), Evidence::new(headline, answer, measure.clone())))
}

fn null_bursts(answer: &Answer, table: &str, judge: (&BTreeMap<String, f64>, &Thresholds)) -> Vec<(String, Evidence)> {
    let (contract, limits) = judge;
    let judged = list_at(&answer.value, "/columns").iter().filter_map(|column| {
        let name = text_at(column, "/column")?;
        let rate = column.get("null_rate")?.as_f64()?;
        let usual = column.get("baseline_null_rate").and_then(Value::as_f64);
        let limit = match (contract.get(name), usual) {
            (Some(limit), _) => *limit,
            (None, Some(usual)) => usual + limits.null_rise,
            (None, None) => return None,
        };
        let headline = format!(
            "{table}.{name} is null in {:.1} % of the rows, at most {:.1} % is expected",
            rate * 100.0,
            limit * 100.0
        );
        (rate > limit).then(|| (headline.clone(), Evidence::new(headline, answer, column.clone())))
    });
    judged.collect()
}

fn stale(answer: &Answer, table: &str, limits: &Thresholds) -> Option<(String, Evidence)> {
    let freshness = answer.value.get("freshness")?;
    let lag = freshness.get("lag_days").and_then(Value::as_i64)?;
    if lag <= limits.lag_days {
        return None;
    }
    let headline = format!("{table} is {lag} day(s) behind");
    Some((headline.clone(), Evidence::new(headline, answer, freshness.clone())))
}

fn days_before(day: &str, days: i64) -> String {
    let parsed: Option<jiff::civil::Date> = day.parse().ok();
    let earlier = parsed.and_then(|date| date.checked_sub(jiff::Span::new().days(days)).ok());
    earlier.map_or_else(|| day.to_owned(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_day_does_not_move_the_baseline() {
        let limits = Thresholds::default();
        let is_drop = |value, baseline: &[f64]| volume_drop(&profile(value, baseline), "src_x", &limits).is_some();
        assert!(!is_drop(895.0, &[900.0, 10.0, 905.0]) && is_drop(800.0, &[900.0, 10.0, 905.0]));
        assert!(!is_drop(815.0, &[900.0, 910.0]) && is_drop(814.0, &[900.0, 910.0]));
    }

    fn profile(value: f64, baseline: &[f64]) -> Answer {
        let value = json!({ "weekday": "Wednesday", "measures": [{ "name": "rows", "value": value, "baseline_values": baseline }] });
        Answer { call: 0, tool: "w.profile_table".to_owned(), value: std::sync::Arc::new(value) }
    }

    #[test]
    fn a_drop_counts_above_the_threshold_and_with_enough_history() {
        let limits = Thresholds::default();
        let drop =
            |value, baseline: &[f64]| volume_drop(&profile(value, baseline), "src_x", &limits).map(|found| found.0);
        assert_eq!(drop(910.0, &[1000.0, 1000.0]), None);
        assert_eq!(drop(890.0, &[1000.0, 1000.0]), Some(Severity::Medium));
        assert_eq!(drop(700.0, &[1000.0, 1000.0]), Some(Severity::High));
        assert_eq!(drop(700.0, &[1000.0]), None, "one weekday is no baseline");
        assert_eq!(drop(700.0, &[0.0, 0.0]), None);
    }

    #[test]
    fn days_are_counted_back_over_months() {
        assert_eq!(days_before("2013-02-01", 2), "2013-01-30");
        assert_eq!(days_before("not a date", 2), "not a date");
    }
}
