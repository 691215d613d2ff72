//! Acting: what is sent, what is refused before anything is sent, and what is not done twice.

use serde_json::{Value, json};

use super::reads::{RUN, run_args};
use super::{DAG, World, with_login};
use crate::servers::airflow::Code;

/// The key whose mark the recorded tasks have after they were cleared.
const KEY: &str = "t1:7:0:0";

fn clear_args(more: Value) -> Value {
    let mut args = run_args();
    args["environment"] = json!("production");
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

/// What was sent to change something.
pub(super) fn sent(world: &World) -> Vec<String> {
    let asked = world.recorded.asked();
    let acts = asked.iter().filter(|asked| !asked.line.starts_with("GET") && !asked.line.ends_with("/auth/token"));
    acts.map(|asked| format!("{} {}", asked.line, asked.body)).collect()
}

#[tokio::test]
async fn a_clear_only_tells_unless_it_is_told_to() {
    let world = World::new(&with_login(&["one run", "clear, only told"])).await;
    let told = world.call("clear", clear_args(json!({}))).await.unwrap();
    assert_eq!(told["task_ids"], json!(["load_fact_sales", "publish_stats"]));
    assert_eq!(told["cleared"], false);
    let sent = sent(&world);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].contains("\"dry_run\":true"), "{sent:?}");
}

#[tokio::test]
async fn a_failed_run_is_an_error_with_the_run_in_it() {
    let exchanges = [
        "one run",
        "clear, only told",
        "clear",
        "the run failed again",
        "wait",
        "tasks after the second try",
        "log of the second try",
    ];
    let world = World::new(&with_login(&exchanges)).await;
    let error = world
        .call_with("clear", clear_args(json!({ "dry_run": false, "wait_s": 60, "note": "inc-1" })), Some(KEY))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.code.class()), (Code::RunFailed, "unknown"));
    assert!(error.message.contains("load_fact_sales: InsufficientPrivilege: permission denied"), "{error}");
    let told = error.to_value();
    assert_eq!(told["run"]["run"]["state"], "failed");
    // The second try failed: the pause that is suggested grows with the tries.
    assert_eq!(told["error"]["retry_after_s"], 8);
    let real = sent(&world).into_iter().find(|line| line.contains("\"dry_run\":false")).unwrap();
    assert!(real.contains("\"reset_dag_runs\":true") && real.contains(": inc-1\""), "{real}");
    assert!(world.recorded.lines().iter().any(|line| line.ends_with("/wait?interval=1")));
}

/// A call that was made and whose answer was lost finds its own mark on the tasks.
#[tokio::test]
async fn the_same_call_clears_once() {
    let world = World::new(&with_login(&["the run succeeded", "clear, told after our own"])).await;
    let args = clear_args(json!({ "dry_run": false, "only_failed": false, "wait_s": 60 }));
    let again = world.call_with("clear", args.clone(), Some(KEY)).await.unwrap();
    assert_eq!((&again["already"], &again["cleared"]), (&json!(true), &json!(false)));
    assert!(sent(&world).iter().all(|line| line.contains("\"dry_run\":true")));
    let world = World::new(&with_login(&["the run succeeded", "clear, told after our own", "clear", "wait"])).await;
    let other = world.call_with("clear", args, Some("t1:8:0:0")).await.unwrap();
    assert_eq!(other["cleared"], true, "another call is another clear");
}

#[tokio::test]
async fn a_run_under_way_is_waited_for_and_not_cleared() {
    let world = World::new(&with_login(&["the run is running", "clear, only told", "wait", "the run succeeded"])).await;
    let found = world.call("clear", clear_args(json!({ "dry_run": false, "wait_s": 60 }))).await.unwrap();
    assert_eq!((&found["already"], &found["run"]["state"]), (&json!(true), &json!("success")));
    assert!(sent(&world).iter().all(|line| line.contains("\"dry_run\":true")));
}

#[tokio::test]
async fn an_act_never_reaches_another_environment() {
    let world = World::new(&with_login(&["one run", "one dag"])).await;
    let mut args = clear_args(json!({ "dry_run": false }));
    args["environment"] = json!("staging");
    assert_eq!(world.call("clear", args).await.unwrap_err().code, Code::Denied);
    let trigger = |conf: Value, environment: &str| json!({ "dag_id": DAG, "environment": environment, "conf": conf });
    for (conf, environment, code) in [
        (json!({ "env": "prod" }), "staging", Code::Denied),
        (json!({ "env": "staging" }), "production", Code::Denied),
        (json!({}), "moon", Code::InvalidArguments),
    ] {
        assert_eq!(world.call("trigger", trigger(conf, environment)).await.unwrap_err().code, code);
    }
    for (tool, args) in [
        ("set_pool", json!({ "pool": "finance_pool", "slots": 3, "environment": "staging" })),
        ("set_dag_paused", json!({ "dag_id": DAG, "paused": true, "environment": "staging" })),
    ] {
        assert_eq!(world.call(tool, args).await.unwrap_err().code, Code::Denied, "{tool}");
    }
    assert!(sent(&world).is_empty(), "{:?}", sent(&world));
}

