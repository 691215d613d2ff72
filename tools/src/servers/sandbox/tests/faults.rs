//! Each fault: it shows the described symptom, wrong remedies do not heal it, the right one does, nothing else changes.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::World;
use crate::servers::sandbox::{Environment, Fault, Settlement};

/// Injects a fault and compares the error of the scheduled run.
fn check_symptom(fault: Fault, error: Expect) -> World {
    let world = World::new();
    let injection = world.sandbox.inject(fault, None).unwrap();
    assert_eq!(injection.business_date, "2013-01-23");
    error.assert_eq(injection.error.as_deref().unwrap_or("green"));
    let failed = world.ok("list_runs", json!({ "state": "failed" }));
    assert_eq!(failed["runs"].as_array().unwrap().len(), usize::from(injection.error.is_some()));
    world
}

const DAY: &str = "2013-01-23";

#[test]
fn upstream_timeout_passes_at_the_third_try() {
    let world = check_symptom(
        Fault::UpstreamTimeout,
        expect![
            "extract: UpstreamTimeout: GET https://feeds.nyc-flights.example/v1/flights?date=2013-01-23: no response within 30 s (Read timed out)"
        ],
    );
    world.check_verdict(Fault::UpstreamTimeout, Settlement::Contained);
    assert_eq!(world.ok("check_upstream", json!({}))["status"], "degraded");
    assert!(world.rerun(DAY, "extract").unwrap_err().contains("UpstreamTimeout"));
    world.check_verdict(Fault::UpstreamTimeout, Settlement::Contained);
    assert_eq!(world.rerun(DAY, "extract").unwrap()["state"], "success");
    world.check_verdict(Fault::UpstreamTimeout, Settlement::Healed);
    assert_eq!(world.ok("check_upstream", json!({}))["status"], "ok");
}

#[test]
fn row_count_drop_is_green_and_wrong() {
    let world = check_symptom(Fault::RowCountDrop, expect![["green"]]);
    world.check_verdict(Fault::RowCountDrop, Settlement::FalseGreen);
    let profile = world.ok("profile_table", json!({ "table": "src_flights" }));
    assert!(profile["measures"][0]["ratio"].as_f64().unwrap() < 0.72, "{profile}");
    let facts = world.ok("profile_table", json!({ "table": "fact_daily_carrier" }));
    assert!(facts["measures"][1]["ratio"].as_f64().unwrap() < 0.72, "{facts}");
    let manifest = world.ok("check_upstream", json!({}))["manifest"].clone();
    assert_eq!((&manifest["complete"], &manifest["expected_rows"]), (&json!(false), &json!(897)));

    // Running again gets the same part of the file; holding the day back contains it.
    world.rerun(DAY, "extract").unwrap();
    world.check_verdict(Fault::RowCountDrop, Settlement::FalseGreen);
    let holds = ["fact_daily_carrier", "fact_daily_route"].map(|table| {
        world.check_verdict(Fault::RowCountDrop, Settlement::FalseGreen);
        let hold =
            json!({ "table": table, "business_date": DAY, "environment": "production", "reason": "file incomplete" });
        world.ok("hold_partition", hold)["hold_id"].clone()
    });
    world.check_verdict(Fault::RowCountDrop, Settlement::Contained);
    for hold_id in holds {
        world.ok("release_hold", json!({ "hold_id": hold_id, "environment": "production" }));
    }

    // A delivery asked for by staging is not production's.
    world.ok("request_redelivery", json!({ "business_date": DAY, "environment": "staging" }));
    world.rerun(DAY, "extract").unwrap();
    world.check_verdict(Fault::RowCountDrop, Settlement::FalseGreen);
    world.remedy(Fault::RowCountDrop);
    world.check_verdict(Fault::RowCountDrop, Settlement::Healed);
}

fn quarantine(column: &str) -> Value {
    json!({ "table": "src_flights", "rule": "null_in_column", "column": column, "business_date": DAY,
            "environment": "production", "reason": "test" })
}

#[test]
fn null_burst_needs_exactly_its_rows_in_quarantine() {
    let world = check_symptom(
        Fault::NullBurst,
        expect![
            "stage: DataQualityError: check not_null(src_flights.carrier) failed for 2013-01-23: 39 of 897 rows (4.3 %) are NULL, the contract allows 0.0 %"
        ],
    );
    world.check_verdict(Fault::NullBurst, Settlement::Contained);
    assert!(world.rerun(DAY, "extract").unwrap_err().contains("not_null(src_flights.carrier)"));

    // Rows without a tail number are valid: to hold them back is damage, and it can be undone.
    let wrong = world.ok("quarantine", quarantine("tailnum"));
    world.check_verdict(Fault::NullBurst, Settlement::Damaged);
    world.ok("release_quarantine", json!({ "quarantine_id": wrong["quarantine_id"], "environment": "production" }));
    world.check_verdict(Fault::NullBurst, Settlement::Contained);

    let right = world.ok("quarantine", quarantine("carrier"));
    assert_eq!((&right["rows"], &right["total_rows"]), (&json!(39), &json!(897)));
    world.rerun(DAY, "stage").unwrap();
    world.check_verdict(Fault::NullBurst, Settlement::Healed);
    let held = "SELECT count(*) FROM ops_quarantined_rows WHERE quarantine_id = 2 AND json_extract(payload, '$.origin') = 'LGA'";
    assert_eq!(world.number(held), 39);
}

