//! The pipeline computes what the embedded file says, and records what it did.

use std::collections::BTreeSet;

use expect_test::expect;
use jiff::civil::date;
use serde_json::json;

use super::World;
use crate::servers::sandbox::data::{self, DayFacts};
use crate::servers::sandbox::{Environment, verify};

#[test]
fn history_equals_facts_computed_without_sql() {
    let world = World::new();
    let source = data::source().unwrap();
    assert_eq!((1..=31).map(|d| source.day(date(2013, 1, d)).len()).sum::<usize>(), 27_004);
    for environment in [Environment::Production, Environment::Staging] {
        world
            .sandbox
            .with(|parts| {
                for day in 1..=22 {
                    let day = date(2013, 1, day);
                    let expected = DayFacts::of(source, day, &BTreeSet::new());
                    assert_eq!(verify::published(parts.db(environment), day)?, expected, "{day}");
                    assert!(expected.flights() > 600 && expected.routes.len() > 150);
                }
                Ok(())
            })
            .unwrap();
    }
}

/// Numbers that were counted in the file with other means.
#[test]
fn a_day_has_its_known_numbers() {
    let world = World::new();
    let sql = "SELECT sum(flights) || '/' || sum(cancelled) || '/' || sum(delayed_15) AS n FROM fact_daily_carrier WHERE business_date = '2013-01-22'";
    let answer = world.ok("query", json!({ "sql": sql }));
    expect!["890/5/210"].assert_eq(answer["rows"][0]["n"].as_str().unwrap());
}

#[test]
fn a_scheduled_day_is_recorded_with_tasks_and_log() {
    let world = World::new();
    let run = world.ok("advance", json!({}));
    assert_eq!((run["run_id"].as_str(), run["state"].as_str()), (Some("flights_daily-2013-01-23-1"), Some("success")));
    let log = world.ok("get_log", json!({ "run_id": run["run_id"], "task": "stage" }));
    let lines: Vec<&str> = log["lines"].as_array().unwrap().iter().filter_map(|l| l.as_str()).collect();
    expect![[r#"
        [2013-01-24T05:01:06Z] INFO flights_daily.stage - Starting attempt 1 of 1 for flights_daily.stage run_id=flights_daily-2013-01-23-1
        [2013-01-24T05:01:06Z] INFO flights_daily.stage - src_flights holds 897 rows for 2013-01-23, 0 in quarantine
        [2013-01-24T05:01:06Z] INFO flights_daily.stage - checks passed: 7 not-null rules
        [2013-01-24T05:01:06Z] INFO flights_daily.stage - staged 897 rows into stg_flights
        [2013-01-24T05:01:10Z] INFO flights_daily.stage - Marking task as SUCCESS"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn staging_runs_leave_production_alone() {
    let world = World::new();
    let before = world.number("SELECT count(*) FROM ops_runs");
    let run = world.ok(
        "rerun_pipeline",
        json!({ "pipeline": "flights_daily", "business_date": "2013-01-22", "environment": "staging" }),
    );
    assert_eq!(run["run_id"], "flights_daily-2013-01-22-s1");
    assert_eq!(world.ok("get_run", json!({ "run_id": run["run_id"] }))["environment"], "staging");
    assert_eq!(world.number("SELECT count(*) FROM ops_runs"), before);
}
