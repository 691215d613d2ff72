//! The two walls against the recorded cases: allowed ones run, denied ones change nothing, with the guard or without it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Cluster, call};
use crate::config::{Connection, Database};
use crate::guard::{Effect, Environment, Verdict};
use crate::wall::Limits;
use crate::wall::postgres::{Purpose, run, with_session};

/// Statements with the letters of their verdicts (analyst in staging and production, engineer in staging and production).
fn cases() -> Vec<(String, String)> {
    let line = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| case[name].as_str().unwrap().to_owned();
        (text("verdicts"), text("sql"))
    };
    include_str!("../guard/tests/cases.jsonl").lines().map(line).collect()
}

/// A statement straight against the database, with nobody looking at it before.
async fn unguarded(connection: &Connection, sql: &str, effect: Effect) -> crate::error::Result<()> {
    let Database::Postgres(server) = &connection.database else { panic!("not PostgreSQL") };
    let purpose = Purpose { effect, statement_timeout: Duration::from_millis(300) };
    let limits = Limits { rows: 100, bytes: 100_000 };
    with_session(connection, server, purpose, &CancellationToken::new(), async |t| {
        run(t, sql, limits).await.map(|_| ())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_changes_nothing_even_without_the_guard() {
    let cluster = Cluster::start().await;
    let (app, admin) = (cluster.app(), cluster.admin().await);
    let (analyst, engineer) = (&app.config.connections["analyst"], &app.config.connections["engineer"]);
    let before = cluster.state(&admin).await;
    let mut denied = 0;
    for (verdicts, sql) in cases() {
        if verdicts.starts_with('d') {
            denied += 1;
            let decision =
                crate::guard::judge(&sql, &analyst.role, Environment::Staging, &crate::guard::Facts::default());
            assert_eq!(decision.verdict, Verdict::Deny, "{sql}");
            let _ = unguarded(analyst, &sql, Effect::Reads).await;
            assert_eq!(cluster.state(&admin).await, before, "{sql}");
        }
    }
    assert!(denied > 100, "{denied}");
    // Attribute notation and a view over a function with side effects cannot be read off the text.
    for sql in ["SELECT (o).evil FROM orders o", "SELECT o.evil FROM orders o", "SELECT * FROM v_calls_side_effect_fn"]
    {
        assert!(unguarded(analyst, sql, Effect::Reads).await.is_err(), "{sql}");
        assert_eq!(cluster.state(&admin).await, before, "{sql}");
    }
    // A wall without READ ONLY would be seen.
    unguarded(engineer, "SELECT side_effect_fn()", Effect::Writes).await.unwrap();
    assert_ne!(cluster.state(&admin).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_runs_and_what_is_denied_names_its_rule() {
    let cluster = Cluster::start().await;
    let (app, admin) = (cluster.app(), cluster.admin().await);
    let before = cluster.state(&admin).await;
    for (verdicts, sql) in cases() {
        let answer = call(&app, "query", json!({ "connection": "analyst", "sql": sql, "max_rows": 100 })).await;
        match answer {
            Ok(rows) => {
                assert!(verdicts.starts_with('a'), "{sql}");
                assert!(rows["row_count"].as_u64().unwrap() <= 100);
            }
            // Those that never end, end by the clock.
            Err(error) if verdicts.starts_with('a') => assert_eq!(error.code.class(), "timeout", "{sql}: {error}"),
            Err(error) => {
                assert_eq!(error.code.class(), "denied", "{sql}: {error}");
                assert!(error.message.contains(&format!("rule {}", error.rule.as_deref().unwrap())), "{error}");
            }
        }
        assert_eq!(cluster.state(&admin).await, before, "{sql}");
    }
}
