//! Writes `TOOLS.md` from real calls, and checks every answer against the schema its tool declares.

use std::fmt::Write;

use expect_test::expect_file;
use serde_json::{Value, json};

use super::{Cluster, call};
use crate::registry::{ToolSpec, tools};
use crate::tools::App;

/// Elements of a list that the page shows.
const SHOWN_MAX: usize = 3;

/// The page while it is written, and the server that answers.
struct Page {
    app: App,
    text: String,
    called: Vec<String>,
}

impl Page {
    /// Calls a tool, checks both schemas, and shows call and answer.
    async fn call(&mut self, name: &str, arguments: Value) -> Value {
        let tool = tools().iter().find(|t| t.name == name).unwrap().describe();
        check_schema(name, &tool.input_schema, &arguments);
        self.called.push(name.to_owned());
        writeln!(self.text, "```text\n{name} {arguments}").unwrap();
        match call(&self.app, name, arguments).await {
            Ok(value) => {
                check_schema(name, tool.output_schema.as_ref().unwrap(), &value);
                writeln!(self.text, "{}\n```\n", serde_json::to_string_pretty(&shorten(&value)).unwrap()).unwrap();
                value
            }
            Err(error) => {
                let rule = error.rule.as_deref().unwrap_or("-");
                writeln!(
                    self.text,
                    "isError: {} (class {}, rule {rule}): {error}\n```\n",
                    error.code.as_str(),
                    error.code.class()
                )
                .unwrap();
                Value::Null
            }
        }
    }
}

fn check_schema(name: &str, schema: &rmcp::model::JsonObject, value: &Value) {
    let validator = jsonschema::validator_for(&Value::Object(schema.clone())).unwrap();
    let errors: Vec<_> = validator.iter_errors(value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?} in {value}");
}

/// Cuts lists; the age of a row is the one thing that differs from run to run.
fn shorten(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut shown: Vec<Value> = items.iter().take(SHOWN_MAX).map(shorten).collect();
            if items.len() > SHOWN_MAX {
                shown.push(json!(format!("… {} more", items.len() - SHOWN_MAX)));
            }
            Value::Array(shown)
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                (key.clone(), if key == "age_s" && !value.is_null() { json!(3600.0) } else { shorten(value) })
            };
            Value::Object(fields.iter().map(field).collect())
        }
        other => other.clone(),
    }
}

