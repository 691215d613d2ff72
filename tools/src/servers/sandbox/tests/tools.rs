//! What the tools refuse, and what they report.

use expect_test::expect;
use serde_json::json;

use super::World;
use crate::servers::sandbox::Code;
use crate::servers::sandbox::registry::{ToolEffect, agent_tools};

#[test]
fn query_reads_one_statement_and_nothing_else() {
    let world = World::new();
    for sql in [
        "DELETE FROM stg_flights",
        "UPDATE ops_grants SET privilege = 'SELECT' RETURNING 1",
        "INSERT INTO dim_airline VALUES ('XX', 'x') RETURNING carrier",
        "DROP TABLE stg_flights",
        "CREATE TEMP TABLE t (a)",
        "SELECT 1; DROP TABLE stg_flights",
        "PRAGMA writable_schema = 1",
        "PRAGMA table_info(stg_flights)",
        "ATTACH 'other.db' AS other",
        "VACUUM",
        "BEGIN",
        "EXPLAIN DELETE FROM stg_flights",
        "SELECT * FROM _effects",
        "SELECT * FROM main._idempotency",
        "WITH x AS (SELECT 1) DELETE FROM stg_flights WHERE business_date IN x RETURNING 1",
        "SELECT load_extension('x')",
        "",
        "-- nothing",
    ] {
        let error = world.err("query", json!({ "sql": sql }));
        assert!(matches!(error.code, Code::Denied | Code::Sql), "{sql}: {error:?}");
    }
    assert!(world.number("SELECT count(*) FROM stg_flights") > 5_000);
    let endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c";
    assert_eq!(world.err("query", json!({ "sql": endless })).code, Code::LimitExceeded);
    let huge = world.err("query", json!({ "sql": "SELECT hex(randomblob(400000000))" }));
    assert_eq!(huge.code, Code::LimitExceeded, "{huge}");
    let misspelt = world.err("query", json!({ "sql": "SELECT \"departure\" FROM stg_flights" }));
    assert!(misspelt.message.starts_with("no such column"), "{misspelt:?}");
}

#[test]
fn query_caps_rows_and_cells() {
    let world = World::new();
    let all = world.ok("query", json!({ "sql": "SELECT src_row FROM stg_flights", "max_rows": 5_000 }));
    assert_eq!((&all["row_count"], &all["truncated"]), (&json!(1_000), &json!(true)));
    let cell = world.ok("query", json!({ "sql": "SELECT replace(hex(zeroblob(5000)), '00', 'x') AS long" }));
    assert_eq!(cell["rows"][0]["long"].as_str().unwrap().len(), 2_000);
    let wide = "SELECT replace(hex(zeroblob(5000)), '00', 'x') AS long FROM stg_flights";
    let wide = world.ok("query", json!({ "sql": wide, "max_rows": 1_000 }));
    assert_eq!(wide["truncated"], json!(true));
    assert!((400_000..600_000).contains(&wide.to_string().len()), "{}", wide.to_string().len());
}

fn migration(up: &str, down: &str) -> serde_json::Value {
    json!({ "name": "m", "up": up, "down": down, "environment": "staging" })
}

#[test]
fn a_migration_must_have_a_true_way_back() {
    let world = World::new();
    let up = "CREATE VIEW v_delays AS SELECT carrier, delayed_15 FROM fact_daily_carrier; CREATE INDEX i_origin ON stg_flights (origin)";
    let error = world.err("apply_migration", migration(up, "DROP VIEW v_delays"));
    assert_eq!(error.message, "the down script does not undo the up script; nothing was applied");
    let none = "UPDATE ops_column_map SET source_column = 'x' WHERE column_name = 'nothing'";
    assert!(world.err("apply_migration", migration(none, none)).message.contains("changes nothing"));

    world.ok("apply_migration", migration(up, "DROP INDEX i_origin; DROP VIEW v_delays"));
    assert!(world.ok("describe_table", json!({ "table": "v_delays", "environment": "staging" }))["columns"].is_array());
    assert_eq!(world.err("describe_table", json!({ "table": "v_delays" })).code, Code::NotFound);
    world.ok("revert_migration", json!({ "name": "m", "environment": "staging" }));
    assert_eq!(
        world.err("describe_table", json!({ "table": "v_delays", "environment": "staging" })).code,
        Code::NotFound
    );
}

