//! Limits, cancelling, sessions and errors, seen from outside.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Cluster, LIMIT_S, call};
use crate::tools::{App, Call};

/// A statement that never ends by itself.
pub(super) const ENDLESS: &str =
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r";

fn analyst(sql: &str) -> Value {
    json!({ "connection": "analyst", "sql": sql })
}

/// Statements of the agents that the server still works on.
pub(super) async fn running(admin: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'agent%' AND state <> 'idle'";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_the_server() {
    let cluster = Cluster::start().await;
    let (app, admin) = (cluster.app(), cluster.admin().await);
    rows_and_bytes(&patient(&app)).await;
    time(&app, &admin).await;
    cancel(&app, &admin).await;
    sessions_are_clean(&app).await;
    sizes_come_from_the_catalog(&app).await;
}

/// The same connections with the time that roles have where they name none: a busy machine needs it for 200 MB.
fn patient(app: &App) -> App {
    let mut config = (*app.config).clone();
    for connection in config.connections.values_mut() {
        connection.role.max_execution_time = crate::guard::role::EXECUTION_TIME_DEFAULT;
    }
    App { config: config.into() }
}

async fn rows_and_bytes(app: &App) {
    let capped = call(app, "query", analyst("SELECT id FROM events")).await.unwrap();
    assert_eq!((&capped["row_count"], &capped["truncated"]), (&json!(10_000), &json!(true)));
    let exact = call(app, "query", analyst("SELECT id FROM events WHERE id <= 10000")).await.unwrap();
    assert_eq!((&exact["row_count"], &exact["truncated"]), (&json!(10_000), &json!(false)));
    let fewer =
        call(app, "query", json!({ "connection": "analyst", "sql": "TABLE events", "max_rows": 3 })).await.unwrap();
    assert_eq!((&fewer["row_count"], &fewer["truncated"]), (&json!(3), &json!(true)));
    let large = call(app, "query", analyst("SELECT repeat('x', 200000000) AS x")).await.unwrap();
    let text = large["rows"][0]["x"].as_str().unwrap();
    assert!(text.len() <= 1_000_000 && text.len() > 999_000, "{}", text.len());
    assert_eq!(large["truncated"], json!(true));
    let one = call(app, "query", analyst("SELECT array_agg(repeat('y', 100)) AS y FROM events")).await.unwrap();
    assert!(serde_json::to_string(&one).unwrap().len() < 1_100_000);
    assert_eq!(one["truncated"], json!(true));
    let twice = call(app, "query", analyst("SELECT 1 AS a, 2 AS a, 1.50 AS b, null AS c")).await.unwrap();
    assert_eq!(twice["rows"], json!([{ "a": 1, "a_2": 2, "b": 1.5, "c": null }]));
}

