//! Reading: runs, failures, logs, sources, pages.

use serde_json::{Value, json};

use super::{DAG, World, with_login};
use crate::servers::airflow::Code;

pub(super) const RUN: &str = "prod__2026-03-31__1";

pub(super) fn run_args() -> Value {
    json!({ "dag_id": DAG, "dag_run_id": RUN })
}

fn log_args(more: Value) -> Value {
    let mut args = json!({ "dag_id": DAG, "dag_run_id": RUN, "task_id": "load_fact_sales" });
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

#[tokio::test]
async fn one_answer_has_the_run_its_tasks_and_the_exception() {
    let world = World::new(&with_login(&["one run", "tasks", "log"])).await;
    let found = world.call("get_run", run_args()).await.unwrap();
    assert_eq!(found["run"]["environment"], "production");
    assert_eq!(found["run"]["business_date"], "2026-03-31");
    assert_eq!(found["tasks"].as_array().unwrap().len(), 4);
    assert_eq!(
        found["failure"]["text"],
        "load_fact_sales: InsufficientPrivilege: permission denied for table fact_sales"
    );
    assert_eq!(found["failure"]["try_number"], 1);
    let frames = found["failure"]["exceptions"][0]["frames"].as_array().unwrap();
    assert!(frames.len() <= 4 && frames.iter().any(|frame| frame.as_str().unwrap().contains("etl_common.py")));
}

#[tokio::test]
async fn only_failures_that_stayed_are_told() {
    let world = World::with(&with_login(&["runs from 0", "runs from 4", "runs from 8", "tasks", "log"]), |config| {
        config.page_limit = 4;
    })
    .await;
    let found = world.call("list_failed", json!({})).await.unwrap();
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1, "{found:#}");
    assert_eq!((runs[0]["dag_id"].as_str(), runs[0]["dag_run_id"].as_str()), (Some(DAG), Some(RUN)));
    assert!(runs[0]["failure"]["text"].as_str().unwrap().starts_with("load_fact_sales: InsufficientPrivilege"));
    assert_eq!(found["looked_at"], 9);
    assert_eq!(found["last_business_date"], "2026-03-31");
    let pages: Vec<String> = world.recorded.lines().into_iter().filter(|line| line.contains("/~/")).collect();
    assert_eq!(
        pages,
        [
            "GET /api/v2/dags/~/dagRuns?order_by=-run_after&limit=4&offset=0",
            "GET /api/v2/dags/~/dagRuns?order_by=-run_after&limit=4&offset=4",
            "GET /api/v2/dags/~/dagRuns?order_by=-run_after&limit=4&offset=8",
        ]
    );
}

#[tokio::test]
async fn a_page_is_never_larger_than_airflow_gives() {
    let world = World::with(&with_login(&["runs from 0"]), |config| config.page_limit = 4).await;
    let found = world.call("list_runs", json!({ "limit": 5_000 })).await.unwrap();
    assert_eq!((found["runs"].as_array().unwrap().len(), &found["next_offset"]), (4, &json!(4)));
    assert!(world.recorded.lines()[0].contains("limit=4&"), "{:?}", world.recorded.lines());
}

#[tokio::test]
async fn a_log_is_read_in_parts() {
    let world = World::new(&with_login(&["one task", "log"])).await;
    let all = world.call("get_log", log_args(json!({ "limit": 500, "offset": 0 }))).await.unwrap();
    let lines = all["lines"].as_array().unwrap().clone();
    assert!(lines.len() > 4 && lines.iter().all(|line| !line.as_str().unwrap().contains("::group::")));
    assert_eq!(all["total_lines"], lines.len());
    let last = world.call("get_log", log_args(json!({ "tail": 2 }))).await.unwrap();
    assert_eq!(last["lines"].as_array().unwrap()[..], lines[lines.len() - 2..]);
    assert_eq!(last["first_line"], lines.len() - 2);
    let page = world.call("get_log", log_args(json!({ "limit": 2, "offset": 1 }))).await.unwrap();
    assert_eq!(
        (page["lines"].as_array().unwrap()[..].to_vec(), &page["next_offset"]),
        (lines[1..3].to_vec(), &json!(3))
    );
    let errors = world.call("get_log", log_args(json!({ "errors_only": true }))).await.unwrap();
    assert_eq!(
        errors["lines"],
        json!([
            "ERROR Task failed with exception",
            "ERROR InsufficientPrivilege: permission denied for table fact_sales"
        ])
    );
    assert_eq!(errors["exceptions"][0]["exc_type"], "InsufficientPrivilege");
}