#[tokio::test]
async fn a_run_is_triggered_once_under_its_id() {
    let args = json!({ "dag_id": DAG, "environment": "staging", "business_date": "2026-03-31" });
    let mut named = args.clone();
    named["dag_run_id"] = json!("staging__2026-03-31__demo");
    let world = World::new(&with_login(&["one dag", "trigger"])).await;
    let first = world.call("trigger", named.clone()).await.unwrap();
    assert_eq!((&first["already"], &first["run"]["environment"]), (&json!(false), &json!("staging")));
    let sent_body = &world.recorded.asked().last().unwrap().body.clone();
    assert_eq!(sent_body["conf"], json!({ "business_date": "2026-03-31", "env": "staging" }));
    assert!(sent_body["logical_date"].is_null() && sent_body.as_object().unwrap().contains_key("logical_date"));
    let world = World::new(&with_login(&["one dag", "trigger again", "the staging run"])).await;
    assert_eq!(world.call("trigger", named.clone()).await.unwrap()["already"], true);
    named["conf"] = json!({ "more": 1 });
    let error = world.call("trigger", named).await.unwrap_err();
    assert_eq!((error.code, error.code.class()), (Code::Conflict, "conflict"));
    // The id comes from the key: the same call has the same one.
    let world = World::new(&with_login(&["one dag", "trigger"])).await;
    for key in [KEY, KEY, "other"] {
        world.call_with("trigger", args.clone(), Some(key)).await.unwrap();
    }
    let ids: Vec<Value> = world
        .recorded
        .asked()
        .iter()
        .map(|asked| asked.body["dag_run_id"].clone())
        .filter(|id| !id.is_null())
        .collect();
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
    assert!(ids[0].as_str().unwrap().starts_with("staging__2026-03-31__"));
}

#[tokio::test]
async fn parameters_that_airflow_refuses_are_invalid() {
    let world = World::new(&with_login(&["one dag", "trigger with a conf that the params refuse"])).await;
    let args = json!({ "dag_id": DAG, "environment": "production", "conf": { "colour": "moon" } });
    let error = world.call("trigger", args).await.unwrap_err();
    assert_eq!((error.code, error.code.class()), (Code::InvalidArguments, "invalid"));
    assert!(error.message.contains("'moon' is not one of"), "{error}");
    let world = World::new(&with_login(&["one dag", "trigger without logical_date"])).await;
    let error = world.call("trigger", json!({ "dag_id": DAG, "environment": "production" })).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArguments);
    assert!(error.message.contains("Field required"), "{error}");
}

#[tokio::test]
async fn a_pool_is_set_and_its_old_size_told() {
    let world = World::new(&with_login(&["one pool", "set pool"])).await;
    let set = json!({ "pool": "finance_pool", "slots": 3, "environment": "production" });
    let found = world.call("set_pool", set).await.unwrap();
    assert_eq!((&found["slots_before"], &found["slots"]), (&json!(2), &json!(3)));
    assert!(sent(&world)[0].starts_with("PATCH /api/v2/pools/finance_pool?update_mask=slots "));
}

/// Airflow reads files again and again, so the call is worth another try a little later; nothing is sent before.
#[tokio::test]
async fn a_dag_that_could_not_be_imported_starts_no_run_yet() {
    let world = World::new(&with_login(&["one dag whose file is broken"])).await;
    let args = json!({ "dag_id": "product_catalog_etl", "environment": "production", "business_date": "2026-03-31" });
    let error = world.call("trigger", args).await.unwrap_err();
    assert_eq!((error.code, error.code.class(), error.retry_after_s), (Code::NotImported, "transient", Some(15)));
    assert!(sent(&world).is_empty(), "{:?}", sent(&world));
}

#[tokio::test]
async fn a_dag_is_paused_and_nothing_else_of_it_changes() {
    let world = World::new(&with_login(&["pause"])).await;
    let args = json!({ "dag_id": "web_sessions_etl", "paused": true, "environment": "production" });
    assert_eq!(world.call("set_dag_paused", args).await.unwrap()["is_paused"], true);
    assert_eq!(sent(&world), ["PATCH /api/v2/dags/web_sessions_etl?update_mask=is_paused {\"is_paused\":true}"]);
}

#[tokio::test]
async fn states_are_not_overwritten_unless_the_installation_wants_it() {
    let world = World::new(&with_login(&["one run"])).await;
    let args =
        json!({ "dag_id": DAG, "dag_run_id": RUN, "state": "success", "environment": "production", "reason": "x" });
    assert_eq!(world.call("mark", args).await.unwrap_err().code, Code::Denied);
    assert!(world.recorded.asked().is_empty());
}