async fn time(app: &App, admin: &tokio_postgres::Client) {
    let began = Instant::now();
    let error = call(app, "query", analyst(ENDLESS)).await.unwrap_err();
    assert_eq!(error.code.class(), "timeout", "{error}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(LIMIT_S) && took < Duration::from_secs(LIMIT_S * 2 + 6), "{took:?}");
    assert_eq!(running(admin).await, 0);
}

async fn cancel(app: &App, admin: &tokio_postgres::Client) {
    let cancelled = CancellationToken::new();
    let context = Call { cancelled: cancelled.clone() };
    let call = app.call("query", analyst(ENDLESS), &context);
    tokio::pin!(call);
    // It is running on the server before it is cancelled.
    let error = loop {
        tokio::select! {
            ended = &mut call => break ended.unwrap_err(),
            count = running(admin), if !cancelled.is_cancelled() => if count > 0 { cancelled.cancel() },
        }
    };
    assert_eq!(error.code.as_str(), "cancelled", "{error}");
    assert_eq!(running(admin).await, 0);
}

async fn sessions_are_clean(app: &App) {
    for attempt in [
        "SET statement_timeout = 0",
        "SELECT set_config('statement_timeout', '0', false)",
        "SET ROLE admin",
        "RESET ALL",
    ] {
        for tool in ["query", "execute"] {
            let refused = call(app, tool, json!({ "connection": "engineer", "sql": attempt })).await.unwrap_err();
            assert_eq!(refused.code.as_str(), "denied", "{attempt}");
        }
    }
    let who = call(app, "query", analyst("SELECT current_user AS me, current_schemas(true) AS path")).await.unwrap();
    assert_eq!(who["rows"], json!([{ "me": "agent_ro", "path": ["pg_catalog", "public"] }]));
}

async fn sizes_come_from_the_catalog(app: &App) {
    for (sql, rule) in [
        ("SELECT id FROM huge", "where-required"),
        ("SELECT * FROM huge WHERE id = 1", "star"),
        ("SELECT o.id FROM orders o, events e", "cartesian-join"),
        ("SELECT o.evil FROM orders o", "field-function"),
    ] {
        let error = call(app, "query", analyst(sql)).await.unwrap_err();
        assert_eq!(error.rule.as_deref(), Some(rule), "{sql}");
    }
    assert!(call(app, "query", analyst("SELECT id FROM huge WHERE id = 1")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_where_they_may_and_errors_have_classes() {
    let cluster = Cluster::start().await;
    let app = cluster.app();
    let engineer = |sql: &str| json!({ "connection": "engineer", "sql": sql });
    let written = call(&app, "execute", engineer("UPDATE orders SET status = 'void' WHERE id = 7")).await.unwrap();
    assert_eq!((&written["affected"], &written["effect"]), (&json!(1), &json!("writes")));
    let returned =
        call(&app, "execute", engineer("INSERT INTO orders (amount) VALUES (9) RETURNING id")).await.unwrap();
    assert_eq!(returned["rows"], json!([{ "id": 41 }]));
    let read = call(&app, "query", analyst("SELECT status FROM orders WHERE id = 7")).await.unwrap();
    assert_eq!(read["rows"], json!([{ "status": "void" }]));
    for (connection, tool, sql, code, class, rule) in [
        ("engineer", "query", "DELETE FROM orders WHERE id = 1", "denied", "denied", "read-tool"),
        ("engineer", "execute", "DELETE FROM orders", "needs_approval", "denied", "whole-table"),
        ("engineer", "execute", "DROP TABLE orders", "needs_approval", "denied", "destructive"),
        ("production", "execute", "DELETE FROM orders WHERE id = 1", "denied", "denied", "production-write"),
        ("unapproved", "execute", "DELETE FROM orders WHERE id = 1", "needs_approval", "denied", "production-write"),
        (
            "engineer",
            "execute",
            "INSERT INTO events (id, created_at) VALUES (1, now())",
            "conflict",
            "conflict",
            "23505",
        ),
        ("engineer", "query", "SELECT nothing FROM orders", "statement", "invalid", "42703"),
        ("engineer", "query", "SELECT 1 / 0", "statement", "invalid", "22012"),
        ("engineer", "execute", "CREATE INDEX ON orders (id)", "permission", "denied", "42501"),
        ("analyst", "query", "SELECT * FROM orders WHERE id = $1", "invalid_arguments", "invalid", ""),
    ] {
        let error = call(&app, tool, json!({ "connection": connection, "sql": sql })).await.unwrap_err();
        let found = (error.code.as_str(), error.code.class(), error.rule.as_deref().unwrap_or(""));
        assert_eq!(found, (code, class, rule), "{sql}: {error}");
        assert!(!error.message.contains("canary-secret"));
    }
    let approved = json!({ "connection": "healer", "sql": "DELETE FROM orders WHERE id = 1" });
    assert_eq!(call(&app, "execute", approved).await.unwrap()["affected"], json!(1));
    migrations_can_be_remembered_in_a_file(&cluster, &app).await;
    waiting_for_a_lock_is_transient(&cluster, &app).await;
}

/// Nothing of ours is added to the database; an attempt whose end nobody saw is looked into.
async fn migrations_can_be_remembered_in_a_file(cluster: &Cluster, app: &App) {
    let file = cluster.dir.path().join("migrations.db");
    let mut config = (*app.config).clone();
    let healer = config.connections.get_mut("healer").unwrap();
    (healer.migrations, healer.migrations_file) = (None, Some(file.clone()));
    let app = App { config: config.into() };
    let script = |to: &str| format!("UPDATE ops.column_map SET source_column = '{to}' WHERE pipeline = 'sales'");
    let asked = json!({ "connection": "healer", "name": "0001", "up": script("price"), "down": script("unit_price") });
    assert_eq!(call(&app, "apply_migration", asked.clone()).await.unwrap()["changed"], json!(true));
    assert_eq!(call(&app, "apply_migration", asked.clone()).await.unwrap()["changed"], json!(false));
    let remembered = rusqlite::Connection::open(file).unwrap();
    remembered.execute("UPDATE migrations SET progress = 'started'", []).unwrap();
    assert_eq!(call(&app, "apply_migration", asked).await.unwrap()["changed"], json!(false));
    let progress: String = remembered.query_row("SELECT progress FROM migrations", [], |row| row.get(0)).unwrap();
    assert_eq!(progress, "applied");
    let there = call(&app, "list_tables", json!({ "connection": "healer", "schema": "ops" })).await.unwrap();
    assert_eq!(there["tables"].as_array().unwrap().len(), 1);
}

async fn waiting_for_a_lock_is_transient(cluster: &Cluster, app: &App) {
    let admin = cluster.admin().await;
    admin.batch_execute("BEGIN; LOCK TABLE drop_requests").await.unwrap();
    let waits = json!({ "connection": "waiter", "sql": "SELECT id FROM drop_requests" });
    let mut config = (*app.config).clone();
    let mut waiter = config.connections["engineer"].clone();
    waiter.role.max_execution_time = Duration::from_secs(20);
    config.connections.insert("waiter".to_owned(), waiter);
    let error = call(&App { config: config.into() }, "query", waits).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.code.class()), ("contention", "transient"), "{error}");
    let mut config = (*app.config).clone();
    let mut nowhere = config.connections["analyst"].clone();
    let crate::config::Database::Postgres(server) = &mut nowhere.database else { panic!("not PostgreSQL") };
    server.config = "host=127.0.0.1 port=1 user=x".parse().unwrap();
    config.connections.insert("nowhere".to_owned(), nowhere);
    let lost = json!({ "connection": "nowhere", "sql": "SELECT 1" });
    let error = call(&App { config: config.into() }, "query", lost).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.code.class()), ("connection", "transient"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_holds_over_calls_and_days() {
    let cluster = Cluster::start().await;
    let app = cluster.app();
    let hold = |keys: Value, more: Value| {
        let mut args = json!({ "connection": "healer", "source_table": "public.orders", "keys": keys, "reason": "bad",
                               "business_date": "2026-03-31", "day_column": "created_at", "max_share": 0.05 });
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    let held = async || {
        let sql = "SELECT count(*) AS n FROM dq.quarantine WHERE released_at IS NULL";
        let counted = call(&app, "query", json!({ "connection": "engineer", "sql": sql })).await.unwrap();
        counted["rows"][0]["n"].as_i64().unwrap()
    };
    // Forty records: two are the twentieth part.
    let two = call(&app, "quarantine", hold(json!(["1", "2"]), json!({}))).await.unwrap();
    assert_eq!((&two["changed"], &two["share"]), (&json!(2), &json!(0.05)));
    for (keys, more, code) in [
        (json!(["3"]), json!({}), "conflict"),
        (json!(["3"]), json!({ "business_date": "2026-04-01" }), "not_found"),
        (json!(["3"]), json!({ "day_column": null }), "invalid_arguments"),
        (json!(["3"]), json!({ "max_share": 1.5 }), "invalid_arguments"),
        (json!(["3"]), json!({ "max_share": -0.1 }), "invalid_arguments"),
    ] {
        let error = call(&app, "quarantine", hold(keys, more.clone())).await.unwrap_err();
        assert_eq!(error.code.as_str(), code, "{more}: {error}");
        assert_eq!(held().await, 2, "{more}");
    }
    assert_eq!(call(&app, "quarantine", hold(json!(["1", "2"]), json!({}))).await.unwrap()["changed"], json!(0));
    let release = json!({ "connection": "healer", "source_table": "public.orders", "keys": ["1"] });
    assert_eq!(call(&app, "release_quarantine", release).await.unwrap()["changed"], json!(1));
    let other = call(&app, "quarantine", hold(json!(["3"]), json!({}))).await.unwrap();
    assert_eq!((&other["changed"], &other["share"], held().await), (&json!(1), &json!(0.05), 2));
}

/// One record that is held back, in the words of the tool, of a table of forty.
const HOLD_ONE: &str = "INSERT INTO dq.quarantine (source_table, source_pk, business_date, reason) \
    VALUES ('public.orders', '9', DATE '2026-03-31', 'bad')";

/// Another session holds a record back and has not committed; it takes the lock of the tool if it is told to. What a call
/// says that would hold back one more, with room for one.
async fn beside_another(lock: &str) -> (Result<Value, crate::error::SqlError>, i64) {
    let cluster = Cluster::start().await;
    let (app, admin, other) = (patient(&cluster.app()), cluster.admin().await, cluster.admin().await);
    other.batch_execute(&format!("BEGIN; {lock}; {HOLD_ONE}")).await.unwrap();
    let args = json!({ "connection": "healer", "source_table": "public.orders", "keys": ["1"], "reason": "bad",
                       "business_date": "2026-03-31", "day_column": "created_at", "max_share": 0.025 });
    let mut ended = None;
    let held = call(&app, "quarantine", args);
    tokio::pin!(held);
    // Until it has ended, or waits for the other.
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while ended.is_none() {
        tokio::select! {
            said = &mut held => ended = Some(said),
            waiting = admin.query_one(waits, &[]) => if waiting.unwrap().get::<_, i64>(0) > 0 { break },
        }
    }
    other.batch_execute("COMMIT").await.unwrap();
    let said = match ended {
        Some(said) => said,
        None => held.await,
    };
    let count = admin.query_one("SELECT count(*) FROM dq.quarantine", &[]).await.unwrap().get(0);
    (said, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_holds_beside_a_call_that_is_not_over() {
    let lock = "SELECT pg_advisory_xact_lock(hashtext('interlock quarantine'), hashtext('public.orders'))";
    let (said, held) = beside_another(lock).await;
    assert_eq!((said.unwrap_err().code.as_str(), held), ("conflict", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_lock_two_calls_pass_a_share_together() {
    let (said, held) = beside_another("SELECT 1").await;
    assert!(said.is_ok() && held == 2, "the weakened variant has to be caught: {said:?}, {held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_hold_back_what_the_share_allows_and_no_more() {
    let cluster = Cluster::start().await;
    let (app, admin) = (patient(&cluster.app()), cluster.admin().await);
    let one = |key: usize| {
        let args = json!({ "connection": "healer", "source_table": "public.orders", "keys": [key.to_string()],
                           "reason": "bad", "business_date": "2026-03-31", "day_column": "created_at", "max_share": 0.1 });
        call(&app, "quarantine", args)
    };
    let said = tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7), one(8));
    let said: [_; 8] = said.into();
    let refused: Vec<&str> = said.iter().filter_map(|said| said.as_ref().err()).map(|why| why.code.as_str()).collect();
    let held: i64 = admin.query_one("SELECT count(*) FROM dq.quarantine", &[]).await.unwrap().get(0);
    // Four of forty.
    assert_eq!((held, refused), (4, vec!["conflict"; 4]));
}