#[tokio::test]
async fn a_log_that_is_not_there_is_not_found() {
    let world = World::new(&with_login(&["log of an unknown try"])).await;
    let error = world.call("get_log", log_args(json!({ "try_number": 9 }))).await.unwrap_err();
    assert_eq!((error.code, error.code.class()), (Code::NotFound, "not_found"));
    let world = World::new(&with_login(&["unknown run"])).await;
    let error = world.call("get_run", json!({ "dag_id": DAG, "dag_run_id": "nope" })).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    assert!(error.message.contains("`nope` was not found"), "{error}");
}

#[tokio::test]
async fn names_do_not_walk_out_of_the_api() {
    let world = World::new(&with_login(&["one run"])).await;
    for name in ["..", ".", ""] {
        let error = world.call("get_run", json!({ "dag_id": DAG, "dag_run_id": name })).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArguments, "{name:?}");
    }
    let error = world.call("get_source", json!({ "dag_id": "a/../../../auth/token?x=#" })).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    let lines = world.recorded.lines();
    assert_eq!(lines, ["GET /api/v2/dagSources/a%2F..%2F..%2F..%2Fauth%2Ftoken%3Fx=%23"]);
}

#[tokio::test]
async fn a_broken_file_is_told_with_its_dags() {
    let world = World::new(&with_login(&["import errors", "dags with a broken one"])).await;
    let found = world.call("list_import_errors", json!({})).await.unwrap();
    let first = &found["import_errors"][0];
    assert_eq!(first["filename"], "product_catalog_etl.py");
    assert!(first["error"].as_str().unwrap().starts_with("ImportError: cannot import name 'check_contract'"));
    assert_eq!(first["dag_ids"], json!(["product_catalog_etl"]));
    assert_eq!((&first["at_file"], &first["at_line"]), (&json!("$KIT_HOME/dags/product_catalog_etl.py"), &json!(4)));
    for (dag, n) in [("product_catalog_etl", 1), ("sales_etl", 0)] {
        let world = World::new(&with_login(&["import errors", "dags with a broken one"])).await;
        let found = world.call("list_import_errors", json!({ "dag_id": dag })).await.unwrap();
        assert_eq!(found["import_errors"].as_array().unwrap().len(), n, "{dag}");
    }
}

/// The digest is of the whole source, whichever part is shown.
#[tokio::test]
async fn a_source_has_its_digest() {
    let digest = |from: u32| async move {
        let world = World::new(&with_login(&["source"])).await;
        let found = world.call("get_source", json!({ "dag_id": DAG, "from_line": from })).await.unwrap();
        found["sha256"].as_str().unwrap().to_owned()
    };
    let whole = super::recorded::recording().into_iter().find(|exchange| exchange.what == "source").unwrap();
    let text = whole.body()["content"].as_str().unwrap().to_owned();
    assert_eq!(digest(1).await, hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())));
    assert_eq!(digest(5).await, digest(1).await);
}

/// A run that waits for a pool without slots hangs, however young it is; one that only takes its time does not.
#[tokio::test]
async fn a_run_hangs_when_it_is_old_or_its_pool_is_closed() {
    let args = |older: i64| json!({ "environment": "staging", "older_than_s": older });
    let open = World::new(&with_login(&["running runs", "tasks of the staging run", "pools"])).await;
    let ages = 1_i64 << 40;
    assert_eq!(open.call("stuck_runs", args(ages)).await.unwrap()["runs"], json!([]));
    let old = open.call("stuck_runs", args(60)).await.unwrap();
    assert_eq!(old["runs"][0]["unfinished"][0]["task_id"], "rollup");
    let closed = World::new(&with_login(&["running runs", "tasks of the staging run", "pools, one closed"])).await;
    let found = closed.call("stuck_runs", args(ages)).await.unwrap();
    assert_eq!(found["runs"][0]["blocked_by_pool"], "finance_pool");
}

#[tokio::test]
async fn variables_with_a_secret_s_name_are_hidden() {
    let world = World::new(&with_login(&["variables"])).await;
    let found = world.call("list_variables", json!({})).await.unwrap();
    let value = |key: &str| {
        let all = found["variables"].as_array().unwrap();
        all.iter().find(|variable| variable["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(value("web_sessions_chunk_rows"), "50000");
    assert_eq!(value("crm_api_key"), "[hidden]");
    let asked = world.recorded.asked();
    assert_eq!(asked.last().unwrap().token.as_deref(), Some("token-of-agent-1"));
}

#[tokio::test]
async fn what_a_caller_gets_wrong_is_invalid() {
    let world = World::new(&with_login(&[])).await;
    for (tool, args) in [
        ("get_run", json!({ "dag_id": DAG })),
        ("get_log", log_args(json!({ "colour": "red" }))),
        ("list_failed", json!({ "environment": "moon" })),
    ] {
        assert_eq!(world.call(tool, args).await.unwrap_err().code, Code::InvalidArguments, "{tool}");
    }
    assert!(world.recorded.lines().is_empty());
}