fn table(page: &mut Page) {
    page.text.push_str("| tool | effect | arguments (`?` optional) | what it does |\n| --- | --- | --- | --- |\n");
    for spec in tools() {
        let ToolSpec { name, effect, description, .. } = spec;
        let input = spec.describe().input_schema;
        let required = input.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let mark = |name: &String| if required.contains(&json!(name)) { name.clone() } else { format!("{name}?") };
        let names: Vec<String> =
            input["properties"].as_object().map(|p| p.keys().map(mark).collect()).unwrap_or_default();
        writeln!(page.text, "| `{name}` | {effect:?} | {} | {description} |", names.join(", ")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_is_current_and_answers_satisfy_their_schemas() {
    let cluster = Cluster::start().await;
    let mut page = Page { app: cluster.app(), text: String::new(), called: Vec::new() };
    page.text.push_str(
        "# Tools of `interlock mcp sql`\n\nWritten by the test `reference`; `UPDATE_EXPECT=1` rewrites it. Lists are cut after \
         three elements.\n\nErrors are results with `isError`; `structuredContent.error` has `code`, `class` (`transient`, `timeout`, \
         `resource`, `conflict`, `invalid`, `not_found`, `denied`, `outcome_unknown`, `permanent`), `rule` and `message`.\n\n",
    );
    table(&mut page);
    page.text.push_str("\n## Reading\n\n");
    reading(&mut page).await;
    page.text.push_str("## Changing\n\n");
    changing(&mut page).await;
    for spec in tools() {
        assert!(page.called.iter().any(|name| name == spec.name), "{} has no example", spec.name);
    }
    expect_file!["../TOOLS.md"].assert_eq(&format!("{}\n", page.text.trim_end()));
}

async fn reading(page: &mut Page) {
    let status = "SELECT status, count(*) AS n, sum(amount) AS total FROM orders GROUP BY status ORDER BY 1";
    page.call("query", json!({ "connection": "analyst", "sql": status })).await;
    page.call(
        "query",
        json!({ "connection": "analyst", "sql": "SELECT id, created_at FROM events ORDER BY id", "max_rows": 2 }),
    )
    .await;
    page.call("query", json!({ "connection": "analyst", "sql": "SELECT * FROM payroll" })).await;
    page.call("query", json!({ "connection": "analyst", "sql": "SELECT pg_read_file('/etc/passwd')" })).await;
    page.call("explain", json!({ "connection": "engineer", "sql": "DELETE FROM orders" })).await;
    page.call("list_tables", json!({ "connection": "engineer", "schema": "ops" })).await;
    page.call("describe_table", json!({ "connection": "engineer", "table": "dq.quarantine" })).await;
    page.call("table_privileges", json!({ "connection": "healer", "table": "public.orders" })).await;
    let contract = json!({ "pipeline": "text", "src_column": "text", "target_column": "text" });
    page.call("compare_schema", json!({ "connection": "engineer", "table": "ops.column_map", "contract": contract }))
        .await;
    let same = json!({ "connection": "engineer", "table": "public.orders", "with_connection": "production" });
    assert_eq!(page.call("compare_schema", same).await["same"], json!(true));
    let day = json!({ "connection": "engineer", "table": "orders", "day_column": "created_at", "day": "2026-03-31", "columns": ["amount", "status"] });
    let profile = page.call("profile_table", day).await;
    assert_eq!((&profile["row_count"], &profile["columns"][0]["nulls"]), (&json!(40), &json!(4)));
    assert_eq!(profile["columns"][0]["quantiles"].as_array().unwrap().len(), 5);
}

async fn changing(page: &mut Page) {
    page.call("execute", json!({ "connection": "engineer", "sql": "UPDATE orders SET status = 'void' WHERE id = 7" }))
        .await;
    page.call("execute", json!({ "connection": "engineer", "sql": "DELETE FROM orders" })).await;
    page.call("execute", json!({ "connection": "production", "sql": "DELETE FROM orders WHERE id = 7" })).await;
    quarantine(page).await;
    migrations(page).await;
    let privilege =
        json!({ "connection": "healer", "table": "public.orders", "privilege": "SELECT", "grantee": "etl" });
    assert_eq!(page.call("grant_privilege", privilege.clone()).await["now"], json!(true));
    assert_eq!(page.call("revoke_privilege", privilege.clone()).await["before"], json!(true));
    let without =
        json!({ "connection": "unapproved", "table": "public.orders", "privilege": "SELECT", "grantee": "etl" });
    assert_eq!(page.call("grant_privilege", without).await, Value::Null);
    let not_ours =
        json!({ "connection": "healer", "table": "public.kw_columns", "privilege": "SELECT", "grantee": "etl" });
    assert_eq!(page.call("grant_privilege", not_ours).await, Value::Null);
}

async fn quarantine(page: &mut Page) {
    let nulls = |max: f64| {
        json!({ "connection": "healer", "source_table": "public.orders", "null_column": "amount", "day_column": "created_at",
                "business_date": "2026-03-31", "reason": "amount is null", "max_share": max })
    };
    assert_eq!(page.call("quarantine", nulls(0.05)).await, Value::Null);
    assert_eq!(page.call("quarantine", nulls(0.2)).await["changed"], json!(4));
    assert_eq!(page.call("quarantine", nulls(0.2)).await["changed"], json!(0));
    let release = json!({ "connection": "healer", "source_table": "public.orders", "keys": ["10", "20"] });
    assert_eq!(page.call("release_quarantine", release).await["changed"], json!(2));
    let again = json!({ "connection": "healer", "source_table": "public.orders", "keys": ["10"], "business_date": "2026-03-31", "reason": "still bad" });
    assert_eq!(page.call("quarantine", again).await["changed"], json!(1));
    let unknown = json!({ "connection": "healer", "source_table": "public.orders", "keys": ["4711"], "business_date": "2026-03-31", "reason": "x" });
    assert_eq!(page.call("quarantine", unknown).await, Value::Null);
    let unbounded = json!({ "connection": "healer", "source_table": "public.orders", "keys": ["10"], "business_date": "2026-03-31", "reason": "x", "max_share": 0.05 });
    assert_eq!(page.call("quarantine", unbounded).await, Value::Null);
}

async fn migrations(page: &mut Page) {
    let up = "UPDATE ops.column_map SET source_column = 'price_per_unit' WHERE pipeline = 'sales' AND target_column = 'unit_price'";
    let down = up.replace("price_per_unit", "unit_price");
    let wrong = json!({ "connection": "healer", "name": "0001_unit_price", "up": up, "down": "SELECT 1" });
    assert_eq!(page.call("apply_migration", wrong).await, Value::Null);
    let code = json!({ "connection": "healer", "name": "0001_unit_price", "up": "DO $$ BEGIN END $$", "down": down });
    assert_eq!(page.call("apply_migration", code).await, Value::Null);
    let right = json!({ "connection": "healer", "name": "0001_unit_price", "up": up, "down": down });
    assert_eq!(page.call("apply_migration", right.clone()).await["changed"], json!(true));
    assert_eq!(page.call("apply_migration", right).await["changed"], json!(false));
    let other = json!({ "connection": "healer", "name": "0001_unit_price", "up": down, "down": up });
    assert_eq!(page.call("apply_migration", other).await, Value::Null);
    let map = json!({ "connection": "healer", "sql": "SELECT source_column FROM ops.column_map" });
    assert_eq!(page.call("query", map).await["rows"], json!([{ "source_column": "price_per_unit" }]));
    let revert = json!({ "connection": "healer", "name": "0001_unit_price" });
    assert_eq!(page.call("revert_migration", revert.clone()).await["changed"], json!(true));
    assert_eq!(page.call("revert_migration", revert).await["changed"], json!(false));
}