#[test]
fn columns_are_added_and_renamed_and_come_back() {
    let world = World::new();
    let names = |table: &str| {
        let columns =
            world.ok("describe_table", json!({ "table": table, "environment": "staging" }))["columns"].clone();
        columns.as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (table, up, down, there) in [
        ("stg_flights", "ADD COLUMN gate TEXT", "DROP COLUMN gate", "gate"),
        ("stg_flights", "RENAME COLUMN tailnum TO tail", "RENAME COLUMN tail TO tailnum", "tail"),
        ("fact_daily_carrier", "RENAME COLUMN delayed_15 TO late", "RENAME COLUMN late TO delayed_15", "late"),
    ] {
        let before = names(table);
        let [up, down] = [up, down].map(|what| format!("ALTER TABLE {table} {what}"));
        world.ok("apply_migration", migration(&up, &down));
        assert!(names(table).iter().any(|name| name == there), "{up}");
        world.ok("revert_migration", json!({ "name": "m", "environment": "staging" }));
        assert_eq!(names(table), before, "{down}");
    }
}

#[test]
fn a_migration_is_no_free_write() {
    let world = World::new();
    for up in [
        "DELETE FROM fact_daily_carrier",
        "UPDATE ops_grants SET privilege = 'DELETE'",
        "INSERT INTO ops_grants VALUES ('etl_writer', 'dim_airline', 'DELETE')",
        "DROP TABLE stg_flights",
        "ALTER TABLE src_flights RENAME COLUMN dep_delay TO d",
        "CREATE TRIGGER t AFTER INSERT ON ops_column_map BEGIN DELETE FROM fact_daily_carrier; END",
        "CREATE TABLE copy AS SELECT * FROM _effects",
        "COMMIT; DELETE FROM ops_runs",
        "ROLLBACK",
        "ATTACH 'x.db' AS x",
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_master SET sql = ''",
        "UPDATE sqlite_temp_master SET sql = ''",
        "CREATE TABLE ops_new (a)",
    ] {
        let error = world.err("apply_migration", migration(up, "DROP TABLE copy"));
        assert!(matches!(error.code, Code::Denied | Code::Sql), "{up}: {error:?}");
        assert!(error.message.starts_with("up script: "), "{up}: {error:?}");
    }
    assert_eq!(world.effects(), 0);
}

#[test]
fn bad_names_reach_no_statement() {
    let world = World::new();
    let up =
        "UPDATE ops_column_map SET source_column = 'dep_delay) FROM src_flights; --' WHERE column_name = 'dep_delay'";
    let down = "UPDATE ops_column_map SET source_column = 'dep_delay' WHERE column_name = 'dep_delay'";
    world.ok("apply_migration", migration(up, down));
    let rerun = json!({ "pipeline": "flights_daily", "business_date": "2013-01-22", "environment": "staging" });
    assert!(world.err("rerun_pipeline", rerun).message.contains("is not a column name"));
    for table in ["stg_flights; DROP TABLE stg_flights", "_effects", "sqlite_master", "\"", "no_such"] {
        for tool in ["profile_table", "describe_table", "table_privileges"] {
            assert_eq!(world.err(tool, json!({ "table": table })).code, Code::NotFound, "{tool} {table}");
        }
    }
}

#[test]
fn wrong_arguments_name_what_is_wrong() {
    let world = World::new();
    let message = |tool: &str, arguments| world.err(tool, arguments).message;
    let mut all = vec![
        message("list_runs", json!({ "status": "failed" })),
        message("list_runs", json!({ "state": "broken" })),
        message("get_run", json!({ "run_id": "x" })),
        message("get_log", json!({ "run_id": "flights_daily-2013-01-22-1", "task": "load" })),
        message("profile_table", json!({ "table": "stg_flights", "business_date": "yesterday" })),
    ];
    for (date, from_task) in [("2013-01-24", "extract"), ("2013-01-05", "stage")] {
        let rerun = json!({ "pipeline": "flights_daily", "business_date": date, "environment": "production", "from_task": from_task });
        all.push(message("rerun_pipeline", rerun));
    }
    expect![[r#"
        arguments of list_runs: unknown field `status`, expected one of `state`, `since`, `environment`, `limit`
        state "broken" does not exist; use success or failed
        no run "x" in production; see list_runs
        flights_daily has no task "load"; its tasks are extract, stage, publish
        "yesterday" is not a date; write it as 2013-01-24
        2013-01-24 is not scheduled yet; the last business date is 2013-01-22
        src_flights holds no rows for 2013-01-05 in production; rerun flights_daily from task extract first"#]]
    .assert_eq(&all.join("\n"));
}

#[test]
fn an_ordinary_weekend_is_no_anomaly() {
    let world = World::new();
    for _ in 0..4 {
        world.ok("advance", json!({}));
    }
    let profile = world.ok("profile_table", json!({ "table": "src_flights" }));
    assert_eq!((&profile["business_date"], &profile["weekday"]), (&json!("2013-01-26"), &json!("Saturday")));
    assert_eq!(profile["baseline_dates"], json!(["2013-01-19", "2013-01-12", "2013-01-05"]));
    let ratio = profile["measures"][0]["ratio"].as_f64().unwrap();
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
}

#[test]
fn every_tool_says_what_it_does() {
    let mut all = String::new();
    for spec in agent_tools() {
        let tool = spec.describe();
        let annotations = tool.annotations.unwrap();
        assert_eq!(annotations.read_only_hint, Some(spec.effect == ToolEffect::Reads));
        for schema in [Some(tool.input_schema), tool.output_schema] {
            assert_eq!(schema.unwrap()["type"], "object", "{}", spec.name);
        }
        all.push_str(&format!("{} {:?}\n", spec.name, spec.effect));
    }
    expect![[r#"
        list_pipelines Reads
        list_runs Reads
        get_run Reads
        get_log Reads
        list_tables Reads
        describe_table Reads
        compare_schema Reads
        profile_table Reads
        query Reads
        check_upstream Reads
        table_privileges Reads
        effect_status Reads
        rerun_pipeline Redoes
        quarantine Adds
        release_quarantine Sets
        hold_partition Adds
        release_hold Sets
        request_redelivery Sets
        apply_migration Replaces
        revert_migration Replaces
        grant_privilege Sets
        revoke_privilege Replaces
    "#]]
    .assert_eq(&all);
}

#[test]
fn out_of_range_and_duplicates_are_rules_too() {
    let world = World::new();
    let arguments = |rule: &str, extra: serde_json::Value| {
        let mut all = json!({ "table": "src_flights", "rule": rule, "business_date": "2013-01-22", "environment": "staging", "reason": "test" });
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        all
    };
    let late = world.ok("quarantine", arguments("out_of_range", json!({ "column": "dep_delay", "max": 150 })));
    let sql = "SELECT count(*) AS n FROM src_flights WHERE CAST(dep_delay AS INTEGER) > 150";
    assert_eq!(world.ok("query", json!({ "sql": sql, "environment": "staging" }))["rows"][0]["n"], late["rows"]);
    assert_eq!(world.err("quarantine", arguments("duplicate_key", json!({}))).code, Code::Conflict);
    assert_eq!(
        world.err("quarantine", arguments("out_of_range", json!({ "column": "dep_delay", "max": 0 }))).code,
        Code::LimitExceeded
    );
    assert_eq!(
        world.err("quarantine", arguments("null_in_column", json!({ "column": "x OR 1" }))).code,
        Code::NotFound
    );
}
