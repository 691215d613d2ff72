//! The same tools over SQLite.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::call;
use crate::config::Config;
use crate::tools::App;

fn app() -> (App, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let made = rusqlite::Connection::open(dir.path().join("books.db")).unwrap();
    made.execute_batch(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount REAL, status TEXT); \
         INSERT INTO orders (amount, status) VALUES (1.5, 'new'), (2.5, 'paid'), (NULL, 'new'); \
         CREATE TABLE wide AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i FROM n; \
         CREATE TABLE secrets (token TEXT); CREATE VIEW leak AS SELECT token FROM secrets;",
    )
    .unwrap();
    let text = "
roles:
  reader: {limits: [SELECT_ONLY, MAX_ROWS_100, MAX_EXECUTION_TIME_1s], tables: [main.orders, main.leak, main.wide]}
  writer: {limits: [MAX_EXECUTION_TIME_1s], tables: [main.*], deny_tables: [main.secrets]}
  approved: {tables: [main.*], approved_by_runtime: true}
  careful: {limits: [WHERE_ABOVE_1000_ROWS], tables: [main.*]}
connections:
  reader: {sqlite: books.db, role: reader, environment: production}
  writer: {sqlite: books.db, role: writer, environment: staging}
  approved: {sqlite: books.db, role: approved, environment: staging}
  careful: {sqlite: books.db, role: careful, environment: staging}
  production: {sqlite: books.db, role: writer, environment: production}
";
    let config = Config::parse(text, dir.path(), &|_| None).unwrap();
    (App { config: Arc::new(config) }, dir)
}

fn on(connection: &str, sql: &str) -> Value {
    json!({ "connection": connection, "sql": sql })
}

#[tokio::test]
async fn reading_works_within_the_limits() {
    let (app, _dir) = app();
    let rows = call(&app, "query", on("reader", "SELECT status, sum(amount) AS total FROM orders GROUP BY status"))
        .await
        .unwrap();
    assert_eq!(rows["rows"], json!([{ "status": "new", "total": 1.5 }, { "status": "paid", "total": 2.5 }]));
    let capped = call(&app, "query", on("reader", "SELECT i FROM wide")).await.unwrap();
    assert_eq!((&capped["row_count"], &capped["truncated"]), (&json!(100), &json!(true)));
    let endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r";
    let error = call(&app, "query", on("reader", endless)).await.unwrap_err();
    assert_eq!(error.code.class(), "timeout", "{error}");
    let plan = call(&app, "explain", on("writer", "DELETE FROM orders WHERE id = 1")).await.unwrap();
    assert_eq!(plan["verdict"], "needs-approval");
    assert!(plan["plan"][0].as_str().unwrap().contains("orders"), "{plan}");
    let profile = call(&app, "profile_table", json!({ "connection": "writer", "table": "orders" })).await.unwrap();
    assert_eq!((&profile["row_count"], &profile["columns"][1]["nulls"]), (&json!(3), &json!(1)));
    let tables = call(&app, "list_tables", json!({ "connection": "reader" })).await.unwrap();
    assert_eq!(tables["tables"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn what_may_not_run_is_refused_and_changes_nothing() {
    let (app, dir) = app();
    let before = std::fs::read(dir.path().join("books.db")).unwrap();
    for (connection, tool, sql, rule) in [
        ("reader", "query", "SELECT 1; DELETE FROM orders", "one-statement"),
        ("reader", "query", "-- nothing", "no-statement"),
        ("reader", "query", "SELEC 1", "syntax"),
        ("reader", "query", "SELECT token FROM secrets", "table-list"),
        ("reader", "query", "SELECT token FROM leak", "table-list"),
        ("reader", "query", "SELECT (SELECT max(token) FROM secrets)", "table-list"),
        ("reader", "query", "SELECT id FROM orders ORDER BY load_extension('x')", "function-list"),
        ("reader", "query", "SELECT id FROM orders LIMIT randomblob(1)", "function-list"),
        ("reader", "execute", "DELETE FROM orders WHERE id = 1", "select-only"),
        ("reader", "execute", "INSERT INTO orders (id) VALUES (9)", "select-only"),
        ("reader", "execute", "PRAGMA query_only = 0", "unknown-statement"),
        ("writer", "execute", "ATTACH 'x.db' AS x", "unknown-statement"),
        ("writer", "execute", "PRAGMA writable_schema = 1", "unknown-statement"),
        ("writer", "execute", "BEGIN", "unknown-statement"),
        ("writer", "execute", "VACUUM INTO 'copy.db'", "unknown-statement"),
        (
            "writer",
            "execute",
            "CREATE TRIGGER t AFTER INSERT ON orders BEGIN DELETE FROM orders; END",
            "unknown-statement",
        ),
        ("writer", "execute", "DELETE FROM orders", "whole-table"),
        ("writer", "execute", "UPDATE orders SET amount = 0 WHERE 1 = 1", "whole-table"),
        ("writer", "execute", "DROP TABLE orders", "destructive"),
        ("writer", "execute", "INSERT INTO secrets VALUES ('x')", "table-list"),
        ("production", "execute", "INSERT INTO orders (id) VALUES (9)", "production-write"),
        ("careful", "query", "SELECT i FROM wide", "where-required"),
        ("reader", "query", "SELECT a.i FROM wide a, wide b", "cartesian-join"),
    ] {
        let error = call(&app, tool, on(connection, sql)).await.unwrap_err();
        assert_eq!(error.rule.as_deref(), Some(rule), "{sql}: {error}");
    }
    assert_eq!(std::fs::read(dir.path().join("books.db")).unwrap(), before);
    assert!(!dir.path().join("copy.db").exists());
}

#[tokio::test]
async fn writing_works_where_it_may() {
    let (app, _dir) = app();
    let added =
        call(&app, "execute", on("writer", "INSERT INTO orders (amount, status) VALUES (4, 'new')")).await.unwrap();
    assert_eq!(added["affected"], json!(1));
    let deleted = call(&app, "execute", on("approved", "DELETE FROM orders WHERE id = 1")).await.unwrap();
    assert_eq!((&deleted["affected"], &deleted["rule"]), (&json!(1), &json!("whole-table")));
    let left = call(&app, "query", on("reader", "SELECT count(*) AS n FROM orders")).await.unwrap();
    assert_eq!(left["rows"], json!([{ "n": 3 }]));
    let error = call(&app, "table_privileges", json!({ "connection": "reader", "table": "orders" })).await.unwrap_err();
    assert_eq!(error.code.as_str(), "not_found");
}

/// The second wall alone: a connection that reads refuses a write that nobody judged.
#[test]
fn a_reading_connection_cannot_write() {
    let (app, _dir) = app();
    let crate::config::Database::Sqlite(file) = &app.config.connections["reader"].database else {
        panic!("not SQLite")
    };
    let never = tokio_util::sync::CancellationToken::new();
    let limits = crate::wall::Limits { rows: 1, bytes: 100 };
    let open =
        |effect| crate::wall::sqlite::Lite::open(file, effect, std::time::Duration::from_secs(1), &never).unwrap();
    let reading = open(crate::guard::Effect::Reads);
    assert!(reading.run("DELETE FROM orders", limits).is_err());
    assert!(reading.run("ATTACH ':memory:' AS x", limits).is_err());
    assert_eq!(open(crate::guard::Effect::Writes).run("DELETE FROM orders", limits).unwrap().1, 3);
}