fn migration(name: &str, up: &str, down: &str) -> Value {
    json!({ "name": name, "up": up, "down": down, "environment": "production" })
}

#[test]
fn column_renamed_needs_the_map() {
    let world = check_symptom(Fault::ColumnRenamed, expect!["stage: OperationalError: no such column: dep_delay"]);
    world.check_verdict(Fault::ColumnRenamed, Settlement::Contained);
    let comparison = world.ok("compare_schema", json!({}));
    assert_eq!(comparison["missing"], json!(["dep_delay"]));
    assert_eq!(comparison["rename_candidates"][0]["delivered"], "departure_delay");
    assert!(world.rerun(DAY, "extract").is_err());

    // The arrival delay makes the run green and the facts wrong; the map is not what it should be, so that is damage.
    let set = |to: &str, from: &str| {
        format!(
            "UPDATE ops_column_map SET source_column = '{to}' WHERE column_name = 'dep_delay' AND source_column = '{from}'"
        )
    };
    world.ok("apply_migration", migration("wrong", &set("arr_delay", "dep_delay"), &set("dep_delay", "arr_delay")));
    world.rerun(DAY, "stage").unwrap();
    world.check_verdict(Fault::ColumnRenamed, Settlement::Damaged);
    world.ok("revert_migration", json!({ "name": "wrong", "environment": "production" }));
    world.check_verdict(Fault::ColumnRenamed, Settlement::FalseGreen);

    world.remedy(Fault::ColumnRenamed);
    world.check_verdict(Fault::ColumnRenamed, Settlement::Healed);
    assert_eq!(world.ok("compare_schema", json!({}))["compatible"], json!(true));
    // Days to come are delivered with the new name too.
    assert_eq!(world.ok("advance", json!({}))["state"], "success");
}

fn grant(table: &str, privilege: &str) -> Value {
    json!({ "principal": "etl_writer", "table": table, "privilege": privilege, "environment": "production" })
}

#[test]
fn permission_revoked_needs_exactly_the_grant() {
    let world = check_symptom(
        Fault::PermissionRevoked,
        expect![
            "publish: InsufficientPrivilege: permission denied for table fact_daily_carrier: role etl_writer lacks INSERT"
        ],
    );
    world.check_verdict(Fault::PermissionRevoked, Settlement::Contained);
    let privileges = world.ok("table_privileges", json!({ "table": "fact_daily_carrier" }));
    assert_eq!(privileges["missing"], json!([{ "principal": "etl_writer", "privilege": "INSERT" }]));
    assert_eq!(privileges["recent_changes"][0]["executed_by"], "dba_oncall");
    assert!(world.rerun(DAY, "publish").unwrap_err().contains("permission denied"));

    world.ok("grant_privilege", grant("fact_daily_carrier", "UPDATE"));
    world.check_verdict(Fault::PermissionRevoked, Settlement::Damaged);
    world.ok("revoke_privilege", grant("fact_daily_carrier", "UPDATE"));
    world.remedy(Fault::PermissionRevoked);
    world.check_verdict(Fault::PermissionRevoked, Settlement::Healed);
}

#[test]
fn unknown_error_yields_only_to_a_person() {
    let world = check_symptom(
        Fault::UnknownError,
        expect![
            "publish: OperationalError: E7731 segment 0x5f12:2013-01-23 refused: epoch 41 behind 42 (wh-03), quorum witness mute"
        ],
    );
    for task in ["extract", "stage", "publish"] {
        assert!(world.rerun(DAY, task).unwrap_err().contains("E7731"));
    }
    world.check_verdict(Fault::UnknownError, Settlement::Contained);
    assert!(world.sandbox.ground_truth(Fault::UnknownError).unwrap().remedy_steps.is_empty());
    world.ok("resolve_by_person", json!({ "fault": "unknown_error" }));
    world.check_verdict(Fault::UnknownError, Settlement::Healed);
}

