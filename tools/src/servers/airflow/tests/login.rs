//! Logging in, and logging in again.

use serde_json::json;

use super::reads::run_args;
use super::{DAG, World, with_login};
use crate::servers::airflow::Code;

#[tokio::test]
async fn one_login_serves_many_calls() {
    let world = World::new(&with_login(&["dags", "dags", "source"])).await;
    for _ in 0..3 {
        world.call("list_dags", json!({ "limit": 2 })).await.unwrap();
    }
    world.call("get_source", json!({ "dag_id": DAG })).await.unwrap();
    assert_eq!(world.recorded.n_logins(), 1);
    assert!(world.recorded.asked().iter().skip(1).all(|asked| asked.token.as_deref() == Some("token-of-observer-1")));
}

/// A bad token is answered with 403, a missing or expired one with 401: both are worth one new login.
#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    for refusal in ["bad token", "no token"] {
        let world = World::new(&["log in as observer", "log in as observer again", refusal, "dags"]).await;
        world.call("list_dags", json!({ "limit": 2 })).await.unwrap();
        let tokens: Vec<_> = world.recorded.asked().into_iter().filter_map(|asked| asked.token).collect();
        assert_eq!(tokens, ["token-of-observer-1", "token-of-observer-2"], "{refusal}");
        assert_eq!(world.recorded.n_logins(), 2);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_again_is_an_error_and_no_loop() {
    let world = World::new(&["log in as observer", "bad token"]).await;
    let error = world.call("list_dags", json!({})).await.unwrap_err();
    assert_eq!((error.code, world.recorded.n_logins()), (Code::Denied, 2));
    assert!(error.message.contains("Invalid JWT token"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_the_password() {
    let world = World::new(&["wrong password"]).await;
    let error = world.call("list_variables", json!({})).await.unwrap_err();
    assert_eq!((error.code, error.code.class()), (Code::LoginFailed, "denied"));
    assert!(error.message.contains("`agent`") && error.message.contains("Invalid credentials"), "{error}");
    assert!(!error.to_value().to_string().contains(env!("CARGO_PKG_VERSION")), "{error}");
}

/// A 403 that is about rights is no reason to log in again: one login for reading, one for acting.
#[tokio::test]
async fn missing_rights_are_no_reason_to_log_in_again() {
    let world = World::with(&with_login(&["one run", "a viewer may not clear"]), |config| {
        config.act = Some(config.read.clone());
    })
    .await;
    let mut arguments = run_args();
    arguments["environment"] = json!("production");
    let error = world.call("clear", arguments).await.unwrap_err();
    assert_eq!((error.code, world.recorded.n_logins()), (Code::Denied, 2));
    assert!(error.message.contains("Forbidden") && error.message.contains("`observer`"), "{error}");
}

#[tokio::test]
async fn without_an_acting_account_nothing_acts() {
    let world = World::with(&with_login(&[]), |config| config.act = None).await;
    let mut arguments = run_args();
    arguments["environment"] = json!("production");
    arguments["dry_run"] = json!(false);
    let error =
        world.call("set_pool", json!({ "pool": "p", "slots": 1, "environment": "production" })).await.unwrap_err();
    assert_eq!(error.code, Code::Denied);
    assert!(world.call("clear", arguments).await.is_err());
    assert!(world.recorded.asked().iter().all(|asked| !asked.line.starts_with("PATCH")));
}

#[tokio::test]
async fn an_airflow_that_does_not_answer_is_transient() {
    let mut config = super::config("http://127.0.0.1:1");
    config.act = None;
    let airflow = crate::servers::airflow::Airflow::new(config).unwrap();
    let spec = super::all_tools().iter().find(|spec| spec.name == "health").unwrap();
    let error = (spec.run)(airflow, json!({}), None).await.unwrap_err();
    assert_eq!((error.code, error.code.class()), (Code::Unavailable, "transient"));
}