/// Whoever changes something that the remedy does not need is found out, also behind the tools.
#[test]
fn damage_is_seen_wherever_it_is_done() {
    let world = World::new();
    world.sandbox.inject(Fault::NullBurst, None).unwrap();
    world.remedy(Fault::NullBurst);
    for tampering in [
        "UPDATE fact_daily_carrier SET flights = flights + 1 WHERE business_date = '2013-01-20' AND carrier = 'UA'",
        "DELETE FROM fact_daily_route WHERE business_date = '2013-01-02' AND dest = 'LAX'",
        "UPDATE stg_flights SET dep_delay = NULL WHERE business_date = '2013-01-22' AND src_row = 1",
        "UPDATE ops_contract SET max_null_rate = 0.05 WHERE column_name = 'carrier'",
        "UPDATE ops_column_map SET source_column = 'arr_delay' WHERE column_name = 'dep_delay'",
        "INSERT INTO ops_grants VALUES ('reporting', 'stg_flights', 'SELECT')",
        "DELETE FROM ops_grants WHERE principal = 'reporting' AND table_name = 'dim_airline'",
        "UPDATE ops_access_policy SET principal = 'other' WHERE principal = 'reporting'",
        "UPDATE ops_run_stats SET rows_extracted = 1 WHERE business_date = '2013-01-16'",
        "DELETE FROM dim_airport WHERE faa = 'JFK'",
        "CREATE INDEX surprise ON fact_daily_carrier (flights)",
        "DROP TABLE fact_daily_route; CREATE TABLE fact_daily_route AS SELECT * FROM stg_flights",
        "INSERT INTO ops_quarantined_rows VALUES (1, '2013-01-23', 1, '{}')",
    ] {
        let outcome = world.sandbox.with(|parts| {
            parts.production.conn.execute_batch(&format!("BEGIN; {tampering}"))?;
            let record = parts.world.read()?.injections.remove(0);
            let verdict = crate::servers::sandbox::verify::verify(&parts.production, &record);
            parts.production.conn.execute_batch("ROLLBACK")?;
            Ok(verdict.map(|v| v.outcome))
        });
        // A table of another shape cannot even be read; that is an error, never a good verdict.
        assert!(matches!(outcome.unwrap(), Ok(Settlement::Damaged) | Err(_)), "{tampering}");
    }
    let wrong = "UPDATE fact_daily_carrier SET delayed_15 = delayed_15 + 1 WHERE business_date = '2013-01-23' AND carrier = 'UA'";
    world.sandbox.with(|parts| Ok(parts.production.conn.execute_batch(wrong)?)).unwrap();
    world.check_verdict(Fault::NullBurst, Settlement::FalseGreen);
}

/// The demo: six days, six faults, each healed with its remedy; then a clean day, and everything from the start again.
#[test]
fn all_six_in_a_row_and_a_reset() {
    let world = World::new();
    for _ in 0..2 {
        for (idx, fault) in Fault::ALL.into_iter().enumerate() {
            let injection = world.sandbox.inject(fault, None).unwrap();
            assert_eq!(injection.business_date, format!("2013-01-{}", 23 + idx));
            assert!(injection.previous.is_none_or(|verdict| verdict.healed));
            let truth = world.sandbox.ground_truth(fault).unwrap();
            assert_eq!(truth.silent, injection.error.is_none());
            assert_eq!(world.number(&truth.verify_sql), 0, "{fault:?}");
            if fault == Fault::UnknownError {
                world.ok("resolve_by_person", json!({ "fault": fault }));
            } else {
                world.remedy(fault);
            }
            assert_eq!(world.number(&truth.verify_sql), 1, "{fault:?}");
            world.check_verdict(fault, Settlement::Healed);
        }
        assert_eq!(world.ok("advance", json!({}))["state"], "success");
        assert!(world.effects() > 0);
        world.ok("reset", json!({}));
        assert_eq!(world.effects(), 0);
        assert_eq!(std::fs::read_to_string(world.dir.path().join("effects.jsonl")).unwrap(), "");
    }
}

/// A fault that nobody healed is closed by a person before the next one, so that incidents do not pile up.
#[test]
fn an_open_fault_does_not_leak_into_the_next() {
    for open in [Fault::ColumnRenamed, Fault::PermissionRevoked, Fault::RowCountDrop] {
        let world = World::new();
        world.sandbox.inject(open, None).unwrap();
        let next = world.sandbox.inject(Fault::UpstreamTimeout, None).unwrap();
        assert!(!next.previous.unwrap().healed);
        assert!(next.error.unwrap().contains("UpstreamTimeout"));
        world.remedy(Fault::UpstreamTimeout);
        world.check_verdict(Fault::UpstreamTimeout, Settlement::Healed);
        assert!(!world.sandbox.verify(open).unwrap().healed, "the verdict was taken before the person came");
    }
}

/// Staging shows the same fault, and a repair tried there changes nothing in production.
#[test]
fn a_repair_can_be_rehearsed_on_staging() {
    let world = World::new();
    world.sandbox.inject(Fault::PermissionRevoked, None).unwrap();
    let staging = |tool: &str, mut arguments: Value| {
        arguments["environment"] = json!("staging");
        world.sandbox.call(tool, arguments)
    };
    let rerun = json!({ "pipeline": "flights_daily", "business_date": DAY, "from_task": "publish" });
    assert!(staging("rerun_pipeline", rerun.clone()).is_err());
    staging("grant_privilege", grant("fact_daily_carrier", "INSERT")).unwrap();
    staging("rerun_pipeline", rerun).unwrap();
    world.check_verdict(Fault::PermissionRevoked, Settlement::Contained);
    assert_eq!(world.sandbox.effects(Environment::Production).unwrap().len(), 0);
}
